"""Memories of training samples, batched, beside the one of a rollout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import default_collate

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.training.chunk_samples import chunk_sample
from mirage_ros.training.sample_memory import forget, held_cells, read_sources, token_depth
from mirage_ros.world.networks import new_memory
from mirage_ros.world.reading import read_views
from mirage_ros.world.room import room_of
from mirage_ros.world.unfolding import Unfolder


def sources_of(batch: dict[str, torch.Tensor]) -> tuple[Camera, Camera]:
    height, width = batch["targets"].shape[-2:]
    return (
        Camera(batch["source_intrinsics"], batch["source_cam2world"], height, width),
        Camera(batch["intrinsics"], batch["cam2world"], height, width),
    )


def test_a_sample_has_the_room_that_a_memory_of_its_sources_has(new_task):
    task = new_task()
    batch = default_collate([chunk_sample(task._data, index, 3, task.chunks.preset) for index in (0, 1)])
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


@torch.no_grad()
def test_samples_of_source_frames_are_where_a_memory_has_them(new_task):
    task = new_task()
    batch = default_collate([chunk_sample(task._data, 0, 3, task.chunks.preset)])
    sources, targets = sources_of(batch)
    latents, depth = batch["source_latents"], batch["source_depth"]
    memory = LatentMemory(latents.shape[2], dtype=torch.float32, patch=task.chunks.preset.memory_patch)
    memory.write(latents[0], depth[0], sources[0])
    reader = task.chunks.preset.new_reader()
    kept = memory.frame_grids().fine_depth(reader.source_factor)
    known = kept.isfinite()
    assert known.float().mean() > 0.5
    assert torch.allclose(kept[known], depth[0][known], rtol=1e-2)
    # Read for the targets, both show the same.
    trained = read_sources(latents, depth, sources, targets, reader)
    rolled = read_views(memory, targets[0], task.chunks.preset, Unfolder(reader))
    assert torch.equal(trained.visible[0], rolled.visible)
    assert torch.allclose(trained.latents[0], rolled.latents, atol=1e-3)
    both = trained.fine_depth[0].isfinite() & rolled.fine_depth.isfinite()
    assert torch.allclose(trained.fine_depth[0][both], rolled.fine_depth[both], rtol=1e-2)


@torch.no_grad()
def test_several_source_frames_are_read_as_a_rollout_reads_them(new_task):
    task = new_task()
    data, preset, frames = task._data, task.chunks.preset, np.array([0, 2, 5])
    latents, camera = data.latents(0, frames), data.camera(0, frames)
    depth = data.depth(0, frames, keep=True, factor=preset.depth_samples)
    memory = new_memory(preset, latents.shape[1], dtype=torch.float32)
    memory.write(latents, depth, camera)
    held = held_cells(depth, camera, preset)
    # The first frame holds all that has depth, those after it what it does not show and a margin.
    lifted = token_depth(depth, *latents.shape[-2:]).isfinite()
    assert (held[0] == lifted[0]).float().mean() > 0.9
    assert (held[1:] <= lifted[1:]).all()
    assert (held[1:].flatten(1).sum(dim=1) < lifted[1:].flatten(1).sum(dim=1)).all()
    assert held[1:].any()
    targets, reader = data.camera(0, np.array([1, 3])), preset.new_reader()
    # An untrained reader passes whole tokens on.
    torch.nn.init.normal_(reader.output.weight, std=0.1)
    batched = [
        Camera(part.intrinsics[None], part.cam2world[None], part.height, part.width) for part in (camera, targets)
    ]
    trained = read_sources(latents[None], depth[None], *batched, reader, held=held[None])
    rolled = read_views(memory, targets, preset, Unfolder(reader))
    # Depth in a byte a sample turns a few cells.
    assert (trained.visible[0] == rolled.visible).float().mean() > 0.99
    whole = read_sources(latents[None], depth[None], *batched, reader)
    away, too_much = ((reading.latents[0] - rolled.latents).abs().mean() for reading in (trained, whole))
    assert away < too_much / 2


@torch.no_grad()
def test_a_frame_that_adds_nothing_holds_nothing(new_task):
    task = new_task()
    data, frames = task._data, np.array([0, 0])
    camera, depth = data.camera(0, frames), data.depth(0, frames, keep=True, factor=4)
    held = held_cells(depth, camera, task.chunks.preset)
    assert held[0].any()
    assert not held[1].any()
    assert not held_cells(torch.full_like(depth, torch.nan), camera, task.chunks.preset).any()


@torch.no_grad()
def test_readers_and_memories_of_other_samples_go_together(new_task):
    task = new_task()
    batch = default_collate([chunk_sample(task._data, 0, 3, task.chunks.preset)])
    sources, targets = sources_of(batch)
    latents, depth = batch["source_latents"], batch["source_depth"]
    settings = dict(task.chunks.preset.reader)
    # As it was saved before sources had samples of their own.
    settings.pop("source_stride")
    for reader, patch in ((UnfoldReader(**settings), 4), (task.chunks.preset.new_reader(), 2)):
        memory = LatentMemory(latents.shape[2], dtype=torch.float32, patch=patch)
        memory.write(latents[0], depth[0], sources[0])
        reading = read_views(memory, targets[0], task.chunks.preset, Unfolder(reader))
        assert reading.visible.mean() > 0.5
        assert torch.equal(reading.visible, read_sources(latents, depth, sources, targets, reader).visible[0])


def test_imagined_sources_say_nothing_about_the_room(new_task):
    task = new_task()
    batch = default_collate([chunk_sample(task._data, 0, 3, task.chunks.preset)])
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
    task = new_task()
    batch = default_collate([chunk_sample(task._data, index, 3, task.chunks.preset) for index in (0, 1)])
    reading = read_sources(batch["source_latents"], batch["source_depth"], *sources_of(batch), None, with_room=True)
    kept = forget(reading, torch.tensor([False, True]))
    assert kept.room[0] is reading.room[0]
    assert len(kept.room[1]) == 0
    assert not kept.visible[1].any()
    assert kept.visible[0].any()
    assert forget(replace(reading, room=None), torch.tensor([True, True])).room is None


def test_cells_on_the_border_of_the_sky_are_lifted_as_a_memory_holds_them(new_task):
    task = new_task()
    camera = task._data.camera(0, np.array([0]))
    depth = torch.full((1, 32, 48), 2.0)
    # Bars of one to three pixels, and all but a pixel of a cell.
    depth[:, :, 5:8] = depth[:, :, 10:12] = depth[:, :, 16] = torch.nan
    depth[:, :8, 20:24] = torch.nan
    depth[:, 3, 21] = 2.0
    held = held_cells(depth, camera, task.chunks.preset)
    assert torch.equal(token_depth(depth, 8, 12).isfinite(), held)
    assert held.sum() == 8 * 12 - 2
