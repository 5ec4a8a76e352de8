"""RGB-D walks in folders: colour, depth and pose of each frame, one camera for all.

The layout is that of 7-Scenes and tsdf-fusion: frame-NNNNNN.color.jpg (or .png), frame-NNNNNN.depth.png (16 bit,
millimetres, 0 and 65535 invalid), frame-NNNNNN.pose.txt (cam2world 4x4, optical axes) and camera-intrinsics.txt (3x3,
pixel centres at integers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera, check_intrinsics, intrinsics_from_ros
from mirage_ros.recordings.trajectories import read_trajectory
from mirage_ros.rgbd import RgbdFrame

_FRAME = re.compile(r"(.+)\.color\.(jpg|jpeg|png)")
# The largest distance that 16 bits of millimetres hold; 65535 means that nothing was measured.
_MAX_MILLIMETRES = 65534


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
        matrix = np.loadtxt(path, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{field}: expected 3x3 numbers in {path}, {error}") from None
    if matrix.shape != (3, 3):
        raise ValueError(f"{field}: expected 3x3 numbers in {path}, got {matrix.shape}")
    intrinsics = torch.from_numpy(matrix)
    check_intrinsics(intrinsics, name=f"{field} {path}")
    return intrinsics_from_ros(intrinsics)


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
        self.names = sorted(self._images)
        if not self.names:
            raise FileNotFoundError(f"rgbd: {self._folder} holds no frame (NAME.color.jpg)")
        for name in self.names:
            for suffix in ("depth.png", "pose.txt"):
                if not (self._folder / f"{name}.{suffix}").is_file():
                    raise FileNotFoundError(f"rgbd: {self._folder / name}.{suffix} is missing")
        self._intrinsics = read_intrinsics(self._folder / "camera-intrinsics.txt", "rgbd")
        self.cam2world: Tensor = torch.cat(
            [read_trajectory(self._folder / f"{name}.pose.txt", "matrices").cam2world for name in self.names]
        )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> MeasuredFrame:
        """Read one frame.

        Raises:
            ValueError: an image is damaged, or colour and depth differ in size.
        """
        name = self.names[index]
        bgr = self._image(self._images[name], cv2.IMREAD_COLOR)
        millimetres: NDArray[Any] = self._image(f"{name}.depth.png", cv2.IMREAD_UNCHANGED)
        if millimetres.dtype != np.uint16 or millimetres.shape != bgr.shape[:2]:
            raise ValueError(
                f"{self._folder / name}.depth.png: expected {bgr.shape[:2]} of 16 bits, "
                f"got {millimetres.shape} {millimetres.dtype}"
            )
        depth = np.where(millimetres <= _MAX_MILLIMETRES, millimetres, 0).astype(np.float32) / np.float32(1000)
        camera = Camera(self._intrinsics, self.cam2world[index], *bgr.shape[:2])
        return MeasuredFrame(np.ascontiguousarray(bgr[..., ::-1], np.uint8), depth, camera)

    def __iter__(self) -> Iterator[MeasuredFrame]:
        return (self[index] for index in range(len(self)))

    def _image(self, name: str, flags: int) -> NDArray[Any]:
        image: NDArray[Any] | None = cv2.imread(str(self._folder / name), flags)
        if image is None:
            raise ValueError(f"{self._folder / name}: expected an image, got a damaged or foreign file")
        return image
