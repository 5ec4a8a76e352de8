"""The unfolding reader over the memory's own splat."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory.frame_grids import splat
from mirage_ros.models.log_depth import reduce
from mirage_ros.models.reader import UnfoldReader

ROWS, COLUMNS, CHANNELS = 8, 12, 5


def views(*offsets: float) -> Camera:
    """Cameras at latent resolution, side by side, metres apart."""
    poses = torch.eye(4).repeat(len(offsets), 1, 1)
    poses[:, 0, 3] = torch.tensor(offsets)
    return pinhole(ROWS, COLUMNS, focal=8.0, cam2world=poses)


def sources(reader: UnfoldReader, frames: int = 1, metres: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(frames, CHANNELS, ROWS, COLUMNS, generator=generator)
    return latents, torch.full((frames, ROWS * reader.source_factor, COLUMNS * reader.source_factor), metres)


@pytest.fixture
def reader() -> UnfoldReader:
    torch.manual_seed(0)
    return UnfoldReader(
        channels=CHANNELS, features=4, unfold_width=16, refold_width=16, unfold_blocks=1, refold_blocks=1
    )


@torch.no_grad()
def test_untrained_it_passes_whole_tokens_on(reader: UnfoldReader) -> None:
    latents, depth = sources(reader)
    # At 2 m and focal length 8, half a metre is two cells.
    reading = reader(latents, depth, views(0.0), views(0.0, 0.5), splat)
    assert reading.latents.shape == (2, CHANNELS, ROWS, COLUMNS)
    assert reading.visible[0].all()
    torch.testing.assert_close(reading.latents[0], latents[0])
    torch.testing.assert_close(reading.latents[1, :, :, :-2], latents[0, :, :, 2:])
    assert not reading.visible[1, ..., -2:].any()
    assert not reading.latents[1, ..., -2:].any()


@torch.no_grad()
def test_half_a_cell_of_motion_reaches_the_refolded_latents(reader: UnfoldReader) -> None:
    for module in (reader.unfolding, reader.refolding, reader.output):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    latents, depth = sources(reader)
    # Half a cell to the side is one whole fine bin: fine features move by exactly one.
    moved = reader(latents, depth, views(0.0), views(0.125), splat)
    still = reader(latents, depth, views(0.0), views(0.0), splat)
    torch.testing.assert_close(moved.fine.latents[..., :-1], still.fine.latents[..., 1:], atol=1e-5, rtol=1e-4)
    assert (moved.latents - still.latents).abs().max() > 0.01


@torch.no_grad()
def test_depth_that_is_missing_is_a_hole(reader: UnfoldReader) -> None:
    latents, depth = sources(reader)
    depth[:, :, : 6 * reader.source_factor] = torch.nan
    reading = reader(latents, depth, views(0.0), views(0.0), splat)
    assert not reading.visible[..., :6].any()
    assert reading.visible[..., 6:].all()
    assert torch.isfinite(reading.latents).all()


@torch.no_grad()
def test_a_cell_is_visible_when_more_than_a_fifth_of_its_bins_are(reader: UnfoldReader) -> None:
    latents, depth = sources(reader)
    depth[:, 1::2] = torch.nan
    depth[:, :, 1::2] = torch.nan
    depth[:, :2] = torch.nan
    # In the first row of cells no bin is left, in the others one of four. Small pixels cover their own bin only.
    near = views(0.0)
    reading = reader(latents, depth, near, near, splat)
    assert not reading.visible[:, :, 0].any()
    assert reading.visible[:, :, 1:].all()


@torch.no_grad()
def test_finer_samples_of_the_source_keep_an_edge_in_its_place() -> None:
    # A pole one pixel wide. A quarter of a metre to the side it moves by eight pixels, the wall behind it by two, which
    # leaves one unknown pixel. A coarse sample counts the wall beside the pole to the pole, and the whole bin is lost.
    depth = torch.full((1, ROWS * 4, COLUMNS * 4), 4.0)
    depth[:, :, 16] = 1.0
    for stride, seen in ((2, 0), (1, 1)):
        reader = UnfoldReader(channels=CHANNELS, features=4, unfold_width=8, refold_width=8, source_stride=stride)
        samples = reduce(depth, ROWS * reader.source_factor, COLUMNS * reader.source_factor)
        latents = torch.randn(1, CHANNELS, ROWS, COLUMNS)
        moved = reader(latents, samples, views(0.0), views(0.25), splat)
        assert (moved.fine.visible[..., 7] == seen).all()
        assert (moved.fine.depth[..., 4] == 1).all()
        assert torch.isfinite(moved.latents).all()


@torch.no_grad()
def test_the_scale_of_a_sample_does_not_depend_on_how_many_share_a_bin() -> None:
    for stride in (1, 2):
        torch.manual_seed(0)
        reader = UnfoldReader(
            channels=CHANNELS, features=4, unfold_width=8, refold_width=8, source_stride=stride, refold_blocks=0
        )
        seen = []
        reader.refolding.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        latents, depth = sources(reader)
        reader(latents, depth, views(0.0), views(0.0), splat)
        _, offset, scale, visible = seen[0].split([4, 2, 1, 1], dim=1)
        assert visible.all()
        assert scale.abs().max() < 1e-5
        assert offset.abs().max() < 0.51


def test_a_source_stride_that_does_not_divide_is_refused() -> None:
    for stride in (0, 3, 4):
        with pytest.raises(ValueError, match="source_stride: expected a divisor of fine_stride 2"):
            UnfoldReader(channels=CHANNELS, source_stride=stride)


@torch.no_grad()
def test_a_batch_of_clips_is_its_clips(reader: UnfoldReader) -> None:
    latents, depth = sources(reader, frames=4)
    depth = depth * torch.tensor([1.0, 1.2, 0.8, 1.0])[:, None, None]
    poses = views(0.0, 0.1, 0.2, 0.3).cam2world.unflatten(0, (2, 2))
    targets = views(0.05, 0.15).cam2world.expand(2, 2, 4, 4)
    batch = reader(
        latents.unflatten(0, (2, 2)), depth.unflatten(0, (2, 2)), views(0.0).at(poses), views(0.0).at(targets), splat
    )
    for index in range(2):
        own = slice(2 * index, 2 * index + 2)
        one = reader(latents[own], depth[own], views(0.0).at(poses[index]), views(0.0).at(targets[index]), splat)
        torch.testing.assert_close(batch.latents[index], one.latents, atol=1e-5, rtol=1e-4)
        assert torch.equal(batch.visible[index], one.visible)


@torch.no_grad()
def test_whole_tokens_stand_at_the_median_of_their_cell_unless_told(reader: UnfoldReader) -> None:
    latents, depth = sources(reader)
    # Three of each cell's four samples are closer.
    depth[:, 1::2] = 1.0
    depth[:, ::2, 1::2] = 1.0
    own = reader(latents, depth, views(0.0), views(0.0), splat)
    assert (own.coarse.depth == 1).all()
    told = reader(latents, depth, views(0.0), views(0.0), splat, coarse_depth=torch.full((1, ROWS, COLUMNS), 2.0))
    assert (told.coarse.depth == 2).all()


def test_it_learns_through_the_splat(reader: UnfoldReader) -> None:
    latents, depth = sources(reader, frames=2)
    latents.requires_grad_()
    target = torch.randn(1, CHANNELS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(3))
    optimiser = torch.optim.AdamW(reader.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        reading = reader(latents, depth, views(0.0, 0.2), views(0.1), splat)
        loss = ((reading.latents - target) * reading.visible).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert latents.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in reader.parameters())
    assert losses[-1] < 0.9 * losses[0]


def test_a_hole_looks_like_what_is_around_it(reader: UnfoldReader) -> None:
    plain = torch.ones(1, CHANNELS, ROWS, COLUMNS)
    holed = plain.clone()
    holed[:, :, 1:3, 2:5] = 0
    whole = reader.unfold(plain)
    assert torch.allclose(reader.unfold(holed), whole, atol=1e-5)
    # A single channel that happens to be zero is no hole.
    partly = plain.clone()
    partly[:, 0, 1, 2] = 0
    assert not torch.allclose(reader.unfold(partly), whole, atol=1e-3)
    # A frame of which nothing is held is no reason to fail.
    assert torch.isfinite(reader.unfold(torch.zeros_like(plain))).all()


def test_other_strides_and_a_round_trip(tmp_path: Path) -> None:
    reader = UnfoldReader(channels=3, stride=16, fine_stride=4, features=2, unfold_width=8, refold_width=8)
    assert reader.factor == 4
    assert reader.unfold(torch.zeros(2, 3, 2, 3)).shape == (2, 2, 8, 12)
    reader.save_pretrained(tmp_path)
    again = UnfoldReader.from_pretrained(tmp_path)
    latents = torch.randn(1, 3, 2, 3)
    assert torch.equal(reader.unfold(latents), again.unfold(latents))
    with pytest.raises(ValueError, match="fine_stride: expected a divisor of stride 4, got 3"):
        UnfoldReader(stride=4, fine_stride=3)
