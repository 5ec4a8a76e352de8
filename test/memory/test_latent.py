"""The memory as a user meets it: what writing adds, confirms, replaces and removes, and its bounds."""

from __future__ import annotations

import logging

import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.memory import IMAGINATION, LatentMemory, SourceFrame, WriteReport, WriteRules

GRID = (22, 40)


def latents_of(room, camera, channels=6):
    """Latents that say what is where: (T, C, h, w)."""
    return room.colour(camera.resized(*GRID), channels)


def test_what_is_written_is_read_back_from_the_same_place(room, walk):
    camera = walk(3, turn=0.1, length=0.3)
    memory = LatentMemory(6, dtype=torch.float32)
    latents = latents_of(room, camera)
    report = memory.write(latents, room.depth(camera), camera)
    readout = memory.read(camera.resized(*GRID))
    assert report.cells == 3 * GRID[0] * GRID[1]
    assert readout.coverage().min() > 0.97
    first = readout[0]
    own = (first.source == 0) & (first.visible > 0)
    assert own.float().mean() > 0.9
    # In its own frame nearly every cell gets its own token back, exactly.
    same = (first.latents == latents[0]).all(dim=0, keepdim=True) & own
    assert same.sum() > 0.99 * own.sum()
    assert len(memory) == report.added - report.superseded


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16])
def test_compact_features_stay_close(room, walk, dtype):
    camera = walk(2)
    exact, compact = LatentMemory(6, dtype=torch.float32), LatentMemory(6, dtype=dtype)
    for memory in (exact, compact):
        memory.write(latents_of(room, camera), room.depth(camera), camera)
    view = camera.resized(*GRID)
    difference = (exact.read(view).latents - compact.read(view).latents).abs().max()
    assert 0 < difference < {torch.int8: 0.006, torch.float16: 5e-4, torch.bfloat16: 4e-3}[dtype]
    assert compact.row_bytes < exact.row_bytes


