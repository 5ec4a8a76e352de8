"""Measures of imagined frames against true ones, each one function of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.images import as_images
from mirage_ros.visibility import pixels_of, sample_pixels, sees

Frames = NDArray[np.uint8]
# On a scale of 0 to 255, means of pixels too.
Colours = NDArray[np.uint8 | np.float32]
Mask = NDArray[np.bool_]
Depth = NDArray[np.floating]

# PSNR of equal pictures is infinite; averages need a number.
MAX_PSNR = 100.0
# Of SSIM: the Gaussian window of Wang et al. (2004), 11 pixels, deviation 1.5, on 0..1.
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
# Two depths within this share are one surface.
SAME_SURFACE = 0.05
# Frames from one that is lifted to the one that it is compared with.
GAP = 4


def masked_psnr(frames: Colours, truth: Colours, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB of (T, H, W, 3) frames over all pixels, or those of a mask (T, H, W).

    One mean squared error over everything, not a mean of each frame's ratio: a frame with few masked pixels weighs
    little. At most `MAX_PSNR`; NaN if the mask is empty.

    Raises:
        ValueError: shapes differ.
    """
    check_frames(frames, truth, mask)
    ours, theirs = (values if mask is None else values[mask] for values in (frames, truth))
    if ours.size == 0:
        return float("nan")
    if np.array_equal(ours, theirs):
        return MAX_PSNR
    # Here and below, as it takes seconds to import, with all of its metrics: a command's --help does not wait for it.
    from torchmetrics.functional.image import peak_signal_noise_ratio

    score = peak_signal_noise_ratio(torch.from_numpy(ours).float(), torch.from_numpy(theirs).float(), data_range=255.0)
    return min(float(score), MAX_PSNR)


def masked_ssim(frames: Frames, truth: Frames, mask: Mask | None = None) -> float:
    """Structural similarity of (T, H, W, 3) frames, averaged over all pixels or those of a mask (T, H, W).

    Raises:
        ValueError: shapes differ.
    """
    check_frames(frames, truth, mask)
    from torchmetrics.functional.image import structural_similarity_index_measure

    result = structural_similarity_index_measure(
        as_images(frames),
        as_images(truth),
        kernel_size=SSIM_WINDOW,
        sigma=SSIM_SIGMA,
        data_range=1.0,
        return_full_image=True,
        reduction="none",
    )
    image = result[1].mean(dim=1).numpy()
    return float(image.mean() if mask is None else image[mask].mean() if mask.any() else np.nan)


class Lpips:
    """Learned perceptual distance (Zhang et al., arXiv 1801.03924); 0 for the same pictures.

    Args:
        network: (N, 3, H, W) float32 twice, in 0..1 with normalize=True, to N distances; by default torchmetrics'
            over AlexNet, loaded once, which torchvision downloads on its first use.

    Raises:
        RuntimeError: the default network cannot be had; says what to do.
    """

    def __init__(self, network: Callable[..., torch.Tensor] | None = None) -> None:
        if network is None:
            try:
                from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

                network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
            except Exception as error:
                # A missing package, a failed download and a broken file all mean the same to the user.
                raise RuntimeError(
                    "lpips: expected torchvision with the weights of AlexNet, which cannot be had here "
                    f"({type(error).__name__}: {error}); pip install torchvision, and let it download them once "
                    "(or copy them to torch.hub's folder), or leave LPIPS out"
                ) from error
        self._network = network

    @torch.no_grad()
    def __call__(self, frames: Frames, truth: Frames) -> float:
        """Mean distance of (T, H, W, 3) uint8 frames from the truth, whole pictures.

        Raises:
            ValueError: shapes differ.
        """
        check_frames(frames, truth, None)
        pairs = zip(as_images(frames).split(1), as_images(truth).split(1), strict=True)
        # Frame by frame: a long walk at full size would not fit at once.
        return float(np.mean([float(self._network(*pair, normalize=True)) for pair in pairs]))


