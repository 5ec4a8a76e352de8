"""Rollouts of both kinds of model: frames one by one, and frames that share latents in time."""

import numpy as np
import pytest
import torch

from mirage_ros.memory.provenance import IMAGINATION
from mirage_ros.perception.pipeline import DepthEstimate, NoFilter, Perception, SensorDepth
from mirage_ros.world.model import WorldModel
from mirage_ros.world.results import Cancelled

SIZE = (32, 48)
FIELDS = ("positions", "features", "size", "confidence", "source")


def content(memory) -> dict[str, torch.Tensor]:
    elements = memory.elements()
    return {name: getattr(elements, name).clone() for name in FIELDS}


def same(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in FIELDS)


@pytest.fixture(params=["frame_world", "video_world"])
def world(request) -> WorldModel:
    return request.getfixturevalue(request.param)


def test_cancelled_between_two_steps_the_memory_is_that_of_the_last_chunk_bit_for_bit(world, walk):
    scene = walk(33)
    expected, past = scene.begin(world)
    list(world.imagine(expected, scene.camera[:17], steps=4, perception=scene.perception, history=past))
    memory, history = scene.begin(world)
    seen = []

    def cancel():
        return (seen[-1].chunk, seen[-1].stage, seen[-1].step) == (2, "denoise", 2)

    with pytest.raises(Cancelled, match="cancelled after 17 of 33 frames"):
        for _ in world.imagine(
            memory,
            scene.camera,
            steps=4,
            perception=scene.perception,
            history=history,
            on_progress=seen.append,
            cancel=cancel,
        ):
            pass
    assert same(content(memory), content(expected))
    assert len(history) == len(past)
    # It can go on from there.
    assert len(list(world.imagine(memory, scene.camera[16:25], perception=scene.perception))) == 1


def test_a_fork_and_its_memory_do_not_see_what_the_other_imagines(world, walk):
    scene = walk(9, step=0.1)
    memory, _ = scene.begin(world)
    before = content(memory)
    fork, twin = memory.fork(), memory.fork()
    list(world.imagine(fork, scene.camera, seed=1, perception=scene.perception))
    assert same(content(memory), before)
    imagined = content(fork)
    assert len(fork) > len(memory)
    list(world.imagine(memory, scene.camera, seed=2, perception=scene.perception))
    assert same(content(fork), imagined)
    assert same(content(twin), before)
    assert len(memory) > len(twin)


def test_the_same_seed_leaves_the_same_memory(world, walk):
    scene = walk(17)
    memories = [scene.begin(world)[0] for _ in range(2)]
    for memory in memories:
        list(world.imagine(memory, scene.camera, seed=5, perception=scene.perception))
    assert same(*map(content, memories))


def test_candidates_of_a_video_model_equal_one_by_one(video_world, walk):
    scene = walk(17)
    memory, history = scene.begin(video_world)
    mirrored = scene.camera.cam2world.clone()
    mirrored[:, 0, 3] *= -1
    trajectories = [scene.camera, scene.camera.at(mirrored), scene.camera[:5]]
    options = {"seed": 5, "history": history, "perception": scene.perception}
    for batch in (None, 1):
        together: dict[int, list] = {}
        for chunk in video_world.imagine_candidates(memory, trajectories, batch=batch, **options):
            together.setdefault(chunk.candidate, []).append(chunk)
        for index, trajectory in enumerate(trajectories):
            alone = list(video_world.imagine(memory, trajectory, remember=False, **options))
            for one, other in zip(alone, together[index], strict=True):
                # Matrix products of other sizes round otherwise.
                assert np.abs(one.rgb.astype(int) - other.rgb.astype(int)).max() <= (2 if batch is None else 0)
                np.testing.assert_array_equal(one.visible, other.visible)


class Moved:
    """An estimator that finds every camera 1 cm to the right of where it was told to be."""

    def __init__(self, depth):
        self._sensor = SensorDepth(depth)

    def estimate(self, frames, memory):
        poses = frames.camera.cam2world.clone()
        poses[:, 0, 3] += 0.01
        return DepthEstimate(self._sensor.estimate(frames, memory).depth, frames.camera.at(poses))


@pytest.mark.parametrize(("conventions", "shift"), [("paper", 0.01), ("public", 0.0)])
def test_refined_cameras_are_taken_by_the_paper_and_left_by_the_public_code(walk, conventions, shift):
    scene = walk(9)
    world = WorldModel.from_pretrained(preset="test", random_weights=True, size=SIZE, conventions=conventions)
    memory, _ = scene.begin(world)
    (chunk,) = world.imagine(memory, scene.camera, perception=Perception(Moved(scene.depth), NoFilter()))
    difference = chunk.camera.cam2world[:, 0, 3] - scene.camera.cam2world[:, 0, 3]
    torch.testing.assert_close(difference, torch.full_like(difference, shift), atol=1e-9, rtol=0)
    poses = [record.camera.cam2world for record in memory.frames() if record.kind == IMAGINATION]
    assert poses
    offsets = scene.camera.cam2world[::4, 0, 3] + shift
    assert all(float((offsets - pose[0, 3]).abs().min()) < 1e-6 for pose in poses)