def test_seeing_the_same_again_adds_nothing_but_confidence(room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    first = memory.write(latents_of(room, camera), room.depth(camera), camera)
    count = len(memory)
    before = memory.elements().confidence.mean()
    again = memory.write(latents_of(room, camera), room.depth(camera), camera)
    assert again.added < 0.01 * first.added
    assert len(memory) - count < 0.01 * count
    assert again.confirmed > 0.9 * count
    assert memory.elements().confidence.mean() > before + 0.9


def test_a_finer_view_replaces_a_coarser_one(empty_room, walk):
    far = walk(1, length=0.0)
    near = far.at(far.cam2world.clone())
    near.cam2world[0, 0, 3] += 4.0
    memory = LatentMemory(6)
    memory.write(latents_of(empty_room, far), empty_room.depth(far), far)
    count = len(memory)
    report = memory.write(latents_of(empty_room, near), empty_room.depth(near), near)
    assert report.replaced > 0.5 * report.added
    assert report.superseded > 50
    assert len(memory) == count + report.added - report.superseded - report.removed
    readout = memory.read(near.resized(*GRID))
    assert (readout.source == 1).float().mean() > 0.9
    assert readout.coverage()[0] > 0.98
    # Looking from afar again finds everything as fine as before, and adds nothing.
    back = memory.write(latents_of(empty_room, far), empty_room.depth(far), far)
    assert back.added < 0.03 * count


def test_what_has_left_is_gone_after_two_views_through_its_place(room, empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    for _ in range(3):
        memory.write(latents_of(room, camera), room.depth(camera), camera)
    away = []
    for _ in range(3):
        memory.write(latents_of(empty_room, camera), empty_room.depth(camera), camera)
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
        memory.write(latents_of(room, camera), room.depth(camera), camera)
    count = len(memory)
    report = memory.write(latents_of(empty_room, camera), empty_room.depth(camera), camera)
    assert report.seen_through > 40
    doubted = memory.elements().confidence == 1
    assert doubted.sum() >= report.seen_through - report.removed
    memory.write(latents_of(room, camera), room.depth(camera), camera)
    report = memory.write(latents_of(empty_room, camera), empty_room.depth(camera), camera)
    # It was seen again in between, so one more view through it does not remove it.
    assert report.removed < 0.1 * report.seen_through
    assert len(memory) > count


def test_imagination_neither_removes_nor_replaces_what_was_observed(room, empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    memory.write(latents_of(room, camera), room.depth(camera), camera)
    before = memory.elements()
    for _ in range(3):
        report = memory.write(
            latents_of(empty_room, camera), empty_room.depth(camera), camera, frame=SourceFrame(kind=IMAGINATION)
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
    latents = latents_of(empty_room, camera)
    memory.write(latents, empty_room.depth(camera), camera, frame=SourceFrame(kind=IMAGINATION))
    report = memory.write(latents + 1, empty_room.depth(camera), camera)
    assert report.replaced > 0.95 * GRID[0] * GRID[1]
    assert memory.elements().imagined.float().mean() < 0.02
    readout = memory.read(camera.resized(*GRID))
    assert (readout.latents - latents - 1).abs().median() < 1e-2


def test_copied_cells_are_left_alone(room, empty_room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    memory.write(latents_of(room, camera), room.depth(camera), camera)
    before = memory.elements()
    everything = torch.ones(1, *GRID, dtype=torch.bool)
    for _ in range(3):
        report = memory.write(latents_of(empty_room, camera) * 5, empty_room.depth(camera), camera, copied=everything)
        assert report == WriteReport(copied=GRID[0] * GRID[1])
    after = memory.elements()
    assert torch.equal(before.features, after.features)
    assert torch.equal(before.confidence, after.confidence)


def test_each_cell_is_counted_once(room, walk):
    camera = walk(4)
    depth = room.depth(camera)
    depth[1, :90] = 0
    keep = torch.ones_like(depth, dtype=torch.bool)
    keep[2, :, :200] = False
    copied = torch.zeros(4, *GRID, dtype=torch.bool)
    copied[3, :5] = True
    report = LatentMemory(6).write(latents_of(room, camera), depth, camera, keep, copied=copied)
    assert report.cells == 4 * GRID[0] * GRID[1]
    assert report.masked > 200
    assert report.invalid > 150
    assert report.copied == 5 * GRID[1]
    assert report.explained > 700
    assert sum(report.as_dict()[name] for name in ("written", "replaced")) == report.added


def test_masked_things_are_not_remembered(room, empty_room, walk):
    camera = walk(1)
    depth = room.depth(camera)
    keep = depth > 0.95 * empty_room.depth(camera)
    memory = LatentMemory(6)
    memory.write(latents_of(room, camera), depth, camera, keep)
    readout = memory.read(camera.resized(*GRID))
    truth = empty_room.depth(camera.resized(*GRID))
    assert (readout.depth[:, 0] > 0.9 * truth)[readout.visible[:, 0] > 0].all()


def test_a_ring_of_context_is_written_around_what_is_new(room, walk):
    camera = walk(9, length=1.0)
    sizes = []
    for context in (0, 1):
        memory = LatentMemory(6, rules=WriteRules(context=context))
        memory.write(latents_of(room, camera), room.depth(camera), camera)
        sizes.append(len(memory))
    assert sizes[1] > 1.2 * sizes[0]


def test_a_walk_is_small_and_covers_what_a_memory_of_everything_covers(room, walk):
    camera = walk(21, length=2.0)
    memory = LatentMemory(48, dtype=torch.int8)
    everything = LatentMemory(48, dtype=torch.int8, rules=WriteRules(select=False))
    latents, depth = torch.zeros(21, 48, *GRID), room.depth(camera)
    for store in (memory, everything):
        store.write(latents, depth, camera)
    views = camera.resized(*GRID)
    assert memory.read(views).visible.sum() > 0.99 * everything.read(views).visible.sum()
    assert len(memory) < 0.3 * len(everything)
    assert memory.row_bytes == 67
    # What is held beyond the elements: unused rows, boxes and the frame table.
    assert memory.nbytes < 1.2 * memory.row_bytes * len(memory) + 10_000


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


def test_a_fork_copies_nothing_until_it_is_written_and_is_independent(room, walk):
    camera = walk(9)
    memory = LatentMemory(6)
    memory.write(latents_of(room, camera), room.depth(camera), camera)
    view = walk(3).resized(*GRID)
    before = memory.read(view)
    shared = memory.fork()
    assert shared._store is memory._store
    fork, other = memory.fork(), memory.fork()
    fork.write(latents_of(room, camera) * 2, room.depth(camera) * 0.5, camera)
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
    memory.write(latents_of(room, camera[:3]), room.depth(camera[:3]), camera[:3])
    view = walk(3).resized(*GRID)
    before, frames, held = memory.read(view), [record.id for record in memory.frames()], memory.nbytes
    checkpoint = memory.fork()
    # The features are larger, so that the int8 scales change too.
    memory.write(latents_of(room, camera[3:]) * 3, room.depth(camera[3:]), camera[3:])
    memory.repose({frames[0]: camera.cam2world[1]})
    memory.restore(checkpoint)
    for name in before.__dataclass_fields__:
        assert torch.equal(getattr(memory.read(view), name), getattr(before, name))
    assert [record.id for record in memory.frames()] == frames
    assert memory.nbytes == held
    # Both go on on their own.
    memory.clear()
    assert torch.equal(checkpoint.read(view).latents, before.latents)
    memory.restore(checkpoint)
    checkpoint.write(latents_of(room, camera[3:]), room.depth(camera[3:]), camera[3:])
    assert torch.equal(memory.read(view).latents, before.latents)


def test_only_a_memory_of_the_same_kind_can_be_restored(room, walk):
    camera = walk(1)
    memory = LatentMemory(6)
    memory.write(latents_of(room, camera), room.depth(camera), camera)
    count = len(memory)
    with pytest.raises(ValueError, match="other: expected channels 6 like this memory, got 5"):
        memory.restore(LatentMemory(5))
    with pytest.raises(ValueError, match="other: expected max_bytes"):
        memory.restore(LatentMemory(6, max_bytes=1 << 20))
    with pytest.raises(TypeError, match="other: expected LatentMemory, got int"):
        memory.restore(3)
    memory.restore(memory)
    assert len(memory) == count


def test_reading_again_is_bit_identical(room, walk):
    camera = walk(5)
    memory = LatentMemory(6, dtype=torch.int8)
    memory.write(latents_of(room, camera), room.depth(camera), camera)
    views = walk(4, turn=0.5).resized(*GRID)
    first, second = memory.read(views), memory.read(views)
    for name in first.__dataclass_fields__:
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_positions_stay_precise_far_from_the_origin_of_the_map(room, walk):
    camera = walk(2).to(dtype=torch.float64)
    far = camera.at(camera.cam2world.clone())
    far.cam2world[:, :3, 3] += torch.tensor([5e5, 4e6, 100.0], dtype=torch.float64)
    readouts = []
    for place in (camera, far):
        memory = LatentMemory(6, dtype=torch.float32)
        memory.write(latents_of(room, walk(2)), room.depth(walk(2)), place)
        readouts.append(memory.read(place.resized(*GRID)))
    assert (readouts[0].latents - readouts[1].latents).abs().max() < 1e-4
    assert memory.cloud().points[:, 1].min() > 3.9e6


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels: expected 1..65536, got 0"),
        ({"channels": 8, "dtype": torch.float64}, "dtype: expected one of"),
        ({"channels": 8, "max_bytes": 1000}, "max_bytes: expected at least"),
        ({"channels": 8, "patch": 40}, "patch: expected 0..16"),
    ],
)
def test_a_memory_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentMemory(**arguments)
    if "max_bytes" in arguments:
        least = 50_000
        assert LatentMemory(8, max_bytes=least).nbytes <= least


def test_options_of_a_read_are_checked(room, walk):
    memory = LatentMemory(6)
    with pytest.raises(ValueError, match="rule: expected one of nearest, strict, got 'first'"):
        memory.read(walk(1).resized(*GRID), rule="first")
    assert memory.read(walk(2).resized(*GRID)).visible.sum() == 0
