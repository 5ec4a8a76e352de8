"""Forks, and going back to them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mirage_ros.memory import IMAGINATION, LatentMemory, SourceFrame, WriteRules
from mirage_ros.memory.elements import ElementStore

GRID = (22, 40)


def test_a_fork_copies_nothing_until_it_is_written_and_is_independent(room, walk):
    camera = walk(9)
    memory = LatentMemory(6)
    memory.write(room.latents(camera), room.depth(camera), camera)
    view = walk(3).resized(*GRID)
    before = memory.read(view)
    shared = memory.fork()
    assert shared._store is memory._store
    fork, other = memory.fork(), memory.fork()
    fork.write(room.latents(camera) * 2, room.depth(camera) * 0.5, camera)
    fork.repose({0: fork.frames()[0].camera.cam2world})
    assert torch.equal(memory.read(view).latents, before.latents)
    assert torch.equal(other.read(view).latents, before.latents)
    assert len(fork) != len(memory)
    changed = fork.read(view)
    memory.clear()
    assert len(memory) == 0
    assert torch.equal(fork.read(view).latents, changed.latents)
    assert torch.equal(other.read(view).latents, before.latents)


def test_a_memory_returns_to_the_state_of_a_fork(room, walk):
    camera = walk(6)
    memory = LatentMemory(6, dtype=torch.int8)
    memory.write(room.latents(camera[:3]), room.depth(camera[:3]), camera[:3])
    view = walk(3).resized(*GRID)
    before, frames, held = memory.read(view), [record.id for record in memory.frames()], memory.nbytes
    checkpoint = memory.fork()
    # The features are larger, so that the int8 scales change too.
    memory.write(room.latents(camera[3:]) * 3, room.depth(camera[3:]), camera[3:])
    memory.repose({frames[0]: camera.cam2world[1]})
    memory.restore(checkpoint)
    for name in before.tensors():
        assert torch.equal(getattr(memory.read(view), name), getattr(before, name))
    assert [record.id for record in memory.frames()] == frames
    assert memory.nbytes == held
    # Both go on on their own.
    memory.clear()
    assert torch.equal(checkpoint.read(view).latents, before.latents)
    memory.restore(checkpoint)
    checkpoint.write(room.latents(camera[3:]), room.depth(camera[3:]), camera[3:])
    assert torch.equal(memory.read(view).latents, before.latents)


def test_only_a_memory_of_the_same_kind_can_be_restored(room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    memory.write(room.latents(camera), room.depth(camera), camera)
    count = len(memory)
    with pytest.raises(ValueError, match="other: expected channels 6 like this memory, got 5"):
        memory.restore(LatentMemory(5))
    with pytest.raises(ValueError, match="other: expected max_bytes"):
        memory.restore(LatentMemory(6, max_bytes=1 << 20))
    with pytest.raises(TypeError, match="other: expected LatentMemory, got int"):
        memory.restore(3)
    memory.restore(memory)
    assert len(memory) == count


def test_a_fork_that_copies_is_not_disturbed_by_another_that_writes(room, walk, monkeypatch):
    camera = walk(4)
    memory = LatentMemory(6)
    memory.write(room.latents(camera[:2]), room.depth(camera[:2]), camera[:2])
    fork, view = memory.fork(), walk(3).resized(*GRID)
    before, copy = memory.read(view), ElementStore.copy

    def interrupted(store):
        # The other thread's turn comes while this one copies.
        monkeypatch.setattr(ElementStore, "copy", copy)
        memory.repose({0: camera.cam2world[3]})
        memory.write(room.latents(camera[2:]) * 9, room.depth(camera[2:]) * 0.5, camera[2:])
        return copy(store)

    monkeypatch.setattr(ElementStore, "copy", interrupted)
    fork.forget([])
    assert torch.equal(fork.read(view).latents, before.latents)
    assert [record.id for record in fork.frames()] == [0, 1]
    assert not torch.equal(memory.read(view).latents, before.latents)


def test_forks_are_written_from_several_threads(room, walk):
    camera = walk(3)
    memory = LatentMemory(6, dtype=torch.int8)
    memory.write(room.latents(camera[:1]), room.depth(camera[:1]), camera[:1])
    view = camera.resized(*GRID)
    before = memory.read(view).latents

    def continued(fork):
        fork.write(room.latents(camera[1:]), room.depth(camera[1:]), camera[1:])
        return fork.fork().read(view).latents

    expected = continued(memory.fork())
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(continued, [memory.fork() for _ in range(12)]):
            assert torch.equal(found, expected)
    assert torch.equal(memory.read(view).latents, before)


def test_the_cameras_of_the_nearest_observed_frames_are_found(room, walk):
    camera = walk(6).to("cpu", torch.float64)
    memory = LatentMemory(6, rules=WriteRules(select=False))
    place = camera.cam2world[4, :3, 3]
    assert memory.cameras_near(place, 3) is None
    imagined = [SourceFrame(kind=IMAGINATION)] * 2
    memory.write(room.latents(camera[:2]), room.depth(camera[:2]), camera[:2], frame=imagined)
    # There is no other.
    assert len(memory.cameras_near(place, 3)) == 2
    memory.write(room.latents(camera[2:]), room.depth(camera[2:]), camera[2:])
    poses = memory.cameras_near(place, 9).cam2world
    away = (poses[:, :3, 3] - place).norm(dim=1)
    assert torch.equal(away, away.sort().values)
    assert torch.allclose(poses.sum(dim=0), camera.cam2world[2:].sum(dim=0))
    assert torch.allclose(memory.cameras_near(place, 2).cam2world, poses[:2])
    # Where several look the same way from the same place, the newest stands for all.
    near = camera[2].cam2world.repeat(4, 1, 1)
    near[:, 2, 3] += 0.01 * torch.arange(4)
    memory.repose(dict(zip(range(2, 6), near, strict=True)))
    found = memory.cameras_near(near[3, :3, 3], 9).cam2world
    assert torch.allclose(found, near[3:])
    memory.forget([5])
    assert torch.allclose(memory.cameras_near(near[3, :3, 3], 9).cam2world, near[2:3])


def test_cameras_of_another_grid_are_left_out(room, walk):
    camera = walk(3).to("cpu", torch.float64)
    memory = LatentMemory(6, rules=WriteRules(select=False))
    memory.write(room.latents(camera[:2]), room.depth(camera[:2]), camera[:2])
    small = torch.nn.functional.avg_pool2d(room.latents(camera[2:]), 2)
    memory.write(small, room.depth(camera[2:]), camera[2:])
    for index in (0, 2):
        found = memory.cameras_near(camera.cam2world[index, :3, 3], 9)
        assert torch.allclose(found.cam2world[0], camera.cam2world[index])
        assert len(found) == (2, 1)[index // 2]
