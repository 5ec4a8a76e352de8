"""Finding the installed files, and which code they are."""

import shutil
import subprocess
import sys

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

    heavy = ("rclpy", "mujoco", "diffusers", "transformers", "rerun", "cv2", "av")
    code = (
        "import sys, mirage_ros.geometry, mirage_ros.trajectory\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert result.stdout.strip() == "[]"


def test_the_commit_is_that_of_this_code_not_of_whatever_clone_lies_around_it(monkeypatch, tmp_path):
    def git(*arguments):
        user = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.check_output(["git", *user, *arguments], cwd=tmp_path, text=True)

    (tmp_path / "package.xml").touch()
    source, installed = tmp_path / "mirage_ros", tmp_path / ".venv" / "site-packages" / "mirage_ros"
    source.mkdir()
    for name in ("resources", "other"):
        (source / f"{name}.py").write_text(f"# {name}\n")
    (tmp_path / ".gitignore").write_text(".venv\n")
    shutil.copytree(source, installed)
    (installed / "__init__.py").write_text("# generated\n")
    (source / "__init__.py").touch()
    monkeypatch.setattr(resources, "__file__", str(installed / "resources.py"))
    git("init", "-q")
    assert resources.source_commit() == "unknown", "a clone of something else"
    git("add", ".")
    git("commit", "-qm", "first")
    first = git("rev-parse", "--short", "HEAD").strip()
    assert resources.source_commit() == first
    (source / "other.py").write_text("# newer\n")
    git("commit", "-qam", "second")
    assert resources.source_commit() == "unknown", "the clone went on and the installation did not"
    monkeypatch.setattr(resources, "__file__", str(source / "resources.py"))
    (source / "other.py").write_text("# newer still\n")
    assert resources.source_commit() == git("rev-parse", "--short", "HEAD").strip() + "-dirty"
