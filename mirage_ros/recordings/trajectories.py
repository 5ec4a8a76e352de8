"""Trajectories in the field's file formats.

| format | one line or frame | pose | axes | intrinsics |
|---|---|---|---|---|
| matrices (.txt) | 4 rows of 4 numbers a pose, or 16 numbers a line | cam2world | optical | none |
| TUM (.txt, .tum) | timestamp tx ty tz qx qy qz qw | cam2world | optical | none |
| nerfstudio (transforms.json) | frames[].transform_matrix | cam2world | x right, y up, z back | fl_x fl_y cx cy w h |
| RealEstate10K (.txt) | timestamp fx fy cx cy k1 k2, 3x4 by rows | world2cam | optical | shares of width and height |

Sources: TUM RGB-D benchmark file formats, docs.nerf.studio 'Data conventions', google.github.io/realestate10k.
nerfstudio and RealEstate10K measure pixels from the image's corner, as this package does: no half-pixel shift. Lines
that start with # are comments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from mirage_ros.geometry import Camera, check_intrinsics
from mirage_ros.poses import check_pose, invert, pose_from_quaternion
from mirage_ros.recordings.nerfstudio import frames_of, intrinsics_of, poses_of

FORMATS = ("matrices", "tum", "nerfstudio", "realestate10k")
# Larger files than any trajectory; they are refused before they are read.
MAX_BYTES = 256 << 20
Rows = list[tuple[int, list[float]]]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses in order, and what the file says of the camera.

    Attributes:
        cam2world: (T, 4, 4) float64, optical axes, the file's world frame and unit (metres, where the file is metric).
        stamps: (T,) float64 seconds, or None where the format has none.
        intrinsics: (T, 3, 3) float64 pixels, or None; for RealEstate10K in units of the image's width and height.
        height, width: pixels, or None.
        normalised: intrinsics are shares of the image's sides and need `camera(height, width)`.
    """

    cam2world: Tensor
    stamps: Tensor | None = None
    intrinsics: Tensor | None = None
    height: int | None = None
    width: int | None = None
    normalised: bool = False

    def __len__(self) -> int:
        return len(self.cam2world)

    def camera(self, height: int | None = None, width: int | None = None) -> Camera:
        """The trajectory as a batched camera for images of a size.

        Args:
            height, width: pixels; the file's own by default.

        Raises:
            ValueError: the file says nothing about the camera, or nothing about its size and none is given.
        """
        if self.intrinsics is None:
            raise ValueError("trajectory: expected intrinsics in the file, got a format without; give a camera instead")
        if height is None or width is None:
            height, width = self.height, self.width
        if height is None or width is None:
            raise ValueError("height, width: expected pixels, since the file has intrinsics relative to the image")
        if self.normalised:
            scale = torch.tensor([width, height, 1.0], dtype=torch.float64)
            return Camera(self.intrinsics * scale.unsqueeze(-1), self.cam2world, height, width)
        own_height, own_width = (
            (height, width) if self.height is None or self.width is None else (self.height, self.width)
        )
        return Camera(self.intrinsics, self.cam2world, own_height, own_width).resized(height, width)


def read_trajectory(path: str | Path, format: str | None = None, optics: bool = True) -> Trajectory:
    """Read a trajectory file.

    Args:
        path: of the file.
        format: one of FORMATS; guessed from the name and the first numbers by default.
        optics: read what the file says of the camera, too; where poses alone are wanted, no lens is refused.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown format, or contents that do not fit it; names the file and the line or frame.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"trajectory: {path} is not a file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    text = read_text(path)
    name = format or _guess(path, text)
    if name not in _READERS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    return _READERS[name](path, text, optics)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without the byte order mark that some editors put before it.

    Raises:
        ValueError: it is not UTF-8; names the file.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text, got bytes that are not UTF-8 at {error.start}") from None


def _guess(path: Path, text: str) -> str:
    if path.suffix == ".json":
        return "nerfstudio"
    rows = _rows(path, text, skip_links=True)
    widths = [len(values) for _, values in rows[:4]]
    guess = {8: "tum", 19: "realestate10k", 4: "matrices", 16: "matrices"}.get(widths[0])
    if guess is None:
        raise ValueError(
            f"{path}, line {rows[0][0]}: expected 4 or 16 (matrices), 8 (TUM) or 19 (RealEstate10K) numbers, "
            f"got {widths[0]}"
        )
    return guess


def _rows(path: Path, text: str, skip_links: bool = False) -> Rows:
    """Numbers of each line with the line's number, without comments and empty lines."""
    rows: Rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#") or (skip_links and not rows and line.startswith(("http://", "https://"))):
            continue
        try:
            values = [float(word) for word in line.replace(",", " ").split()]
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected numbers, got {str(error).split(': ')[-1]}") from None
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{path}, line {number}: expected finite numbers, got {line!r}")
        rows.append((number, values))
    if not rows:
        raise ValueError(f"{path}: expected at least one pose, got none")
    return rows


