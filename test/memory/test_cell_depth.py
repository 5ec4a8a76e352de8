"""Depth on the latent grid."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import pinhole
from mirage_ros.memory.cell_depth import EDGE, INVALID, MASKED, USABLE, depth_to_cells, slope
from mirage_ros.memory.depth_patches import NOTHING, decode_patch, encode_patch


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pixels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    patch=st.integers(0, 4),
)
def test_every_depth_was_measured_in_its_cell(seed, cells, pixels, patch):
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(pixels, generator=generator) * 9 + 0.5
    depth[torch.rand(pixels, generator=generator) < 0.2] = math.nan
    depth[torch.rand(pixels, generator=generator) < 0.1] = 0
    result = depth_to_cells(depth, None, *cells, patch=patch, share=0.1)
    rows = (torch.arange(pixels[0]) + 0.5) * cells[0] / pixels[0]
    columns = (torch.arange(pixels[1]) + 0.5) * cells[1] / pixels[1]
    for i in range(cells[0]):
        for j in range(cells[1]):
            if result.state[i, j] != USABLE:
                assert result.depth[i, j].isnan()
                continue
            # An image smaller than the grid lends a pixel to several cells.
            near_rows = (rows - i - 0.5).abs() <= 0.5 + cells[0] / pixels[0]
            near_columns = (columns - j - 0.5).abs() <= 0.5 + cells[1] / pixels[1]
            assert (depth[near_rows][:, near_columns] == result.depth[i, j]).any()
    assert result.fine.shape == (*cells, patch, patch)


def test_two_surfaces_never_mix():
    depth = torch.full((64, 64), 2.0)
    # The edge falls 5 of 16 pixels into the second column of cells.
    depth[:, 21:] = 6.0
    result = depth_to_cells(depth, None, 4, 4, share=0.6)
    assert (result.depth[:, 0] == 2).all()
    assert (result.depth[:, 1:] == 6).all()
    assert result.sure.tolist() == [[True, False, True, True]] * 4


def test_a_cell_shared_evenly_is_an_edge():
    depth = torch.full((64, 64), 2.0)
    depth[:, 24:] = 6.0
    result = depth_to_cells(depth, None, 4, 4)
    assert (result.state[:, 1] == EDGE).all()
    assert result.depth[:, 1].isnan().all()
    assert (result.state[:, 2] == USABLE).all()


def test_a_slope_is_not_an_edge(empty_room):
    # A floor seen at a grazing angle: depth changes by far more than the edge's share within one cell.
    pose = torch.tensor([[0, 0, 1.0, -4.5], [-1, 0, 0, 0], [0, -1, 0, 0.4], [0, 0, 0, 1]])
    camera = pinhole(160, 160, vertical_fov=math.radians(70), cam2world=pose)
    result = depth_to_cells(empty_room.depth(camera), None, 20, 20)
    ratio = result.depth[:-1, 10] / result.depth[1:, 10]
    assert ratio.nan_to_num(0.0).max() > 1.3
    on_floor = camera.resized(20, 20).lift(result.depth.nan_to_num(1.0))[..., 2] < 0.05
    assert on_floor.sum() > 60
    # Cells that also show the wall are rightly unsure; all others are one surface.
    assert result.sure[on_floor].float().mean() > 0.9


def test_masked_and_invalid_cells_are_told_apart_and_do_not_leak():
    depth, keep = torch.full((32, 32), 3.0), torch.ones(32, 32, dtype=torch.bool)
    keep[:8, :8] = False
    depth[:8, 8:16] = 0
    depth[:8, 16:24] = math.inf
    # A quarter masked: still kept, but what is masked does not count.
    keep[8:12, :4] = False
    depth[8:12, :4] = 50
    result = depth_to_cells(depth, keep, 4, 4)
    assert result.state[0].tolist() == [MASKED, INVALID, INVALID, USABLE]
    assert result.depth[1, 0] == 3
    assert result.sure[1, 0]


def test_a_bar_before_the_sky_is_known_where_that_is_asked_for():
    depth, keep = torch.full((16, 16), 3.0), torch.ones(16, 16, dtype=torch.bool)
    # A bar of one pixel in the second column of cells; the sky has no depth, or is masked, which comes to the same.
    depth[:, 4:8] = math.inf
    depth[:, 5] = 2.0
    keep[8:, 4:8] = False
    keep[8:, 5] = True
    assert depth_to_cells(depth, keep, 4, 4).state[:, 1].tolist() == [INVALID, INVALID, MASKED, MASKED]
    result = depth_to_cells(depth, keep, 4, 4, patch=4, known=0.1)
    assert (result.state == USABLE).all()
    assert (result.depth[:, 1] == 2).all()
    assert (result.fine[:, 1, :, 1] == 2).all()
    assert result.fine[:, 1, :, [0, 2, 3]].isnan().all()


def test_the_rim_of_a_moving_thing_is_masked_however_little_is_asked_for():
    depth, keep = torch.full((16, 16), 3.0), torch.ones(16, 16, dtype=torch.bool)
    # It has a depth, unlike the sky, and fills three of four columns of a cell, then two.
    depth[:, 5:10], keep[:, 5:10] = 1.0, False
    result = depth_to_cells(depth, keep, 4, 4, patch=4, known=0.1)
    assert result.state[0].tolist() == [USABLE, MASKED, USABLE, USABLE]
    assert (result.depth[:, 2] == 3).all()


def test_a_cell_that_is_known_in_part_is_not_sure():
    depth = torch.full((16, 16), 3.0)
    depth[:, 5:8] = torch.nan
    depth[:, 8] = torch.nan
    result = depth_to_cells(depth, None, 4, 4, patch=4, known=0.1)
    assert result.sure[0].tolist() == [True, False, True, True]


def test_slope_follows_surfaces_and_stops_at_edges():
    depth = torch.tensor([[1.0, 1.1, 1.21, 5.0, 5.0, 1.0, 5.0]])
    change = slope(depth)[0]
    assert change[1] == pytest.approx(math.log(1.1), rel=1e-4)
    # Before the edge the smaller difference counts, on a thin structure none.
    assert change[2] == pytest.approx(math.log(1.1), rel=1e-4)
    assert change[3:].tolist() == [0, 0, 0, 0]


def test_patches_keep_fine_depth():
    depth = torch.rand(500) * 5 + 1
    ratio = torch.exp((torch.rand(500, 2, 2) - 0.5) * 2.6)
    fine = ratio * depth[:, None, None]
    fine[0, 0, 0] = math.nan
    fine[1, 0, 0] = depth[1] * 4.5
    codes = encode_patch(fine, depth)
    back = decode_patch(codes, depth)
    assert (codes[:2, 0, 0] == NOTHING).all()
    assert back[:2, 0, 0].isnan().all()
    error = (back / fine - 1).abs().nan_to_num(0)
    error[1, 0, 0] = 0
    assert error.max() < 0.012
    assert error[(ratio.log().abs() < 0.05)].max() < 0.003
