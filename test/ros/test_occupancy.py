"""What planners get of places: grids, points and doubt, over DDS."""

import math

import numpy as np
import pytest
import torch
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from mirage_ros.geometry import pinhole
from mirage_ros.ros.conversions import (
    camera_to_info,
    cloud_to_points,
    depth_from_metres,
    depth_to_metres,
    grid_to_cells,
    image_to_numpy,
    numpy_to_image,
    pose_to_stamped,
    poses_to_path,
)

GRIDS = ("memory/occupancy", "imagined/occupancy")
# Of the camera, which looks along x; the wall that it sees is so far away.
HEIGHT, WALL = 1.2, 3.0


def looking(yaw=0.0, x=0.0):
    """(4, 4) optical pose of a camera that stands upright."""
    pose = torch.eye(4, dtype=torch.float64)
    forward = torch.tensor([math.cos(yaw), math.sin(yaw), 0.0], dtype=torch.float64)
    pose[:3, 0] = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0], dtype=torch.float64)
    pose[:3, 1], pose[:3, 2] = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64), forward
    pose[:3, 3] = torch.tensor([x, 0.0, HEIGHT], dtype=torch.float64)
    return pose


def show_wall(node, pose=None):
    """A camera frame of a wall, and wait until the memory has it."""
    stamp = node.stamp()
    optics, world = Header(stamp=stamp, frame_id="camera"), Header(stamp=stamp, frame_id="map")
    rgb = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    before = node.node.configured.context.session.snapshot.changes
    node.publish("camera_pose", pose_to_stamped(looking() if pose is None else pose, world))
    node.publish("camera_info", camera_to_info(pinhole(80, 120, vertical_fov=0.9), optics))
    node.publish("depth", depth_from_metres(np.full((80, 120), WALL, np.float32), header=optics))
    node.publish("image", numpy_to_image(rgb, "rgb8", optics))
    node.spin_until(lambda: node.node.configured.context.session.snapshot.changes > before)


def value_at(message, x, y):
    cells, resolution, corner = grid_to_cells(message)
    column, row = ((np.array([x, y]) - corner) / resolution).astype(int)
    return int(cells[row, column])


def newest(node, topic, condition=lambda message: True):
    node.spin_until(lambda: node.received[topic] and condition(node.received[topic][-1]))
    return node.received[topic][-1]


@pytest.fixture
def seen(mirage):
    """A node that has seen the wall and nothing else."""
    mirage.listen(*GRIDS)
    assert mirage.call("reset").success
    show_wall(mirage)
    newest(mirage, "memory/occupancy", lambda message: value_at(message, 2.0, 0.0) == 0)
    return mirage


def test_what_was_observed_is_free_to_the_wall_and_unknown_behind_it(seen):
    grid = seen.received["memory/occupancy"][-1]
    assert grid.header.frame_id == "map"
    assert grid.info.resolution == pytest.approx(0.05)
    assert value_at(grid, 1.0, 0.0) == value_at(grid, 2.0, 0.5) == 0
    wall = {value_at(grid, x, 0.3) for x in (2.93, 2.98, 3.02, 3.07)}
    assert 100 in wall
    assert value_at(grid, 3.4, 0.0) == value_at(grid, -1.0, 0.0) == value_at(grid, 1.0, 3.0) == -1


def test_the_speed_mask_slows_where_nothing_was_observed(seen):
    seen.listen("imagined/speed_mask")
    mask = newest(seen, "imagined/speed_mask")
    # Per cent of full speed; 0 is no limit for nav2's speed filter, which takes no cell for unknown.
    assert value_at(mask, 1.0, 0.0) == value_at(mask, 2.0, 0.5) == 0
    assert value_at(mask, 3.4, 0.0) == value_at(mask, -1.0, 0.0) == 40
    assert set(mask.data) == {0, 40}
    for speed in (70, 40):
        assert seen.node.set_parameters([Parameter("occupancy.unseen_speed", value=speed)])[0].successful
        newest(seen, "imagined/speed_mask", lambda message, speed=speed: set(message.data) == {0, speed})


