"""RGB-D walks in folders: colour, depth and pose of each frame, one camera for all.

The layout is that of 7-Scenes and tsdf-fusion: frame-NNNNNN.color.jpg (or .png), frame-NNNNNN.depth.png (16 bit,
millimetres, 0 and 65535 invalid), frame-NNNNNN.pose.txt (cam2world 4x4, optical axes) and camera-intrinsics.txt (3x3,
pixel centres at integers).

Where depth was measured by a camera of its own, depth-intrinsics.txt (3x3) and depth-to-color.txt (4x4: takes points of
the depth camera to the colour camera, metres, optical axes) lie beside: depth, of any size, is then registered to the
colours as it is read. Both files, or none.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera, check_intrinsics, intrinsics_from_ros
from mirage_ros.images import doubt_of_optics
from mirage_ros.media import read_depth, read_picture
from mirage_ros.recordings.registration import register_depth
from mirage_ros.recordings.trajectories import read_text, read_trajectory
from mirage_ros.rgbd import RgbdFrame

_FRAME = re.compile(r"(.+)\.color\.(jpg|jpeg|png)")
_PARTS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, eq=False)
class MeasuredFrame(RgbdFrame):
    """A frame with depth: (H, W) float32 metres, 0 where invalid."""

    depth: NDArray[np.float32]


def read_intrinsics(path: Path, field: str) -> Tensor:
    """Intrinsics (3, 3) float64, centre convention, of a text file of 3x3 numbers with pixel centres at integers.

    Args:
        path: of the file.
        field: what asks for it, for the messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or no pinhole camera.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{field}: {path} is missing")
    try:
        matrix = np.loadtxt(StringIO(read_text(path).replace(",", " ")), dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{field}: expected 3x3 numbers in {path}, {error}") from None
    if matrix.shape != (3, 3):
        raise ValueError(f"{field}: expected 3x3 numbers in {path}, got {matrix.shape}")
    intrinsics = torch.from_numpy(matrix)
    check_intrinsics(intrinsics, name=f"{field} {path}")
    return intrinsics_from_ros(intrinsics)


def by_number(name: str) -> list[int | str]:
    """Orders names by the numbers in them: every other part is one."""
    return [int(part) if index % 2 else part for index, part in enumerate(_PARTS.split(name))]


class RgbdFolder:
    """A recorded walk; poses and intrinsics are read at once, frames one by one as they are asked for.

    Attributes:
        names: of the frames.
        cam2world: (T, 4, 4) float64.

    Raises:
        FileNotFoundError: the folder, its intrinsics, or a frame's depth or pose is missing.
        ValueError: a pose or the intrinsics are not usable.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise FileNotFoundError(f"rgbd: {self._folder} is not a folder")
        matches = (_FRAME.fullmatch(path.name) for path in self._folder.iterdir())
        self._images = {match[1]: match[0] for match in matches if match}
        # frame-9 is before frame-10.
        self.names = sorted(self._images, key=by_number)
        if not self.names:
            raise FileNotFoundError(f"rgbd: {self._folder} holds no frame (NAME.color.jpg)")
        for name in self.names:
            for suffix in ("depth.png", "pose.txt"):
                if not (self._folder / f"{name}.{suffix}").is_file():
                    raise FileNotFoundError(f"rgbd: {self._folder / name}.{suffix} is missing")
        self._intrinsics = read_intrinsics(self._folder / "camera-intrinsics.txt", "rgbd")
        self._sensor = self._depth_camera()
        self.cam2world: Tensor = torch.cat([self._pose(f"{name}.pose.txt") for name in self.names])
        self._size: tuple[int, ...] | None = None
        if (doubt := doubt_of_optics(self[0].camera)) is not None:
            warnings.warn(f"rgbd: {self._folder / 'camera-intrinsics.txt'}: {doubt}", stacklevel=2)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> MeasuredFrame:
        """Read one frame.

        Raises:
            ValueError: an image is damaged, or colour and depth differ in size.
        """
        name = self.names[index]
        rgb = read_picture(self._folder / self._images[name], "rgbd")
        self._size = self._size or rgb.shape[:2]
        if rgb.shape[:2] != self._size:
            raise ValueError(
                f"{self._folder / self._images[name]}: expected {self._size} pixels as in the first frame read, "
                f"got {rgb.shape[:2]}"
            )
        depth = read_depth(self._folder / f"{name}.depth.png", "rgbd")
        if self._sensor is None and depth.shape != self._size:
            raise ValueError(f"{self._folder / name}.depth.png: expected {self._size} pixels, got {depth.shape}")
        camera = Camera(self._intrinsics, self.cam2world[index], *rgb.shape[:2])
        if self._sensor is not None:
            # In the colour camera's own axes: recorded rotations are rounded, and their inverses are not exact.
            intrinsics, move = self._sensor
            here = camera.at(torch.eye(4, dtype=torch.float64))
            depth = register_depth(depth, Camera(intrinsics, move, *depth.shape), here)
        return MeasuredFrame(rgb, depth, camera)

    def __iter__(self) -> Iterator[MeasuredFrame]:
        return (self[index] for index in range(len(self)))

    def _pose(self, name: str) -> Tensor:
        """(1, 4, 4) of a file."""
        poses = read_trajectory(self._folder / name, "matrices").cam2world
        if len(poses) != 1:
            raise ValueError(f"{self._folder / name}: expected one pose, got {len(poses)}")
        return poses

    def _depth_camera(self) -> tuple[Tensor, Tensor] | None:
        """Intrinsics of the camera that measured depth, and what takes its points to the colour camera."""
        files = [self._folder / name for name in ("depth-intrinsics.txt", "depth-to-color.txt")]
        missing = [file for file in files if not file.is_file()]
        if len(missing) == len(files):
            return None
        if missing:
            raise FileNotFoundError(f"rgbd: {missing[0]} is missing, depth has a camera of its own")
        return read_intrinsics(files[0], "rgbd"), self._pose(files[1].name)[0]
