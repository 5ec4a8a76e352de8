"""Writing a frame: which cells, where to when there is no room, and what is refused."""

from __future__ import annotations

import logging

import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.memory import IMAGINATION, LatentMemory, SourceFrame, WriteReport, WriteRules
from mirage_ros.memory.write_rules import PATCHED_KNOWN, PATCHED_SHARE

GRID = (22, 40)


def test_the_cap_holds_through_many_writes_and_eviction_is_said_once(empty_room, walk, caplog):
    cap = 4 << 20
    memory = LatentMemory(48, dtype=torch.float16, max_bytes=cap)
    camera = walk(2, height=88, width=160)
    depth, latents = empty_room.depth(camera), torch.zeros(2, 48, *GRID)
    evicted = 0
    with caplog.at_level(logging.WARNING):
        for chunk in range(200):
            # Somewhere new each time.
            place = camera.at(camera.cam2world.clone())
            place.cam2world[:, 0, 3] += 100.0 * chunk
            evicted += memory.write(latents, depth, place).evicted
            assert memory.nbytes <= cap
    assert evicted > 50_000
    assert memory.nbytes > 0.8 * cap
    assert len([record for record in caplog.records if "full" in record.message]) == 1
    # The oldest went first.
    assert min(record.id for record in memory.frames()) > 250


def test_imagination_is_evicted_first_and_never_displaces_observations(empty_room, walk):
    camera = walk(1, height=88, width=160)
    depth, latents = empty_room.depth(camera), torch.zeros(1, 48, *GRID)

    def write(memory, chunk, kind):
        place = camera.at(camera.cam2world.clone())
        place.cam2world[:, 0, 3] += 100.0 * chunk
        return memory.write(latents, depth, place, frame=SourceFrame(kind=kind))

    memory = LatentMemory(48, max_bytes=320 << 10)
    write(memory, 0, "observation")
    observed = len(memory)
    for chunk in range(1, 6):
        write(memory, chunk, IMAGINATION)
    assert int((~memory.elements().imagined).sum()) == observed
    for chunk in range(6, 12):
        write(memory, chunk, "observation")
    assert not memory.elements().imagined.any()
    report = write(memory, 12, IMAGINATION)
    assert report.dropped > 0
    assert report.evicted == 0
    assert report.cells == GRID[0] * GRID[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": torch.zeros(1, 5, *GRID)}, r"latents: expected float \(T, 6, h, w\), got \(1, 5, 22, 40\)"),
        ({"latents": torch.full((1, 6, *GRID), torch.nan)}, "latents: expected finite"),
        ({"latents": torch.zeros(1, 6, 300, 40)}, "latents: expected 1..256 cells"),
        ({"depth": torch.ones(2, 8, 8)}, r"depth: expected float \(1, H, W\)"),
        ({"depth": torch.ones(1, 8, 8, dtype=torch.int32)}, "depth: expected float"),
        ({"camera": pinhole(8, 8, focal=4.0)}, r"camera: expected a batch of 1 like latents, got \(\)"),
        ({"keep": torch.ones(1, 8, 8)}, "keep: expected bool"),
        ({"copied": torch.ones(1, 8, 8, dtype=torch.bool)}, "copied: expected bool"),
        ({"colour": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)}, "colour: expected None"),
        ({"frame": [SourceFrame(), SourceFrame()]}, "frame: expected 1 source frames"),
    ],
)
def test_what_cannot_be_written_is_named_and_changes_nothing(changes, message):
    memory = LatentMemory(6)
    arguments = {
        "latents": torch.zeros(1, 6, *GRID),
        "depth": torch.ones(1, 88, 160),
        "camera": pinhole(88, 160, focal=80.0).at(torch.eye(4)[None]),
    }
    with pytest.raises(ValueError, match=message):
        memory.write(**{**arguments, **changes})
    assert len(memory) == 0
    assert memory.frames() == []


def test_each_cell_is_counted_once(room, walk):
    camera = walk(4)
    depth = room.depth(camera)
    depth[1, :90] = 0
    keep = torch.ones_like(depth, dtype=torch.bool)
    keep[2, :, :200] = False
    copied = torch.zeros(4, *GRID, dtype=torch.bool)
    copied[3, :5] = True
    report = LatentMemory(6).write(room.latents(camera), depth, camera, keep, copied=copied)
    assert report.cells == 4 * GRID[0] * GRID[1]
    assert report.masked > 200
    assert report.invalid > 150
    assert report.copied == 5 * GRID[1]
    assert report.explained > 700
    assert report.written + report.replaced == report.added


