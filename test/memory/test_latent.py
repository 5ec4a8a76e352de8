"""The memory as a user meets it: what is written is read back, small and exactly."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.memory import IMAGINATION, LatentMemory, SourceFrame, WriteRules

GRID = (22, 40)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_what_is_written_is_read_back_from_the_same_place(room, walk):
    camera = walk(3, turn=0.1, length=0.3)
    memory = LatentMemory(6, dtype=torch.float32)
    latents = room.latents(camera)
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
        memory.write(room.latents(camera), room.depth(camera), camera)
    view = camera.resized(*GRID)
    difference = (exact.read(view).latents - compact.read(view).latents).abs().max()
    assert 0 < difference < {torch.int8: 0.006, torch.float16: 5e-4, torch.bfloat16: 4e-3}[dtype]
    assert compact.row_bytes < exact.row_bytes


@pytest.mark.parametrize("options", [{}, {"rule": "strict"}])
def test_a_guess_hides_nothing_that_was_observed(empty_room, walk, options):
    camera = walk(2, turn=0.6, length=0.2)
    seen, guess = camera[:1], camera[1:]
    observed = LatentMemory(6, dtype=torch.float32)
    observed.write(empty_room.latents(seen), empty_room.depth(seen), seen)
    memory = observed.fork()
    # A wall that is imagined half way to the real one, and beyond what was observed.
    memory.write(-empty_room.latents(guess), empty_room.depth(guess) / 2, guess, frame=SourceFrame(kind=IMAGINATION))
    assert [memory.was_imagined(frame) for frame in (0, 1)] == [False, True]
    view = guess.resized(*GRID)
    plain, first = memory.read(view, **options), memory.read(view, observed_first=True, **options)
    wanted = observed.read(view, **options)
    shown = wanted.visible > 0
    assert 0.2 < shown.float().mean() < 0.9
    for name in first.tensors():
        assert torch.equal(getattr(first, name), torch.where(shown, getattr(wanted, name), getattr(plain, name))), name
    assert (plain.source[shown] == 1).float().mean() > 0.9
    # Where all was observed, or all imagined, there is nothing to prefer.
    assert torch.equal(observed.read(view, observed_first=True, **options).latents, wanted.latents)


def test_reading_again_is_bit_identical(room, walk):
    camera = walk(5)
    memory = LatentMemory(6, dtype=torch.int8)
    memory.write(room.latents(camera), room.depth(camera), camera)
    views = walk(4, turn=0.5).resized(*GRID)
    first, second = memory.read(views), memory.read(views)
    for name in first.tensors():
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_positions_stay_precise_far_from_the_origin_of_the_map(room, walk):
    camera = walk(2).to(dtype=torch.float64)
    far = camera.at(camera.cam2world.clone())
    far.cam2world[:, :3, 3] += torch.tensor([5e5, 4e6, 100.0], dtype=torch.float64)
    readouts = []
    for place in (camera, far):
        memory = LatentMemory(6, dtype=torch.float32)
        memory.write(room.latents(walk(2)), room.depth(walk(2)), place)
        readouts.append(memory.read(place.resized(*GRID)))
    assert (readouts[0].latents - readouts[1].latents).abs().max() < 1e-4
    assert memory.cloud().points[:, 1].min() > 3.9e6


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
    with pytest.raises(TypeError, match="camera: expected Camera, got Tensor"):
        memory.read(torch.eye(4))
    assert memory.read(walk(2).resized(*GRID)).visible.sum() == 0


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.int8, torch.float16])
def test_a_gpu_writes_and_reads_what_a_cpu_does(room, walk, dtype):
    camera = walk(6)
    near = camera.at(camera.cam2world.clone())
    near.cam2world[:, 0, 3] += 1.5
    readouts = []
    for device in ("cpu", "cuda"):
        memory = LatentMemory(6, device=device, dtype=dtype)
        for frames in (camera, near):
            latents, depth = room.latents(frames), room.depth(frames)
            memory.write(latents.to(device), depth.to(device), frames.to(device))
        readouts.append(memory.read(near.to(device).resized(*GRID)).to("cpu"))
    here, there = readouts
    # Depths on the border of a tolerance may round to either side of it.
    assert (here.visible == there.visible).float().mean() > 0.999
    assert (here.latents - there.latents).abs().amax(dim=1).le(1e-2).float().mean() > 0.99
