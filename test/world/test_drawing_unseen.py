"""What is drawn in a rollout where nothing was seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.geometry import Camera
from mirage_ros.models.exemplars import Exemplars
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.trajectory import pan
from mirage_ros.world.denoise import unseen_parts
from mirage_ros.world.history import History


@pytest.fixture
def world(frame_world, monkeypatch):
    networks = frame_world.networks
    channels, shape = networks.preset.latent_channels, (24, networks.transformer.in_channels, 8, 12)
    truths, means = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    # As far away as estimated.
    truths[:, channels:] = means[:, channels:]
    everywhere = torch.ones(24, 1, 8, 12, dtype=torch.bool)
    monkeypatch.setattr(networks, "exemplars", Exemplars.of(truths, means, everywhere, channels).eval())
    return frame_world


@pytest.fixture
def imagine(world, walk):
    scene = walk(9)
    memory, _ = scene.begin(world)
    turned = scene.camera.cam2world.clone()
    turned[4:, 0, 3] += 0.8
    trajectory = scene.camera.at(turned)

    def one(**options):
        return next(iter(world.imagine(memory, trajectory, first=scene.frame(), remember=False, **options)))

    return one


def test_a_sample_differs_by_its_seed_where_nothing_was_seen_and_a_mean_does_not(imagine):
    # The untrained transformer's one step is the filled readout.
    means = [imagine(seed=seed).rgb[-1] for seed in (0, 1)]
    np.testing.assert_array_equal(*means)
    first, second, again = (imagine(seed=seed, unseen="sample") for seed in (0, 1, 0))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    hidden = first.visible[-1] == 0
    assert 0.1 < hidden.mean() < 0.9
    between = np.abs(first.rgb[-1].astype(int) - second.rgb[-1]).mean(axis=-1)
    from_mean = np.abs(first.rgb[-1].astype(int) - means[0]).mean(axis=-1)
    for change in (between, from_mean):
        # The decoder sees cells around a pixel.
        assert change[hidden].mean() > 3 * change[~hidden].mean()


def test_samples_of_one_trajectory_are_drawn_apart(imagine):
    alone, several = imagine(unseen="sample"), imagine(unseen="sample", samples=4)
    np.testing.assert_allclose(alone.rgb, several.rgb, atol=2)
    hidden = several.visible[-1] == 0
    spread, of_means = (chunk.uncertainty[-1][hidden] for chunk in (several, imagine(samples=4)))
    assert np.nanmean(spread) > 1.3 * np.nanmean(of_means)


def test_without_exemplars_a_sample_is_the_mean(imagine, world, monkeypatch):
    monkeypatch.setattr(world.networks, "exemplars", None)
    np.testing.assert_array_equal(imagine(unseen="sample").rgb, imagine().rgb)


def test_cracks_and_what_is_enclosed_are_left_to_the_mean():
    hidden = torch.zeros(3, 1, 16, 20, dtype=torch.bool)
    hidden[:, :, 3] = True
    hidden[1, :, 8:, 10:] = True
    hidden[2, :, 6:12, 5:12] = True
    parts = unseen_parts(hidden)
    assert not parts[0].any()
    assert torch.equal(parts[1, :, 8:, 10:], hidden[1, :, 8:, 10:])
    assert not parts[1, :, :7].any()
    assert not parts[2].any()
    # A winding way from the edge is followed to its end.
    hidden[2, :, 9:12, 11:] = True
    assert torch.equal(unseen_parts(hidden)[2, :, 6:12, 5:12], hidden[2, :, 6:12, 5:12])


def stream(world, scene, turns, **options):
    """Poses asked for one by one, each chunk from the frame before; the chunks and the memory."""
    memory, history = scene.begin(world)
    poses, last, chunks = pan(scene.camera.cam2world[0], turns[-1], len(turns)), scene.frame(), []
    for place in range(1, len(poses)):
        camera = scene.camera[:2].at(poses[place - 1 : place + 1])
        chunk = next(iter(world.imagine(memory, camera, first=last, history=history, **options)))
        last = RgbdFrame(chunk.rgb[-1], chunk.depth[-1], chunk.camera[-1].at(camera.cam2world[1]))
        chunks.append(chunk)
    return chunks, memory


def test_a_stream_that_turns_draws_what_comes_at_once_and_reads_it_afterwards(world, walk):
    """Drawn strip by strip it would be scraps."""
    # However small the steps are.
    small, _ = stream(world, walk(9), np.linspace(0, 0.1, 9), unseen="sample")
    assert [chunk.report.added > 0 for chunk in small].count(True) == 1
    turns = np.linspace(0, 0.48, 7)
    chunks, memory = stream(world, walk(9), turns, unseen="sample")
    assert [len(chunk) for chunk in chunks] == [2] * 6
    # One piece rather than six strips.
    assert [chunk.report.added > 0 for chunk in chunks] == [True] + [False] * 5
    for chunk in chunks:
        assert chunk.rgb.shape[0] == chunk.depth.shape[0] == chunk.visible.shape[0] == len(chunk.stamp) == 2
    # What was invented beyond the frame counts as remembered in later frames, and not in this one.
    assert chunks[0].coverage[-1] < 1
    assert min(chunk.coverage[-1] for chunk in chunks[1:]) == 1
    # The mean is no piece of anything, and is asked for frame by frame.
    strips, less = stream(world, walk(9), turns)
    assert all(chunk.report.added > 0 for chunk in strips)
    assert len(less) < len(memory)


def test_nothing_is_drawn_twice_and_a_fork_keeps_what_it_drew_to_itself(world, walk, monkeypatch):
    taken: list[int] = []
    note = History.note_drawn

    def noted(history, places, count):
        taken.extend(places)
        note(history, places, count)

    monkeypatch.setattr(History, "note_drawn", noted)
    scene = walk(9)
    memory, history = scene.begin(world)
    right, left = (scene.camera.at(pan(scene.camera.cam2world[0], turn, 9)) for turn in (0.9, -0.9))
    list(world.imagine(memory, right, history=history, unseen="sample", remember=False))
    assert taken
    assert not history.drawn
    taken.clear()
    for turned in (right, left):
        list(world.imagine(memory, turned, history=history, unseen="sample"))
    assert len(set(taken)) == len(taken) >= 2
    # Neither are other views of the same scenes.
    assert set(history.drawn) >= {*taken, *(place + 1 for place in taken if place + 1 < len(world.networks.exemplars))}
    assert history.fork().drawn == history.drawn


def test_a_trajectory_that_ends_turning_into_the_unseen_is_drawn_half_a_view_further(world, walk):
    scene = walk(18)
    memory, history = scene.begin(world)
    start = scene.camera.cam2world[0]

    def keyframe(turn: float, count: int, index: int = -1) -> Camera:
        cameras = scene.camera[:count].at(pan(start, turn, count))
        rollout = world._rollout(memory, cameras, None, {"history": history}, remember=False)
        span = rollout.look_ahead(rollout.spans[index])
        assert span.stop == rollout.spans[index].stop
        return rollout.trajectory[span.places[-1]]

    half = math.atan(0.5 / 0.8)
    for sign in (1, -1):
        for turn, count in ((0.2, 2), (0.2, 9), (0.1, 7)):
            expected = pan(start, sign * (turn + half), 2)[1]
            torch.testing.assert_close(keyframe(sign * turn, count).cam2world, expected, atol=1e-5, rtol=0)
    # In the middle of a walk the next chunk goes on from the end.
    middle = pan(start, 0.4, 17)[8]
    torch.testing.assert_close(keyframe(0.4, 17, 0).cam2world, middle, atol=1e-5, rtol=0)
    # What is known, and no turn, are imagined where they are.
    for turn, count in ((0.0, 2), (0.001, 2)):
        torch.testing.assert_close(keyframe(turn, count).cam2world, pan(start, turn, count)[-1])
    end = pan(start, 0.2, 2)[1]
    world.observe(memory, replace(scene.frame(), camera=scene.camera[0].at(end)), history=history)
    torch.testing.assert_close(keyframe(0.2, 2).cam2world, end)


def test_a_walk_goes_on_from_each_chunk_s_own_end(world, walk):
    scene = walk(18)
    memory, history = scene.begin(world)
    turned = scene.camera[:17].at(pan(scene.camera.cam2world[0], 0.8, 17))
    chunks = list(world.imagine(memory, turned, first=scene.frame(), history=history, unseen="sample"))
    assert [len(chunk) for chunk in chunks] == [9, 8]
    poses = torch.cat([chunk.camera.cam2world for chunk in chunks])
    torch.testing.assert_close(poses, turned.cam2world.to(poses))
    for chunk in chunks:
        assert len(chunk.stamp) == len(chunk.rgb) == len(chunk.depth) == len(chunk.visible) == len(chunk.coverage)