def test_copied_cells_are_left_alone(room, empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    memory.write(room.latents(camera), room.depth(camera), camera)
    before = memory.elements()
    everything = torch.ones(1, *GRID, dtype=torch.bool)
    for _ in range(3):
        report = memory.write(empty_room.latents(camera) * 5, empty_room.depth(camera), camera, copied=everything)
        assert report == WriteReport(copied=GRID[0] * GRID[1])
    after = memory.elements()
    assert torch.equal(before.features, after.features)
    assert torch.equal(before.confidence, after.confidence)


def test_masked_things_are_not_remembered(room, empty_room, walk):
    camera = walk(1)
    depth = room.depth(camera)
    keep = depth > 0.95 * empty_room.depth(camera)
    memory = LatentMemory(6)
    memory.write(room.latents(camera), depth, camera, keep)
    readout = memory.read(camera.resized(*GRID))
    truth = empty_room.depth(camera.resized(*GRID))
    assert (readout.depth[:, 0] > 0.9 * truth)[readout.visible[:, 0] > 0].all()


def test_a_ring_of_context_is_written_around_what_is_new(room, walk):
    camera = walk(9, length=1.0)
    sizes = []
    for context in (0, 1):
        memory = LatentMemory(6, rules=WriteRules(context=context))
        memory.write(room.latents(camera), room.depth(camera), camera)
        sizes.append(len(memory))
    assert sizes[1] > 1.2 * sizes[0]


def test_context_does_not_pile_up_where_two_frames_disagree_for_ever(room, empty_room, walk):
    # One sees boxes and the other does not: what they disagree about is written anew at each visit.
    camera = walk(1)
    memory, sizes = LatentMemory(6, rules=WriteRules(context=2)), []
    for _ in range(12):
        for scene in (room, empty_room):
            memory.write(scene.latents(camera), scene.depth(camera), camera)
        sizes.append(len(memory))
    assert sizes[0] < sizes[-1] < 1.5 * sizes[0]
    assert len(set(sizes[4:])) == 1
    # What both say stays.
    readout, (full, empty) = (
        memory.read(camera.resized(*GRID)),
        (s.depth(camera.resized(*GRID)) for s in (room, empty_room)),
    )
    agreed = (full / empty - 1).abs() < 1e-3
    assert (readout.visible[:, 0] > 0)[agreed].float().mean() > 0.98
    assert ((readout.depth[:, 0] / empty - 1).abs() < 0.1)[agreed].float().mean() > 0.9


def test_imagined_context_takes_nothing_from_what_was_observed(room, walk):
    camera = walk(2, length=0.3, turn=0.2)
    memory = LatentMemory(6, rules=WriteRules(context=2))
    for _ in range(4):
        memory.write(room.latents(camera), room.depth(camera), camera)
    observed = sum(frame.elements for frame in memory.frames())
    for _ in range(4):
        views = walk(2, length=0.6, turn=0.6)
        imagined = [SourceFrame(kind=IMAGINATION)] * 2
        memory.write(room.latents(views), room.depth(views), views, frame=imagined)
    assert sum(frame.elements for frame in memory.frames() if frame.kind != IMAGINATION) == observed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": None}, "latents: expected a tensor, got NoneType"),
        ({"keep": [True]}, "keep: expected a tensor or None, got list"),
        ({"camera": torch.eye(4)}, "camera: expected Camera, got Tensor"),
        ({"frame": [3]}, "frame: expected SourceFrame, one or a sequence of them, got int"),
    ],
)
def test_what_is_of_another_kind_is_named(empty_room, walk, changes, message):
    camera = walk(1)
    arguments = {"latents": torch.zeros(1, 6, *GRID), "depth": empty_room.depth(camera), "camera": camera}
    memory = LatentMemory(6)
    with pytest.raises(TypeError, match=message):
        memory.write(**{**arguments, **changes})
    assert len(memory) == 0


def test_numbers_that_would_overflow_are_refused(walk):
    camera, depth = walk(1).to(dtype=torch.float64), torch.full((1, 88, 160), 2.0)
    memory = LatentMemory(6, dtype=torch.int8)
    # Finite in float64, not as a feature.
    with pytest.raises(ValueError, match=r"latents: expected finite values of magnitudes below 1e\+38"):
        memory.write(torch.full((1, 6, *GRID), 1e300, dtype=torch.float64), depth, camera)
    camera.cam2world[0, 0, 3] = 1e13
    with pytest.raises(ValueError, match=r"camera: expected within 1e\+12 m of the origin"):
        memory.write(torch.zeros(1, 6, *GRID), depth, camera)
    assert len(memory) == 0


