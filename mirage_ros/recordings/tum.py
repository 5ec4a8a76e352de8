"""TUM RGB-D sequences, and what others recorded in their layout: rgb.txt, depth.txt, groundtruth.txt."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera, check_intrinsics, intrinsics_from_ros
from mirage_ros.images import doubt_of_depth, doubt_of_optics
from mirage_ros.media import read_depth, read_picture
from mirage_ros.recordings.lenses import Rectify, rectification
from mirage_ros.recordings.rgbd_folder import read_intrinsics
from mirage_ros.recordings.trajectories import read_text, read_trajectory
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.trajectory import interpolate

# Units of depth a metre (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats).
UNITS = 5000.0
# Seconds by which colour, depth and pose of a frame may differ.
APART = 0.03
# Metres that half of the first depth is rarely nearer than: 2 m in millimetres, read with UNITS, are 0.4 m.
NEAR = 0.5
# Of 640x480, centres at integers: what the benchmark recommends where no others are known, and its three cameras by
# the name of the folder: fx, fy, cx, cy, and k1, k2, p1, p2, k3 of its colours, to which depth is registered.
SIZE = (480, 640)
DEFAULT = (525.0, 525.0, 319.5, 239.5)
CAMERAS = {
    "1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "3": ((535.4, 539.2, 320.1, 247.6), (0.0, 0.0, 0.0, 0.0, 0.0)),
}
_NAME = re.compile(r"(?:freiburg|fr)([123])(?![0-9])")
# Files in the folder that hold intrinsics: a matrix, or fx fy cx cy as in the ETH3D SLAM benchmark.
_MATRIX, _NUMBERS = "camera-intrinsics.txt", "calibration.txt"


def tum_frames(folder: str | Path, camera: str | Path | None = None, units: float = UNITS) -> Iterator[RgbdFrame]:
    """Frames of a sequence that have depth and pose.

    Intrinsics are those of a file that is given, else of camera-intrinsics.txt or calibration.txt in the folder, else
    those of the benchmark's camera that the folder's name tells (freiburg1 and 2 are straightened), else, with a
    warning, the ones that the benchmark recommends, for pictures of its size alone.

    Args:
        folder: of the sequence.
        camera: text file of 3x3 intrinsics, centres at integers.
        units: of depth in a metre; 1000 for millimetres.

    Raises:
        FileNotFoundError: a list or a picture is missing.
        ValueError: a line or a picture is not usable, no intrinsics are known, or no frame has depth and pose.
    """
    folder = Path(folder)
    if not 0 < units < np.inf:
        raise ValueError(f"depth_units: expected units a metre above 0, got {units}")
    colours, depths = _list(folder / "rgb.txt"), _list(folder / "depth.txt")
    walk = read_trajectory(folder / "groundtruth.txt", "tum")
    stamps = walk.stamps
    if stamps is None or not depths:
        raise ValueError(f"tum: {folder} has no depth or no stamped poses")
    depth_times = np.array([time for time, _ in depths])
    optics: tuple[Camera, Rectify | None] | None = None
    for time, name in colours:
        nearest = int(np.abs(depth_times - time).argmin())
        known = bool(stamps[0] <= time <= stamps[-1]) and float((stamps - time).abs().min()) <= 5 * APART
        if abs(depth_times[nearest] - time) > APART or not known:
            continue
        pose = interpolate(walk.cam2world, stamps, torch.tensor([time], dtype=torch.float64))[0]
        rgb, depth = read_picture(folder / name, "tum"), read_depth(folder / depths[nearest][1], "tum", units)
        if depth.shape != rgb.shape[:2]:
            raise ValueError(
                f"{folder / depths[nearest][1]}: expected a depth image of {rgb.shape[:2]}, got {depth.shape}"
            )
        if optics is None:
            optics = _optics(folder, None if camera is None else Path(camera), *rgb.shape[:2])
            _warn_of_units(depth, units)
        view, rectify = optics
        if rgb.shape[:2] != (view.height, view.width):
            raise ValueError(f"{folder / name}: expected {view.width}x{view.height} as before, got {rgb.shape[:2]}")
        if rectify is not None:
            rgb, depth = rectify(rgb, cv2.INTER_LINEAR), rectify(depth, cv2.INTER_NEAREST)
        yield RgbdFrame(rgb, depth, view.at(pose).to(dtype=torch.float32), round(time * 1e9))
    if optics is None:
        raise ValueError(
            f"tum: {folder} has no picture with depth within {APART} s and a pose around it; {len(colours)} pictures, "
            f"{len(depths)} depth images and {len(stamps)} poses begin at "
            f"{', '.join(f'{each:.3f}' for each in (colours[0][0] if colours else np.nan, depths[0][0], stamps[0]))} s"
        )


def _optics(folder: Path, file: Path | None, height: int, width: int) -> tuple[Camera, Rectify | None]:
    """Camera of the pictures, at the origin, and what straightens them."""
    matrix, distortion = _intrinsics(folder, file, height, width)
    camera = Camera(matrix, torch.eye(4, dtype=torch.float64), height, width)
    if (doubt := doubt_of_optics(camera)) is not None:
        warnings.warn(f"tum: {doubt}", stacklevel=3)
    return camera, rectification("tum", "plumb_bob", np.array(distortion), camera)


def _intrinsics(folder: Path, file: Path | None, height: int, width: int) -> tuple[Tensor, tuple[float, ...]]:
    """(3, 3) float64, centre convention, and coefficients of distortion."""
    if file is not None or (folder / _MATRIX).is_file():
        return read_intrinsics(file or folder / _MATRIX, "camera"), ()
    if (folder / _NUMBERS).is_file():
        return _of_numbers(_numbers(folder / _NUMBERS)), ()
    name = _NAME.search(folder.resolve().name)
    if (height, width) != SIZE:
        raise ValueError(
            f"tum: expected {SIZE[1]}x{SIZE[0]}, got {width}x{height} of a camera that is not known; give its "
            f"intrinsics (--camera, or {_MATRIX} in {folder})"
        )
    if name is not None:
        values, distortion = CAMERAS[name[1]]
        return _of_numbers(values), distortion
    warnings.warn(
        f"tum: nothing in {folder} tells the camera; the benchmark's {DEFAULT} (fx, fy, cx, cy) are taken; others: "
        f"--camera, or {_MATRIX} in the folder",
        stacklevel=4,
    )
    return _of_numbers(DEFAULT), ()


def _numbers(path: Path) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in read_text(path).split())
    except ValueError:
        values = ()
    # More of them would be a distortion.
    if len(values) != 4:
        raise ValueError(f"{path}: expected the four numbers fx fy cx cy, got {read_text(path).strip()!r}")
    return values


def _of_numbers(values: tuple[float, ...]) -> Tensor:
    fx, fy, cx, cy = values
    matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    check_intrinsics(matrix, "tum")
    return intrinsics_from_ros(matrix)


def _warn_of_units(depth: np.ndarray, units: float) -> None:
    valid = depth[depth > 0]
    doubt = doubt_of_depth(torch.from_numpy(depth))
    if doubt is None and len(valid) and np.median(valid) < NEAR:
        doubt = f"half of it lies nearer than {np.median(valid):.2f} m"
    if doubt is not None:
        warnings.warn(f"depth: {doubt} ({units:g} units a metre; others: --depth-units)", stacklevel=3)


def _list(path: Path) -> list[tuple[float, str]]:
    """Times in seconds and names of files."""
    if not path.is_file():
        raise FileNotFoundError(f"tum: {path} is missing")
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        parts = line.replace(",", " ").split()
        if not parts or parts[0].startswith("#"):
            continue
        try:
            rows.append((float(parts[0]), parts[1]))
        except (ValueError, IndexError):
            raise ValueError(f"{path}:{number}: expected 'stamp file', got {line!r}") from None
    return rows
