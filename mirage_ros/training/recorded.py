"""Clips out of recorded walks: RGB-D folders, TUM RGB-D sequences, RealEstate10K camera files with frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.recordings.rgbd import RgbdFolder
from mirage_ros.recordings.trajectories import read_trajectory
from mirage_ros.training.clips import STATIC, Clip
from mirage_ros.trajectory import interpolate

# TUM RGB-D: depth images hold 5000 units a metre (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats).
TUM_UNITS = 5000.0
# Seconds by which colour, depth and pose of a frame may differ.
TUM_APART = 0.03
# fx, fy, cx, cy in pixels of 640x480, centres at integers: the values that the benchmark recommends where no others
# are known.
TUM_INTRINSICS = (525.0, 525.0, 319.5, 239.5)
_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One frame of a walk.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, 0 where unknown.
        camera: single.
        time: seconds.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    camera: Camera
    time: float


def rgbd_frames(folder: str | Path, fps: float = 10.0) -> Iterator[RecordedFrame]:
    """Frames of an RGB-D folder, see `mirage_ros.recordings.rgbd`, which knows no times."""
    for index, frame in enumerate(RgbdFolder(folder)):
        camera = frame.camera.to(dtype=torch.float32)
        yield RecordedFrame(frame.rgb, frame.depth, camera, index / fps)


def tum_frames(
    folder: str | Path, intrinsics: tuple[float, float, float, float] = TUM_INTRINSICS
) -> Iterator[RecordedFrame]:
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
        rgb = _picture(folder / name)
        units = cv2.imread(str(folder / depths[nearest][1]), cv2.IMREAD_UNCHANGED)
        if units is None or units.shape[:2] != rgb.shape[:2]:
            raise ValueError(f"{folder / depths[nearest][1]}: expected a depth image of {rgb.shape[:2]}")
        depth = units.astype(np.float32) / np.float32(TUM_UNITS)
        yield RecordedFrame(rgb, depth, Camera(matrix, pose, *rgb.shape[:2]), time)


def realestate10k_frames(cameras: str | Path, folder: str | Path) -> Iterator[RecordedFrame]:
    """Frames of a RealEstate10K clip; their depth is unknown until an estimator gives it.

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
        rgb = _picture(path)
        camera = walk.camera(*rgb.shape[:2])[index].to(dtype=torch.float32)
        yield RecordedFrame(rgb, np.zeros(rgb.shape[:2], np.float32), camera, seconds)
    if not found:
        raise FileNotFoundError(f"realestate10k: {folder} holds no picture for the stamps of {cameras}")


def clips_of(
    frames: Iterator[RecordedFrame], name: str, count: int, height: int, width: int, skip: int = 1
) -> Iterator[Clip]:
    """Cut a walk into clips of one length and size; a rest that is too short is left out.

    Args:
        frames: in order.
        name: of the walk.
        count: frames of a clip.
        height, width: pixels; frames are cropped in the middle to this shape, then made smaller.
        skip: only every so many-th frame is taken.

    Raises:
        ValueError: an argument is out of range.
    """
    if count < 1 or skip < 1:
        raise ValueError(f"count, skip: expected whole numbers from 1, got {count} and {skip}")
    held: list[RecordedFrame] = []
    number = 0
    for index, frame in enumerate(frames):
        if index % skip:
            continue
        held.append(fit(frame, height, width))
        if len(held) == count:
            yield _joined(held, f"{name}-{number:04d}")
            held, number = [], number + 1


def fit(frame: RecordedFrame, height: int, width: int) -> RecordedFrame:
    """A frame cropped in the middle to the shape of height x width and resized to it; depth is never mixed."""
    rows, columns = frame.rgb.shape[:2]
    tall, wide = min(rows, columns * height // width), min(columns, rows * width // height)
    top, left = (rows - tall) // 2, (columns - wide) // 2
    window = np.s_[top : top + tall, left : left + wide]
    smaller = cv2.INTER_AREA if tall > height else cv2.INTER_LINEAR
    rgb = cv2.resize(frame.rgb[window], (width, height), interpolation=smaller)
    ys = ((np.arange(height) + 0.5) * tall / height).astype(int)
    xs = ((np.arange(width) + 0.5) * wide / width).astype(int)
    depth = np.ascontiguousarray(frame.depth[window][ys[:, None], xs])
    camera = frame.camera.cropped(top, left, tall, wide).resized(height, width)
    return RecordedFrame(np.ascontiguousarray(rgb, dtype=np.uint8), depth, camera, frame.time)


def _joined(frames: list[RecordedFrame], name: str) -> Clip:
    first = frames[0].camera
    camera = Camera(
        torch.stack([frame.camera.intrinsics for frame in frames]).float(),
        torch.stack([frame.camera.cam2world for frame in frames]).float(),
        first.height,
        first.width,
    )
    depth = np.stack([frame.depth for frame in frames])
    seconds = frames[-1].time - frames[0].time
    fps = (len(frames) - 1) / seconds if seconds > 0 else 1.0
    labels = np.full(depth.shape, STATIC, np.uint8)
    return Clip(name, np.stack([frame.rgb for frame in frames]), depth, labels, camera, fps)


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


def _picture(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise FileNotFoundError(f"picture: {path} is missing")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: expected a picture, got a damaged or foreign file")
    return np.ascontiguousarray(image[..., ::-1])


READERS: dict[str, Callable[[Path], Iterator[RecordedFrame]]] = {"rgbd": rgbd_frames, "tum": tum_frames}