def _checked(path: Path, lines: Sequence[int | str], poses: Tensor) -> Tensor:
    """The poses, if each is a rigid transform; the first that is not is named by its line."""
    for line, pose in zip(lines, poses, strict=True):
        try:
            check_pose(pose)
        except ValueError as error:
            place = f"line {line}" if isinstance(line, int) else line
            raise ValueError(f"{path}, {place}: {error}") from None
    return poses


def _read_matrices(path: Path, text: str, _optics: bool) -> Trajectory:
    rows = _rows(path, text)
    width = len(rows[0][1])
    if width not in (4, 16):
        raise ValueError(f"{path}, line {rows[0][0]}: expected 4 or 16 numbers, got {width}")
    for number, values in rows:
        if len(values) != width:
            raise ValueError(f"{path}, line {number}: expected {width} numbers like the first line, got {len(values)}")
    per_pose = 16 // width
    if len(rows) % per_pose:
        raise ValueError(f"{path}, line {rows[-1][0]}: expected 4 rows for each pose, got {len(rows)} rows in all")
    poses = torch.tensor([values for _, values in rows], dtype=torch.float64).reshape(-1, 4, 4)
    return Trajectory(_checked(path, [number for number, _ in rows[::per_pose]], poses))


def _read_tum(path: Path, text: str, _optics: bool) -> Trajectory:
    rows = _rows(path, text)
    for number, values in rows:
        if len(values) != 8:
            raise ValueError(
                f"{path}, line {number}: expected timestamp tx ty tz qx qy qz qw, got {len(values)} numbers"
            )
        length = math.sqrt(sum(value * value for value in values[4:]))
        if abs(length - 1) > 0.01:
            raise ValueError(f"{path}, line {number}: expected a quaternion of unit length, got length {length:.4g}")
    table = torch.tensor([values for _, values in rows], dtype=torch.float64)
    _increasing(path, rows)
    return Trajectory(pose_from_quaternion(table[:, 1:4], table[:, 4:]), stamps=table[:, 0])


def _increasing(path: Path, rows: Rows) -> None:
    for (_, before), (number, after) in pairwise(rows):
        if after[0] <= before[0]:
            raise ValueError(
                f"{path}, line {number}: expected a later timestamp than {before[0]:.6f}, got {after[0]:.6f}"
            )


def _read_realestate10k(path: Path, text: str, optics: bool) -> Trajectory:
    rows = _rows(path, text, skip_links=True)
    for number, values in rows:
        if len(values) != 19:
            raise ValueError(
                f"{path}, line {number}: expected timestamp, fx fy cx cy k1 k2 and a 3x4 matrix, "
                f"got {len(values)} numbers"
            )
        if optics and (values[5] != 0 or values[6] != 0):
            raise ValueError(f"{path}, line {number}: expected no distortion (k1 = k2 = 0), got {values[5:7]}")
    _increasing(path, rows)
    table = torch.tensor([values for _, values in rows], dtype=torch.float64)
    world2cam = torch.eye(4, dtype=torch.float64).repeat(len(table), 1, 1)
    world2cam[:, :3] = table[:, 7:].reshape(-1, 3, 4)
    lines = [number for number, _ in rows]
    # Timestamps are microseconds of the video.
    cam2world, stamps = invert(_checked(path, lines, world2cam)), table[:, 0] / 1e6
    if not optics:
        return Trajectory(cam2world, stamps)
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(len(table), 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 0, 2], intrinsics[:, 1, 2] = table[:, 1:5].T
    for number, matrix in zip(lines, intrinsics, strict=True):
        _check_matrix(f"{path}, line {number}", matrix)
    return Trajectory(cam2world, stamps, intrinsics, normalised=True)


def _check_matrix(place: str, intrinsics: Tensor) -> None:
    try:
        check_intrinsics(intrinsics)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _read_nerfstudio(path: Path, text: str, optics: bool) -> Trajectory:
    frames = frames_of(path, text)
    places = [f"frames[{index}].transform_matrix" for index in range(len(frames))]
    poses = _checked(path, places, poses_of(path, frames))
    if not optics:
        return Trajectory(poses)
    intrinsics, height, width = intrinsics_of(path, frames)
    for index, matrix in enumerate(intrinsics):
        _check_matrix(f"{path}, frames[{index}]", matrix)
    return Trajectory(poses, intrinsics=intrinsics, height=height, width=width)


_READERS: dict[str, Callable[[Path, str, bool], Trajectory]] = {
    "matrices": _read_matrices,
    "tum": _read_tum,
    "nerfstudio": _read_nerfstudio,
    "realestate10k": _read_realestate10k,
}