def depth_errors(depth: Depth, truth: NDArray[np.floating], mask: Mask) -> dict[str, float]:
    """Errors of metric depth (T, H, W) in metres where it and the truth are valid (finite and above 0), on a mask.

    Returns:
        depth_abs_rel: mean |d - t| / t; depth_delta: share with max(d / t, t / d) < 1.25. NaN where nothing can be
        compared.
    """
    both = mask & np.isfinite(truth) & (truth > 0) & np.isfinite(depth) & (depth > 0)
    if not both.any():
        return dict.fromkeys(("depth_abs_rel", "depth_delta"), float("nan"))
    ours, theirs = depth[both].astype(np.float64), truth[both].astype(np.float64)
    return {
        "depth_abs_rel": float((np.abs(ours - theirs) / theirs).mean()),
        "depth_delta": float((np.maximum(ours / theirs, theirs / ours) < 1.25).mean()),
    }


def seen_by_first(depth: Depth, camera: Camera) -> Mask:
    """Which pixels (T, H, W) of each frame the first frame shows too, by true depth (T, H, W) in metres.

    Such a pixel's place projects into the first frame onto a surface of the same depth.
    """
    metres = torch.from_numpy(np.asarray(depth, dtype=np.float64))
    camera = camera.to(dtype=torch.float64)
    seen = sees(camera[0], metres[0], camera.lift(metres).reshape(-1, 3), SAME_SURFACE)
    return seen.reshape(metres.shape).numpy()


def reprojection_errors(frames: Frames, depth: Depth, camera: Camera) -> dict[str, float]:
    """How well imagined frames agree in three dimensions, without any truth.

    Each frame is lifted by its own depth and compared with the frame four later, where that one sees the same place.

    Returns:
        reprojection_depth: median relative difference of depth; reprojection_colour: mean absolute difference of
        colour, 0..255, where the depths agree within 5 %. NaN where nothing can be compared.
    """
    metres = torch.from_numpy(np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float64))
    camera = camera.to(dtype=torch.float64)
    pictures = torch.from_numpy(frames).double()
    errors, colours = [torch.zeros(0)], [torch.zeros(0)]
    for now in range(len(frames) - GAP):
        later = now + GAP
        pixel, distance = pixels_of(camera[later], camera[now].lift(metres[now]).reshape(-1, 3))
        difference = (distance / sample_pixels(metres[later], pixel) - 1).abs()
        errors.append(difference[difference.isfinite()])
        agree = difference < SAME_SURFACE
        picture = pictures[later].reshape(-1, 3)[pixel[agree]]
        colours.append((picture - pictures[now].reshape(-1, 3)[agree]).abs().mean(-1))
    every, agreed = torch.cat(errors), torch.cat(colours)
    return {
        "reprojection_depth": float(every.median()) if len(every) else float("nan"),
        "reprojection_colour": float(agreed.mean()) if len(agreed) else float("nan"),
    }


def flicker(frames: Frames, depth: Depth, camera: Camera, masks: Mapping[str, Mask]) -> dict[str, float]:
    """How much a film changes where the scene does not: mean difference to the frame before, warped by true depth.

    Args:
        frames: (T, H, W, 3) uint8.
        depth: (T, H, W) true metres.
        camera: (T,).
        masks: (T, H, W) pixels of the later frame that count, by name.

    Returns:
        of each mask the mean absolute difference of colour, 0..255, over pixels that both frames see; NaN without any.
        True frames flicker, too, by sampling.
    """
    metres, camera = torch.from_numpy(np.asarray(depth, dtype=np.float64)), camera.to(dtype=torch.float64)
    differences: dict[str, list[torch.Tensor]] = {name: [] for name in masks}
    for later in range(1, len(frames)):
        points = camera[later].lift(metres[later]).reshape(-1, 3)
        both = sees(camera[later - 1], metres[later - 1], points, SAME_SURFACE).reshape(metres.shape[1:])
        pixels, _ = camera[later - 1].project(points)
        place = pixels.nan_to_num().reshape(*metres.shape[1:], 2).float() - 0.5
        warped = cv2.remap(frames[later - 1], place[..., 0].numpy(), place[..., 1].numpy(), cv2.INTER_LINEAR)
        change = torch.from_numpy(np.abs(warped.astype(np.float64) - frames[later]).mean(axis=-1))
        for name, mask in masks.items():
            differences[name].append(change[both & torch.from_numpy(mask[later])])
    return {name: float(torch.cat(values).mean()) if values else float("nan") for name, values in differences.items()}