def test_no_frames_change_nothing(walk):
    memory = LatentMemory(6)
    report = memory.write(torch.zeros(0, 6, *GRID), torch.zeros(0, 88, 160), walk(1)[:0])
    assert report == WriteReport()
    assert memory.read(walk(1)[:0].resized(*GRID)).latents.shape == (0, 6, *GRID)


@pytest.mark.parametrize("metres", [1e-6, 1e4, 1e8, 3e38])
def test_any_depth_gives_a_memory_that_can_be_saved(walk, tmp_path, metres):
    camera = walk(1)
    memory = LatentMemory(6)
    report = memory.write(torch.ones(1, 6, *GRID), torch.full((1, 88, 160), metres), camera)
    cells = GRID[0] * GRID[1]
    # A cell 1e8 m away is too large for float16.
    assert (report.written, report.invalid) == ((cells, 0) if metres < 1e6 else (0, cells))
    readout = memory.read(camera.resized(*GRID))
    assert readout.log_scale.abs().max() < 1e-3
    memory.save(tmp_path / "memory")
    assert len(LatentMemory.load(tmp_path / "memory")) == len(memory)


def test_imagination_takes_no_frame_of_observations_when_all_are_taken(empty_room, walk):
    camera = walk(1, height=88, width=160)
    depth, latents = empty_room.depth(camera), torch.zeros(1, 4, *GRID)
    keep = torch.zeros(1, 88, 160, dtype=torch.bool)
    keep[:, :8, :8] = True
    memory = LatentMemory(4, max_bytes=120_000)

    def write(chunk, kind):
        place = camera.at(camera.cam2world.clone())
        place.cam2world[:, 0, 3] += 100.0 * chunk
        return memory.write(latents, depth, place, keep, frame=SourceFrame(id=chunk, kind=kind))

    chunk = 0
    # Few elements a frame: the table of frames is full long before the elements' room.
    while (report := write(chunk, "observation")).evicted == 0:
        chunk += 1
    held = [record.id for record in memory.frames()]
    assert held == list(range(1, chunk + 1))
    report = write(chunk + 1, IMAGINATION)
    assert (report.added, report.evicted) == (0, 0)
    assert report.dropped > 0
    assert report.cells == GRID[0] * GRID[1]
    assert [record.id for record in memory.frames()] == held


def test_a_cell_of_two_surfaces_is_kept_where_patches_tell_them_apart():
    camera = pinhole(32, 48, focal=40.0, cam2world=torch.eye(4)[None])
    depth = torch.full((1, 32, 48), 4.0)
    # Two of four pixels of the cells in column 5 belong to what is nearer.
    depth[..., :22] = 2.0
    latents = torch.zeros(1, 6, 8, 12)
    whole = LatentMemory(6, patch=4)
    assert whole.write(latents, depth, camera).edge == 8
    kept = LatentMemory(6, patch=4, rules=WriteRules(share=PATCHED_SHARE))
    report = kept.write(latents, depth, camera)
    assert report.edge == 0
    assert report.written == 8 * 12
    assert torch.allclose(kept.frame_grids().fine_depth(4), depth, rtol=1e-2)
    # Its whole token is doubtful all the same.
    grids = kept.frame_grids()
    assert (kept.elements().confidence[grids.index[0, :, 5]] < kept.elements().confidence[grids.index[0, :, 4]]).all()


def test_the_colour_of_an_element_is_that_of_what_it_stands_for():
    camera = pinhole(32, 48, focal=40.0, cam2world=torch.eye(4)[None])
    depth, colour = torch.full((1, 32, 48), torch.nan), torch.full((1, 32, 48, 3), 255, dtype=torch.uint8)
    # A dark bar before a white sky.
    depth[..., 20], colour[..., 20, :] = 1.5, 10
    memory = LatentMemory(6, patch=4, colour=True, rules=WriteRules(known=PATCHED_KNOWN))
    assert memory.write(torch.zeros(1, 6, 8, 12), depth, camera, colour=colour).written == 8
    assert (memory.cloud().colours == 10).all()
