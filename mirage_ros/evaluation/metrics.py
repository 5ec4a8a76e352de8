"""Measures of imagined frames against true ones, each one function of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from mirage_ros.geometry import Camera, invert

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Depth = NDArray[np.floating]

# PSNR of equal pictures is infinite; averages need a number.
MAX_PSNR = 100.0
# Of SSIM: the Gaussian window of Wang et al. (2004), 11 pixels, deviation 1.5, on 0..1.
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
# Two depths within this share are one surface.
SAME_SURFACE = 0.05


def masked_psnr(frames: Frames, truth: Frames, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all pixels of all frames, or those of a mask.

    One mean squared error over everything, not a mean of each frame's ratio: a frame with few masked pixels weighs
    little.

    Args:
        frames, truth: (T, H, W, 3).
        mask: (T, H, W).

    Returns:
        dB, at most `MAX_PSNR`; NaN if the mask is empty.

    Raises:
        ValueError: shapes differ.
    """
    _check(frames, truth, mask)
    ours, theirs = (values if mask is None else values[mask] for values in (frames, truth))
    if ours.size == 0:
        return float("nan")
    if np.array_equal(ours, theirs):
        return MAX_PSNR
    score = peak_signal_noise_ratio(torch.from_numpy(ours).float(), torch.from_numpy(theirs).float(), data_range=255.0)
    return min(float(score), MAX_PSNR)