def flow_errors(frames: Frames) -> dict[str, float]:
    """Unsteadiness of a film by dense optical flow (OpenCV's DIS), without any truth.

    Returns:
        photometric: mean absolute difference, 0..255, of a frame and the next one warped back onto it; cycle: mean
        distance in pixels between a pixel and where flow there and back leads. NaN for one frame.
    """
    photometric, cycle = [], []
    for one, other in pairwise(frames):
        there, back = _flow(one, other), _flow(other, one)
        rows, columns = np.mgrid[: one.shape[0], : one.shape[1]].astype(np.float32)
        x, y = columns + there[..., 0], rows + there[..., 1]
        inside = (x >= 0) & (x <= one.shape[1] - 1) & (y >= 0) & (y <= one.shape[0] - 1)
        if not inside.any():
            continue
        warped = cv2.remap(other, x, y, cv2.INTER_LINEAR)
        returned = cv2.remap(back, x, y, cv2.INTER_LINEAR) + there
        photometric.append(np.abs(warped.astype(float) - one.astype(float)).mean(-1)[inside].mean())
        cycle.append(np.linalg.norm(returned, axis=-1)[inside].mean())
    if not photometric:
        return dict.fromkeys(("photometric", "cycle"), float("nan"))
    return {"photometric": float(np.mean(photometric)), "cycle": float(np.mean(cycle))}


def camera_errors(frames: Frames, truth: Frames, depth: Depth, camera: Camera) -> dict[str, float]:
    """How far the cameras of frames (T, H, W, 3) are from the commanded ones, those of the true frames.

    Each imagined frame is matched to the true one by optical flow; true depth gives places in the world, and PnP with
    RANSAC the pose from which the imagined frame shows them.

    Returns:
        rotation: median degrees; translation: median metres, over the frames for which a pose was found; NaN for none.
    """
    rotations, translations = [], []
    height, width = frames.shape[1:3]
    rows, columns = (grid.ravel() for grid in np.mgrid[2 : height - 2 : 4, 2 : width - 2 : 4])
    # OpenCV counts pixels from their centres.
    matrices = camera.intrinsics.expand(len(frames), 3, 3).double().numpy().copy()
    matrices[:, :2, 2] -= 0.5
    for ours, theirs, image, intrinsics in zip(frames, truth, depth, matrices, strict=True):
        moved, metres = _flow(theirs, ours)[rows, columns], image[rows, columns]
        usable = np.isfinite(metres) & (metres > 0)
        if usable.sum() < 12:
            continue
        pixels = np.stack([columns, rows], axis=-1)[usable].astype(np.float64)
        points = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(intrinsics).T
        points *= metres[usable, None]
        found, turn, shift, _ = cv2.solvePnPRansac(
            points, pixels + moved[usable], intrinsics, None, reprojectionError=1.5, iterationsCount=100
        )
        if found:
            rotations.append(float(np.degrees(np.linalg.norm(turn))))
            # The turned centre is as far away as the centre.
            translations.append(float(np.linalg.norm(shift)))
    if not rotations:
        return dict.fromkeys(("rotation", "translation"), float("nan"))
    return {"rotation": float(np.median(rotations)), "translation": float(np.median(translations))}


def _flow(first: Frames, second: Frames) -> NDArray[np.float32]:
    """(H, W, 2) pixels from the first picture (H, W, 3) to the second."""
    grey, other = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second))
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(solver.calc(grey, other, np.zeros((*first.shape[:2], 2), np.float32)), dtype=np.float32)


def check_frames(frames: Colours, truth: Colours, mask: Mask | None) -> None:
    """Refuse frames (T, H, W, 3), truth and mask (T, H, W) that do not fit each other.

    Raises:
        ValueError: shapes differ.
    """
    if frames.shape != truth.shape or (mask is not None and mask.shape != frames.shape[:-1]):
        raise ValueError(
            f"frames: expected one shape, got {frames.shape} against {truth.shape}"
            + ("" if mask is None else f" with a mask {mask.shape}")
        )
