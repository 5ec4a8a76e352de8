"""The contract of a clip, and its mirror image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rgb", np.zeros((6, 32, 48, 3), np.float32)),
        ("depth", np.zeros((6, 32, 47), np.float32)),
        ("depth", np.zeros((6, 32, 48), np.float64)),
        ("labels", np.full((6, 32, 48), 3, np.uint8)),
        ("fps", 0.0),
    ],
)
def test_fields_of_a_wrong_kind_are_refused_by_name(new_clip, field, value):
    with pytest.raises(ValueError, match=f"^{field}:"):
        replace(new_clip(), **{field: value})


def test_keep_leaves_out_what_moves_the_sky_and_what_has_no_depth(new_clip):
    clip = new_clip()
    clip.depth[0, 30, 0] = np.nan
    assert not clip.keep[clip.labels != 0].any()
    assert not clip.keep[0, 30, 0]
    assert clip.keep.sum() == (clip.labels == 0).sum() - 1


def test_the_sky_is_too_far_to_be_sensed(new_clip):
    clip = new_clip()
    clip.depth[0, 30, 0] = 0
    np.testing.assert_array_equal(np.isposinf(clip.sensed), clip.labels == 2)
    np.testing.assert_array_equal(clip.sensed[clip.labels != 2], clip.depth[clip.labels != 2])


def test_a_mirrored_clip_sees_the_mirrored_world(new_clip):
    clip = new_clip(moving=False)
    mirrored = clip.mirrored()
    there = clip.camera.lift(torch.from_numpy(clip.depth)).flip(2)
    here = mirrored.camera.lift(torch.from_numpy(mirrored.depth))
    assert torch.allclose(here, there * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-5)
    assert np.array_equal(mirrored.rgb, clip.rgb[:, :, ::-1])
    assert np.array_equal(mirrored.mirrored().rgb, clip.rgb)


def test_a_window_keeps_its_pixels_places(new_clip):
    clip = new_clip(moving=False)
    window = clip.cropped(8, 4, 16, 24)
    whole = clip.camera.lift(torch.from_numpy(clip.depth))[:, 8:24, 4:28]
    assert torch.allclose(window.camera.lift(torch.from_numpy(window.depth)), whole, atol=1e-5)
    with pytest.raises(ValueError, match="window"):
        clip.cropped(20, 0, 16, 24)
