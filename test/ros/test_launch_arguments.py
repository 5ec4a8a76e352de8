"""Arguments of the launch files: read as ROS reads YAML, and every wrong value names its argument.

The launch system is not needed: small stand-ins of the classes that the files use take what they are given.
"""

import runpy
import sys
import types

import pytest

from mirage_ros.resources import share_directory
from mirage_ros.ros.parameter_rows import Parameter

LAUNCH = share_directory() / "launch"


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("YES", True), ("on", True), ("off", False), ("N", False)]
)
def test_booleans_are_those_of_yaml(text, value):
    assert Parameter("mirage", False, "").parsed(text) is value


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (Parameter("rviz", False, ""), "ture"),
        (Parameter("rviz", False, ""), "1"),
        (Parameter("threads", 0, "", 0, 256), "many"),
        (Parameter("threads", 0, "", 0, 256), "257"),
        (Parameter("observation.rate", 2.0, "", 0.0, 1000.0), "fast"),
        (Parameter("preset", "default", "", choices=("default", "test")), "tets"),
    ],
)
def test_wrong_values_name_their_argument_and_what_was_expected(row, text):
    with pytest.raises(ValueError, match=f"argument {row.name}: expected .*, got {text!r}"):
        row.parsed(text)


class Action:
    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options


class Configuration:
    def __init__(self, name):
        self.name = name

    def perform(self, context):
        return context[self.name]


@pytest.fixture
def started(monkeypatch):
    """Runs a launch file with arguments; what it would start."""
    names = {
        "launch": ["LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "IncludeLaunchDescription", "LogInfo", "OpaqueFunction"],
        "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
        "launch.substitutions": [],
        "launch_ros": [],
        "launch_ros.actions": ["LifecycleNode", "Node"],
    }
    for module, classes in names.items():
        stand_in = types.ModuleType(module)
        for name in classes:
            setattr(stand_in, name, type(name, (Action,), {}))
        monkeypatch.setitem(sys.modules, module, stand_in)
    sys.modules["launch.substitutions"].LaunchConfiguration = Configuration

    def start(file, **given):
        description = runpy.run_path(str(LAUNCH / file))["generate_launch_description"]()
        context, functions = {}, []
        for action in description.arguments[0]:
            if type(action).__name__ == "DeclareLaunchArgument":
                context[action.arguments[0]] = action.options["default_value"]
            else:
                functions.append(action.options["function"])
        assert set(given) <= set(context)
        (function,) = functions
        return function({**context, **given})

    return start


def test_the_node_gets_typed_values_and_its_own_name_is_in_errors(started):
    (node,) = started("mirage.launch.py", use_sim_time="yes", threads="2", depth="/aligned")
    chosen = node.options["parameters"][1]
    assert chosen == {"use_sim_time": True, "threads": 2}
    assert node.options["remappings"] == [("depth", "/aligned")]
    with pytest.raises(ValueError, match="argument use_sim_time: expected bool, got 'ture'"):
        started("mirage.launch.py", use_sim_time="ture")


def test_the_simulation_starts_what_was_asked_for(started):
    assert [type(action).__name__ for action in started("sim.launch.py")] == ["Node"]
    camera, mirage, rviz = started("sim.launch.py", mirage="True", rviz="on", publish_clock="yes")
    assert camera.options["parameters"][0]["publish_clock"] is True
    assert dict(mirage.options["launch_arguments"])["use_sim_time"] == "True"
    # Without rviz2, words; never a launch that ends half-way.
    assert type(rviz).__name__ in ("LogInfo", "Node")
    with pytest.raises(ValueError, match="argument mirage: expected bool, got 'maybe'"):
        started("sim.launch.py", mirage="maybe")


def test_a_file_of_parameters_that_is_not_there_is_refused_and_tilde_is_home(started, monkeypatch, tmp_path):
    """launch_ros would warn, and start the node with other parameters than were asked for."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"argument params_file: expected a YAML file, got '.*mine.yaml', which is none"
    ):
        started("mirage.launch.py", params_file="~/mine.yaml")
    (tmp_path / "mine.yaml").touch()
    (node,) = started("mirage.launch.py", params_file="~/mine.yaml")
    assert node.options["parameters"][0] == str(tmp_path / "mine.yaml")
