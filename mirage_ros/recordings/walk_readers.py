"""Readers of recorded walks: RGB-D folders, TUM RGB-D sequences, RealEstate10K camera files with frames, bags."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from mirage_ros.images import doubt_of_optics
from mirage_ros.media import read_picture
from mirage_ros.recordings.bags import rosbag_frames
from mirage_ros.recordings.rgbd_folder import RgbdFolder
from mirage_ros.recordings.trajectories import read_trajectory
from mirage_ros.recordings.tum import tum_frames
from mirage_ros.rgbd import RgbdFrame

_PICTURES = (".jpg", ".jpeg", ".png")


def rgbd_frames(folder: str | Path, fps: float = 10.0) -> Iterator[RgbdFrame]:
    """Frames of an RGB-D folder, see `mirage_ros.recordings.rgbd_folder`, which knows no times."""
    for index, frame in enumerate(RgbdFolder(folder)):
        yield replace(frame, camera=frame.camera.to(dtype=torch.float32), stamp=round(index / fps * 1e9))


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
        rgb = read_picture(path, "realestate10k")
        camera = walk.camera(*rgb.shape[:2])[index].to(dtype=torch.float32)
        if not found and (doubt := doubt_of_optics(camera)) is not None:
            warnings.warn(f"realestate10k: {cameras}: {doubt}", stacklevel=2)
        found = True
        yield RgbdFrame(rgb, None, camera, round(seconds * 1e9))
    if not found:
        raise FileNotFoundError(f"realestate10k: {folder} holds no picture for the stamps of {cameras}")


READERS: dict[str, Callable[[Path], Iterator[RgbdFrame]]] = {
    "rgbd": rgbd_frames,
    "tum": tum_frames,
    "rosbag": rosbag_frames,
}
