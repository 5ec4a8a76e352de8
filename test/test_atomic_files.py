"""Files that are whole or not there."""

import os

import pytest

from mirage_ros.atomic_files import write_atomically


def test_a_file_is_replaced_and_keeps_its_permissions(tmp_path):
    path = tmp_path / "memory.safetensors"
    write_atomically(path, b"first")
    path.chmod(0o640)
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_not_replaced(tmp_path):
    """As root, a rename over /dev/null would take it from everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"expected a file or a new name, got something else: .*pipe"):
        write_atomically(pipe, b"content")
    assert not pipe.is_file()
    assert list(tmp_path.iterdir()) == [pipe]
