"""Finding the installed files."""

import pytest

import mirage_ros.resources as resources
from mirage_ros.resources import share_directory


def test_the_installation_is_found_without_ament_prefix_path(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert (share_directory() / "config" / "fastdds.xml").is_file()


def test_a_source_tree_uses_the_installation_of_ament_prefix_path(monkeypatch, tmp_path):
    own = share_directory()
    share = tmp_path / "overlay" / "share" / "mirage_ros"
    share.mkdir(parents=True)
    (share / "package.xml").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'elsewhere'}:{tmp_path / 'overlay'}")
    assert share_directory() == own, "an installation's own files come first"
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "mirage_ros" / "resources.py"))
    assert share_directory() == share


def test_a_source_tree_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "mirage_ros" / "resources.py"))
    with pytest.raises(FileNotFoundError, match="install the package"):
        share_directory()


def test_importing_the_package_needs_no_ros_and_no_extra():
    import subprocess
    import sys

    heavy = ("rclpy", "mujoco", "diffusers", "transformers", "rerun", "cv2", "av")
    code = (
        "import sys, mirage_ros.geometry, mirage_ros.trajectory\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert result.stdout.strip() == "[]"
