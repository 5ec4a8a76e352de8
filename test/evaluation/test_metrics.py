import importlib.util

import cv2
import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from mirage_ros.evaluation import metrics
from mirage_ros.geometry import pinhole


@pytest.fixture(scope="module")
def wall():
    """A camera that slides along a textured wall two metres away: frames, depth and cameras."""
    poses = torch.eye(4, dtype=torch.float64).repeat(9, 1, 1)
    poses[:, 0, 3] = torch.arange(9) * 0.05
    camera = pinhole(48, 64, focal=60.0, cam2world=poses)
    points = camera.lift(torch.full((9, 48, 64), 2.0, dtype=torch.float64))
    generator = np.random.default_rng(0)
    waves = [
        np.sin(points.numpy() @ generator.normal(size=3) * scale + phase)
        for scale, phase in zip((7, 11, 17), (0, 1, 2), strict=True)
    ]
    rgb = np.stack([(wave * 0.5 + 0.5) * 255 for wave in waves], axis=-1).round().astype(np.uint8)
    return rgb, np.full((9, 48, 64), 2.0, np.float32), camera


def test_psnr_is_that_of_its_definition():
    generator = np.random.default_rng(1)
    one, other = generator.integers(0, 256, (2, 3, 16, 20, 3), dtype=np.uint8)
    mask = generator.random((3, 16, 20)) < 0.3
    error = ((one.astype(float) - other.astype(float)) ** 2)[mask].mean()
    assert metrics.masked_psnr(one, other, mask) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)


def test_equal_pictures_have_the_greatest_psnr_and_empty_masks_none(wall):
    rgb, _, _ = wall
    assert metrics.masked_psnr(rgb, rgb) == metrics.MAX_PSNR
    assert np.isnan(metrics.masked_psnr(rgb, rgb, np.zeros(rgb.shape[:3], bool)))


def test_ssim_agrees_with_torchmetrics_and_with_its_mask(wall):
    rgb, _, _ = wall
    noisy = np.clip(rgb.astype(int) + np.random.default_rng(2).integers(-20, 21, rgb.shape), 0, 255).astype(np.uint8)
    one, other = (torch.from_numpy(a).permute(0, 3, 1, 2).float() / 255 for a in (noisy, rgb))
    expected = float(structural_similarity_index_measure(one, other, data_range=1.0))
    assert metrics.masked_ssim(noisy, rgb) == pytest.approx(expected, abs=0.02)
    left = np.zeros(rgb.shape[:3], bool)
    left[:, :, :32] = True
    half = noisy.copy()
    half[:, :, :20] = rgb[:, :, :20]
    assert metrics.masked_ssim(half, rgb, left) > metrics.masked_ssim(half, rgb, ~left)


def test_depth_errors_of_a_known_factor():
    truth = np.full((2, 4, 5), 2.0)
    truth[0, 0] = 0
    everywhere = np.ones(truth.shape, bool)
    result = metrics.depth_errors(truth * 1.1, truth, everywhere)
    assert result["depth_abs_rel"] == pytest.approx(0.1)
    assert result["depth_delta"] == 1.0
    assert metrics.depth_errors(truth * 1.3, truth, everywhere)["depth_delta"] == 0.0
    holes = truth * 1.1
    holes[1, :2], holes[1, 2] = np.nan, 0
    assert metrics.depth_errors(holes, truth, everywhere)["depth_abs_rel"] == pytest.approx(0.1)
    assert np.isnan(metrics.depth_errors(holes, truth, ~everywhere)["depth_abs_rel"])


def test_what_the_source_saw_is_visible_and_what_came_into_view_is_not(wall):
    _, depth, camera = wall
    seen = metrics.seen_by_first(depth, camera)
    assert seen[0].all()
    # 0.4 m at 2 m and 60 px: 12 columns are new on the right.
    assert seen[8, :, :51].all()
    assert not seen[8, :, 53:].any()


def test_something_in_front_hides_what_is_behind(wall):
    _, depth, camera = wall
    hidden = depth.copy()
    hidden[0, :, :20] = 1.0
    assert not metrics.seen_by_first(hidden, camera)[1, :, :15].any()


