"""Frames of a recorded walk, whatever recorded them, and clips cut out of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.recordings.clips import SKY, STATIC, Clip


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


def clips_of(
    frames: Iterator[RecordedFrame],
    name: str,
    count: int,
    height: int,
    width: int,
    skip: int = 1,
    prompt: str = "",
) -> Iterator[Clip]:
    """Cut a walk into clips of one length and size; a rest that is too short is left out.

    Args:
        frames: in order.
        name: of the walk.
        count: frames of a clip.
        height, width: pixels; frames are cropped in the middle to this shape, then made smaller.
        skip: only every so many-th frame is taken.
        prompt: of the clips.

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
            yield _joined(held, f"{name}-{number:04d}", prompt)
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


def _joined(frames: list[RecordedFrame], name: str, prompt: str) -> Clip:
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
    # Too far to measure (REP-118).
    sky = np.isposinf(depth)
    labels, depth = np.where(sky, np.uint8(SKY), np.uint8(STATIC)), np.where(sky, np.float32(0), depth)
    return Clip(name, np.stack([frame.rgb for frame in frames]), depth, labels, camera, fps, prompt)