def test_a_late_listener_gets_the_last_grid(seen):
    from nav_msgs.msg import OccupancyGrid

    from mirage_ros.ros.topics import topic

    late = []
    subscription = seen.tester.create_subscription(
        OccupancyGrid, "memory/occupancy", late.append, topic("memory/occupancy").qos()
    )
    seen.spin_until(lambda: late)
    seen.tester.destroy_subscription(subscription)
    assert value_at(late[-1], 1.0, 0.0) == 0


def test_what_is_imagined_fills_only_what_was_never_observed(seen):
    seen.listen("imagined/uncertainty", "imagined/depth", "imagined/visibility", "imagined/points", "imagined/image")
    path = torch.stack([looking(0.12 * index) for index in range(9)])
    seen.publish("path", poses_to_path(path, Header(frame_id="map")))
    seen.spin_until(lambda: all(len(seen.received[f"imagined/{name}"]) >= 9 for name in ("points", "uncertainty")))
    grid = newest(seen, "imagined/occupancy", lambda message: max(message.data) >= 0)
    guessed, observed = (grid_to_cells(message)[0] for message in (grid, seen.received["memory/occupancy"][-1]))
    assert (guessed[observed >= 0] == -1).all()
    assert (guessed >= 0).sum() > 0
    for index in range(9):
        uncertainty = image_to_numpy(seen.received["imagined/uncertainty"][index])
        depth = depth_to_metres(seen.received["imagined/depth"][index])
        finite = np.isfinite(depth) & (depth > 0)
        assert (uncertainty[finite] > 0).all()
        assert np.isinf(uncertainty[depth == math.inf]).all()
        visible = image_to_numpy(seen.received["imagined/visibility"][index])
        if finite.any() and 0.1 < (visible > 0).mean() < 0.9:
            relative = uncertainty / np.where(finite, depth, 1)
            assert relative[finite & (visible <= 0)].mean() > 2 * relative[finite & (visible > 0)].mean()
        cloud = seen.received["imagined/points"][index]
        assert cloud.header.frame_id == "map"
        assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "visibility", "doubt"]
        points, _, _ = cloud_to_points(cloud)
        assert len(points) == finite.sum()
    # Points lie where depth and pose say.
    cloud, depth = seen.received["imagined/points"][0], depth_to_metres(seen.received["imagined/depth"][0])
    points = cloud_to_points(cloud)[0]
    there = depth[np.isfinite(depth) & (depth > 0)]
    # The first camera looks along x: depth is x.
    np.testing.assert_allclose(points[:, 0], there, rtol=1e-4, atol=1e-4)


def test_a_reset_forgets_and_a_repose_moves_what_was_seen(seen):
    session = seen.node.configured.context.session
    frame = session.memory.frames()[0].id
    moved = pose_to_stamped(looking(x=-0.5), Header(frame_id="map"))
    assert seen.call("repose", frames=[frame], poses=[moved]).success
    grid = newest(seen, "memory/occupancy", lambda message: value_at(message, 2.9, 0.0) == -1)
    assert 100 in {value_at(grid, x, 0.3) for x in (2.42, 2.47, 2.52, 2.57)}
    assert seen.call("reset").success
    show_wall(seen, looking(math.pi / 2))
    grid = newest(seen, "memory/occupancy", lambda message: value_at(message, 0.0, 2.0) == 0)
    assert value_at(grid, 2.0, 0.0) == -1


def test_a_loaded_memory_brings_its_maps(seen):
    path = torch.stack([looking(0.15 * index) for index in range(9)])
    seen.publish("path", poses_to_path(path, Header(frame_id="map")))
    newest(seen, "imagined/occupancy", lambda message: max(message.data) >= 0)
    # What is saved has all that was imagined.
    assert seen.call("save_memory", path="wall").success
    guessed = seen.node.configured.context.session.occupancy.guessed()
    assert seen.call("reset").success
    for topic in GRIDS:
        seen.received[topic].clear()
    assert seen.call("load_memory", path="wall").success
    grid = newest(seen, "memory/occupancy", lambda message: value_at(message, 2.0, 0.0) == 0)
    assert 100 in {value_at(grid, x, 0.3) for x in (2.93, 2.98, 3.02, 3.07)}
    again = grid_to_cells(newest(seen, "imagined/occupancy", lambda message: max(message.data) >= 0))[0]
    assert ((guessed >= 0) & (again >= 0)).sum() > 0.25 * (guessed >= 0).sum()
