"""The arithmetic of streams, and poses of other frames and bodies."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirage_ros.geometry import pinhole
from mirage_ros.poses import body_to_optical, optical_to_body
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.commanding import Commands, thinned
from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameters import (
    MAX_SEED,
    ExtrinsicsParameters,
    ImagineParameters,
    MemoryParameters,
    MirageParameters,
)
from mirage_ros.ros.requests import draw_seed, frame_stamps
from mirage_ros.ros.status import Health
from mirage_ros.ros.transforms import FrameIds, check_poses, extrinsics
from mirage_ros.ros.work_queue import Worker


@given(st.integers(1, 500), st.integers(1, 100))
def test_thinning_keeps_order_and_the_newest(count, most):
    kept = thinned(count, most)
    assert len(kept) == min(count, most)
    assert kept == sorted(set(kept))
    assert kept[-1] == count - 1
    assert kept[0] >= 0


def test_seeds():
    assert draw_seed(7) == 7
    assert draw_seed(MAX_SEED) == MAX_SEED
    for seed in (-2, MAX_SEED + 1):
        with pytest.raises(ValueError, match=f"seed: expected a whole number from -1 to {MAX_SEED}, got {seed}"):
            draw_seed(seed)
    drawn = {draw_seed(-1) for _ in range(8)}
    assert len(drawn) > 1
    assert min(drawn) >= 0


def test_stamps_of_frames():
    assert frame_stamps([0, 0, 0], 100, 1e9, "path") == [100, 101, 102]
    assert frame_stamps([5, 7, 9], 100, 10.0, "path") == [5, 7, 9]
    # One stamp for all poses, for some, or the goal's alone, as planners give them: none of them says when.
    for planned in ([5, 5, 5], [5, 5, 6], [0, 0, 7], [4, 0, 7]):
        assert frame_stamps(planned, 100, 1e9, "path") == [100, 101, 102]
    # tf2 keeps 10 s: a frame of now, after those of a long path, must not be too old for it.
    long = frame_stamps([0] * 512, 100, 8.0, "path")
    assert long == sorted(set(long))
    assert long[-1] < 9 * 10**9
    for wrong in ([0, 3, 2], [9, 8, 7]):
        with pytest.raises(ValueError, match="path.poses: expected stamps that increase"):
            frame_stamps(wrong, 100, 10.0, "path")


def test_poses_too_far_away_are_refused():
    poses = torch.eye(4).repeat(2, 1, 1)
    check_poses(poses, 10.0, "path")
    poses[1, 2, 3] = -11.0
    with pytest.raises(ValueError, match=r"path: expected within 10 m .* got 11 m"):
        check_poses(poses, 10.0, "path")


def test_a_stream_goes_on_from_its_last_frame_and_that_ones_depth(monkeypatch):
    parameters = MirageParameters(
        preset="test",
        random_weights=True,
        device="cpu",
        memory=MemoryParameters(max_bytes=4 << 20),
        imagine=ImagineParameters(pause=0.01),
    )
    session = ModelSession(parameters)
    camera = pinhole(64, 96, vertical_fov=0.9, cam2world=torch.eye(4, dtype=torch.float64))
    session.observe(RgbdFrame(np.full((64, 96, 3), 90, np.uint8), np.full((64, 96), 2.0, np.float32), camera, 5))
    asked, shown, imagine = [], [], session.imagine
    monkeypatch.setattr(session, "imagine", lambda request, *rest: (asked.append(request), imagine(request, *rest))[1])
    outputs = SimpleNamespace(
        preview=lambda *_: None, path=lambda *_: None, frames=lambda chunk, *_: shown.append(chunk)
    )
    logger = SimpleNamespace(warning=lambda *_, **__: None)
    health = Health(SimpleNamespace(get_logger=lambda: logger), None)
    worker = Worker()
    try:
        context = SimpleNamespace(session=session, worker=worker, parameters=parameters, health=health)
        commands = Commands(context, outputs)
        for index in range(2):
            pose = torch.eye(4, dtype=torch.float64)
            pose[0, 3] = 0.05 * index
            commands.pose(pose, 10 + index)
            deadline = time.monotonic() + 60
            while len(shown) <= index or commands.running:
                commands.pump()
                assert time.monotonic() < deadline, health.refused
                time.sleep(0.01)
    finally:
        worker.close()
    assert not health.refused
    assert asked[0].first is None
    np.testing.assert_array_equal(asked[1].first.rgb, shown[0].rgb[0])
    np.testing.assert_array_equal(asked[1].first.depth, shown[0].depth[0])
    assert asked[1].first.stamp == 10


def test_a_path_makes_the_last_chunk_of_a_stream_void():
    given, shown = [], []
    session = SimpleNamespace(
        padded=lambda poses: poses,
        rollout=lambda worker, request, publish: given.append(publish),
        preview=lambda pose: None,
        world=SimpleNamespace(preset=SimpleNamespace(chunk_frames=1)),
    )
    job = SimpleNamespace(cancel=lambda: None, future=SimpleNamespace(done=lambda: False))
    worker = SimpleNamespace(start=lambda *_, **__: job, call=lambda *_, **__: None)
    outputs = SimpleNamespace(path=lambda *_: None, frames=lambda chunk, *_: shown.append(chunk))
    health = SimpleNamespace(watch=lambda *_: None)
    commands = Commands(
        SimpleNamespace(session=session, worker=worker, parameters=MirageParameters(), health=health), outputs
    )
    pose = torch.eye(4, dtype=torch.float64)
    camera = pinhole(4, 6, vertical_fov=0.9, cam2world=pose[None])
    chunk = SimpleNamespace(first=0, rgb=[None], depth=[None], camera=camera)
    chunk = type("Chunk", (SimpleNamespace,), {"__len__": lambda self: 1})(**vars(chunk))
    commands.pose(pose, 5)
    commands.path(pose[None], [6])
    stream, path = given
    stream(chunk)
    assert not shown
    assert commands._last is None
    path(chunk)
    assert shown == [chunk]


def test_a_stream_does_not_go_on_from_a_frame_without_depth():
    """As of a place nobody has seen: the poses after it would be refused, one by one."""
    asked = []
    session = SimpleNamespace(
        padded=lambda poses: poses,
        rollout=lambda worker, request, publish: asked.append(request.first) or publish(chunk),
        preview=lambda pose: None,
        world=SimpleNamespace(preset=SimpleNamespace(chunk_frames=2)),
    )
    job = SimpleNamespace(cancel=lambda: None, future=SimpleNamespace(done=lambda: True))
    worker = SimpleNamespace(start=lambda *_, **__: job, call=lambda *_, **__: None)
    outputs = SimpleNamespace(path=lambda *_: None, frames=lambda *_: None)
    health = SimpleNamespace(watch=lambda *_: None)
    parameters = MirageParameters(imagine=ImagineParameters(pause=0.01))
    commands = Commands(SimpleNamespace(session=session, worker=worker, parameters=parameters, health=health), outputs)
    pose = torch.eye(4, dtype=torch.float64)
    camera = pinhole(4, 6, vertical_fov=0.9, cam2world=pose.repeat(2, 1, 1))

    def imagined(depth):
        rgb, frames = np.zeros((2, 4, 6, 3), np.uint8), np.full((2, 4, 6), depth, np.float32)
        parts = {"first": 0, "rgb": rgb, "depth": frames, "camera": camera}
        return type("Chunk", (SimpleNamespace,), {"__len__": lambda self: 2})(**parts)

    for depth in (2.0, np.nan, np.inf, 0.0, 2.0):
        chunk = imagined(depth)
        commands.pose(pose, 5)
        time.sleep(0.02)
        commands.pump()
    went_on = [first is not None for first in asked]
    # The sky says something, as it is of a camera; each other frame is one that the next cannot go on from.
    assert went_on == [False, True, False, True, False]


IN_BASE = ExtrinsicsParameters(x=0.2, z=0.6, pitch=0.3)


@pytest.fixture
def frames():
    # Without TF nothing is asked of the node.
    return FrameIds(SimpleNamespace(), MirageParameters(extrinsics=IN_BASE, use_tf=False))


def test_optical_body_and_base_are_three_ways_to_say_the_same(frames):
    ids = frames
    base = extrinsics(ExtrinsicsParameters(x=1.0, y=2.0, yaw=math.pi / 3))
    body = base @ extrinsics(IN_BASE)
    expected = body_to_optical(body)
    torch.testing.assert_close(ids.optical(base, "map", "base", 0), expected)
    torch.testing.assert_close(ids.optical(body, "", "body", 0), expected)
    torch.testing.assert_close(ids.optical(expected[None], "map", 0, 0)[0], expected)
    torch.testing.assert_close(optical_to_body(ids.optical(base, "map", 2, 0)), body)
    with pytest.raises(ValueError, match="pose_of: expected 0"):
        ids.optical(base, "map", 3, 0)


def test_extrinsics_are_those_of_urdf():
    # Yaw is about the fixed z axis and applied last: x forward points left after a quarter turn.
    pose = extrinsics(ExtrinsicsParameters(x=1.0, y=2.0, z=3.0, yaw=math.pi / 2))
    torch.testing.assert_close(pose[:3, 0], torch.tensor([0.0, 1.0, 0.0]).double(), atol=1e-12, rtol=0)
    down = extrinsics(ExtrinsicsParameters(pitch=0.5))
    assert down[2, 0] < 0, "positive pitch looks down"


def test_without_tf_other_frames_are_refused_with_the_reason(frames):
    with pytest.raises(ValueError, match=r"pose.header.frame_id: expected 'map' or empty, got 'odom'; tf2_ros"):
        frames.optical(torch.eye(4), "odom", "optical", 0)
