"""Depth of one camera as another beside it would have measured it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.poses import invert

# Metres at which what is too far to measure (+inf) is taken to lie.
_HORIZON = 1e6
# The square of a pixel is drawn at most this many times as large as it is for equal distances: that of a surface right
# before the target would cover all of it.
_LARGEST = 8
# Two pinholes see the same within this share of the focal length and of the image's size.
_SAME_OPTICS = 0.01


def same_optics(one: Camera, other: Camera) -> bool:
    """Whether two cameras at one place see the same, at whatever resolution."""
    scaled = one.resized(other.height, other.width).intrinsics - other.intrinsics
    focal = float(other.intrinsics[0, 0])
    return float(scaled[:2, :2].abs().max()) <= _SAME_OPTICS * focal and float(
        scaled[:2, 2].abs().max()
    ) <= _SAME_OPTICS * max(other.width, other.height)


def register_depth(depth: NDArray[np.float32], camera: Camera, target: Camera) -> NDArray[np.float32]:
    """Depth (H, W) of a camera in the pixels of another one, metres along that one's optical axis.

    Each pixel is carried over as a square that faces the camera, so that a finer target has no gaps; where several
    fall on one pixel the nearest wins (as librealsense aligns depth to colour).

    Args:
        depth: float32 metres, 0 or NaN unknown, +inf too far to measure.
        camera: single, of the depth.
        target: single, in the same world.

    Returns:
        (target.height, target.width) float32 metres, 0 where nothing is known, +inf too far.
    """
    rows, columns = np.nonzero(depth > 0)
    metres = np.minimum(depth[rows, columns].astype(np.float64), _HORIZON)
    move = invert(target.cam2world.double()) @ camera.cam2world.double()
    rotation, shift = move[:3, :3].numpy(), move[:3, 3:].numpy()
    inverse = torch.linalg.inv(camera.intrinsics.double()).numpy()
    matrix = target.intrinsics.double().numpy()

    def seen(offset: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rays = inverse @ np.stack([columns + offset, rows + offset, np.ones_like(metres)])
        points = rotation @ (rays * metres) + shift
        front = np.where(points[2] > 0, points[2], np.nan)
        return (matrix @ (points / front))[:2], front

    centre, distance = seen(0.5)
    first, last = seen(0.0)[0], seen(1.0)[0]
    # Pixels whose centres lie in the square.
    reach = _LARGEST / 2 * max(1.0, float((matrix @ inverse).diagonal()[:2].max()))
    start = np.ceil(np.maximum(np.minimum(first, last), centre - reach) - 0.5)
    stop = np.ceil(np.minimum(np.maximum(first, last), centre + reach) - 0.5)
    size = np.array([[target.width], [target.height]])
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(start + stop).all(axis=0) & (stop > 0).all(axis=0) & (start < size).all(axis=0)
    distance = distance[inside]
    start, stop = (np.clip(edge[:, inside], 0, size).astype(np.int64) for edge in (start, stop))
    nearest = np.full(target.height * target.width, np.inf)
    spans = (stop - start).max(axis=1, initial=0)
    for down in range(spans[1]):
        for across in range(spans[0]):
            x, y = start[0] + across, start[1] + down
            covered = (x < stop[0]) & (y < stop[1])
            np.minimum.at(nearest, y[covered] * target.width + x[covered], distance[covered])
    nearest[np.isinf(nearest)] = 0
    nearest[nearest > _HORIZON / 100] = np.inf
    return nearest.reshape(target.height, target.width).astype(np.float32)
