"""Parameter tables: what is declared is enforced and explained."""

import pytest
from rclpy.parameter import Parameter as RosParameter

from mirage_ros.ros.parameter_declaration import LiveParameters, declare
from mirage_ros.ros.parameter_rows import Parameter
from mirage_ros.ros.parameters import ImagineParameters, MirageParameters

TABLE = (
    Parameter("width", 192, "Image width, pixels.", 16, 4096),
    Parameter("rate", 10.0, "Frames per second.", 0.1, 120.0, runtime=True),
    Parameter("family", "rooms", "Kind of scene.", choices=("rooms", "halls")),
    Parameter("enabled", True, "Whether it runs."),
    Parameter("mode", "fast", "How it runs.", choices=("fast", "slow"), runtime=True),
)


def node_with(ros, **values):
    overrides = [RosParameter(name, value=value) for name, value in values.items()]
    return ros.node("tester", parameter_overrides=overrides)


def test_defaults_and_overrides(ros):
    node = node_with(ros, width=64)
    assert declare(node, TABLE) == {"width": 64, "rate": 10.0, "family": "rooms", "enabled": True, "mode": "fast"}
    descriptor = node.describe_parameter("width")
    assert descriptor.description == "Image width, pixels."
    assert descriptor.read_only
    assert (descriptor.integer_range[0].from_value, descriptor.integer_range[0].to_value) == (16, 4096)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 8}, "parameter width: expected int from 16 to 4096, got 8"),
        ({"width": "wide"}, "parameter width: expected int from 16 to 4096, got 'wide'"),
        ({"rate": 1e9}, "parameter rate: expected float from 0.1 to 120.0, got 1000000000.0"),
        ({"family": "caves"}, "parameter family: expected one of rooms, halls, got 'caves'"),
        ({"enabled": 3}, "parameter enabled: expected bool, got 3"),
        ({"widht": 64}, "parameter widht: expected one of enabled, family, mode, rate, width"),
    ],
)
def test_wrong_values_are_refused_by_name(ros, values, message):
    with pytest.raises(ValueError, match=message):
        declare(node_with(ros, **values), TABLE)


def test_a_whole_number_is_taken_for_a_float_at_start_and_later(ros):
    node = node_with(ros, rate=20, use_sim_time=False)
    assert declare(node, TABLE)["rate"] == 20.0
    for setting in (node.set_parameters, lambda changes: [node.set_parameters_atomically(changes)]):
        assert setting([RosParameter("rate", value=5)])[0].successful
        assert node.get_parameter("rate").value == 5.0
        assert type(node.get_parameter("rate").value) is float
        assert not setting([RosParameter("rate", value="5")])[0].successful
        assert not setting([RosParameter("rate", value=1000)])[0].successful


def test_only_runtime_parameters_change_later(ros):
    node = node_with(ros)
    declare(node, TABLE)
    assert node.set_parameters([RosParameter("rate", value=20.0)])[0].successful
    assert not node.set_parameters([RosParameter("rate", value=1000.0)])[0].successful
    assert node.set_parameters([RosParameter("mode", value="slow")])[0].successful
    refusal = node.set_parameters([RosParameter("mode", value="odd")])[0]
    assert (refusal.successful, refusal.reason) == (False, "parameter mode: expected one of fast, slow, got 'odd'")
    assert not node.set_parameters([RosParameter("width", value=64)])[0].successful


def test_the_node_s_parameters_are_one_checked_object_that_follows_changes(ros):
    node = node_with(ros, **{"imagine.steps": 8, "observation.rate": 4})
    live = LiveParameters(node)
    assert live.current == MirageParameters.of({row.name: node.get_parameter(row.name).value for row in TABLE_OF_NODE})
    assert (live.current.imagine.steps, live.current.observation.rate, live.current.preset) == (8, 4.0, "default")
    before = live.current
    assert node.set_parameters([RosParameter("imagine.pause", value=2)])[0].successful
    assert live.current.imagine.pause == 2.0
    assert before.imagine.pause == 0.3
    assert not node.set_parameters([RosParameter("imagine.steps", value=51)])[0].successful
    with pytest.raises(ValueError, match="parameter imagine.steps: expected int from 0 to 50, got 1000"):
        ImagineParameters(steps=1000)


TABLE_OF_NODE = MirageParameters.rows()
