"""Drawing: colour, depth, classes and camera agree with each other and with geometry."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.recordings.clips import MOVING, SKY, STATIC
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.movers import Mover
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import FAMILIES, Scene, build_scene
from mirage_ros.trajectory import look_at


def scene_of(mjcf, movers=()):
    return Scene("test", 0, 20.0, 20.0, 5.0, (), (), (), tuple(movers), mjcf.xml(0.6), mjcf.assets)


def facing_x(x=0.0, y=0.0, z=1.0):
    return look_at(torch.tensor([x, y, z]), torch.tensor([x + 1, y, z]))


def bilinear(image, pixels):
    """Values of (H, W) at (N, 2) pixels, and whether the four around are alike (1 %)."""
    x, y = pixels[:, 0] - 0.5, pixels[:, 1] - 0.5
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    corners = np.stack([image[i, j], image[i, j + 1], image[i + 1, j], image[i + 1, j + 1]])
    u, v = x - j, y - i
    # Planes are linear in inverse depth.
    with np.errstate(divide="ignore"):
        inverse = 1 / corners
    value = (inverse[0] * (1 - u) + inverse[1] * u) * (1 - v) + (inverse[2] * (1 - u) + inverse[3] * u) * v
    return 1 / value, np.ptp(corners, axis=0) < 0.01 * corners.min(axis=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_views_agree_on_where_surfaces_are(family):
    scene = build_scene(3, family, moving=0)
    path = plan_path(scene, 30, 0).double()
    with Renderer(scene) as renderer:
        a, b = renderer.render(path[0]), renderer.render(path[12])
        camera_a, camera_b = renderer.camera(path[0]), renderer.camera(path[12])
    points = camera_a.lift(torch.from_numpy(a.depth)).reshape(-1, 3)
    pixels, depth = (t.numpy() for t in camera_b.project(points[points.isfinite().all(dim=-1)]))
    inside = (depth > 0) & (pixels > 1).all(axis=1) & (pixels < [191, 127]).all(axis=1)
    drawn, smooth = bilinear(b.depth, pixels[inside])
    # What b hides is nearer there; everything else must lie on the surface that b drew.
    error = (depth[inside] - drawn)[smooth]
    visible = np.abs(error) < 0.1
    assert visible.mean() > 0.7
    assert np.median(np.abs(error[visible])) < 0.001
    assert np.quantile(np.abs(error[visible]), 0.95) < 0.01


def test_depth_is_along_the_axis_and_exact():
    mjcf = Mjcf()
    mjcf.box((3.5, 0, 1), (1, 20, 20), mjcf.paint((0.5, 0.5, 0.5)))
    with Renderer(scene_of(mjcf), 64, 96) as renderer:
        frame = renderer.render(facing_x())
        np.testing.assert_allclose(frame.depth, 3.0, atol=1e-3)
        np.testing.assert_allclose(renderer.render(facing_x(-12.0)).depth[20:40, 30:60], 15.0, atol=5e-3)
        np.testing.assert_allclose(renderer.render(facing_x(2.9)).depth, 0.1, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_and_classes_are_those_of_the_pixel_centres(family):
    # Antialiasing smooths colours only: its samples lie up to half a pixel beside the centre, which moves edges.
    scene = build_scene(1, family, moving=2)
    path = plan_path(scene, 20, 0)
    with Renderer(scene, samples=4) as smooth, Renderer(scene, samples=0) as plain:
        for index in (0, 10, 19):
            a, b = smooth.render(path[index], index / 10), plain.render(path[index], index / 10)
            assert (a.rgb != b.rgb).any()
            np.testing.assert_allclose(a.depth, b.depth, rtol=1e-4)
            np.testing.assert_array_equal(a.labels, b.labels)


def test_depth_of_a_slanted_plane_is_exact():
    # The floor, one metre below: each row's depth follows from its ray alone, so half a pixel of error shows.
    mjcf = Mjcf()
    mjcf.box((0, 0, -0.05), (30, 30, 0.1), mjcf.paint((0.5, 0.5, 0.5)))
    with Renderer(scene_of(mjcf), 64, 96) as renderer:
        depth = renderer.render(facing_x()).depth
        focal = renderer.camera(facing_x()).intrinsics[1, 1].item()
    rows = np.arange(45, 64)
    expected = np.broadcast_to(focal / (rows + 0.5 - 32)[:, None], (19, 96))
    np.testing.assert_allclose(depth[rows], expected, rtol=1e-3)


def test_what_is_before_the_sky_is_not_sky():
    # A far wall that covers the left half; MuJoCo's own sky writes depth, and must not count as a surface.
    mjcf = Mjcf()
    mjcf.sky([np.full((16, 16, 3), 200, np.uint8)] * 6)
    mjcf.box((20, 20, 1), (1, 40, 60), mjcf.paint((0.5, 0.5, 0.5)))
    with Renderer(scene_of(mjcf), 64, 96) as renderer:
        frame = renderer.render(facing_x())
    assert (frame.labels[:, :46] == STATIC).all()
    np.testing.assert_allclose(frame.depth[:, :46], 19.5, rtol=1e-3)
    assert (frame.labels[:, 50:] == SKY).all()
    assert np.isposinf(frame.depth[:, 50:]).all()
    # What clips hold of it.
    assert (frame.finite_depth[:, 50:] == 0).all()
    np.testing.assert_array_equal(frame.finite_depth[:, :46], frame.depth[:, :46])


def test_an_opengl_that_needs_a_screen_is_refused_with_advice():
    code = (
        "import mujoco; from mirage_ros.sim.renderer import Renderer; from mirage_ros.sim.scene import build_scene\n"
        "try: Renderer(build_scene(0))\nexcept RuntimeError as error: print(error)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Set MUJOCO_GL=egl before" in result.stdout


def test_pixel_centres_are_where_the_camera_says():
    # A wall whose left edge runs along y = 0.013: the share of it in each pixel column tells where the edge falls.
    mjcf = Mjcf()
    mjcf.box((3.5, -5 + 0.013, 1), (1, 10, 20), mjcf.paint((0, 0, 0), glow=0.0))
    mjcf.box((9.5, 0, 1), (1, 40, 40), mjcf.paint((1, 1, 1), glow=1.0))
    with Renderer(scene_of(mjcf), 64, 96, samples=8) as renderer:
        pose = facing_x()
        frame = renderer.render(pose)
        camera = renderer.camera(pose)
    rows = frame.rgb[20:40].astype(float).mean(axis=(0, 2))
    dark, bright = rows[-10:].mean(), rows[:10].mean()
    # Columns left of the edge are bright: their number, with the fraction of the one it cuts, is its coordinate.
    edge = ((rows - dark) / (bright - dark)).sum()
    pixels, _ = camera.project(torch.tensor([[3.0, 0.013, 1.0]]))
    assert edge == pytest.approx(pixels[0, 0].item(), abs=0.15)


def test_only_what_moves_is_labelled_moving():
    mjcf = Mjcf()
    mjcf.box((4.5, 0, 1), (1, 20, 20), mjcf.paint((0.5, 0.6, 0.5)))
    mjcf.moving("mover0", [mjcf.ball((0, 0, 0), 0.3, mjcf.paint((0.9, 0.1, 0.1)))])
    mover = Mover("mover0", "drone", (3.0, 0.0, 1.0), (0.0, 0.5), 0.0, 4.0, 0.0)
    with Renderer(scene_of(mjcf, [mover]), 64, 96) as renderer:
        camera = renderer.camera(facing_x())
        frames = [renderer.render(facing_x(), time) for time in (0.0, 1.0)]
    for time, frame in zip((0.0, 1.0), frames, strict=True):
        moving = np.argwhere(frame.labels == MOVING)
        centre, depth = camera.project(torch.tensor([mover.pose(time)[0]]))
        np.testing.assert_allclose(moving.mean(axis=0)[::-1] + 0.5, centre[0], atol=0.5)
        # The disc of a ball 0.3 m across 3 m away.
        radius = 0.3 * camera.intrinsics[1, 1].item() / depth.item()
        assert len(moving) == pytest.approx(math.pi * radius**2, rel=0.1)
        assert (frame.depth[frame.labels == MOVING] < 3.2).all()
    still = (frames[0].labels == STATIC) & (frames[1].labels == STATIC)
    np.testing.assert_array_equal(frames[0].depth[still], frames[1].depth[still])


def test_sky_has_no_depth_and_its_own_label():
    found = False
    for seed in range(4):
        scene = build_scene(seed, "halls")
        path = plan_path(scene, 40, seed)
        with Renderer(scene, 64, 96) as renderer:
            for pose in path[::8]:
                frame = renderer.render(pose)
                np.testing.assert_array_equal(frame.labels == SKY, np.isposinf(frame.depth))
                found = found or (frame.labels == SKY).mean() > 0.02
    assert found


def test_rooms_are_closed():
    for seed in range(3):
        scene = build_scene(seed, moving=0)
        with Renderer(scene, 64, 96) as renderer:
            for pose in plan_path(scene, 40, seed)[::8]:
                frame = renderer.render(pose)
                assert frame.depth.max() < math.hypot(scene.length, scene.width) + 0.1


def test_the_same_view_is_drawn_the_same_twice():
    scene = build_scene(1)
    pose = plan_path(scene, 2, 0)[0]
    frames = []
    for _ in range(2):
        with Renderer(scene, 64, 96) as renderer:
            frames.append(renderer.render(pose, 0.7))
    for name in ("rgb", "depth", "labels"):
        np.testing.assert_array_equal(getattr(frames[0], name), getattr(frames[1], name))


def test_closing_one_renderer_leaves_another_alone():
    first, second = Renderer(build_scene(1, moving=0), 64, 96), Renderer(build_scene(2, moving=0), 64, 96)
    pose = plan_path(build_scene(2, moving=0), 2, 0)[0]
    before = second.render(pose)
    first.close()
    after = second.render(pose)
    second.close()
    np.testing.assert_array_equal(before.rgb, after.rgb)
    np.testing.assert_array_equal(before.depth, after.depth)


def test_refusals_name_the_argument():
    scene = build_scene(0)
    renderer = Renderer(scene, 32, 48)
    frame = renderer.render(torch.eye(4))
    with pytest.raises(ValueError, match="labels: expected"):
        replace(frame, labels=frame.labels[1:])
    with pytest.raises(ValueError, match="cam2world: expected"):
        renderer.render(torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"cam2world: expected \(4, 4\)"):
        renderer.render(torch.eye(4).repeat(2, 1, 1))
    renderer.close()
    renderer.close()
    with pytest.raises(ValueError, match="renderer: expected an open one"):
        renderer.render(torch.eye(4))
    with pytest.raises(ValueError, match="vertical_fov: expected"):
        Renderer(scene, 32, 48, vertical_fov=4.0)
