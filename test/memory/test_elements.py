"""Buffers: growth, compaction, quantised features, bytes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.memory.elements import ElementStore
from mirage_ros.memory.zbuffer.culling import BLOCK


def rows(count: int, seed: int = 0, channels: int = 4, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Random elements."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "positions": torch.randn(count, 3, generator=generator),
        "features": torch.randn(count, channels, generator=generator) * scale,
        "size": torch.rand(count, generator=generator) + 0.1,
        "confidence": torch.full((count,), 2),
        "frame": torch.zeros(count),
        "cell": torch.zeros(count, 2),
    }


def test_bytes_are_those_of_the_storages():
    store = ElementStore(48, torch.int8, torch.device("cpu"), patch=2, colour=True)
    assert store.row_bytes == 48 + 12 + 2 + 1 + 2 + 2 + 3 + 4
    assert store.nbytes == 48 * 4
    store.append(
        {**rows(300, channels=48), "colour": torch.zeros(300, 3), "patch": torch.zeros(300, 2, 2)}, 1 << 20, []
    )
    assert store.capacity == 2 * BLOCK
    held = store.nbytes
    assert held == store.row_bytes * 2 * BLOCK + 48 * 4
    store.blocks()
    assert store.nbytes == held + 2 * 28


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.integers(0, 900), st.floats(0, 1)), min_size=1, max_size=12))
def test_rows_keep_their_content_and_order_through_growth_and_removal(steps):
    store = ElementStore(4, torch.float32, torch.device("cpu"), patch=0, colour=False)
    features, positions = torch.zeros(0, 4), torch.zeros(0, 3)
    for number, (count, share) in enumerate(steps):
        new = rows(count, seed=number)
        store.append(new, 10 << 20, [])
        features = torch.cat([features, new["features"]])
        positions = torch.cat([positions, new["positions"]])
        gone = torch.rand(len(features), generator=torch.Generator().manual_seed(number)) >= share
        removed = store.rows_of(gone.nonzero().squeeze(1))
        assert torch.equal(store.elements_of(removed), gone.nonzero().squeeze(1))
        store.remove(removed, [])
        if number % 2:
            store.compact()
        features, positions = features[~gone], positions[~gone]
        assert store.count == len(features)
        assert torch.equal(store.decode(), features)
        assert torch.equal(store.column("positions"), positions)
        assert int(store.columns["positions"].isfinite().all(dim=0).sum()) == store.count


@settings(max_examples=40)
@given(
    held=st.lists(st.tuples(st.integers(1, 900), st.floats(0, 1)), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 900), st.floats(0, 1), st.booleans()), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.int8, torch.float16]),
)
def test_whatever_was_changed_is_taken_back_to_the_bit(held, steps, dtype):
    store = ElementStore(4, dtype, torch.device("cpu"), patch=2, colour=False)

    def change(number, count, share, undo):
        store.append({**rows(count, number, scale=1 + number), "patch": torch.ones(count, 2, 2)}, 10 << 20, undo)
        gone = torch.rand(store.count, generator=torch.Generator().manual_seed(number)) >= share
        store.set_confidence(store.live()[::3], torch.tensor(7, dtype=torch.uint8), undo)
        store.remove(store.rows_of(gone.nonzero().squeeze(1)), undo)

    for number, (count, share) in enumerate(held):
        change(number, count, share, [])
        store.settle()
    store.blocks()
    before, undo = store.copy(), []
    for number, (count, share, closed) in enumerate(steps, 10):
        change(number, count, share, undo)
        if closed:
            store.compact(undo)
        store.blocks()
    while undo:
        undo.pop()()
    store.settle()
    assert (store.end, store.count, store.capacity) == (before.end, before.count, before.capacity)
    for name, buffer in before.columns.items():
        assert torch.equal(store.columns[name].nan_to_num(-7), buffer.nan_to_num(-7)), name
    assert torch.equal(store.holes, before.holes)
    assert dtype != torch.int8 or torch.equal(store.scale, before.scale)
    for name in ("centre", "half", "reach"):
        assert torch.equal(getattr(store.blocks(), name), getattr(before.blocks(), name))


def test_boxes_that_are_added_to_are_those_made_anew():
    store = ElementStore(4, torch.float16, torch.device("cpu"), patch=0, colour=False)
    for number in range(12):
        store.append(rows(150, seed=number), 10 << 20, [])
        boxes = store.blocks()
        store.moved()
        for name in ("centre", "half", "reach"):
            assert torch.equal(getattr(boxes, name), getattr(store.blocks(), name))


def test_growth_is_amortised_and_stays_under_the_cap_in_passing():
    cap = 2 << 20
    store = ElementStore(48, torch.float16, torch.device("cpu"), patch=0, colour=False)
    most = store.limit(cap)
    sizes, worst = [], 0
    allocate = store._allocate

    def watched(name, capacity):
        nonlocal worst
        buffer = allocate(name, capacity)
        worst = max(worst, store.nbytes + buffer.nbytes)
        return buffer

    store._allocate = watched
    while store.count + 100 <= most:
        store.append(rows(100, channels=48), cap, [])
        store.blocks()
        sizes.append(store.capacity)
        assert store.nbytes <= cap
    assert worst <= cap
    assert store.capacity == most
    assert len(set(sizes)) < 20


@settings(max_examples=30)
@given(scales=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), seed=st.integers(0, 100))
def test_int8_features_are_off_by_half_a_step_of_each_scale_they_lived_through(scales, seed):
    store = ElementStore(4, torch.int8, torch.device("cpu"), patch=0, colour=False)
    written = torch.zeros(0, 4)
    allowed = torch.zeros(0, 4)
    before = torch.zeros(4)
    for number, scale in enumerate(scales):
        new = rows(40, seed=seed + number, scale=scale)
        store.append(new, 1 << 20, [])
        store.settle()
        assert store.scale is not None
        raised = store.scale != before
        before = store.scale.clone()
        allowed = torch.cat([allowed + torch.where(raised, store.scale / 2, 0.0), (store.scale / 2).expand(40, 4)])
        written = torch.cat([written, new["features"]])
        assert ((store.decode() - written).abs() <= allowed * 1.001 + 1e-7).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_beyond_the_type_are_held_at_its_limit(dtype):
    store = ElementStore(4, dtype, torch.device("cpu"), patch=0, colour=False)
    store.append({**rows(1), "features": torch.tensor([[1e38, -1e38, 1.0, 0.0]])}, 1 << 20, [])
    assert store.decode().isfinite().all()
    assert store.decode()[0, 2] == 1


def test_a_copy_is_independent():
    store = ElementStore(4, torch.int8, torch.device("cpu"), patch=0, colour=False)
    store.append(rows(10), 1 << 20, [])
    copy = store.copy()
    copy.append(rows(10, seed=1, scale=50), 1 << 20, [])
    copy.columns["confidence"][:] = 9
    assert store.count == 10
    assert (store.columns["confidence"][:10] == 2).all()
    assert (store.scale != copy.scale).all()
