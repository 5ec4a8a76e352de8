"""Alignment: scale from disturbed depth, refusals, and what is used instead."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mirage_ros.bench.perception import TrueClip
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames, SensorDepth
from mirage_ros.perception.scale_alignment import AlignedDepth, fit


def scene(seed: int) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return 1 + 4 * torch.rand(32, 48, generator=generator), generator


@given(scale=st.floats(0.05, 20), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_recovers_scale_among_outliers_and_noise(scale: float, seed: int) -> None:
    reference, generator = scene(seed)
    estimate = reference * scale * (1 + 0.05 * torch.randn(reference.shape, generator=generator))
    outlier = torch.rand(reference.shape, generator=generator) < 0.3
    estimate = torch.where(outlier, estimate * (1.2 + 2 * torch.rand(reference.shape, generator=generator)), estimate)
    found = fit(estimate, reference)
    assert not found.refused
    assert found.apply(torch.tensor([scale])).item() == pytest.approx(1, rel=0.01)


@given(scale=st.floats(0.2, 5), shift=st.floats(-0.1, 0.5), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_recovers_scale_and_shift(scale: float, shift: float, seed: int) -> None:
    reference, generator = scene(seed)
    estimate = scale / (1 / reference - shift * 0.5 + 0.1)
    outlier = torch.rand(reference.shape, generator=generator) < 0.3
    found = fit(torch.where(outlier, estimate * 2, estimate), reference, "scale-shift")
    assert not found.refused
    torch.testing.assert_close(found.apply(estimate)[~outlier], reference[~outlier], rtol=0.01, atol=0)


def test_refuses_two_percent_of_overlap() -> None:
    reference, generator = scene(0)
    seen = torch.rand(reference.shape, generator=generator) < 0.02
    assert "overlap" in fit(reference * 2, torch.where(seen, reference, 0.0)).refused


def test_refuses_what_does_not_fit() -> None:
    reference, generator = scene(0)
    assert fit(torch.rand(reference.shape, generator=generator) * 10 + 0.1, reference).refused


def test_refuses_other_shapes_and_modes() -> None:
    with pytest.raises(ValueError, match="reference"):
        fit(torch.ones(3, 4), torch.ones(4, 3))
    with pytest.raises(ValueError, match="mode"):
        fit(torch.ones(3, 4), torch.ones(3, 4), "affine")  # type: ignore[arg-type]


def test_frames_take_the_scale_of_the_memory(still: TrueClip, remembered: LatentMemory) -> None:
    frames = DecodedFrames(still.rgb[9:12], still.camera[9:12], 9)
    found = AlignedDepth(SensorDepth(still.depth * 0.4)).estimate(frames, remembered)
    assert not found.notes
    seen = still.depth[9:12] > 0
    ratio = (found.depth / still.depth[9:12])[seen].median().item()
    assert ratio == pytest.approx(1, rel=0.01)


def test_a_frame_without_overlap_takes_the_scale_of_the_others(still: TrueClip, remembered: LatentMemory) -> None:
    depth = still.depth * 0.4
    depth[10] = torch.rand(depth[10].shape, generator=torch.Generator().manual_seed(0)) * 20 + 0.1
    found = AlignedDepth(SensorDepth(depth)).estimate(DecodedFrames(still.rgb[9:12], still.camera[9:12], 9), remembered)
    assert "1 of 3 frames" in found.notes[0]
    assert "others of the chunk" in found.notes[0]
    torch.testing.assert_close(found.depth[1], depth[10] / 0.4, rtol=0.02, atol=0)


def test_without_any_fit_the_memory_gives_depth_then_the_last_fit(still: TrueClip, remembered: LatentMemory) -> None:
    good, frames = still.depth * 0.4, DecodedFrames(still.rgb[9:12], still.camera[9:12], 9)
    bad = torch.rand(good.shape, generator=torch.Generator().manual_seed(0)) * 20 + 0.1
    aligned = AlignedDepth(SensorDepth(bad))
    found = aligned.estimate(frames, remembered)
    assert "the memory's instead" in found.notes[-1]
    known = found.depth > 0
    assert known.float().mean() > 0.9
    assert (found.depth / still.depth[9:12])[known].log().abs().median() < 0.02
    aligned.estimator = SensorDepth(good)
    aligned.estimate(frames, remembered)
    aligned.estimator = SensorDepth(bad)
    assert "an earlier chunk" in aligned.estimate(frames, remembered).notes[-1]


def test_relative_depth_needs_a_memory(still: TrueClip) -> None:
    with pytest.raises(ValueError, match="memory"):
        AlignedDepth(SensorDepth(still.depth), metric=False).estimate(
            DecodedFrames(still.rgb[:2], still.camera[:2]), LatentMemory(3)
        )
