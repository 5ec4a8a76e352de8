"""Paths: free of collisions, smooth, and never a view of nothing."""

import math

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.sim.paths import MAX_TURN, STYLES, collides, hidden_by_walls, is_blank, plan_path
from mirage_ros.sim.renderer import Renderer, import_mujoco
from mirage_ros.sim.scene import FAMILIES, build_scene


@pytest.mark.parametrize("family", FAMILIES)
def test_paths_touch_nothing_and_move_smoothly(family):
    for seed in range(6):
        scene = build_scene(seed, family)
        path = plan_path(scene, 60, seed)
        assert path.shape == (60, 4, 4)
        assert not collides(scene, path[:, :3, 3], 0.25)
        steps = (path[1:, :3, 3] - path[:-1, :3, 3]).norm(dim=1)
        assert steps.max() < 0.055
        forward = path[:, :3, 2]
        turns = torch.acos((forward[1:] * forward[:-1]).sum(dim=1).clamp(-1, 1))
        assert turns.max() < 1.5 * MAX_TURN
        assert (path[:, 2, 1] < 0).all(), "the camera is upright"


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_drawn_is_near_a_path(family):
    # Rays in all directions against the drawn geoms: footprints that forget a part of their furniture show here.
    mujoco = import_mujoco()
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for seed in range(3):
        scene = build_scene(seed, family, moving=0)
        model = mujoco.MjModel.from_xml_string(scene.mjcf, dict(scene.assets))
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        for eye in plan_path(scene, 60, seed)[::10, :3, 3].double().numpy():
            for direction in directions:
                geom = np.zeros(1, np.int32)
                distance = mujoco.mj_ray(model, data, eye, direction, None, 1, -1, geom)
                assert distance < 0 or distance > 0.2, (seed, eye, distance)


def test_walks_lead_through_doorways_and_look_through_them():
    entered, seen = 0, 0
    for seed in range(8):
        scene = build_scene(seed, "flats")
        eyes = plan_path(scene, 60, seed)[:, :3, 3].double().numpy()
        entered += any((door.distance(eyes[:, :2]) == 0).any() for door in scene.doorways)
        doors = np.array([[door.x, door.y, 1.2] for door in scene.doorways])
        seen += any(not hidden_by_walls(scene, eye, doors).all() for eye in eyes[::10])
    assert entered >= 3
    assert seen >= 6


@pytest.mark.parametrize("style", STYLES)
def test_styles(style):
    scene = build_scene(1)
    path = plan_path(scene, 16, 4, style=style, height=1.0)
    torch.testing.assert_close(path[:, 2, 3], torch.ones(16))
    assert torch.equal(path, plan_path(scene, 16, 4, style=style, height=1.0))
    assert not torch.equal(path, plan_path(scene, 16, 5, style=style, height=1.0))


def test_an_orbit_faces_one_point():
    path = plan_path(build_scene(1), 16, 4, style="orbit").double()
    # The lines of sight meet: least squares over all of them leaves next to no distance.
    eyes, directions = path[:, :3, 3], path[:, :3, 2]
    across = torch.eye(3, dtype=torch.float64) - directions[:, :, None] * directions[:, None]
    centre = torch.linalg.solve(across.sum(0), (across @ eyes[..., None]).sum(0))
    assert (across @ (centre - eyes[..., None])).norm(dim=1).max() < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_views_along_paths_are_not_blank(family):
    for seed in range(3):
        scene = build_scene(seed, family)
        with Renderer(scene, 64, 96) as renderer:
            frames = [renderer.render(pose) for pose in plan_path(scene, 60, seed)[::12]]
        assert not any(is_blank(frame) for frame in frames)


def test_blank_views_are_told():
    scene = build_scene(0, moving=0)
    with Renderer(scene, 64, 96) as renderer:
        # The nose against the ceiling.
        up = torch.eye(4)
        up[2, 3] = scene.height - 0.4
        assert is_blank(renderer.render(up))
    grey = np.full((32, 48, 3), 90, np.uint8)
    for depth in (2.0, 0.0, np.inf):
        assert is_blank(RgbdFrame(grey, np.full((32, 48), depth, np.float32), pinhole(32, 48, vertical_fov=1.0)))


def test_collisions():
    scene = build_scene(0)
    obstacle = next(o for o in scene.obstacles if o.top < 1.0)
    assert collides(scene, torch.tensor([obstacle.x, obstacle.y, 0.4]))
    # A robot cannot stand in a table, however high it carries its camera.
    assert collides(scene, torch.tensor([obstacle.x, obstacle.y, 1.6]))
    assert collides(scene, torch.tensor([scene.length / 2 - 0.1, 0, 1.0]))
    assert collides(scene, torch.tensor([0, 0, scene.height]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count: expected"),
        ({"style": "fly"}, "style: expected one of explore, orbit, dolly, got 'fly'"),
        ({"step": math.nan}, "step: expected"),
        ({"height": 9.0}, "height: expected"),
        ({"count": 200, "step": 1.0, "style": "dolly"}, "scene: rooms 0 has no room"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_path(build_scene(0), **{"count": 10, **arguments})
