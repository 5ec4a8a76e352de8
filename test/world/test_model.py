from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.memory.provenance import IMAGINATION, OBSERVATION
from mirage_ros.models.presets import TEST
from mirage_ros.perception.pipeline import KeepMask, NoFilter, Perception, SensorDepth
from mirage_ros.world.model import WorldModel
from mirage_ros.world.results import STAGES, Cancelled

SIZE = (32, 48)


def test_four_chunks_of_a_video_model(video_world, walk):
    scene = walk(33)
    memory, history = scene.begin(video_world)
    stamps = [index * 100 for index in range(33)]
    observed = len(memory)
    chunks = list(
        video_world.imagine(
            memory,
            scene.camera,
            first=scene.picture(),
            perception=scene.perception,
            stamps=stamps,
            history=history,
        )
    )
    assert [(chunk.first, len(chunk)) for chunk in chunks] == [(0, 9), (9, 8), (17, 8), (25, 8)]
    for chunk in chunks:
        part = slice(chunk.first, chunk.first + len(chunk))
        assert chunk.rgb.shape == (len(chunk), *SIZE, 3)
        assert chunk.rgb.dtype == np.uint8
        assert chunk.depth.dtype == np.float32
        np.testing.assert_array_equal(chunk.depth, scene.depth[part].numpy())
        assert set(np.unique(chunk.visible)) <= {0.0, 1.0}
        torch.testing.assert_close(chunk.camera.cam2world, scene.camera.cam2world[part])
        assert set(chunk.seconds) == set(STAGES)
    assert len(memory) > observed
    records = memory.frames()
    assert {record.kind for record in records} == {OBSERVATION, IMAGINATION}
    # Latent frame k stands for frame 4 k.
    assert {record.stamp for record in records if record.kind == IMAGINATION} <= set(stamps[::4])


def test_the_same_seed_gives_the_same_frames_and_another_one_others(video_world, walk):
    scene = walk(9)
    memory, _ = scene.begin(video_world)

    def frames(seed):
        chunks = video_world.imagine(memory, scene.camera, seed=seed, remember=False, perception=scene.perception)
        return np.concatenate([chunk.rgb for chunk in chunks])

    first = frames(3)
    np.testing.assert_array_equal(first, frames(3))
    assert (first != frames(4)).any()


def test_without_remembering_nothing_is_left_behind(frame_world, walk, content, assert_same):
    scene = walk(12)
    memory, history = scene.begin(frame_world)
    # Reading makes an index once.
    frame_world.preview(memory, scene.camera[:1])
    before, past, held = content(memory), len(history), memory.nbytes
    list(frame_world.imagine(memory, scene.camera, remember=False, history=history))
    list(frame_world.imagine_candidates(memory, [scene.camera[:3]] * 2, history=history))
    assert_same(memory, before)
    assert len(history) == past
    assert memory.nbytes == held
    assert len(memory.frames()) == 1


@pytest.mark.parametrize("stop_at", ["read", "denoise", "decode", "perceive"])
def test_cancelled_in_the_second_chunk_the_memory_is_that_of_the_first(
    frame_world, stop_at, walk, content, assert_same
):
    scene = walk(20)
    expected, _ = scene.begin(frame_world)
    list(frame_world.imagine(expected, scene.camera[:9]))
    memory, _ = scene.begin(frame_world)
    seen = []

    def cancel():
        return bool(seen) and seen[-1].chunk == 1 and seen[-1].stage == stop_at

    chunks = frame_world.imagine(memory, scene.camera, on_progress=seen.append, cancel=cancel)
    assert len(next(chunks)) == 9
    with pytest.raises(Cancelled):
        next(chunks)
    assert_same(memory, content(expected))


def test_cancel_is_asked_after_every_denoising_step(frame_world, walk):
    scene = walk(9)
    memory, _ = scene.begin(frame_world)
    steps = []

    def cancel():
        return len([step for step in steps if step.stage == "denoise"]) == 3

    with pytest.raises(Cancelled):
        list(frame_world.imagine(memory, scene.camera, steps=8, on_progress=steps.append, cancel=cancel))
    assert max(step.step for step in steps) == 3


