"""A write is all or nothing, and changes the memory in place."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mirage_ros.memory import IMAGINATION, LatentMemory, SourceFrame, WriteRules, latent, write
from mirage_ros.memory.elements import ElementStore
from mirage_ros.memory.provenance import FrameTable

GRID = (11, 20)


def frames_of(scene, camera):
    """Latents and depth of a scene."""
    return scene.colour(camera.resized(*GRID)), scene.depth(camera)


def far_away(camera, chunk):
    """The same cameras in another place."""
    there = camera.at(camera.cam2world.clone())
    there.cam2world[:, 0, 3] += 100.0 * chunk
    return there


def content(memory):
    """All that a memory holds, dead rows and unused room too."""
    store, table = memory._store, memory._table
    held = {name: buffer.clone().nan_to_num(-7) for name, buffer in store.columns.items()}
    held |= {"scale": store.scale, "holes": store.holes, "end": torch.tensor(store.end)}
    return {name: value.clone() for name, value in held.items() if value is not None}, table.rows.copy().tobytes()


def unchanged(memory, before):
    """Whether a memory holds what it held; its buffers may have more room."""
    now, rows = content(memory)
    for name, value in before[0].items():
        length = value.shape[-1] if name == "positions" else len(value) if value.ndim else None
        found = now[name][..., :length] if name == "positions" else now[name][:length] if value.ndim else now[name]
        if not torch.equal(found, value):
            return False
    return rows == before[1]


# What fails in the second frame of a write, late: (owner, name, calls that succeed).
LATE = [
    (ElementStore, "append", 1),
    (ElementStore, "_encode", 1),
    (ElementStore, "settle", 0),
    (FrameTable, "add", 1),
    (write, "_count", 1),
    (latent, "write_frame", 1),
]


@pytest.mark.parametrize(("owner", "name", "succeed"), LATE, ids=[name for _, name, _ in LATE])
@pytest.mark.parametrize("full", [False, True])
def test_a_write_that_fails_half_way_leaves_every_buffer_as_it_was(
    room, empty_room, walk, monkeypatch, owner, name, succeed, full
):
    camera = walk(2, height=44, width=80)
    rules = WriteRules(context=1)
    memory = LatentMemory(6, dtype=torch.int8, patch=2, rules=rules, max_bytes=45_000 if full else 1 << 20)
    for chunk in range(20 if full else 2):
        kind = IMAGINATION if chunk % 2 else "observation"
        memory.write(*frames_of(room, camera), far_away(camera, chunk // 2), frame=[SourceFrame(kind=kind)] * 2)
    last = far_away(camera, chunk // 2)
    # It sees through boxes, and its features are larger, so that scales are raised.
    latents, depth = frames_of(empty_room, camera)
    elsewhere = far_away(camera, 1000)
    view = last.resized(*GRID)
    before, shown, frames = content(memory), memory.read(view), [record.id for record in memory.frames()]
    function, calls = getattr(owner, name), 0

    def failing(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > succeed:
            raise RuntimeError("out of memory")
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    for place in (last, elsewhere):
        calls = 0
        with pytest.raises(RuntimeError, match="out of memory"):
            memory.write(latents * 9, depth, place)
        assert calls == succeed + 1
        assert unchanged(memory, before)
    monkeypatch.undo()
    again = memory.read(view)
    for field in shown.tensors():
        assert torch.equal(getattr(again, field), getattr(shown, field)), field
    assert [record.id for record in memory.frames()] == frames
    # And it goes on as if nothing had been.
    fresh = memory.fork()
    assert memory.write(latents * 9, depth, last) == fresh.write(latents * 9, depth, last)
    assert torch.equal(memory.elements().features, fresh.elements().features)


def test_the_first_write_that_fails_leaves_an_empty_memory(room, walk, monkeypatch):
    camera = walk(2, height=44, width=80)
    memory = LatentMemory(6)
    monkeypatch.setattr(ElementStore, "settle", lambda store: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        memory.write(*frames_of(room, camera), camera)
    monkeypatch.undo()
    assert len(memory) == 0
    assert memory.frames() == []
    # The origin is that of the frame which is then first.
    there = far_away(camera, 10**6)
    memory.write(*frames_of(room, camera), there)
    assert (memory.elements().positions[:, 0] - 1e8).abs().max() < 10


def allocated_at_most(function) -> int:
    """Bytes that torch's CPU allocator gave out at once while a function ran, beyond what it had given out before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    return most


def test_writing_to_a_memory_near_its_cap_takes_no_more_than_a_frame_beyond_it(empty_room, walk):
    cap = 2 << 20
    camera = walk(1, height=44, width=80)
    memory = LatentMemory(48, dtype=torch.int8, max_bytes=cap)
    depth, latents = empty_room.depth(camera), torch.rand(1, 48, *GRID)
    alone = LatentMemory(48, dtype=torch.int8, max_bytes=cap)
    frame = allocated_at_most(lambda: alone.write(latents, depth, camera))
    assert frame < 1 << 20
    chunk, evicted, beyond, evicting = 0, 0, 0, 0
    while not memory._warned:
        memory.write(latents, depth, far_away(camera, chunk))
        chunk += 1
    # Once around. The few writes that evict a twentieth of all at once also need lists of all elements' places.
    for _ in range(24):
        held = memory.nbytes
        assert held > 0.9 * cap
        place, chunk = far_away(camera, chunk), chunk + 1
        report = []
        peak = allocated_at_most(lambda at=place, into=report: into.append(memory.write(latents, depth, at)))
        if report[0].evicted:
            evicting, evicted = max(evicting, held + peak - cap), evicted + report[0].evicted
        else:
            beyond = max(beyond, held + peak - cap)
    assert evicted > 500
    assert beyond < frame
    assert evicting < 0.9 * cap
    # A live fork makes the first write copy, and only the first.
    fork = memory.fork()
    assert allocated_at_most(lambda: memory.write(latents, depth, far_away(camera, chunk + 1))) > 0.8 * cap
    assert allocated_at_most(lambda: memory.write(latents, depth, far_away(camera, chunk + 2))) < 0.3 * cap
    assert len(fork) > 0
