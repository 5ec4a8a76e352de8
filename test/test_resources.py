"""Finding the installed files."""

from pathlib import Path

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


def test_upper_layers_are_not_imported_by_lower_ones():
    import ast

    root = Path(resources.__file__).parent
    order = ["geometry", "trajectory", "resources", "media", "memory", "models", "perception", "world"]
    with_ros = ("ros", "client", "demo", "view.py")
    ros_free = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in with_ros]
    for path in ros_free:
        name = path.relative_to(root).parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text())
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        ros_tools = [root / "sim" / "camera_node.py", root / "sim" / "camera_parameters.py"]
        ros_tools += [root / "bench" / "conversions.py", root / "bench" / "node.py"]
        if path not in ros_tools:
            assert not any(module.split(".")[0] == "rclpy" for module in modules), f"{path} imports rclpy"
            if name not in ("bench", "cli", "doctor"):
                assert not any(module.startswith("mirage_ros.ros") for module in modules), (
                    f"{path} imports mirage_ros.ros"
                )
        if name in order:
            above = [*order[order.index(name) + 1 :], "training", "evaluation", "sim", "bench"]
            wrong = [
                module
                for module in modules
                if module.split(".")[0] == "mirage_ros" and module.split(".")[1:2][0] in above
            ]
            assert not wrong, f"{path} imports {wrong}"
