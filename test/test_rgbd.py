"""The one frame class: checks, indexing and stacking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame


def camera(batch=()):
    one = pinhole(6, 8, vertical_fov=0.9)
    return one.at(torch.eye(4, dtype=one.cam2world.dtype).expand(*batch, 4, 4).clone())


def frame(batch=(), stamp=0, depth=True):
    rgb = np.arange(np.prod((*batch, 6, 8, 3)), dtype=np.int64).astype(np.uint8).reshape(*batch, 6, 8, 3)
    return RgbdFrame(rgb, np.ones((*batch, 6, 8), np.float32) if depth else None, camera(batch), stamp)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_batches_like_its_camera(batch):
    assert frame(batch).rgb.shape == (*batch, 6, 8, 3)
    with pytest.raises(ValueError, match=r"rgb: expected .*, got"):
        RgbdFrame(np.zeros((*batch, 6, 7, 3), np.uint8), None, camera(batch))
    with pytest.raises(ValueError, match=r"depth: expected .* float32, got .* float64"):
        RgbdFrame(np.zeros((*batch, 6, 8, 3), np.uint8), np.zeros((*batch, 6, 8)), camera(batch))


def test_indexing_takes_every_field_of_the_same_frame():
    whole = frame((3,), stamp=np.array([5, 6, 7], np.int64))
    assert len(whole) == 3
    second = whole[1]
    assert second.stamp == 6
    assert isinstance(second.stamp, int)
    assert (second.rgb == whole.rgb[1]).all()
    assert second.camera.batch_shape == ()
    assert [one.stamp for one in whole] == [5, 6, 7]
    assert whole[1:].rgb.shape[0] == 2
    with pytest.raises(IndexError, match="single"):
        second[0]
    with pytest.raises(ValueError, match="stamp: expected"):
        frame((3,), stamp=np.zeros(2, np.int64))


def test_stacking_is_the_inverse_of_iterating():
    whole = frame((3,), stamp=np.array([5, 6, 7], np.int64))
    again = RgbdFrame.stacked(list(whole))
    assert (again.rgb == whole.rgb).all()
    assert (again.depth == whole.depth).all()
    assert again.stamp.tolist() == [5, 6, 7]
    with pytest.raises(ValueError, match="at least one"):
        RgbdFrame.stacked([])
    with pytest.raises(ValueError, match="depth in all or none"):
        RgbdFrame.stacked([frame(), frame(depth=False)])


def test_an_imagined_frame_says_what_was_known():
    plain = frame((2,))
    visible = np.zeros((2, 6, 8), np.float32)
    one = ImaginedFrame(plain.rgb, plain.depth, plain.camera, visible=visible, coverage=np.zeros(2, np.float32))
    assert one[1].visible.shape == (6, 8)
    with pytest.raises(ValueError, match="visible: expected"):
        ImaginedFrame(plain.rgb, plain.depth, plain.camera, visible=visible[:1], coverage=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="coverage: expected"):
        ImaginedFrame(plain.rgb, plain.depth, plain.camera, visible=visible, coverage=np.zeros(1, np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rgb": [[0]]}, "rgb: expected a numpy array .* got list"),
        ({"depth": torch.ones(6, 8)}, "depth: expected a numpy array .* got Tensor"),
        ({"camera": None}, "camera: expected a Camera, got NoneType"),
        ({"stamp": "now"}, "stamp: expected whole nanoseconds, got 'now'"),
        ({"stamp": 1.5}, "stamp: expected whole nanoseconds, got 1.5"),
    ],
)
def test_what_is_no_array_camera_or_stamp_is_named(change, message):
    one = frame()
    given = {"rgb": one.rgb, "depth": one.depth, "camera": one.camera, "stamp": 0}
    with pytest.raises(ValueError, match=message):
        RgbdFrame(**(given | change))
    assert one


def test_imagined_frames_follow_each_other_and_keep_a_doubt_that_all_have():
    camera = pinhole(2, 3, focal=2.0, cam2world=torch.eye(4, dtype=torch.float64).repeat(2, 1, 1))
    pixels = np.ones((2, 2, 3), np.float32)

    def imagined(value: float, uncertainty: np.ndarray | None) -> ImaginedFrame:
        return ImaginedFrame(
            rgb=np.full((2, 2, 3, 3), value, np.uint8),
            depth=value * pixels,
            visible=pixels,
            coverage=pixels[:, 0, 0],
            camera=camera,
            uncertainty=uncertainty,
        )

    sure, unsure = imagined(1, None), imagined(2, pixels)
    assert ImaginedFrame.joined([sure, unsure]).depth[:, 0, 0].tolist() == [1, 1, 2, 2]
    assert ImaginedFrame.joined([sure, unsure]).uncertainty is None
    assert ImaginedFrame.joined([unsure, unsure])[:3].uncertainty.shape == (3, 2, 3)
