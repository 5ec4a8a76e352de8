"""The ceiling of a recording: true pixels of the first frame, brought over by the sensor's own depth.

No memory can show what the first frame saw better than the recording itself is consistent: poses, depth, exposure.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.evaluation.cases import Case

# What no pixel of the first frame tells.
GREY = 128
# Fewer co-visible pixels tell no gain.
LEAST_PIXELS = 100


def moved_pixels(case: Case, *, fit_gain: bool = False) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) out of the first one's pixels, bilinearly, where it sees what they see; grey elsewhere.

    Args:
        case: with true depth.
        fit_gain: multiply the colours that are brought over by the usual ratio to the true ones, for each frame and
            channel.
    """
    clip = case.clip
    camera = clip.camera.to(dtype=torch.float64)
    points = camera.lift(torch.from_numpy(clip.depth.astype(np.float64))).flatten(1, 2)
    pixels, _ = camera[0].project(points)
    # The middle of the first pixel is at .5 here, at 0 for OpenCV.
    places = (pixels.reshape(*clip.depth.shape, 2) - 0.5).nan_to_num(-10.0).float()
    rows, columns = places[..., 1].contiguous().numpy(), places[..., 0].contiguous().numpy()
    frames = np.full_like(clip.rgb, GREY)
    for frame, truth, x, y, visible in zip(frames, clip.rgb, columns, rows, case.visible, strict=True):
        whole = cv2.remap(clip.rgb[0], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        brought = np.asarray(whole)[visible]
        if fit_gain and len(brought) >= LEAST_PIXELS:
            ratio = (truth[visible] + 1.0) / (brought + 1.0)
            brought = np.clip(np.round(brought * np.median(ratio, axis=0)), 0, 255).astype(np.uint8)
        frame[visible] = brought
    frames[0] = clip.rgb[0]
    return frames
