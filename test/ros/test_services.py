"""Paths of requests stay below their folder."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirage_ros.ros.services import path_below


def test_names_get_the_suffix_and_may_have_folders(tmp_path):
    assert path_below(tmp_path, "a", ".ply") == tmp_path / "a.ply"
    assert path_below(tmp_path, "b/c.ply", ".ply") == tmp_path / "b" / "c.ply"


@pytest.mark.parametrize(
    "text", ["", "/x", "..", "../x", "a/../b", "~/x", "a\0b", "a\nb", "x" * 256, "a.pkl", ".ply", ".", "a\\b"]
)
def test_everything_else_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="path: expected"):
        path_below(tmp_path, text, ".ply")


def test_links_do_not_lead_out(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "file.ply").symlink_to(outside / "file.ply")
    for text in ("link/x", "file.ply"):
        with pytest.raises(ValueError, match="leads out"):
            path_below(inside, text, ".ply")


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_inside(text):
    from pathlib import Path

    folder = Path("/nonexistent/folder")
    try:
        path = path_below(folder, text, ".ply")
    except ValueError:
        return
    assert os.path.realpath(path).startswith("/nonexistent/folder/")
    assert path.suffix == ".ply"
