"""Bringing depth of other packages back to the frames' pixels."""

from __future__ import annotations

import torch

from mirage_ros.geometry import pinhole
from mirage_ros.perception.map_anything import resampled


def test_depth_of_a_scaled_and_cropped_view_lands_on_its_pixels() -> None:
    camera = pinhole(64, 96, vertical_fov=1.0)
    true = 1 + torch.rand(64, 96, generator=torch.Generator().manual_seed(0))
    # Enlarged twice, then 8 pixels cut off each side of the enlarged picture.
    view = camera.resized(128, 192).cropped(8, 8, 112, 176)
    depth = true.repeat_interleave(2, 0).repeat_interleave(2, 1)[8:120, 8:184]
    found = resampled(depth, view.intrinsics, camera)
    torch.testing.assert_close(found[4:60, 4:92], true[4:60, 4:92])
    assert not found[:4].any()
    assert not found[:, 92:].any()
