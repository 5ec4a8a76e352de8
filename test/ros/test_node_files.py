"""Configuration, RViz, launch and documentation files say what the node really offers."""

import ast
import runpy
from pathlib import Path
from typing import get_args

import pytest
import yaml

from mirage_ros.resources import share_directory
from mirage_ros.ros.parameters import DTYPES, MAX_SEED, MAX_STEPS, PARAMETERS, PRESETS, UNSEEN_OF
from mirage_ros.ros.topics import INPUTS, OUTPUTS, topic

SHARE = share_directory()
DOCS = Path(__file__).parents[2] / "docs"
TABLE = {row.name: row for row in PARAMETERS}


def flat(tree, prefix=""):
    result = {}
    for name, value in tree.items():
        result.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return result


def test_the_presets_are_those_of_the_models():
    from mirage_ros.action import Imagine

    from mirage_ros.models import schedule
    from mirage_ros.models.presets import PRESETS as MODELS
    from mirage_ros.world import options

    assert set(PRESETS) == set(MODELS)
    assert DTYPES[0] == "auto"
    assert MAX_STEPS == schedule.MAX_STEPS
    assert MAX_SEED == options.MAX_SEED
    assert UNSEEN_OF[1:] == get_args(options.Unseen)
    assert [getattr(Imagine.Goal, name.upper()) for name in UNSEEN_OF] == [0, 1, 2]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_has_a_file_with_every_parameter(preset):
    text = (SHARE / "config" / f"{preset}.yaml").read_text()
    values = flat(yaml.safe_load(text)["/**"]["ros__parameters"])
    assert list(values) == list(TABLE)
    assert values["preset"] == preset
    for name, value in values.items():
        row = TABLE[name]
        assert type(value) is type(row.default), name
        if row.minimum is not None:
            assert row.minimum <= value <= row.maximum, name
        if row.choices:
            assert value in row.choices, name
        if preset == "default":
            assert value == row.default, name


@pytest.mark.parametrize("preset", ["test"])
def test_ros_reads_the_file(preset, ros):
    from mirage_ros.ros.node import MirageNode

    path = SHARE / "config" / f"{preset}.yaml"
    arguments = ["--ros-args", "--params-file", str(path), "-p", "autostart:=false"]
    node = MirageNode(context=ros.context, cli_args=arguments)
    try:
        assert node.get_parameter("preset").value == preset
        assert node.get_parameter("random_weights").value is True
    finally:
        node.destroy_node()


def test_rviz_shows_topics_that_exist_with_a_quality_of_service_that_fits():
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    tree = yaml.safe_load((SHARE / "config" / "mirage.rviz").read_text())
    displays = tree["Visualization Manager"]["Displays"]
    kinds = {"Image": "Image", "PointCloud2": "PointCloud2", "Path": "Path", "Pose": "PoseStamped"}
    kinds |= {"CameraInfo": "CameraInfo", "Map": "OccupancyGrid"}
    shown, names = set(), {row.name for row in (*INPUTS, *OUTPUTS)}
    for display in displays:
        if display["Class"].endswith("/DepthCloud"):
            assert {display["Depth Map Topic"], display["Color Image Topic"]} == {"imagined/depth", "imagined/image"}
        if "Topic" not in display:
            continue
        wanted = display["Topic"]
        # Grids that a node may publish or not.
        if display["Class"].endswith("/Map") and wanted["Value"] not in names:
            assert wanted["Value"] in ("memory/occupancy", "imagined/occupancy")
            continue
        row = topic(wanted["Value"])
        shown.add(row.name)
        assert row.kind.__name__ == kinds[display["Class"].rpartition("/")[2]], row.name
        # A subscriber must not ask for more than is offered.
        offered = row.qos()
        if row in INPUTS:
            continue
        if wanted["Reliability Policy"] == "Reliable":
            assert offered.reliability == ReliabilityPolicy.RELIABLE, row.name
        if wanted["Durability Policy"] == "Transient Local":
            assert offered.durability == DurabilityPolicy.TRANSIENT_LOCAL, row.name
        else:
            assert offered.durability == DurabilityPolicy.VOLATILE, row.name
    assert shown >= {"image", "imagined/image", "memory/points", "imagined/path", "imagined/pose"}


def test_launch_files_name_declared_parameters_topics_and_installed_executables():
    offered = {row.name for row in (*INPUTS, *OUTPUTS)}
    for path in (SHARE / "launch").glob("*.launch.py"):
        tree = ast.parse(path.read_text())
        executables = [
            keyword.value.value
            for call in ast.walk(tree)
            if isinstance(call, ast.Call)
            for keyword in call.keywords
            if keyword.arg == "executable" and isinstance(keyword.value, ast.Constant)
        ]
        installed = {entry.name for entry in (SHARE.parents[1] / "lib" / "mirage_ros").iterdir()}
        assert set(executables) - {"rviz2"} <= installed, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "REMAPPED":
                assert set(ast.literal_eval(node.value)) <= offered
    # Arguments are made from the table itself, so that they cannot differ.
    assert "from mirage_ros.ros.parameters import PARAMETERS" in (SHARE / "launch/mirage.launch.py").read_text()


def test_the_documentation_has_the_node_s_own_tables():
    tables = runpy.run_path(str(DOCS.parent / "tools" / "node_tables.py"))
    text = (DOCS / "node.md").read_text()
    for make in ("topic_table", "service_table", "parameter_table"):
        assert tables[make]() in text, "docs/node.md: paste the output of python tools/node_tables.py"


def test_type_checkers_are_told_that_the_package_has_types():
    import mirage_ros.resources

    assert Path(mirage_ros.resources.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("path", sorted((SHARE / "config" / "cameras").glob("*.yaml")), ids=lambda path: path.stem)
def test_files_of_cameras_set_parameters_that_exist_and_topics_that_the_launch_file_takes(path):
    text = path.read_text()
    for name, value in flat(yaml.safe_load(text)["/**"]["ros__parameters"]).items():
        assert TABLE[name].checked(value) == value
    offered = {row.name for row in INPUTS}
    arguments = {
        word.split(":=")[0] for line in text.splitlines() if line.startswith("#     ") for word in line.split()[1:]
    }
    assert {"image", "camera_info", "depth"} <= arguments - {"\\"} <= offered
