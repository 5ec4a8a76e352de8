import numpy as np

from mirage_ros.evaluation.baselines.moved_pixels import GREY, moved_pixels
from mirage_ros.evaluation.metrics import masked_psnr


def test_true_depth_brings_true_pixels_over(case):
    frames, later = moved_pixels(case), slice(1, None)
    assert np.array_equal(frames[0], case.clip.rgb[0])
    assert (frames[later][~case.visible[later]] == GREY).all()
    assert case.visible[later].any()
    copied = np.repeat(case.clip.rgb[:1], len(case.clip), axis=0)
    brought, stayed = (masked_psnr(rgb[later], case.clip.rgb[later], case.visible[later]) for rgb in (frames, copied))
    assert brought > stayed + 6


def test_a_gain_of_the_camera_is_fitted_channel_by_channel(case):
    darker = (case.clip.rgb * np.array([0.5, 0.7, 0.6])).astype(np.uint8)
    darker[0] = case.clip.rgb[0]
    object.__setattr__(case.clip, "rgb", darker)
    plain, fitted = (
        masked_psnr(moved_pixels(case, fit_gain=fit)[1:], darker[1:], case.visible[1:]) for fit in (False, True)
    )
    assert fitted > plain + 6
