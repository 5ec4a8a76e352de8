"""The plan from above, against rays through what is drawn."""

import numpy as np
import pytest

from mirage_ros.sim.floor_plan import is_inside, is_occupied
from mirage_ros.sim.renderer import import_mujoco
from mirage_ros.sim.scene import FAMILIES, build_scene

LOW, HIGH = 0.1, 1.5


def hits(scene, places):
    """(N,) whether a ray down from the one height, or up from the other, meets something between them."""
    mujoco = import_mujoco()
    model = mujoco.MjModel.from_xml_string(scene.mjcf, dict(scene.assets))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    geom, found = np.zeros(1, np.int32), []
    for x, y in places:
        met = [
            mujoco.mj_ray(model, data, np.array([x, y, start]), np.array([0.0, 0.0, way]), None, 1, -1, geom)
            for start, way in ((HIGH, -1.0), (LOW, 1.0))
        ]
        found.append(any(0 <= distance < HIGH - LOW for distance in met))
    return np.array(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_rays_meet_is_on_the_plan_and_hardly_anything_else(family):
    for seed in range(4):
        scene = build_scene(seed, family, moving=0)
        half = np.array([scene.length, scene.width]) / 2 - 0.15
        places = np.random.default_rng(seed).uniform(-half, half, (1500, 2))
        met, plan = hits(scene, places), is_occupied(scene, places, min_height=LOW, max_height=HIGH)
        # From inside of what is taller than both heights, rays meet nothing: what walls occupy is known.
        walls = [wall.distance(places) == 0 for wall in scene.walls if wall.bottom == 0]
        met |= np.any(walls, axis=0) if walls else False
        assert met.any()
        # A round thing counts with its largest section, and from inside of a tall one rays meet nothing.
        assert plan[met].mean() > 0.99
        assert (plan == met).mean() > 0.96


def test_walls_are_on_the_plan_and_beyond_them_there_is_nothing():
    scene = build_scene(0, moving=0)
    edge = np.array([[scene.length / 2 + 0.05, 0.3], [0.3, -scene.width / 2 - 0.05]])
    assert is_occupied(scene, edge).all()
    assert is_inside(scene, edge).all()
    assert not is_inside(scene, edge * 1.2).any()


def test_a_margin_makes_things_larger_and_heights_leave_things_out():
    scene = build_scene(1, moving=0)
    places = np.random.default_rng(0).uniform(-2.5, 2.5, (4000, 2))
    plain, wide = is_occupied(scene, places), is_occupied(scene, places, margin=0.1)
    assert not (plain & ~wide).any()
    assert wide.sum() > plain.sum()
    low = is_occupied(scene, places, min_height=0.02, max_height=0.05)
    assert low.sum() < plain.sum()
