"""The branch's input channels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import pinhole
from mirage_ros.models.branch_input import (
    assemble,
    fill_rows,
    fill_views,
    input_channels,
    pack_filled,
    pack_frames,
    pluecker_rays,
)
from mirage_ros.models.log_depth import SKY_DEPTH, pack, unpack
from mirage_ros.trajectory import orbit


def readout(frames: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    visible = torch.zeros(frames, 1, 3, 4)
    visible[..., 1:] = 1
    return {
        "latents": torch.randn(frames, 5, 3, 4),
        "visible": visible,
        "offset": torch.randn(frames, 2, 3, 4),
        "rays": torch.randn(frames, 6, 3, 4),
        "depth": torch.full((frames, 4, 3, 4), torch.nan),
    }


def test_groups_come_in_the_stated_order_and_unseen_cells_are_zero() -> None:
    values = readout()
    values["depth"][..., 1:] = 7.0
    stacked = assemble(("visible", "latents", "depth", "rays"), values, 5)
    assert stacked.shape == (1 + 5 + 4 + 6, 2, 3, 4)
    assert torch.equal(stacked[0], values["visible"][:, 0])
    assert torch.equal(stacked[1:6, :, :, 1:], values["latents"].transpose(0, 1)[..., 1:])
    assert (stacked[1:10, :, :, 0] == 0).all()
    assert (stacked[6:10, :, :, 1:] == 7).all()
    assert torch.equal(stacked[10:], values["rays"].transpose(0, 1))
    assert input_channels(("visible", "latents", "depth", "rays"), 5) == 16


def test_a_batch_is_its_elements() -> None:
    values = readout()
    batch = {name: torch.stack([value, value.flip(0)]) for name, value in values.items()}
    stacked = assemble(("latents", "visible", "offset", "fill"), batch, 5)
    flipped = {name: value.flip(0) for name, value in values.items()}
    assert torch.equal(stacked[1], assemble(("latents", "visible", "offset", "fill"), flipped, 5))


@settings(max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_rows_are_filled_from_the_nearest_seen_cell(row: list[bool]) -> None:
    seen = torch.tensor(row).view(1, 1, -1)
    filled = fill_rows(torch.arange(1.0, len(row) + 1).view(1, 1, -1), seen).flatten().tolist()
    places = [index for index, visible in enumerate(row) if visible]
    expected = [
        min(places, key=lambda place, i=i: (abs(place - i), place)) + 1.0 if places else 0.0 for i in range(len(row))
    ]
    assert filled == expected


def test_rays_of_the_anchor_have_no_moment_and_others_meet_their_origin() -> None:
    poses = orbit(torch.eye(4), 2.0, math.radians(40), 3)
    camera = pinhole(4, 6, vertical_fov=1.0, cam2world=poses)
    rays = pluecker_rays(camera, poses[0])
    assert rays.shape == (3, 6, 4, 6)
    direction, moment = rays.movedim(1, -1).split(3, dim=-1)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(3, 4, 6))
    assert moment[0].abs().max() < 1e-6
    # The moment is that of any point on the ray: here the camera's centre, in the anchor's axes.
    centre = (torch.linalg.inv(poses[0]) @ poses[2])[:3, 3]
    torch.testing.assert_close(moment[2], torch.linalg.cross(centre.expand(4, 6, 3), direction[2]), atol=1e-5, rtol=0)


def test_the_same_relative_views_give_the_same_rays_anywhere() -> None:
    poses = orbit(torch.eye(4), 2.0, math.radians(40), 3)
    moved = torch.eye(4)
    moved[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved[:3, 3] = torch.tensor([3.0, -4, 5])
    here = pluecker_rays(pinhole(4, 6, focal=5.0, cam2world=poses), poses[0])
    there = pluecker_rays(pinhole(4, 6, focal=5.0, cam2world=moved @ poses), moved @ poses[0])
    torch.testing.assert_close(here, there, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("inputs", "change", "message"),
    [
        (("latents", "log_scale"), {}, "log_scale: expected in the branch's input"),
        (
            ("latents", "offset"),
            {"offset": torch.zeros(2, 1, 3, 4)},
            r"offset: expected \(2, 2, 3, 4\), got \(2, 1, 3, 4\)",
        ),
        (("latents",), {"latents": torch.zeros(2, 6, 3, 4)}, r"latents: expected \(2, 5, 3, 4\)"),
    ],
)
def test_wrong_inputs_are_refused_by_name(inputs: tuple[str, ...], change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assemble(inputs, {**readout(), **change}, 5)


@pytest.mark.parametrize("inputs", [("latents", "magic"), ("latents", "latents"), ()])
def test_unknown_double_and_no_groups_are_refused(inputs: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="inputs: expected different names out of latents, visible"):
        input_channels(inputs, 5)


def test_a_view_that_shows_nothing_is_filled_with_the_mean_of_the_others() -> None:
    values, seen = torch.zeros(2, 3, 5, 4, 6), torch.zeros(2, 3, 1, 4, 6)
    seen[0, 0] = 1
    values[0, 0] = torch.arange(5.0)[:, None, None]
    seen[0, 1, :, :, :2] = 1
    values[0, 1] = torch.arange(5.0)[:, None, None]
    filled = fill_views(values, seen)
    assert torch.allclose(filled[0], torch.arange(5.0)[:, None, None].expand(3, 5, 4, 6), atol=1e-5)
    assert not filled[1].any()
    assert torch.equal(fill_views(values[0], seen[0]), filled[0])


def test_holes_are_filled_from_around_them_not_with_the_mean_of_the_training_data() -> None:
    depth = torch.full((1, 16, 16), 9.0)
    depth[:, 4:9, 4:9], depth[:, 12, 12] = 0.0, torch.nan
    filled = unpack(pack_filled(depth, 0.9, 0.6), 0.9, 0.6)
    torch.testing.assert_close(filled, torch.full_like(depth, 9.0))


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_a_hole_is_sky_or_a_surface_and_never_something_between(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    depth = torch.where(torch.rand(1, 1, 4, 4, generator=generator) < 0.5, torch.inf, 3.0)
    depth = depth.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)[0]
    hole = torch.rand(1, 16, 16, generator=generator) < 0.5
    told = torch.where(hole, 0.0, depth)
    filled = unpack(pack_frames(told, 0.9, 0.6), 0.9, 0.6)
    near, sky = (filled / 3 - 1).abs() < 1e-3, (filled / SKY_DEPTH - 1).abs() < 1e-3
    if told.isfinite().logical_and(told > 0).any():
        assert (near | sky).all()
    assert near[told == 3].all()
    assert sky[told.isposinf()].all()


def test_frames_without_a_hole_are_packed_as_they_are() -> None:
    torch.manual_seed(0)
    depth = torch.rand(2, 3, 8, 12) * 9 + 0.1
    depth[0, 0, :3] = torch.inf
    torch.testing.assert_close(pack_frames(depth, 0.9, 0.6), pack(depth, 0.9, 0.6))
