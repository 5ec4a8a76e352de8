"""Readers of recorded walks: RGB-D folders, TUM sequences, nerfstudio, RealEstate10K files with frames, bags."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from mirage_ros.geometry import Camera
from mirage_ros.images import check_shape, depth_like, doubt_of_optics
from mirage_ros.media import read_depth, read_picture
from mirage_ros.recordings.bags import rosbag_frames
from mirage_ros.recordings.lenses import rectification
from mirage_ros.recordings.nerfstudio import frames_of, intrinsics_of, lens_of_frame
from mirage_ros.recordings.rgbd_folder import RgbdFolder, by_number
from mirage_ros.recordings.trajectories import read_text, read_trajectory
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


def nerfstudio_frames(file: str | Path, fps: float = 10.0) -> Iterator[RgbdFrame]:
    """Frames of a transforms.json by the numbers in their names, with depth where frames have a depth_file_path.

    Distorted pictures, and depth with them, are straightened.

    Args:
        file: transforms.json, or its folder. Depth is in millimetres of 16 bits, poses in metres.
        fps: frames a second, as the file knows no times.

    Raises:
        FileNotFoundError: the file or a picture is missing.
        ValueError: a lens is not known, pictures have another shape than the file says, or something is not usable.
    """
    file = Path(file) / "transforms.json" if Path(file).is_dir() else Path(file)
    poses = read_trajectory(file, "nerfstudio", optics=False).cam2world
    frames = frames_of(file, read_text(file))
    intrinsics, height, width = intrinsics_of(file, frames, pinhole=False)
    cameras = Camera(intrinsics, poses, height, width)
    for index, frame in enumerate(frames):
        if not isinstance(frame.get("file_path"), str):
            raise ValueError(f"{file}, frames[{index}]: expected a file_path, got {frame.get('file_path')!r}")
    order = sorted(range(len(frames)), key=lambda index: by_number(frames[index]["file_path"]))
    for place, index in enumerate(order):
        frame = frames[index]
        rgb = read_picture(file.parent / frame["file_path"], "nerfstudio")
        camera = cameras[index]
        # Stored on its side, a picture has another shape than the one that its EXIF shows.
        check_shape(f"{file.parent / frame['file_path']}", camera, *rgb.shape[:2])
        camera = camera.resized(*rgb.shape[:2])
        rectify = rectification(str(file), *lens_of_frame(f"{file}, frames[{index}]", frame), camera)
        if not place and (doubt := doubt_of_optics(camera)) is not None:
            warnings.warn(f"nerfstudio: {file}: {doubt}", stacklevel=2)
        depth = None
        if frame.get("depth_file_path"):
            depth = depth_like(camera, read_depth(file.parent / frame["depth_file_path"], "nerfstudio"))
        if rectify is not None:
            rgb = rectify(rgb, cv2.INTER_LINEAR)
            depth = None if depth is None else rectify(depth, cv2.INTER_NEAREST)
        yield RgbdFrame(rgb, depth, camera.to(dtype=torch.float32), round(place / fps * 1e9))


READERS: dict[str, Callable[[Path], Iterator[RgbdFrame]]] = {
    "rgbd": rgbd_frames,
    "tum": tum_frames,
    "nerfstudio": nerfstudio_frames,
    "rosbag": rosbag_frames,
}
