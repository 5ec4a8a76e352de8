"""What a new view says of what is there: it adds, confirms, replaces and removes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory import IMAGINATION, LatentMemory, SourceFrame, WriteRules
from mirage_ros.memory.frame_grids import splat
from mirage_ros.memory.write_judgement import _layer
from mirage_ros.memory.write_rules import PATCHED_KNOWN, PATCHED_SHARE

GRID = (22, 40)
# A memory for readers that unfold, which also holds cells that are known in a small part.
PATCHED = WriteRules(share=PATCHED_SHARE, known=PATCHED_KNOWN)


def flat_wall(hole: slice = slice(0)) -> tuple[torch.Tensor, Camera]:
    """Depth (1, 32, 48) of a wall at 2 m, unknown in some columns, before a camera of 8 x 12 cells."""
    depth = torch.full((1, 32, 48), 2.0)
    depth[:, :, hole] = torch.nan
    return depth, pinhole(32, 48, focal=40.0, cam2world=torch.eye(4, dtype=torch.float64)[None])


@pytest.mark.parametrize("hole", [slice(21, 24), slice(21, 27), slice(21, 31)])
def test_an_element_that_knows_little_of_its_cell_gives_way_to_one_that_knows_all(hole):
    memory = LatentMemory(1, dtype=torch.float32, patch=4, rules=PATCHED)
    (holed, camera), (whole, _) = flat_wall(hole), flat_wall()
    latents = torch.ones(1, 1, 8, 12)
    # What has no depth shows in the latents of its cells.
    mixed = holed.isnan().reshape(8, 4, 12, 4).any(dim=3).any(dim=1)
    memory.write(torch.where(mixed, -9.0, latents), holed, camera)
    # The same view says nothing new.
    assert memory.write(torch.where(mixed, -9.0, latents), holed, camera).added == 0
    memory.write(latents, whole, camera)
    assert memory.frame_grids().fine_depth(4).isfinite().any(dim=0).all()
    assert (memory.read(camera.resized(8, 12)).latents == 1).all()
    assert len(memory) == 8 * 12


@pytest.mark.parametrize("kind", ["imagined", "coarse"])
def test_what_is_held_stays_behind_a_cell_that_is_known_in_part(kind):
    memory = LatentMemory(1, dtype=torch.float32, patch=4, rules=PATCHED)
    holed, camera = flat_wall(slice(21, 27))
    if kind == "imagined":
        memory.write(torch.ones(1, 1, 8, 12), flat_wall()[0], camera, frame=SourceFrame(0, kind=IMAGINATION))
    else:
        far = camera.at(camera.cam2world.clone())
        far.cam2world[:, 2, 3] = -2.4
        memory.write(torch.ones(1, 1, 8, 12), torch.full((1, 32, 48), 4.4), far)
    memory.write(torch.ones(1, 1, 8, 12), holed, camera)
    grids = memory.frame_grids()
    unfolded = grids.latents.repeat_interleave(4, -1).repeat_interleave(4, -2)
    shown = splat(unfolded, grids.fine_depth(4), grids.camera.resized(32, 48), camera.resized(16, 24)).visible
    assert (shown == 1).all()


def test_seeing_the_same_again_adds_nothing_but_confidence(room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    first = memory.write(room.latents(camera), room.depth(camera), camera)
    count = len(memory)
    before = memory.elements().confidence.mean()
    again = memory.write(room.latents(camera), room.depth(camera), camera)
    assert again.added < 0.01 * first.added
    assert len(memory) - count < 0.01 * count
    assert again.confirmed > 0.9 * count
    assert memory.elements().confidence.mean() > before + 0.9


def test_a_finer_view_replaces_a_coarser_one(empty_room, walk):
    far = walk(1, length=0.0)
    near = far.at(far.cam2world.clone())
    near.cam2world[0, 0, 3] += 4.0
    memory = LatentMemory(6)
    memory.write(empty_room.latents(far), empty_room.depth(far), far)
    count = len(memory)
    report = memory.write(empty_room.latents(near), empty_room.depth(near), near)
    assert report.replaced > 0.5 * report.added
    assert report.superseded > 50
    assert len(memory) == count + report.added - report.superseded - report.removed
    readout = memory.read(near.resized(*GRID))
    assert (readout.source == 1).float().mean() > 0.9
    assert readout.coverage()[0] > 0.98
    # Looking from afar again finds everything as fine as before, and adds nothing.
    back = memory.write(empty_room.latents(far), empty_room.depth(far), far)
    assert back.added < 0.03 * count


def test_what_has_left_is_gone_after_two_views_through_its_place(room, empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    for _ in range(3):
        memory.write(room.latents(camera), room.depth(camera), camera)
    away = []
    for _ in range(3):
        memory.write(empty_room.latents(camera), empty_room.depth(camera), camera)
        truth = empty_room.depth(camera.resized(*GRID))
        readout = memory.read(camera.resized(*GRID))
        in_front = (readout.visible[:, 0] > 0) & (readout.depth[:, 0] < 0.85 * truth)
        away.append(int(in_front.sum()))
    boxes = (room.depth(camera.resized(*GRID)) < 0.85 * empty_room.depth(camera.resized(*GRID))).sum()
    assert boxes > 60
    assert away[0] > 0.5 * boxes
    assert away[1] == 0


def test_confidence_falls_at_the_first_view_through_and_recovers(room, empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    for _ in range(4):
        memory.write(room.latents(camera), room.depth(camera), camera)
    count = len(memory)
    report = memory.write(empty_room.latents(camera), empty_room.depth(camera), camera)
    assert report.seen_through > 40
    doubted = memory.elements().confidence == 1
    assert doubted.sum() >= report.seen_through - report.removed
    memory.write(room.latents(camera), room.depth(camera), camera)
    report = memory.write(empty_room.latents(camera), empty_room.depth(camera), camera)
    # It was seen again in between, so one more view through it does not remove it.
    assert report.removed < 0.1 * report.seen_through
    assert len(memory) > count


def test_imagination_neither_removes_nor_replaces_what_was_observed(room, empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    memory.write(room.latents(camera), room.depth(camera), camera)
    before = memory.elements()
    for _ in range(3):
        report = memory.write(
            empty_room.latents(camera), empty_room.depth(camera), camera, frame=SourceFrame(kind=IMAGINATION)
        )
        assert report.removed == report.superseded == report.seen_through == 0 or report.removed <= len(memory) - len(
            before.size
        )
    after = memory.elements()
    assert torch.equal(after.positions[: len(before.size)], before.positions)
    assert torch.equal(after.confidence[: len(before.size)], before.confidence)
    assert after.imagined[len(before.size) :].all()


def test_an_observation_takes_the_place_of_imagination(empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    latents = empty_room.latents(camera)
    memory.write(latents, empty_room.depth(camera), camera, frame=SourceFrame(kind=IMAGINATION))
    report = memory.write(latents + 1, empty_room.depth(camera), camera)
    assert report.replaced > 0.95 * GRID[0] * GRID[1]
    assert memory.elements().imagined.float().mean() < 0.02
    readout = memory.read(camera.resized(*GRID))
    assert (readout.latents - latents - 1).abs().median() < 1e-2


def test_what_is_too_far_to_measure_clears_what_stood_before_it():
    near, camera = flat_wall()
    sky = torch.full_like(near, torch.inf)
    sky[:, :, 24:] = 2.0
    memory = LatentMemory(1, dtype=torch.float32, patch=4, rules=PATCHED)
    memory.write(torch.zeros(1, 1, 8, 12), near, camera)
    for _ in range(2):
        # Imagination's sky is no evidence, and what is unknown says nothing.
        memory.write(torch.zeros(1, 1, 8, 12), sky, camera, frame=SourceFrame(kind=IMAGINATION))
        memory.write(torch.zeros(1, 1, 8, 12), torch.where(sky.isinf(), torch.nan, sky), camera)
        assert len(memory) == 96
    first = memory.write(torch.zeros(1, 1, 8, 12), sky, camera)
    assert first.seen_through > 0
    assert first.removed == 0
    second = memory.write(torch.zeros(1, 1, 8, 12), sky, camera)
    assert second.removed == first.seen_through
    columns = memory.elements().cell[:, 1]
    # Beside the edge a cell may yet be the wall's.
    assert columns.min() >= 5
    assert (columns >= 6).sum() == 48


def test_what_is_kept_out_clears_nothing():
    near, camera = flat_wall()
    memory = LatentMemory(1, dtype=torch.float32, patch=4, rules=PATCHED)
    memory.write(torch.zeros(1, 1, 8, 12), near, camera)
    for _ in range(3):
        memory.write(torch.zeros(1, 1, 8, 12), near + torch.inf, camera, torch.zeros(1, 32, 48, dtype=torch.bool))
    assert len(memory) == 96


def test_a_bar_before_the_sky_is_not_taken_for_sky():
    # A bar of one pixel in four: the centre of its cells is sky.
    depth, camera = flat_wall()
    depth = torch.full_like(depth, torch.inf)
    depth[:, :, ::4] = 2.0
    memory = LatentMemory(1, dtype=torch.float32, patch=4, rules=PATCHED)
    for _ in range(4):
        memory.write(torch.zeros(1, 1, 8, 12), depth, camera)
        assert len(memory) == 96


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=20))
def test_layers_count_older_frames_of_the_same_cell(pairs):
    cells, sequence = torch.tensor([*pairs], dtype=torch.int64).reshape(-1, 2).T
    expected = [len({s for c, s in pairs if c == cell and s < age}) for cell, age in pairs]
    assert _layer(cells, sequence).tolist() == expected
