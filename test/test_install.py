"""What an installation must offer so that ROS tools find package, interfaces, executables, launch and config files.

MIRAGE_ROS_PREFIX names the prefix to look at (a colcon install folder, for example); the running one by default.
"""

import ast
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

INTERFACES = {
    "action/Imagine.action",
    "msg/Candidate.msg",
    "msg/ImaginedTrajectory.msg",
    "msg/MemoryStatus.msg",
    "msg/ViewScore.msg",
    "srv/ExportCloud.srv",
    "srv/LoadMemory.srv",
    "srv/Repose.srv",
    "srv/Reset.srv",
    "srv/SaveMemory.srv",
    "srv/ScoreViews.srv",
    "srv/SetPrompt.srv",
}
EXECUTABLES = {"mirage", "sim_camera"}
LAUNCH_FILES = {"mirage.launch.py", "sim.launch.py"}


@pytest.fixture(scope="module")
def prefix():
    chosen = os.environ.get("MIRAGE_ROS_PREFIX")
    if chosen:
        return Path(chosen).resolve()
    from mirage_ros.resources import share_directory

    return share_directory().parents[1]


@pytest.fixture(scope="module")
def share(prefix):
    return prefix / "share" / "mirage_ros"


def test_the_ament_index_knows_the_package(prefix):
    index = prefix / "share" / "ament_index" / "resource_index"
    assert (index / "packages" / "mirage_ros").is_file()
    listed = set((index / "rosidl_interfaces" / "mirage_ros").read_text().split())
    assert listed >= INTERFACES


def test_ament_finds_the_share_directory(prefix, monkeypatch):
    from ament_index_python.packages import get_package_share_directory

    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    assert Path(get_package_share_directory("mirage_ros")) == prefix / "share" / "mirage_ros"


def test_interface_definitions_are_installed(share):
    installed = {
        str(path.relative_to(share)) for path in share.rglob("*") if path.suffix in (".msg", ".srv", ".action")
    }
    assert installed == INTERFACES


def test_interfaces_import_in_a_fresh_process(prefix):
    code = (
        "from mirage_ros.msg import Candidate, ImaginedTrajectory, MemoryStatus, ViewScore\n"
        "from mirage_ros.srv import ExportCloud, LoadMemory, Repose, Reset, SaveMemory, ScoreViews, SetPrompt\n"
        "from mirage_ros.action import Imagine\n"
        "from rclpy.type_support import check_for_type_support\n"
        "for kind in (Candidate, ImaginedTrajectory, MemoryStatus, Reset, Imagine): check_for_type_support(kind)\n"
        "import mirage_ros; print(mirage_ros.__file__)"
    )
    (site_packages,) = prefix.glob("lib/python3*/site-packages")
    environment = dict(os.environ, PYTHONPATH=str(site_packages))
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([f"{prefix}/lib", os.environ.get("LD_LIBRARY_PATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd="/", check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().startswith(str(site_packages))


def test_executables_are_where_ros2_run_looks(prefix):
    folder = prefix / "lib" / "mirage_ros"
    assert {path.name for path in folder.iterdir()} == EXECUTABLES
    assert all(os.access(path, os.X_OK) for path in folder.iterdir())


def test_executables_find_their_python(prefix):
    """Also where the environment is not active, as under ros2 launch."""
    environment = {name: value for name, value in os.environ.items() if name != "PATH"}
    if not (prefix / "bin" / "python3").exists():
        # A colcon workspace has no Python of its own: the caller's is used, with the workspace sourced.
        (site_packages,) = prefix.glob("lib/python3*/site-packages")
        environment["PYTHONPATH"] = str(site_packages)
        environment["LD_LIBRARY_PATH"] = f"{prefix}/lib:{os.environ.get('LD_LIBRARY_PATH', '')}"
        environment["PATH"] = str(Path(sys.executable).parent)
    environment["PATH"] = f"{environment.get('PATH', '')}:/usr/bin:/bin"
    result = subprocess.run(
        [prefix / "lib" / "mirage_ros" / "sim_camera", "--ros-args", "-p", "family:=caves"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert "parameter family: expected one of rooms, halls, flats, warehouses, got 'caves'" in result.stderr


def test_launch_files_start_installed_executables(prefix, share):
    assert {path.name for path in (share / "launch").iterdir() if path.suffix == ".py"} == LAUNCH_FILES
    for path in (share / "launch").glob("*.launch.py"):
        tree = ast.parse(path.read_text())
        assert any(
            isinstance(node, ast.FunctionDef) and node.name == "generate_launch_description" for node in tree.body
        )
        started = [
            keyword.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "executable"
        ]
        assert started
        # RViz is another package's.
        assert set(started) - {"rviz2"} <= EXECUTABLES


def test_the_dds_profile_is_installed_and_well_formed(share):
    root = ElementTree.parse(share / "config" / "fastdds.xml").getroot()
    addresses = [element.text for element in root.iter() if element.tag.endswith("}address")]
    assert addresses == ["127.0.0.1"]
    builtin = [element.text for element in root.iter() if element.tag.endswith("}useBuiltinTransports")]
    assert builtin == ["false"]


def test_every_source_module_is_installed(prefix):
    source = Path(__file__).parents[1] / "mirage_ros"
    (installed,) = prefix.glob("lib/python3*/site-packages/mirage_ros")
    wanted = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    present = {str(path.relative_to(installed)) for path in installed.rglob("*.py")}
    assert wanted - present == set()