def test_true_frames_agree_in_space_and_still_ones_do_not(wall):
    rgb, depth, camera = wall
    true = metrics.reprojection_errors(rgb, depth, camera)
    assert true["reprojection_depth"] < 1e-6
    still = metrics.reprojection_errors(np.repeat(rgb[:1], 9, axis=0), depth, camera)
    assert still["reprojection_colour"] > 3 * true["reprojection_colour"]
    wrong = metrics.reprojection_errors(rgb, depth * np.linspace(1, 2, 9)[:, None, None], camera)
    assert wrong["reprojection_depth"] > metrics.SAME_SURFACE
    assert np.isnan(metrics.reprojection_errors(rgb[:2], depth[:2], camera[:2])["reprojection_colour"])


def test_a_steady_film_has_little_flow_error_and_flicker_much(wall):
    rgb, _, _ = wall
    steady = metrics.flow_errors(rgb)
    assert steady["cycle"] < 0.5
    flicker = rgb.copy()
    flicker[::2] = 255 - flicker[::2]
    assert metrics.flow_errors(flicker)["photometric"] > 5 * steady["photometric"]
    assert np.isnan(metrics.flow_errors(rgb[:1])["cycle"])


def test_right_frames_have_right_cameras_and_shifted_ones_their_shift(wall):
    rgb, depth, camera = wall
    assert metrics.camera_errors(rgb, rgb, depth, camera)["translation"] < 0.01
    late = metrics.camera_errors(rgb[2:], rgb[:-2], depth[:-2], camera[:-2])
    assert late["translation"] == pytest.approx(0.1, abs=0.03)
    assert np.isnan(metrics.camera_errors(rgb, rgb, np.zeros_like(depth), camera)["rotation"])


def test_shapes_that_differ_are_refused(wall):
    rgb, _, _ = wall
    with pytest.raises(ValueError, match="frames: expected one shape"):
        metrics.masked_psnr(rgb, rgb[1:])


class RandomFeatures(torch.nn.Module):
    """The learned distance's arithmetic over one random layer: unit features, squared difference, mean."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 8, 5, stride=2)
        torch.nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, a, b, normalize=False):
        assert normalize
        assert a.shape == b.shape == (1, 3, 32, 48)
        assert 0 <= a.min() <= a.max() <= 1
        first, second = (torch.nn.functional.normalize(self.layer(image), dim=1) for image in (a, b))
        return (first - second).square().sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)


def test_the_learned_distance_is_zero_for_the_truth_and_grows_with_blur():
    truth = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    slight, strong = (np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in truth]) for sigma in (0.4, 2.0))
    distance = metrics.Lpips(RandomFeatures())
    assert distance(truth, truth) == 0
    assert 0 < distance(slight, truth) < distance(strong, truth)
    with pytest.raises(ValueError, match="frames"):
        distance(truth[:2], truth)


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_its_network_the_learned_distance_says_what_to_do():
    with pytest.raises(RuntimeError, match="lpips: expected torchvision .* pip install torchvision"):
        metrics.Lpips()


def test_flicker_is_of_what_changes_and_not_of_the_camera():
    count, height, width = 4, 24, 36
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = torch.arange(count) * 0.05
    camera = pinhole(height, width, focal=30.0, cam2world=poses)
    depth = np.full((count, height, width), 2.0)
    x = camera.lift(torch.from_numpy(depth))[..., 0].numpy()
    steady = np.repeat((120 + 60 * np.sin(4 * x))[..., None], 3, axis=-1).round().astype(np.uint8)
    left = np.zeros(depth.shape, dtype=bool)
    left[:, :, : width // 2] = True
    masks = {"left": left, "right": ~left, "none": np.zeros_like(left)}
    calm = metrics.flicker(steady, depth, camera, masks)
    assert max(calm["left"], calm["right"]) < 1
    assert np.isnan(calm["none"])
    nervous = steady.copy()
    nervous[1::2, :, width // 2 + 4 :] += 20
    shaken = metrics.flicker(nervous, depth, camera, masks)
    assert shaken["left"] == calm["left"]
    assert 8 < shaken["right"] < 20