def test_a_failure_after_denoising_leaves_memory_and_history(video_world, walk, monkeypatch, content, assert_same):
    scene = walk(9)
    memory, history = scene.begin(video_world)
    before, encode = content(memory), video_world.networks.encode

    def failing(frames):
        # The last frame by itself, for the next chunk.
        if frames.shape[1] == 1:
            raise RuntimeError("out of memory")
        return encode(frames)

    monkeypatch.setattr(video_world.networks, "encode", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(video_world.imagine(memory, scene.camera, perception=scene.perception, history=history))
    assert_same(memory, before)
    assert len(history) == 1


def test_a_video_model_may_have_depth_channels(walk):
    backbone = {**TEST.backbone, "in_channels": 10, "out_channels": 10}
    preset = replace(TEST, backbone=backbone, depth_channels=4)
    world, scene = WorldModel.from_pretrained(preset=preset, random_weights=True, size=SIZE), walk(17)
    memory, _ = scene.begin(world)
    assert [len(chunk) for chunk in world.imagine(memory, scene.camera, perception=scene.perception)] == [9, 8]


def test_a_failing_filter_leaves_the_memory_of_the_last_chunk(frame_world, walk, content, assert_same):
    class Failing:
        def __init__(self):
            self.calls = 0

        def filter(self, frames, depth, memory):
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("no segments")
            return KeepMask(torch.ones_like(depth.depth, dtype=torch.bool))

    scene = walk(20)
    expected, _ = scene.begin(frame_world)
    perception = Perception(SensorDepth(scene.depth), NoFilter())
    list(frame_world.imagine(expected, scene.camera[:9], perception=perception))
    memory, _ = scene.begin(frame_world)
    with pytest.raises(RuntimeError, match="no segments"):
        list(frame_world.imagine(memory, scene.camera, perception=Perception(SensorDepth(scene.depth), Failing())))
    assert_same(memory, content(expected))


def test_candidates_equal_one_by_one_and_leave_the_memory_alone(frame_world, walk, content, assert_same):
    scene = walk(20)
    memory, history = scene.begin(frame_world)
    before = content(memory)
    mirrored = scene.camera.cam2world.clone()
    mirrored[:, 0, 3] *= -1
    trajectories = [scene.camera[:12], scene.camera.at(mirrored)[:12], scene.camera[:5]]
    together: dict[int, list] = {}
    for chunk in frame_world.imagine_candidates(memory, trajectories, seed=5, history=history):
        together.setdefault(chunk.candidate, []).append(chunk)
    assert_same(memory, before)
    for index, trajectory in enumerate(trajectories):
        alone = list(frame_world.imagine(memory, trajectory, seed=5, remember=False, history=history))
        assert [len(chunk) for chunk in alone] == [len(chunk) for chunk in together[index]]
        for one, other in zip(alone, together[index], strict=True):
            # Matrix products of other sizes round otherwise.
            difference = np.abs(one.rgb.astype(int) - other.rgb.astype(int))
            assert difference.max() <= 2
            np.testing.assert_array_equal(one.visible, other.visible)


def test_cells_that_the_memory_knows_are_not_invented_anew(frame_world, walk):
    scene = walk(9, step=0.02)
    memory, _ = scene.begin(frame_world)
    known = frame_world.preview(memory, scene.camera)
    (chunk,) = frame_world.imagine(memory, scene.camera, remember=False)
    # Well inside of what is known; at its border the decoder sees inventions.
    from scipy.ndimage import binary_erosion

    inner = np.stack([binary_erosion(visible > 0, iterations=14) for visible in known.visible])
    assert inner.mean() > 0.02
    difference = np.abs(known.rgb[inner].astype(int) - chunk.rgb[inner].astype(int))
    assert difference.max() <= 2


def test_chunks_meet_without_a_seam(frame_world, walk):
    """The last frame of a chunk is the first of the next: what it was stays in its context."""
    scene = walk(17, step=0.0)
    memory, _ = scene.begin(frame_world)
    spy = []
    rollout_frames = [chunk.rgb for chunk in frame_world.imagine(memory, scene.camera, on_progress=spy.append)]
    jump = np.abs(rollout_frames[0][-1].astype(int) - rollout_frames[1][0].astype(int)).mean()
    within = np.abs(rollout_frames[0][-2].astype(int) - rollout_frames[0][-1].astype(int)).mean()
    assert jump <= within + 3


def test_what_was_imagined_is_remembered_but_what_was_only_read_is_not(frame_world, walk):
    scene = walk(9, step=0.1)
    memory, _ = scene.begin(frame_world)
    (chunk,) = frame_world.imagine(memory, scene.camera, perception=scene.perception)
    assert chunk.report.copied > 0
    assert chunk.report.written > 0
    again = frame_world.preview(memory, scene.camera[-1:])
    assert again.coverage[0] > chunk.coverage[-1]


def test_a_preview_shows_the_observation_where_it_was_seen_and_grey_elsewhere(frame_world, walk):
    scene = walk(9, step=0.2)
    memory, _ = scene.begin(frame_world)
    preview = frame_world.preview(memory, scene.camera)
    assert preview.coverage[0] > preview.coverage[-1]
    assert (preview.rgb[preview.visible == 0] == 33).all()
    seen = preview.visible[0] > 0
    np.testing.assert_allclose(preview.depth[0][seen], scene.depth[0].numpy()[seen], rtol=0.1)


def test_real_observations_win_over_imagination(frame_world, walk):
    scene = walk(9, step=0.1)
    memory, _ = scene.begin(frame_world)
    list(frame_world.imagine(memory, scene.camera, perception=scene.perception))
    report = frame_world.observe(memory, scene.frame(8, stamp=7))
    assert report.added > 0
    newest = memory.frames()[-1]
    assert (newest.kind, newest.stamp) == (OBSERVATION, 7)


def test_memories_with_depth_patches_keep_cells_of_two_surfaces(frame_world, video_world, walk):
    scene = walk(1)
    depth = scene.depth[0].clone()
    # An edge through the middle of cells.
    depth[:, : depth.shape[1] // 2 + 2] *= 0.5
    report = frame_world.observe(frame_world.new_memory(), scene.frame(depth=depth))
    assert report.edge == 0
    assert report.written == report.cells
    # Without patches a token stands for all of its cell.
    assert video_world.new_memory().rules.share > frame_world.new_memory().rules.share


def test_images_of_any_size_and_shape_are_fitted(frame_world, walk):
    scene = walk(1, height=90, width=120)
    memory = frame_world.new_memory()
    report = frame_world.observe(memory, scene.frame())
    assert report.written > 0.7 * report.cells
    preview = frame_world.preview(memory, scene.camera)
    assert preview.coverage[0] > 0.9


def test_offloading_changes_nothing(frame_world, walk):
    scene = walk(5)
    other = WorldModel.from_pretrained(preset="default", random_weights=True, size=SIZE, offload=True)
    results = []
    for world in (frame_world, other):
        memory, _ = scene.begin(world)
        results.append(np.concatenate([chunk.rgb for chunk in world.imagine(memory, scene.camera)]))
    np.testing.assert_array_equal(*results)


def test_the_public_conventions_roll_out(video_world, walk):
    world = WorldModel.from_pretrained(preset="test", random_weights=True, size=SIZE, conventions="public")
    scene = walk(9)
    memory, _ = scene.begin(world)
    assert memory.convention.integer_centres
    (chunk,) = world.imagine(memory, scene.camera, first=scene.picture(), perception=scene.perception)
    assert chunk.rgb.shape == (9, *SIZE, 3)
    assert np.isfinite(chunk.depth).all()
