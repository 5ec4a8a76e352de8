"""Readers of recorded walks: RGB-D folders, TUM RGB-D sequences, RealEstate10K camera files with frames, bags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from mirage_ros.geometry import Camera
from mirage_ros.media import read_picture
from mirage_ros.recordings.bags import rosbag_frames
from mirage_ros.recordings.rgbd_folder import RgbdFolder
from mirage_ros.recordings.trajectories import read_trajectory
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.trajectory import interpolate

# TUM RGB-D: depth images hold 5000 units a metre (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats).
TUM_UNITS = 5000.0
# Seconds by which colour, depth and pose of a frame may differ.
TUM_APART = 0.03
# fx, fy, cx, cy in pixels of 640x480, centres at integers: the values that the benchmark recommends where no others
# are known.
TUM_INTRINSICS = (525.0, 525.0, 319.5, 239.5)
_PICTURES = (".jpg", ".jpeg", ".png")


def rgbd_frames(folder: str | Path, fps: float = 10.0) -> Iterator[RgbdFrame]:
    """Frames of an RGB-D folder, see `mirage_ros.recordings.rgbd_folder`, which knows no times."""
    for index, frame in enumerate(RgbdFolder(folder)):
        yield replace(frame, camera=frame.camera.to(dtype=torch.float32), stamp=round(index / fps * 1e9))


def tum_frames(
    folder: str | Path, intrinsics: tuple[float, float, float, float] = TUM_INTRINSICS
) -> Iterator[RgbdFrame]:
    """Frames of a TUM RGB-D sequence (rgb.txt, depth.txt, groundtruth.txt) that have depth and pose.

    Args:
        folder: of the sequence.
        intrinsics: fx, fy, cx, cy in pixels, centres at integers.

    Raises:
        FileNotFoundError: a list or a picture is missing.
        ValueError: a line is not usable.
    """
    folder = Path(folder)
    colours, depths = _tum_list(folder / "rgb.txt"), _tum_list(folder / "depth.txt")
    walk = read_trajectory(folder / "groundtruth.txt", "tum")
    stamps = walk.stamps
    if stamps is None or not depths:
        raise ValueError(f"tum: {folder} has no depth or no stamped poses")
    depth_times = np.array([time for time, _ in depths])
    fx, fy, cx, cy = intrinsics
    matrix = torch.tensor([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])
    for time, name in colours:
        nearest = int(np.abs(depth_times - time).argmin())
        known = bool(stamps[0] <= time <= stamps[-1]) and float((stamps - time).abs().min()) <= 5 * TUM_APART
        if abs(depth_times[nearest] - time) > TUM_APART or not known:
            continue
        pose = interpolate(walk.cam2world, stamps, torch.tensor([time], dtype=torch.float64))[0].float()
        rgb = read_picture(folder / name, "tum")
        units = cv2.imread(str(folder / depths[nearest][1]), cv2.IMREAD_UNCHANGED)
        if units is None or units.shape[:2] != rgb.shape[:2]:
            raise ValueError(f"{folder / depths[nearest][1]}: expected a depth image of {rgb.shape[:2]}")
        depth = units.astype(np.float32) / np.float32(TUM_UNITS)
        yield RgbdFrame(rgb, depth, Camera(matrix, pose, *rgb.shape[:2]), round(time * 1e9))


def realestate10k_frames(cameras: str | Path, folder: str | Path) -> Iterator[RgbdFrame]:
    """Frames of a RealEstate10K clip; there is no depth until an estimator gives it.

    Args:
        cameras: the clip's camera file.
        folder: pictures named by their stamp in microseconds, as in the camera file: 12345678.jpg or .png.

    Raises:
        FileNotFoundError: no picture belongs to the camera file.
    """
    walk = read_trajectory(cameras, "realestate10k")
    if walk.stamps is None:
        raise ValueError(f"realestate10k: {cameras} has no stamps")
    pictures = {path.stem.lstrip("0") or "0": path for path in Path(folder).iterdir() if path.suffix in _PICTURES}
    found = False
    for index, seconds in enumerate(walk.stamps.tolist()):
        path = pictures.get(str(round(seconds * 1e6)))
        if path is None:
            continue
        found = True
        rgb = read_picture(path, "realestate10k")
        camera = walk.camera(*rgb.shape[:2])[index].to(dtype=torch.float32)
        yield RgbdFrame(rgb, None, camera, round(seconds * 1e9))
    if not found:
        raise FileNotFoundError(f"realestate10k: {folder} holds no picture for the stamps of {cameras}")


def _tum_list(path: Path) -> list[tuple[float, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"tum: {path} is missing")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        try:
            rows.append((float(parts[0]), parts[1]))
        except (ValueError, IndexError):
            raise ValueError(f"{path}:{number}: expected 'stamp file', got {line!r}") from None
    return rows


READERS: dict[str, Callable[[Path], Iterator[RgbdFrame]]] = {
    "rgbd": rgbd_frames,
    "tum": tum_frames,
    "rosbag": rosbag_frames,
}
