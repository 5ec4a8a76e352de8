"""What is shipped for nav2 parses, names parameters that its layers have, and topics and fields that exist here."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).parents[1] / "config" / "nav2"
# As nav2's documentation of its costmap plugins and their sources have them.
COSTMAP = {"plugins", "filters", "rolling_window", "trinary_costmap"}
LAYERS = {
    "nav2_costmap_2d::ObstacleLayer": {
        *("plugin", "enabled", "footprint_clearing_enabled", "min_obstacle_height", "max_obstacle_height"),
        *("combination_method", "observation_sources", "tf_filter_tolerance"),
    },
    "nav2_costmap_2d::StaticLayer": {
        *("plugin", "enabled", "subscribe_to_updates", "footprint_clearing_enabled", "restore_cleared_footprint"),
        *("map_topic", "map_subscribe_transient_local", "transform_tolerance"),
    },
}
FILTER = {"plugin", "enabled", "filter_info_topic", "speed_limit_topic", "transform_tolerance"}
MASK = {"filter_info_topic", "type", "mask_topic", "base", "multiplier"}
SOURCE = {
    *("topic", "sensor_frame", "observation_persistence", "expected_update_rate", "data_type", "min_obstacle_height"),
    *("max_obstacle_height", "inf_is_valid", "marking", "clearing", "obstacle_max_range", "obstacle_min_range"),
    *("raytrace_max_range", "raytrace_min_range"),
}
NODES = {
    *("PipelineSequence", "RateController", "Sequence", "ForceSuccess", "Inverter", "ComputePathToPose", "FollowPath"),
    *("ImaginePath", "ImaginedPathIsClear"),
}


@pytest.fixture(scope="module")
def costmaps():
    file = yaml.safe_load((CONFIG / "costmaps.yaml").read_text())
    return {name: part[name]["ros__parameters"] for name, part in file.items() if name in part}


@pytest.fixture(scope="module")
def mask():
    return yaml.safe_load((CONFIG / "costmaps.yaml").read_text())["costmap_filter_info_server"]["ros__parameters"]


@pytest.mark.parametrize("name", ["global_costmap", "local_costmap"])
def test_layers_have_the_parameters_that_are_set(costmaps, name):
    costmap = costmaps[name]
    layer = costmap["imagined_layer"]
    assert set(costmap) - COSTMAP == {"imagined_layer", *costmap.get("filters", [])}
    # Inflated like any other obstacle.
    assert costmap["plugins"].index("imagined_layer") < costmap["plugins"].index("inflation_layer")
    if layer["plugin"].endswith("StaticLayer"):
        # It writes over what is there: what sensors see comes after it.
        assert costmap["plugins"].index("imagined_layer") < costmap["plugins"].index("voxel_layer")
    sources = layer.get("observation_sources", "").split()
    assert set(layer) <= LAYERS[layer["plugin"]] | set(sources)
    for source in sources:
        assert set(layer[source]) <= SOURCE
        assert layer[source]["max_obstacle_height"] > layer[source]["min_obstacle_height"]
        assert not layer[source]["clearing"]


def test_a_grid_is_a_layer_of_a_rolling_costmap_only(costmaps):
    for costmap in costmaps.values():
        if costmap["imagined_layer"]["plugin"].endswith("StaticLayer"):
            assert costmap["rolling_window"]


def test_the_speed_filter_takes_the_mask_for_per_cent_and_for_what_it_says(costmaps, mask):
    from mirage_ros.ros.topics import topic

    (name,) = costmaps["local_costmap"]["filters"]
    speed = costmaps["local_costmap"][name]
    assert set(speed) == FILTER
    assert set(mask) == MASK
    assert speed["plugin"] == "nav2_costmap_2d::SpeedFilter"
    assert speed["filter_info_topic"] == mask["filter_info_topic"]
    # nav2_msgs/CostmapFilterInfo: 1 is a filter of speeds in per cent of the greatest.
    assert (mask["type"], mask["base"], mask["multiplier"]) == (1, 0.0, 1.0)
    assert topic(mask["mask_topic"].lstrip("/")).kind.__name__ == "OccupancyGrid"


@pytest.mark.parametrize(
    ("name", "kind"), [("imagined/points", "PointCloud2"), ("imagined/occupancy", "OccupancyGrid")]
)
def test_topics_are_those_of_the_node(costmaps, name, kind):
    from mirage_ros.ros.topics import OUTPUTS

    layers = [costmap["imagined_layer"] for costmap in costmaps.values()]
    assert f"/{name}" in [layer.get("map_topic") or layer["imagined"]["topic"] for layer in layers]
    assert [row.kind.__name__ for row in OUTPUTS if row.name == name] == [kind]


def test_the_behaviour_tree_parses_and_passes_what_the_action_takes():
    from mirage_ros.action import Imagine

    root = ElementTree.parse(CONFIG / "imagine_before_following.xml").getroot()
    (tree,) = root.findall("BehaviorTree")
    assert root.get("main_tree_to_execute") == tree.get("ID")
    assert {each.tag for each in tree.iter()} - {"BehaviorTree"} == NODES
    (action,) = tree.iter("ImaginePath")
    assert int(action.get("pose_of")) == Imagine.Goal.BASE
    (condition,) = tree.iter("ImaginedPathIsClear")
    assert condition.get("trajectory") == action.get("trajectory")