def masked_ssim(frames: Frames, truth: Frames, mask: Mask | None = None) -> float:
    """Structural similarity, averaged over all pixels or those of a mask.

    Args:
        frames, truth: (T, H, W, 3), at least 11 pixels along each side.
        mask: (T, H, W).

    Raises:
        ValueError: shapes differ.
    """
    _check(frames, truth, mask)
    ours, theirs = (torch.from_numpy(values).permute(0, 3, 1, 2).float() / 255 for values in (frames, truth))
    result = structural_similarity_index_measure(
        ours,
        theirs,
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
        _check(frames, truth, None)
        ours, theirs = (torch.from_numpy(values).permute(0, 3, 1, 2).float() / 255 for values in (frames, truth))
        # Frame by frame: a long walk at full size would not fit at once.
        return float(
            np.mean([float(self._network(a[None], b[None], normalize=True)) for a, b in zip(ours, theirs, strict=True)])
        )


def depth_errors(depth: Depth, truth: NDArray[np.floating], mask: Mask | None = None) -> dict[str, float]:
    """Errors of metric depth where both are valid.

    Args:
        depth, truth: (T, H, W) metres; 0 and non-finite values are invalid.
        mask: (T, H, W).

    Returns:
        abs_rel: mean |d - t| / t; delta: share with max(d / t, t / d) < 1.25; valid: share of the pixels with a true
        depth for which there is one. NaN where nothing can be compared.
    """
    measured = np.isfinite(truth) & (truth > 0) & (True if mask is None else mask)
    both = measured & np.isfinite(depth) & (depth > 0)
    if not both.any():
        return {"abs_rel": float("nan"), "delta": float("nan"), "valid": 0.0 if measured.any() else float("nan")}
    ours, theirs = depth[both].astype(np.float64), truth[both].astype(np.float64)
    return {
        "abs_rel": float((np.abs(ours - theirs) / theirs).mean()),
        "delta": float((np.maximum(ours / theirs, theirs / ours) < 1.25).mean()),
        "valid": float(both.sum() / measured.sum()),
    }


def seen_before(depth: Depth, camera: Camera, sources: list[int]) -> Mask:
    """Which pixels of each frame were visible from source frames, by true depth.

    Args:
        depth: (T, H, W) true metres.
        camera: (T,).
        sources: indices of the source frames.

    Returns:
        (T, H, W): the pixel's place projects into a source frame onto a surface of the same depth.
    """
    metres = torch.from_numpy(np.asarray(depth, dtype=np.float64))
    points = camera.to(dtype=torch.float64).lift(metres)
    seen = torch.zeros(metres.shape, dtype=torch.bool)
    for source in sources:
        sampled, distance = _sample(metres[source], camera[source].to(dtype=torch.float64), points)
        seen |= (distance / sampled - 1).abs() < SAME_SURFACE
    return seen.numpy()


def _sample(image: torch.Tensor, camera: Camera, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values (T, H, W) of an image (H, W) or (H, W, 3) where points (T, H, W, 3) fall, NaN outside; and their depth."""
    pixels, distance = camera.project(points.reshape(-1, 3))
    height, width = image.shape[:2]
    inside = (distance > 0) & (pixels >= 0).all(-1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    index = torch.where(inside, pixels[:, 1].nan_to_num().long() * width + pixels[:, 0].nan_to_num().long(), 0)
    values = image.reshape(height * width, -1)[index].to(points.dtype)
    values = torch.where(inside[:, None], values, torch.nan)
    return values.squeeze(-1).reshape(*points.shape[:-1], *image.shape[2:]), distance.reshape(points.shape[:-1])


def reprojection_error(frames: Frames, depth: Depth, camera: Camera, gap: int = 4) -> dict[str, float]:
    """How well imagined frames agree in three dimensions, without any truth.

    Each frame is lifted by its own depth and compared with the frame `gap` later, where that one sees the same place.

    Returns:
        depth: median relative difference of depth; colour: mean absolute difference of colour, 0..255, where the depths
        agree; agree: share of the projected pixels whose depths agree within 5 %. NaN for too short a clip.
    """
    metres = torch.from_numpy(np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float64))
    camera = camera.to(dtype=torch.float64)
    errors, colours, agreeing, compared = [], [], 0, 0
    for index in range(len(frames) - gap):
        points = camera[index].lift(metres[index])[None]
        other, distance = _sample(metres[index + gap], camera[index + gap], points)
        difference = (distance / other - 1).abs()[0]
        valid = difference.isfinite()
        agree = valid & (difference < SAME_SURFACE)
        picture, _ = _sample(torch.from_numpy(frames[index + gap]).double(), camera[index + gap], points)
        gap_colour = (picture[0] - torch.from_numpy(frames[index]).double()).abs().mean(-1)
        errors.append(difference[valid])
        colours.append(gap_colour[agree])
        agreeing, compared = agreeing + int(agree.sum()), compared + int(valid.sum())
    if not compared:
        return {"depth": float("nan"), "colour": float("nan"), "agree": float("nan")}
    every = torch.cat(colours)
    return {
        "depth": float(torch.cat(errors).median()),
        "colour": float(every.mean()) if len(every) else float("nan"),
        "agree": agreeing / compared,
    }


def flow_consistency(frames: Frames, gap: int = 1) -> dict[str, float]:
    """Steadiness of a film by dense optical flow (OpenCV's DIS), without any truth.

    Returns:
        photometric: mean absolute difference, 0..255, of a frame and the next one warped back onto it; cycle: mean
        distance in pixels between a pixel and where flow there and back leads. NaN for one frame.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    photometric, cycle = [], []
    for one, other in zip(frames[:-gap], frames[gap:], strict=True):
        first, second = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (one, other))
        there, back = _flow(flow, first, second), _flow(flow, second, first)
        rows, columns = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
        x, y = columns + there[..., 0], rows + there[..., 1]
        inside = (x >= 0) & (x <= first.shape[1] - 1) & (y >= 0) & (y <= first.shape[0] - 1)
        if not inside.any():
            continue
        warped = cv2.remap(other, x, y, cv2.INTER_LINEAR)
        returned = cv2.remap(back, x, y, cv2.INTER_LINEAR) + there
        photometric.append(np.abs(warped.astype(float) - one.astype(float)).mean(-1)[inside].mean())
        cycle.append(np.linalg.norm(returned, axis=-1)[inside].mean())
    if not photometric:
        return {"photometric": float("nan"), "cycle": float("nan")}
    return {"photometric": float(np.mean(photometric)), "cycle": float(np.mean(cycle))}


def camera_errors(frames: Frames, truth: Frames, depth: Depth, camera: Camera) -> dict[str, float]:
    """How far the imagined frames' cameras are from those that were commanded.

    Each imagined frame is matched to the true one by optical flow; true depth gives places in the world, and PnP with
    RANSAC the pose from which the imagined frame shows them.

    Args:
        frames, truth: (T, H, W, 3).
        depth: (T, H, W) true metres.
        camera: (T,) commanded.

    Returns:
        rotation: median degrees; translation: median metres; found: share of frames for which a pose was found.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rotations, translations = [], []
    height, width = frames.shape[1:3]
    rows, columns = (grid.ravel() for grid in np.mgrid[2 : height - 2 : 4, 2 : width - 2 : 4])
    for index in range(len(frames)):
        ours, theirs = (cv2.cvtColor(pictures[index], cv2.COLOR_RGB2GRAY) for pictures in (frames, truth))
        moved = _flow(flow, theirs, ours)[rows, columns]
        metres = depth[index][rows, columns]
        usable = np.isfinite(metres) & (metres > 0)
        if usable.sum() < 12:
            continue
        # OpenCV counts pixels from their centres.
        intrinsics = camera.intrinsics.expand(len(frames), 3, 3)[index].double().numpy().copy()
        intrinsics[:2, 2] -= 0.5
        pixels = np.stack([columns, rows], axis=-1)[usable].astype(np.float64)
        points = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(intrinsics).T
        points *= metres[usable, None]
        found, turn, shift, _ = cv2.solvePnPRansac(
            points, pixels + moved[usable], intrinsics, None, reprojectionError=1.5, iterationsCount=100
        )
        if not found:
            continue
        rotations.append(float(np.degrees(np.linalg.norm(turn))))
        centre = invert(torch.from_numpy(_rigid(turn, shift)))[:3, 3]
        translations.append(float(centre.norm()))
    if not rotations:
        return {"rotation": float("nan"), "translation": float("nan"), "found": 0.0}
    return {
        "rotation": float(np.median(rotations)),
        "translation": float(np.median(translations)),
        "found": len(rotations) / len(frames),
    }


def _flow(solver: cv2.DenseOpticalFlow, first: Any, second: Any) -> NDArray[np.float32]:
    """(H, W, 2) pixels from the first grey picture to the second."""
    return np.asarray(solver.calc(first, second, np.zeros((*first.shape, 2), np.float32)), dtype=np.float32)


def _rigid(turn: Any, shift: Any) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return pose


def _check(frames: Frames, truth: Frames, mask: Mask | None) -> None:
    if frames.shape != truth.shape or (mask is not None and mask.shape != frames.shape[:-1]):
        raise ValueError(
            f"frames: expected one shape, got {frames.shape} against {truth.shape}"
            + ("" if mask is None else f" with a mask {mask.shape}")
        )
