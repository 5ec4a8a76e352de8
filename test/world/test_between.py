"""Frames between keyframes: read from the memory, more keyframes where that leaves much open, sky by direction."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mirage_ros.geometry import pinhole
from mirage_ros.models import log_depth
from mirage_ros.visibility import pixels_of
from mirage_ros.world.between import Inventions, Keyframe, _sky_of
from mirage_ros.world.model import WorldModel
from mirage_ros.world.results import Cancelled


def imagined(world, scene, **options):
    memory, history = scene.begin(world)
    chunks = list(world.imagine(memory, scene.camera, perception=scene.perception, history=history, **options))
    return memory, chunks


def test_frames_come_in_order_whatever_was_imagined_first(frame_world, walk):
    scene = walk(20)
    _, chunks = imagined(frame_world, scene, stamps=list(range(100, 120)), first=scene.frame())
    assert [(chunk.first, len(chunk)) for chunk in chunks] == [(0, 9), (9, 8), (17, 3)]
    assert np.concatenate([chunk.stamp for chunk in chunks]).tolist() == [*range(100, 120)]
    poses = torch.cat([chunk.camera.cam2world for chunk in chunks])
    assert torch.allclose(poses.double(), scene.camera.cam2world)


def test_between_keyframes_it_is_what_the_memory_shows(frame_world, walk):
    scene = walk(9, step=0.01)
    memory, (chunk,) = imagined(frame_world, scene, first=scene.frame())
    shown = frame_world.preview(memory, scene.camera[1:8])
    seen = shown.visible > 0
    assert seen.mean() > 0.95
    difference = np.abs(chunk.rgb[1:8].astype(int) - shown.rgb.astype(int)).mean(axis=-1)
    # Holes beside a cell colour what is decoded around them.
    assert np.median(difference[seen]) <= 1


def test_where_the_keyframes_leave_much_open_there_are_more_of_them(frame_world, walk):
    def steps(scene):
        seen = []
        imagined(frame_world, scene, first=scene.frame(), on_progress=seen.append, steps=1)
        return sum(progress.stage == "denoise" for progress in seen)

    assert steps(walk(9, step=0.001)) == 1
    assert steps(walk(9, step=0.4)) > 1


def test_what_a_keyframe_invented_is_not_called_remembered(frame_world, walk):
    scene = walk(9, step=0.1)
    _, (chunk,) = imagined(frame_world, scene, first=scene.frame())
    # The camera moves to the right: what comes into view there was never seen.
    known = chunk.visible[1:8].mean(axis=1)
    assert known[-1, :14].mean() > 0.9
    assert known[-1, -6:].mean() < 0.1
    assert np.allclose(chunk.coverage, chunk.visible.mean(axis=(1, 2)), atol=0.02)


def test_nor_is_it_by_further_keyframes_of_the_same_chunk(frame_world, walk):
    scene, asked = walk(9, step=0.4), []
    _, (chunk,) = imagined(frame_world, scene, first=scene.frame(), on_progress=asked.append, steps=1)
    assert sum(progress.stage == "denoise" for progress in asked) > 1
    # The camera leaves what the first frame shows, steadily; nothing new is ever known again.
    assert chunk.coverage[0] > 0.9
    assert (np.diff(chunk.coverage) < 0.1).all()
    assert chunk.coverage[-1] < 0.4


def test_nobody_is_asked_to_stop_once_a_keyframe_is_written(frame_world, walk):
    scene, asked = walk(9, step=0.4), []
    memory, history = scene.begin(frame_world)
    before = len(memory)

    def cancel():
        asked.append(len(memory))
        return False

    list(
        frame_world.imagine(
            memory, scene.camera, perception=scene.perception, history=history, first=scene.frame(), cancel=cancel
        )
    )
    assert set(asked) == {before}
    with pytest.raises(Cancelled):
        list(frame_world.imagine(memory, scene.camera, perception=scene.perception, cancel=lambda: True))


def test_the_sky_of_a_keyframe_is_found_by_its_direction():
    camera = pinhole(16, 24, vertical_fov=0.8)
    depth = torch.full((32, 48), 3.0)
    depth[:16] = log_depth.SKY_DEPTH
    latents = torch.linspace(-1, 1, 24).expand(1, 16, 24)
    keyframe = Keyframe(latents, depth, torch.ones(16, 24, dtype=torch.bool), camera)
    turned = camera.cam2world.clone()
    # A quarter of the view to the right, and a step that the sky does not notice.
    focal = float(camera.intrinsics[0, 0])
    angle = np.arctan(6 / focal)
    turned[:3, :3] = torch.from_numpy(Rotation.from_rotvec([0, angle, 0]).as_matrix())
    turned[:3, 3] = torch.tensor([0.0, 0.0, 0.7])
    sky, seen = _sky_of(keyframe, camera.at(turned[None]), 1)
    assert seen[0, 0, 2:6, 2:15].all()
    assert not seen[0, 0, 9:].any()
    assert not seen[0, 0, :, -4:].any()
    # What is in the middle now was six cells to the right.
    assert float(sky[0, 0, 3, 11]) == pytest.approx(float(latents[0, 3, 17]), abs=0.06)


def test_what_any_keyframe_invented_is_not_known():
    """As if each keyframe were compared with every point, whichever are left out for speed."""
    camera = pinhole(16, 24, vertical_fov=0.8)
    poses = torch.eye(4).repeat(6, 1, 1)
    # Two are far away and see something else.
    poses[:, 0, 3] = torch.tensor([0.0, 0.3, 0.6, -0.5, 40.0, -60.0])
    known = torch.ones(6, 16, 24, dtype=torch.bool)
    known[0, :, 16:], known[1, :4], known[3, :, :3], known[4:] = False, False, False, False
    frames = [
        Keyframe.of(torch.zeros(1, 16, 24), torch.full((64, 96), 2.0), each, camera.at(pose))
        for each, pose in zip(known, poses, strict=True)
    ]
    depth = torch.full((1, 16, 24), 2.0)
    depth[:, :, :6] = 1.0
    reading = SimpleNamespace(visible=torch.ones(1, 1, 16, 24), depth=depth, camera=camera.at(poses[:1]), observed=None)
    reading.visible[:, :, 10] = 0
    expected = reading.visible[:, 0] > 0
    points = reading.camera.lift(depth).flatten(0, 2)
    for frame, own in zip(frames, known, strict=True):
        cell, distance = pixels_of(frame.camera, points)
        taken = (cell >= 0) & ((distance / 2 - 1).abs() < 0.05) & ~own.flatten()[cell.clamp(min=0)]
        expected = expected & ~taken.reshape(expected.shape)
    earlier = Inventions()
    earlier.add(frames[:3])
    assert torch.equal(earlier.known(reading, frames[3:]), expected)
    assert 0 < expected.float().mean() < 0.8
    # What a camera saw is known, whatever stands near it.
    reading.observed = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    reading.observed[..., 8:, :] = True
    assert torch.equal(earlier.known(reading, frames[3:])[:, :8], expected[:, :8])
    assert torch.equal(earlier.known(reading, frames[3:])[:, 8:], reading.visible[:, 0, 8:] > 0)


def test_one_frame_at_a_time_is_a_chunk_of_two(frame_world, walk):
    scene = walk(3)
    memory, history = scene.begin(frame_world)
    for index in range(2):
        (chunk,) = frame_world.imagine(
            memory,
            scene.camera[index : index + 2],
            first=scene.frame(index),
            perception=None,
            history=history,
        )
        assert len(chunk) == 2


def test_a_stride_of_one_imagines_every_frame(walk):
    world = WorldModel.from_pretrained(random_weights=True, size=(32, 48), keyframe_stride=1)
    assert [span.between for span in world.check_trajectory(walk(9).camera)] == [()]
    with pytest.raises(ValueError, match="keyframe_stride: expected a whole number from 1, got 0"):
        WorldModel.from_pretrained(random_weights=True, size=(32, 48), keyframe_stride=0)
