"""Recorded walks: RGB-D folders with true depth, and RealEstate10K clips without."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.evaluation.cases import Case, CaseList
from mirage_ros.geometry import Camera
from mirage_ros.images import as_pixels, fit_camera, fit_colour, fit_nearest
from mirage_ros.media import read_picture
from mirage_ros.recordings.clips import Clip
from mirage_ros.recordings.rgbd_folder import RgbdFolder
from mirage_ros.recordings.trajectories import read_trajectory

# Frames of a case of an RGB-D walk, those of walks that are shorter, and how many of them a second.
RGBD_FRAMES, SHORT, RGBD_FPS = 17, 9, 30.0 / 8
# RealEstate10K, as in facts that published comparisons share: the first frame is shown, every eighth frame is a target.
RE10K_FRAMES, RE10K_EVERY, RE10K_FPS = 17, 8, 30.0


def rgbd_cases(folder: str | Path, height: int, width: int, limit: int | None = None) -> CaseList:
    """A recorded RGB-D walk cut into cases that follow each other, of 17 frames each.

    Of a walk with fewer frames they have 9: figures of such are not to be compared with others.

    Args:
        folder: see `recordings.rgbd_folder`.
        height, width: pixels that frames are fitted to, middle first.
        limit: use only the first so many cases.

    Raises:
        ValueError: the walk is too short for a case.
    """
    walk = RgbdFolder(folder)
    count = RGBD_FRAMES if len(walk) >= RGBD_FRAMES else SHORT
    starts = range(0, len(walk) - count + 1, count - 1)[:limit]
    if not starts:
        raise ValueError(f"rgbd: expected at least {SHORT} frames in {folder}, got {len(walk)}")
    name = Path(folder).name
    return CaseList("rgbd", [partial(_rgbd_case, walk, name, (height, width), start, count) for start in starts])


def _rgbd_case(walk: RgbdFolder, name: str, size: tuple[int, int], start: int, count: int) -> Case:
    frames = [walk[start + index] for index in range(count)]
    camera = frames[0].camera.at(torch.stack([frame.camera.cam2world for frame in frames]))
    depth = np.stack([fit_nearest(torch.from_numpy(frame.depth), *size).numpy() for frame in frames])
    return fitted_case(f"{name}-{start:04d}", [frame.rgb for frame in frames], depth, camera, size, RGBD_FPS)


def re10k_cases(folder: str | Path, height: int, width: int, limit: int | None = None) -> CaseList:
    """RealEstate10K: a folder with cameras/NAME.txt and frames/NAME/TIMESTAMP.png (or .jpg).

    The first frame is shown; targets are the 8th, 16th and so on. Frames are cut to the model's shape around their
    middle and scaled. There is no true depth: the shown frame's depth must be estimated, and visible and hidden pixels
    are not told apart.

    Args:
        folder: as above.
        height, width: pixels.
        limit: use only the first so many clips, by name.

    Raises:
        FileNotFoundError: the folder holds no clip.
    """
    files = sorted((Path(folder) / "cameras").glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"re10k: {folder}/cameras holds no NAME.txt")
    return CaseList("re10k", [partial(_re10k_case, Path(folder), (height, width), file) for file in files[:limit]])


def _re10k_case(folder: Path, size: tuple[int, int], file: Path) -> Case:
    trajectory = read_trajectory(file, "realestate10k")
    images = sorted((folder / "frames" / file.stem).glob("*.[pj][np]g"), key=lambda path: int(path.stem))
    if len(images) != len(trajectory):
        raise ValueError(f"re10k: expected {len(trajectory)} frames for {file.name}, got {len(images)}")
    chosen = list(range(0, len(images), RE10K_EVERY))[:RE10K_FRAMES]
    if len(chosen) < 2:
        raise ValueError(f"re10k: expected more than {RE10K_EVERY} frames for {file.name}, got {len(images)}")
    frames = [read_picture(images[index], "re10k") for index in chosen]
    camera = trajectory.camera(*frames[0].shape[:2])[torch.tensor(chosen)]
    unknown = np.zeros((len(chosen), *size), np.float32)
    return fitted_case(file.stem, frames, unknown, camera, size, RE10K_FPS / RE10K_EVERY)


def fitted_case(
    name: str,
    frames: Sequence[NDArray[np.uint8]],
    depth: NDArray[np.float32],
    camera: Camera,
    size: tuple[int, int],
    fps: float,
) -> Case:
    """A walk without known movement, its frames (H, W, 3) and cameras fitted to a size; depth (T, *size) is already."""
    colour = torch.stack([fit_colour(torch.from_numpy(frame), *size) for frame in frames])
    labels = np.zeros(depth.shape, np.uint8)
    fitted = fit_camera(camera, *size)
    return Case(Clip(rgb=as_pixels(colour), depth=depth, camera=fitted, name=name, labels=labels, fps=fps))
