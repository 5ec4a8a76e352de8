"""The known first frame: its depth, what of it is too far to measure, and what of it is unknown."""

import numpy as np
import pytest
import torch

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.models.log_depth import SKY_DEPTH, unpack
from mirage_ros.perception.pipeline import NoFilter, Perception, SensorDepth

SIZE = (32, 48)


def test_the_first_frame_keeps_the_depth_that_was_given(frame_world, walk):
    scene = walk(3)
    memory, _ = scene.begin(frame_world)
    told = scene.depth[0] * 4
    told[:8], told[16:, :8] = torch.inf, torch.nan
    (chunk,) = frame_world.imagine(memory, scene.camera, first=scene.frame(depth=told))
    depth = torch.from_numpy(chunk.depth[0])
    assert depth[:8].isposinf().all()
    # What nobody gave is what the memory shows.
    torch.testing.assert_close(depth[16:, :8], scene.depth[0, 16:, :8])
    torch.testing.assert_close(depth[8:16], told[8:16])


def test_what_is_too_far_is_not_remembered(frame_world, walk):
    scene = walk(1)
    told = scene.depth[0].clone()
    told[:8] = torch.inf
    memory = frame_world.new_memory()
    (chunk,) = frame_world.imagine(memory, scene.camera, first=scene.frame(depth=told))
    assert chunk.report.invalid >= 2 * SIZE[1] // 4
    assert len(memory) > 0
    assert memory.elements().positions[:, 2].max() < 4


def test_a_hole_in_the_first_depth_stays_unknown_and_is_not_remembered(frame_world, walk):
    scene = walk(1)
    told = scene.depth[0] * 4
    told[:8], told[8:24, 16:32] = torch.inf, 0
    memory = frame_world.new_memory()
    (chunk,) = frame_world.imagine(memory, scene.camera, first=scene.frame(depth=told))
    assert (chunk.depth[0, 8:24, 16:32] == 0).all()
    assert (chunk.depth[0, 8:24, :16] > 7.9).all()
    cells = memory.elements().cell
    assert len(memory) > 0
    assert not ((cells[:, 0] >= 2) & (cells[:, 0] < 6) & (cells[:, 1] >= 4) & (cells[:, 1] < 8)).any()


def test_caches_of_other_kinds_do_not_take_the_observed_first_frame_again(frame_world, walk):
    # What was kept out of it would come in as imagination.
    scene = walk(1)
    keep = np.ones(SIZE, bool)
    keep[:, 30:] = False
    cache = RgbMemory(lambda images: frame_world.networks.encode(images[:, None])[:, :, 0], 4)
    frame_world.observe(cache, scene.frame(), keep=keep)
    held = len(cache)
    list(frame_world.imagine(cache, scene.camera, first=scene.frame()))
    assert len(cache) == held > 0


def test_a_frame_of_nothing_but_sky_is_observed_and_leaves_nothing(frame_world, walk):
    scene = walk(1)
    memory, history = frame_world.new_memory(), frame_world.new_history()
    report = frame_world.observe(memory, scene.frame(depth=torch.full(SIZE, torch.inf)), history=history)
    assert report.invalid == report.cells
    assert len(memory) == 0
    assert len(history) == 1


def test_a_first_view_of_nothing_but_sky_has_no_depth_to_speak_of(frame_world, walk):
    scene = walk(1)
    memory, _ = scene.begin(frame_world)
    (chunk,) = frame_world.imagine(
        memory, scene.camera, first=scene.frame(depth=torch.full(SIZE, torch.inf)), remember=False
    )
    assert np.isposinf(chunk.depth).all()


def test_frames_of_the_history_know_what_is_too_far(frame_world, walk):
    scene = walk(1)
    told = scene.depth[0] * 4
    told[:8], told[24:, 24:] = torch.inf, 0
    history = frame_world.new_history()
    frame_world.observe(frame_world.new_memory(), scene.frame(depth=told), history=history)
    preset = frame_world.preset
    (past,) = history.references(scene.camera.lift(told[None]).reshape(-1, 3), 1)
    depth = unpack(past.latents[-4:], preset.log_depth_mean, preset.log_depth_std)
    torch.testing.assert_close(depth[:4], torch.full_like(depth[:4], SKY_DEPTH))
    # What is unknown is as far as what is around it, not as the mean of the training data, two metres and a half.
    assert (depth[12:, 12:] > 7.9).all()
    assert past.depth[:2].isnan().all()


@pytest.mark.parametrize("temporal", [True, False])
def test_a_first_frame_that_was_observed_is_not_written_again(
    frame_world, video_world, temporal, walk, content, assert_same
):
    world, scene = video_world if temporal else frame_world, walk(1)
    keep = np.ones(SIZE, bool)
    keep[:, 30:] = False
    memory = world.new_memory()
    world.observe(memory, scene.frame(), keep=keep[::-1])
    before = content(memory)
    # An estimate that is off would add a second surface, and one without a mask what was kept out.
    wrong = Perception(SensorDepth(scene.depth * 1.15), NoFilter())
    (chunk,) = world.imagine(memory, scene.camera, first=scene.picture(), perception=wrong)
    assert chunk.report.copied == chunk.report.cells > 0
    assert_same(memory, before)
    empty = world.new_memory()
    list(world.imagine(empty, scene.camera, first=scene.picture(), perception=scene.perception))
    assert len(empty) > 0


def test_of_a_first_frame_beside_what_was_observed_only_the_rest_is_written(video_world, walk):
    scene = walk(2, step=0.6)
    memory, _ = scene.begin(video_world)
    observed = memory.frames()[0].elements
    shown = video_world.preview(memory, scene.camera[1:]).coverage[0]
    (chunk,) = video_world.imagine(
        memory,
        scene.camera[1:],
        first=scene.picture(1),
        perception=Perception(SensorDepth(scene.depth[1:]), NoFilter()),
    )
    assert chunk.report.copied == round(float(shown) * chunk.report.cells)
    assert chunk.report.written > 0
    assert memory.frames()[0].elements == observed
