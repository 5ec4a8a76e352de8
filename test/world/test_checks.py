"""What the world model refuses, and that nothing has changed then."""

import pytest
import torch

from mirage_ros.geometry import Camera
from mirage_ros.models.schedule import MAX_STEPS
from mirage_ros.rgbd import RgbdFrame

SIZE = (32, 48)


def test_what_is_no_trajectory_and_no_memory_is_named(frame_world, walk):
    scene = walk(12)
    memory, _ = scene.begin(frame_world)
    with pytest.raises(TypeError, match="trajectory: expected a geometry.Camera"):
        frame_world.preview(memory, [scene.camera[0]])
    with pytest.raises(TypeError, match="trajectory: expected a geometry.Camera"):
        list(frame_world.imagine(memory, scene.camera.cam2world))
    with pytest.raises(TypeError, match="memory: expected a LatentMemory, got NoneType"):
        list(frame_world.imagine(None, scene.camera))
    with pytest.raises(ValueError, match="guidance: expected a number"):
        list(frame_world.imagine(memory, scene.camera, guidance="3"))
    with pytest.raises(TypeError, match="frame: expected an RgbdFrame, got ndarray"):
        frame_world.observe(memory, scene.rgb[0])
    with pytest.raises(TypeError, match=r"options: expected prompt, .*, got \['step'\]"):
        frame_world.imagine(memory, scene.camera, step=3)


def test_bad_input_is_refused_before_any_work(frame_world, video_world, walk, content, assert_same):
    scene = walk(9)
    memory, _ = scene.begin(frame_world)
    empty = frame_world.new_memory()
    before = content(memory)
    flat, small = torch.zeros(*SIZE), walk(9, height=3, width=5)
    tall = walk(1, height=60).frame()
    every = RgbdFrame(scene.rgb, scene.depth.numpy(), scene.camera)

    def seen_with(**options):
        frame_world.observe(memory, scene.frame(), **options)

    for call, field in (
        (lambda: frame_world.imagine(empty, scene.camera), "memory: expected at least one observation"),
        (lambda: frame_world.imagine(memory, scene.camera[0]), r"trajectory: expected \(T,\) cameras"),
        (lambda: frame_world.imagine(memory, scene.camera[:0]), "trajectory"),
        (lambda: frame_world.imagine(memory, scene.camera, steps=0), "steps: expected"),
        (lambda: frame_world.imagine(memory, scene.camera, unseen="fog"), "unseen: expected one of mean, sample"),
        (lambda: frame_world.imagine(memory, scene.camera, steps=MAX_STEPS + 1), "steps: .* from 1 to 50, got 51"),
        (lambda: frame_world.imagine(memory, scene.camera, seed=-1), "seed: expected"),
        (lambda: frame_world.imagine(memory, scene.camera, prompt="a kitchen"), "prompt: expected none"),
        (lambda: frame_world.imagine(memory, scene.camera, stamps=[1]), "stamps: expected 9"),
        (lambda: frame_world.imagine(memory, scene.camera, stamps=[-1] * 9), "stamp: expected a whole number"),
        (
            lambda: frame_world.imagine(memory, scene.camera, first=tall),
            "first: expected the shape",
        ),
        (
            lambda: frame_world.imagine(memory, scene.camera, first=scene.frame(depth=flat)),
            "first.depth: expected some valid",
        ),
        (lambda: frame_world.imagine_candidates(memory, []), "trajectories: expected at least one"),
        (lambda: frame_world.imagine_candidates(memory, [scene.camera], batch=0), "batch: expected"),
        (lambda: video_world.imagine(memory, scene.camera, perception=scene.perception), "memory: expected 6 channels"),
        (lambda: video_world.preview(memory, scene.camera), "memory: expected 6 channels"),
        (
            lambda: video_world.observe(memory, scene.frame()),
            "memory: expected 6 channels",
        ),
        (lambda: frame_world.preview(memory, scene.camera[0]), r"trajectory: expected \(T,\) cameras"),
        (
            lambda: frame_world.observe(memory, small.frame()),
            "rgb: expected at least 4x4 pixels, one cell of the latent grid, got 3x5",
        ),
        (lambda: frame_world.imagine(memory, small.camera, first=small.frame()), "first.rgb: expected at least 4x4"),
        (lambda: frame_world.observe(memory, scene.frame(depth=flat)), "frame.depth: expected some valid"),
        (lambda: frame_world.observe(memory, scene.picture()), "frame.depth: expected depth with"),
        (lambda: frame_world.observe(memory, scene.frame(stamp=-1)), "stamp: expected a whole number"),
        (lambda: frame_world.observe(memory, every), r"frame.camera: expected a single one"),
        (lambda: seen_with(keep=flat[:, :20].numpy() > 0), r"keep: expected \(32, 48\) bool like the frame"),
        (lambda: seen_with(keep=flat.byte().numpy()), r"keep: expected \(32, 48\) bool"),
    ):
        with pytest.raises(ValueError, match=field):
            call()
    assert_same(memory, before)


def test_a_video_model_takes_only_its_lengths_and_needs_depth(video_world, walk):
    scene = walk(10)
    memory, _ = scene.begin(video_world)
    assert [video_world.frames_for(count) for count in (1, 4, 5, 10)] == [1, 1, 5, 9]
    with pytest.raises(ValueError, match=r"trajectory: expected 4N\+1 frames such as 9, 13, got 10"):
        video_world.imagine(memory, scene.camera, perception=scene.perception)
    with pytest.raises(ValueError, match="perception: expected a depth estimator"):
        video_world.imagine(memory, scene.camera[:9])


def test_bad_cameras_never_get_as_far(frame_world, walk):
    scene = walk(3)
    poses = scene.camera.cam2world.clone()
    poses[1, 0, 3] = torch.nan
    with pytest.raises(ValueError, match="cam2world: expected finite"):
        scene.camera.at(poses)
    with pytest.raises(ValueError, match="intrinsics: expected positive focal"):
        Camera(torch.diag(torch.tensor([0.0, 1.0, 1.0])), torch.eye(4), 4, 4)
