"""Pictures of the demo: frames beside each other, and the memory's cloud."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.images import fit_colour
from mirage_ros.media import BACKGROUND, CAPTION_HEIGHT, Pixels
from mirage_ros.trajectory import look_at


def fitted(rgb: Pixels, height: int, width: int) -> Pixels:
    """The middle of a picture, cut to a shape and scaled."""
    colour = fit_colour(torch.tensor(rgb), height, width) * 255
    return colour.round().byte().permute(1, 2, 0).contiguous().numpy()


def captioned(panels: Iterable[tuple[str, Pixels]]) -> Pixels:
    """Panels of one height beside each other, a caption above each."""
    columns = []
    for caption, panel in panels:
        head = np.full((CAPTION_HEIGHT, panel.shape[1], 3), BACKGROUND, np.uint8)
        cv2.putText(head, caption, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
        columns.append(np.concatenate([head, panel]))
    return np.concatenate(columns, axis=1)


def cloud_view(points: NDArray[np.float32], poses: Tensor) -> Camera:
    """A camera behind and above the first pose that looks at the middle of the cloud."""
    middle = torch.from_numpy(np.median(points, axis=0)).double()
    start, forward = poses[0, :3, 3].double(), poses[0, :3, 2].double()
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    extent = float(np.percentile(np.linalg.norm(points - middle.numpy(), axis=1), 90))
    eye = start - forward * 0.7 * extent + up * 0.9 * extent
    return pinhole(480, 720, vertical_fov=0.9, cam2world=look_at(eye, middle))


def draw_cloud(points: NDArray[np.float32], colours: Pixels, camera: Camera, poses: Tensor, radius: float) -> Pixels:
    """Points (N, 3) in metres, each a disc, near ones over far ones; poses (T, 4, 4) are an orange line."""
    picture = np.full((camera.height, camera.width, 3), BACKGROUND, np.uint8)
    pixels, depth = camera.project(torch.from_numpy(points).double())
    focal = float(camera.intrinsics[0, 0])
    for index in np.argsort(-depth.numpy()):
        z = float(depth[index])
        if z > 0.1:
            x, y = pixels[index].tolist()
            size = max(1, min(40, round(radius * focal / z)))
            cv2.circle(picture, (round(x), round(y)), size, colours[index].tolist(), -1, cv2.LINE_AA)
    track, ahead = camera.project(poses[:, :3, 3].double())
    line = [(round(x), round(y)) for (x, y), z in zip(track.tolist(), ahead.tolist(), strict=True) if z > 0.1]
    for start, end in pairwise(line):
        cv2.line(picture, start, end, (236, 112, 64), 2, cv2.LINE_AA)
    return picture
