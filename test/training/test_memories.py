"""Memories of training samples, batched, beside the one of a rollout."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.data import default_collate

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.training.memories import forget, read_sources
from mirage_ros.training.samples import chunk_sample
from mirage_ros.world.room import room_of


def sources_of(batch: dict[str, torch.Tensor]) -> tuple[Camera, Camera]:
    height, width = batch["targets"].shape[-2:]
    return (
        Camera(batch["source_intrinsics"], batch["source_cam2world"], height, width),
        Camera(batch["intrinsics"], batch["cam2world"], height, width),
    )


def test_a_sample_has_the_room_that_a_memory_of_its_sources_has(new_task):
    batch = default_collate([chunk_sample(new_task()._data, index, 3) for index in (0, 1)])
    sources, targets = sources_of(batch)
    latents, depth = batch["source_latents"], batch["source_depth"]
    reading = read_sources(latents, depth, sources, targets, None, with_room=True)
    assert len(reading.room) == 2
    for index, room in enumerate(reading.room):
        memory = LatentMemory(latents.shape[2], dtype=torch.float32)
        memory.write(latents[index], depth[index], sources[index])
        told = room_of(memory, targets[index])
        assert len(room) == len(told) > 0
        assert torch.equal(room.guessed, told.guessed)
        assert torch.allclose(room.normals, told.normals, atol=0.02)
        assert torch.allclose(room.distances, told.distances, atol=0.05)
        assert reading.of_batch(index).room is room
    assert read_sources(latents, depth, sources, targets, None).room is None


def test_imagined_sources_say_nothing_about_the_room(new_task):
    batch = default_collate([chunk_sample(new_task()._data, 0, 3)])
    sources, targets = sources_of(batch)
    alone = read_sources(batch["source_latents"], batch["source_depth"], sources, targets, None, with_room=True).room
    twice = {
        name: torch.cat([batch[name]] * 2, dim=1)
        for name in ("source_latents", "source_depth", "source_intrinsics", "source_cam2world")
    }
    # The second of them would be a wall in the middle of the room.
    twice["source_depth"][:, 1] = 0.5
    both = Camera(twice["source_intrinsics"], twice["source_cam2world"], sources.height, sources.width)
    room = read_sources(
        twice["source_latents"], twice["source_depth"], both, targets, None, observed=1, with_room=True
    ).room
    assert len(alone[0])
    assert torch.equal(room[0].distances, alone[0].distances)


def test_what_is_forgotten_has_no_room(new_task):
    batch = default_collate([chunk_sample(new_task()._data, index, 3) for index in (0, 1)])
    reading = read_sources(batch["source_latents"], batch["source_depth"], *sources_of(batch), None, with_room=True)
    kept = forget(reading, torch.tensor([False, True]))
    assert kept.room[0] is reading.room[0]
    assert len(kept.room[1]) == 0
    assert not kept.visible[1].any()
    assert kept.visible[0].any()
    assert forget(replace(reading, room=None), torch.tensor([True, True])).room is None
