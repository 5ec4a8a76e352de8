"""What the world model refuses, and that nothing has changed then."""

import pytest
import torch

from mirage_ros.geometry import Camera

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


def test_bad_input_is_refused_before_any_work(frame_world, video_world, walk, content, assert_same):
    scene = walk(9)
    memory, _ = scene.begin(frame_world)
    empty = frame_world.new_memory()
    before = content(memory)
    flat, small = torch.zeros(*SIZE), walk(9, height=3, width=5)

    def seen_with(**options):
        frame_world.observe(memory, scene.rgb[0], scene.depth[0], scene.camera[0], **options)

    for call, field in (
        (lambda: frame_world.imagine(empty, scene.camera), "memory: expected at least one observation"),
        (lambda: frame_world.imagine(memory, scene.camera[0]), r"trajectory: expected \(T,\) cameras"),
        (lambda: frame_world.imagine(memory, scene.camera[:0]), "trajectory"),
        (lambda: frame_world.imagine(memory, scene.camera, steps=0), "steps: expected"),
        (lambda: frame_world.imagine(memory, scene.camera, seed=-1), "seed: expected"),
        (lambda: frame_world.imagine(memory, scene.camera, prompt="a kitchen"), "prompt: expected none"),
        (lambda: frame_world.imagine(memory, scene.camera, stamps=[1]), "stamps: expected 9"),
        (lambda: frame_world.imagine(memory, scene.camera, stamps=[-1] * 9), "stamps: expected whole nanoseconds"),
        (lambda: frame_world.imagine(memory, scene.camera, first=scene.rgb[0][:, :20]), "first: expected the shape"),
        (
            lambda: frame_world.imagine(memory, scene.camera, first_depth=flat + 1),
            "first_depth: expected with first, the view",
        ),
        (
            lambda: frame_world.imagine(memory, scene.camera, first=scene.rgb[0], first_depth=flat[:, :20] + 1),
            "first_depth: expected the shape of the camera",
        ),
        (
            lambda: frame_world.imagine(memory, scene.camera, first=scene.rgb[0], first_depth=flat.byte()),
            r"first_depth: expected \(H, W\) floating-point",
        ),
        (lambda: frame_world.imagine_candidates(memory, []), "trajectories: expected at least one"),
        (lambda: frame_world.imagine_candidates(memory, [scene.camera], batch=0), "batch: expected"),
        (lambda: video_world.imagine(memory, scene.camera, perception=scene.perception), "memory: expected 6 channels"),
        (lambda: video_world.preview(memory, scene.camera), "memory: expected 6 channels"),
        (
            lambda: video_world.observe(memory, scene.rgb[0], scene.depth[0], scene.camera[0]),
            "memory: expected 6 channels",
        ),
        (lambda: frame_world.preview(memory, scene.camera[0]), r"trajectory: expected \(T,\) cameras"),
        (
            lambda: frame_world.observe(memory, small.rgb[0], small.depth[0], small.camera[0]),
            "rgb: expected at least 4x4 pixels, one cell of the latent grid, got 3x5",
        ),
        (lambda: frame_world.imagine(memory, small.camera, first=small.rgb[0]), "first: expected at least 4x4 pixels"),
        (lambda: frame_world.observe(memory, scene.rgb[0], flat, scene.camera[0]), "depth: expected some valid"),
        (lambda: frame_world.observe(memory, scene.rgb[0], None, scene.camera[0]), "depth: expected depth with"),
        (lambda: frame_world.observe(memory, scene.rgb[0], flat[:, :20] + 1, scene.camera[0]), "depth: .* the shape"),
        (lambda: seen_with(keep=flat[:, :20] > 0), "keep: expected the shape of the camera, 32x48"),
        (lambda: seen_with(keep=flat.byte()), r"keep: expected \(H, W\) bool"),
        (lambda: seen_with(keep=flat[None] > 0), r"keep: expected \(H, W\) bool"),
        (lambda: seen_with(stamp=-1), "stamp: expected whole nanoseconds"),
        (lambda: frame_world.observe(memory, scene.rgb[0][:8], flat + 1, scene.camera[0]), "camera: expected"),
        (lambda: frame_world.observe(memory, scene.rgb[0].astype(float), flat + 1, scene.camera[0]), "rgb: expected"),
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
