"""transforms.json of nerfstudio: poses, and intrinsics where all frames are pinhole pictures of one shape."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Models whose pictures are pinhole pictures once every coefficient of theirs is zero; None is nerfstudio's default.
PINHOLE = (None, "OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV")
# In OpenCV's order; the last three belong to FULL_OPENCV.
COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
# nerfstudio's (OpenGL's) camera axes seen from optical ones: y and z turn round.
_OPTICAL_FROM_OPENGL = (1.0, -1.0, -1.0, 1.0)


def frames_of(path: Path, text: str) -> list[dict[str, Any]]:
    """The frames of a file, each with what the file says of all.

    Raises:
        ValueError: no JSON, or no frames; names the file.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: expected JSON, {error.msg}") from None
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"{path}: expected a list 'frames' with at least one entry")
    for index, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise ValueError(f"{path}, frames[{index}]: expected an object, got {frame!r}")
    del content["frames"]
    return [{**content, **frame} for frame in frames]


def poses_of(path: Path, frames: list[dict[str, Any]]) -> Tensor:
    """(T, 4, 4) float64 cam2world in optical axes.

    Raises:
        ValueError: something else than 4x4 finite numbers; names the frame.
    """
    matrices = [
        _matrix(f"{path}, frames[{index}].transform_matrix", frame.get("transform_matrix"))
        for index, frame in enumerate(frames)
    ]
    cam2world = torch.from_numpy(np.stack(matrices)) * torch.tensor(_OPTICAL_FROM_OPENGL, dtype=torch.float64)
    cam2world[:, :3, 3] = torch.from_numpy(np.stack(matrices))[:, :3, 3]
    return cam2world


def intrinsics_of(path: Path, frames: list[dict[str, Any]], pinhole: bool = True) -> tuple[Tensor, int, int]:
    """(T, 3, 3) float64 in pixels of the first frame, and its height and width.

    Args:
        path: of the file.
        frames: of it.
        pinhole: refuse distorted frames; else the caller straightens them, see `lens_of_frame`.

    Raises:
        ValueError: a frame has no such intrinsics, is distorted, or has another shape than the first.
    """
    matrices: list[list[list[float]]] = []
    for index, frame in enumerate(frames):
        place = f"{path}, frames[{index}]"
        if pinhole:
            _check_pinhole(place, frame)
        fx, fy, cx, cy, height, width = (_number(place, frame, key) for key in ("fl_x", "fl_y", "cx", "cy", "h", "w"))
        if not (height >= 1 and width >= 1):
            raise ValueError(f"{place}: expected h and w from 1, got {height:g} and {width:g}")
        if not matrices:
            size = (height, width)
        across, down = size[1] / width, size[0] / height
        # A pixel more or less is the rounding of smaller copies.
        if abs(width * down - size[1]) > max(1, down):
            raise ValueError(
                f"{place}: expected pictures of one shape, {size[1]:g}x{size[0]:g} as in frames[0], "
                f"got {width:g}x{height:g}"
            )
        matrices.append([[fx * across, 0, cx * across], [0, fy * down, cy * down], [0, 0, 1]])
    return torch.tensor(matrices, dtype=torch.float64), int(size[0]), int(size[1])


def lens_of_frame(place: str, frame: dict[str, Any]) -> tuple[str, NDArray[np.float64]]:
    """Distortion model and coefficients of a frame, as `lenses.rectification` wants them.

    Raises:
        ValueError: another model than OpenCV's, or coefficients that do not belong to it.
    """
    model = frame.get("camera_model")
    given = {name: _number(place, {name: frame.get(name) or 0}, name) for name in COEFFICIENTS}
    used: tuple[str, ...]
    if model == "OPENCV_FISHEYE" or (model in PINHOLE and frame.get("is_fisheye")):
        name, used = "equidistant", ("k1", "k2", "k3", "k4")
    elif model == "FULL_OPENCV":
        name, used = "rational_polynomial", COEFFICIENTS
    elif model in PINHOLE:
        name, used = "plumb_bob", COEFFICIENTS[:5]
    else:
        raise ValueError(f"{place}: expected a pinhole camera_model or OPENCV_FISHEYE, got {model!r}")
    others = {key: value for key, value in given.items() if value and key not in used}
    if np.any(frame.get("distortion_params") or 0):
        others["distortion_params"] = frame["distortion_params"]
    if others:
        raise ValueError(f"{place}: expected no other distortion of {model or 'OPENCV'} than {used}, got {others}")
    return name, np.array([given[key] for key in used])


def _check_pinhole(place: str, frame: dict[str, Any]) -> None:
    model, d = lens_of_frame(place, frame)
    if model == "equidistant":
        raise ValueError(f"{place}: expected a pinhole camera_model, got a fisheye; undistort the pictures first")
    if d.any():
        raise ValueError(f"{place}: expected no distortion, got {d.tolist()}; undistort the pictures first")


def _matrix(place: str, value: Any) -> NDArray[np.float64]:
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"{place}: expected 4x4 finite numbers, got {value!r}")
    return matrix


def _number(place: str, holder: dict[str, Any], key: str) -> float:
    value = holder.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{place}: expected a number {key}, got {value!r}")
    return float(value)
