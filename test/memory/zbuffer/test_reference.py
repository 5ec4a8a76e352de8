"""The z-buffer against a brute-force one in float64, and the paths on a CPU against each other bit for bit."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import pinhole
from mirage_ros.memory.zbuffer import cpu
from mirage_ros.memory.zbuffer.backends import winners
from mirage_ros.memory.zbuffer.culling import Blocks
from mirage_ros.memory.zbuffer.projection import BORDER, CENTRED, MAX_FOOTPRINT, NEAR, PUBLIC, Convention, views_of
from mirage_ros.memory.zbuffer.reference import EMPTY, TOLERANCE, pack, unpack_index, winners_dense

# Boundary band: where float64 and float32 may part, a comparison is this close to equality (relative, or in cells).
BAND = 1e-4
ONE_CELL = Convention(footprints=False)


def winners_in_blocks(store, lengths, views, blocks, rule="nearest"):
    """Winners by torch, of what is in view only, as on a machine without the compiled library."""
    with mock.patch.object(cpu, "library", return_value=None):
        return winners(store, lengths, views, lambda: blocks, rule)


def brute_force(positions, sizes, views, rule, tolerance):
    """Winners (V, cells) by float64 arithmetic and loops, and (V, cells) whether they are clear of the band."""
    x = np.asarray(positions, np.float64)
    size = np.asarray(sizes, np.float64)
    index = np.full((len(views), views.cells), -1)
    clear = np.ones((len(views), views.cells), bool)
    for view in range(len(views)):
        relations = [Relation(x, size, views, view, cell) for cell in range(views.cells)]
        surface = np.array([relation.surface for relation in relations]).reshape(views.height, views.width)
        shaky = np.array([relation.shaky_surface for relation in relations]).reshape(surface.shape)
        for cell, relation in enumerate(relations):
            here = divmod(cell, views.width)
            if surface[here] == np.inf:
                clear[view, cell] = not shaky[here]
                continue
            if rule == "strict":
                candidates, measure = np.flatnonzero(relation.covers), relation.depth
                scale, firm = surface[here], not shaky[here]
            else:
                around = np.s_[max(here[0] - 1, 0) : here[0] + 2, max(here[1] - 1, 0) : here[1] + 2]
                limit = brute_limit(surface, here) * (1 + tolerance)
                reached = relation.covers | relation.near
                candidates, measure = np.flatnonzero(reached & (relation.depth <= limit)), relation.squared
                at_limit = (reached | relation.shaky) & (np.abs(relation.depth / limit - 1) < 4 * BAND)
                uncertain = (relation.shaky & (relation.depth <= limit)) | at_limit
                scale, firm = 1.0, not (shaky[around].any() or uncertain.any())
            best = measure[candidates].min()
            # Of exact duplicates the first wins; those that only nearly tie are in the band.
            tied = candidates[measure[candidates] <= best + BAND * scale]
            same = (x[:, tied] == x[:, [tied[0]]]).all() and (size[tied] == size[tied[0]]).all()
            index[view, cell] = tied[0]
            clear[view, cell] = same and firm
    return index, clear


class Relation:
    """What every element is to one cell of one view, in float64."""

    def __init__(self, x, size, views, view, cell):
        matrix, half = views.matrices[view].double().numpy(), views.half_focal[view].double().numpy()
        centre = views.convention.centre
        with np.errstate(all="ignore"):
            u, v, depth = matrix[:, :3] @ x + matrix[:, 3:]
            u, v = u / depth - BORDER, v / depth - BORDER
            reach = np.minimum(size[:, None] * half / depth[:, None], MAX_FOOTPRINT)
            part = (depth > NEAR) & np.isfinite(depth) & np.isfinite(u) & np.isfinite(v) & (depth < 3e38)
            # What overflows float32 on the way to a column or row is nowhere.
            part &= (np.abs(matrix[:, :3, None] * x) < 3.4e38).all(axis=(0, 1))
            cy, cx = divmod(cell, views.width)
            dx, dy = np.abs(u - (cx + centre)), np.abs(v - (cy + centre))
            band = BAND * (1 + np.abs(u) + np.abs(v))
            self.depth, self.squared = depth, dx**2 + dy**2
            own = (dx <= 0.5) & (dy <= 0.5)
            inside = (dx <= reach[:, 0]) & (dy <= reach[:, 1]) & bool(views.convention.footprints)
            self.covers = part & (own | inside)
            self.near = part & (dx < 1) & (dy < 1)
            shaky = (np.abs(dx - 0.5) < band) | (np.abs(dy - 0.5) < band) | (np.abs(depth - NEAR) < BAND * NEAR)
            shaky |= (np.abs(dx - reach[:, 0]) < band) | (np.abs(dy - reach[:, 1]) < band)
            shaky &= part & (dx < MAX_FOOTPRINT + 1) & (dy < MAX_FOOTPRINT + 1)
            edge = part & ((np.abs(dx - 1) < band) | (np.abs(dy - 1) < band)) & (dx < 1.1) & (dy < 1.1)
            self.shaky = shaky | edge
            self.surface = depth[self.covers].min(initial=np.inf)
            self.shaky_surface = bool((shaky & (depth <= self.surface * (1 + BAND))).any())


def brute_limit(surface, here):
    """Greatest depth of the surface within a cell, in the words of the rule.

    Slopes between known neighbours, and never beyond the deepest of the nine cells.
    """
    depth, rise = surface[here], 1.0
    for axis in (0, 1):
        ratios = []
        for step in (1, -1):
            there = list(here)
            there[axis] += step
            if 0 <= there[axis] < surface.shape[axis] and surface[tuple(there)] < np.inf:
                # Towards higher indices, whichever side the neighbour is on.
                ratios.append((surface[tuple(there)] / depth) ** step)
        if ratios and all(ratio > 1 for ratio in ratios):
            rise *= min(ratios)
        if ratios and all(ratio < 1 for ratio in ratios):
            rise /= max(ratios)
    around = [
        surface[i, j] if 0 <= i < surface.shape[0] and 0 <= j < surface.shape[1] else np.inf
        for i in range(here[0] - 1, here[0] + 2)
        for j in range(here[1] - 1, here[1] + 2)
    ]
    return min(depth * rise, max(around))


KINDS = ("room", "scales", "plane", "behind", "broken", "duplicates")


@pytest.mark.slow
@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**31),
    count=st.sampled_from([0, 1, 2, 7, 40, 300]),
    kind=st.sampled_from(KINDS),
    views=st.integers(1, 3),
    threads=st.integers(1, 4),
    rule=st.sampled_from(["strict", "nearest"]),
    convention=st.sampled_from([CENTRED, ONE_CELL, PUBLIC]),
)
def test_every_cell_has_the_winner_of_a_brute_force_search(
    random_scene, random_views, padded, seed, count, kind, views, threads, rule, convention
):
    positions, sizes = random_scene(seed, count, kind)
    targets = random_views(seed, views, convention)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        store, lengths = padded(positions, sizes)
        blocks = Blocks(store, lengths)
        found = winners_in_blocks(store, lengths, targets, blocks, rule=rule)
        again = winners_in_blocks(store, lengths, targets, blocks, rule=rule)
        dense = winners_dense(positions, sizes, targets, rule)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, again)
    assert torch.equal(found, dense)
    expected, clear = brute_force(positions, sizes, targets, rule, TOLERANCE)
    assert (found.numpy()[clear] == expected[clear]).all()


def test_the_boundary_band_excuses_few_cells(random_scene, random_views):
    total = excused = 0
    for seed in range(24):
        positions, sizes = random_scene(seed, 40, KINDS[seed % len(KINDS)])
        for rule in ("strict", "nearest"):
            _, clear = brute_force(positions, sizes, random_views(seed, 2, CENTRED), rule, TOLERANCE)
            total, excused = total + clear.size, excused + (~clear).sum()
    assert excused < 0.05 * total


def test_many_blocks_give_the_same_as_the_dense_path(random_scene, random_views, padded):
    # More than one portion of blocks, so that pruning between portions takes part.
    positions, sizes = random_scene(5, 40_000, "room")
    order = torch.argsort(positions[2])
    positions, sizes = positions[:, order].contiguous(), sizes[order]
    views = random_views(5, 2, CENTRED, height=20, width=30)
    store, lengths = padded(positions, sizes)
    for rule in ("strict", "nearest"):
        found = winners_in_blocks(store, lengths, views, Blocks(store, lengths), rule=rule)
        assert torch.equal(found, winners_dense(positions, sizes, views, rule))


def test_views_may_have_their_own_elements(random_scene, random_views):
    views = random_views(7, 3, CENTRED)
    scenes = [random_scene(seed, 50, "room") for seed in range(3)]
    together = winners_dense(
        torch.stack([positions for positions, _ in scenes]),
        torch.stack([sizes for _, sizes in scenes]),
        views,
        "nearest",
    )
    for i, (positions, sizes) in enumerate(scenes):
        assert torch.equal(together[i], winners_dense(positions, sizes, views.at(slice(i, i + 1)), "nearest")[0])


def test_packed_keys_sort_by_measure_then_index():
    measures = torch.tensor([0.0, -0.0, 1e-45, 1e-3, 1.0, 1.0000001, 3e38, math.inf])
    keys = pack(measures, torch.arange(8).flip(0))
    assert (keys[2:].diff() > 0).all()
    assert keys[1] < keys[0] < keys[2]
    assert torch.equal(
        unpack_index(torch.cat([keys, torch.tensor([EMPTY])])), torch.tensor([7, 6, 5, 4, 3, 2, 1, 0, -1])
    )


def test_what_lies_outside_the_view_is_left_out(random_scene, random_views, padded):
    positions, sizes = random_scene(11, 5000, "room")
    away = positions.clone()
    away[2] -= 100
    store, lengths = padded(torch.cat([positions, away], dim=1), torch.cat([sizes, sizes]))
    views = random_views(11, 2, CENTRED)
    from mirage_ros.memory.zbuffer.culling import visible_blocks

    blocks = Blocks(store, lengths)
    seen = visible_blocks(blocks, views)
    assert all(len(indices) < 0.6 * blocks.half.shape[1] for indices in seen)
    found = winners_in_blocks(store, lengths, views, blocks)
    assert torch.equal(found, winners_dense(positions, sizes, views, "nearest"))


@pytest.mark.parametrize("size", [math.inf, 1e30])
def test_a_huge_element_outside_the_image_reaches_in(padded, size):
    camera = pinhole(5, 7, focal=5.0)
    # Three cells left of the image, at a depth of two metres: the footprint ends after four.
    positions = torch.tensor([[-6.5 * 2 / 5], [0.0], [2.0]])
    views = views_of(camera.at(torch.eye(4)[None]))
    store, lengths = padded(positions, torch.tensor([size]))
    found = winners_in_blocks(store, lengths, views, Blocks(store, lengths))
    assert torch.equal(found, winners_dense(positions, torch.tensor([size]), views, "nearest"))
    assert (found >= 0).any()
