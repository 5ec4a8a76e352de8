"""Sensors as they are: what colour and depth cameras, their calibration and odometry do to a perfect frame.

Strength 1 is what is usual of a consumer RGB-D camera indoors; faults grow in proportion. Sizes in pixels are those of
a frame 640 wide and scale with the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.recordings.clips import Clip
from mirage_ros.rgbd import RgbdFrame

Colours = NDArray[np.float32]
Depth = NDArray[np.float32]
Random = np.random.Generator
# Width of the frame that sizes in pixels belong to.
WIDTH = 640
# Metres between projector or second eye and camera, and the focal length in pixels at that width.
BASELINE, FOCAL = 0.075, 580.0


def exposure(rgb: Colours, strength: float, rng: Random) -> Colours:
    """Half a stop more or less light."""
    return _encoded(_linear(rgb) * 2 ** (0.5 * strength * rng.choice([-1, 1])))


def white_balance(rgb: Colours, strength: float, rng: Random) -> Colours:
    """Warmer or colder: red against blue, by a quarter."""
    warm = 0.12 * strength * rng.choice([-1, 1])
    return _encoded(_linear(rgb) * np.exp(np.array([warm, 0.0, -warm], np.float32)))


def gamma(rgb: Colours, strength: float, rng: Random) -> Colours:
    """Another tone curve."""
    return rgb ** np.float32(np.exp(0.15 * strength * rng.choice([-1, 1])))


def vignetting(rgb: Colours, strength: float, rng: Random) -> Colours:
    """A third less light in the corners."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius = np.hypot((x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5) / np.hypot(0.5, 0.5)
    return _encoded(_linear(rgb) * (1 - 0.35 * strength * radius[..., None] ** 2).clip(0))


def blur(rgb: Colours, strength: float, rng: Random) -> Colours:
    """Out of focus and moved: a Gaussian of 2 pixels."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), max(1e-3, 2.0 * strength * rgb.shape[1] / WIDTH)))


def noise(rgb: Colours, strength: float, rng: Random) -> Colours:
    """Of photons and of reading them: 2 % of white, 1 % of black."""
    deviation = strength * np.sqrt(0.0003 * rgb + 0.0001)
    return (rgb + deviation * rng.standard_normal(rgb.shape, np.float32)).clip(0, 1)


def jpeg(rgb: Colours, strength: float, rng: Random) -> Colours:
    """Compressed at quality 60."""
    quality = int(np.clip(100 - 40 * strength, 5, 100))
    pixels = (rgb * 255).round().astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return decoded[..., ::-1].astype(np.float32) / np.float32(255)


def holes(depth: Depth, strength: float, rng: Random) -> Depth:
    """Nothing measured in blobs, a tenth of the frame, and where surfaces turn away."""
    height, width = depth.shape
    coarse = rng.standard_normal((max(2, height // 16), max(2, width // 16))).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    missing = field > np.quantile(field, 1 - min(1.0, 0.1 * strength))
    slope = np.hypot(*np.gradient(np.where(depth > 0, depth, 0))) * width / np.maximum(depth, 0.1)
    return np.where(missing | (slope * strength > 12), np.float32(0), depth)


def bleed(depth: Depth, strength: float, rng: Random) -> Depth:
    """What is near grows over its edge by 3 pixels."""
    grown = round(3 * strength * depth.shape[1] / WIDTH)
    far = np.where(depth > 0, depth, np.float32(1e6))
    near = cv2.erode(far, np.ones((2 * grown + 1,) * 2, np.uint8))
    return np.where(near < 1e6, near, np.float32(0)) if grown else depth


def quantisation(depth: Depth, strength: float, rng: Random) -> Depth:
    """Disparity in eighths of a pixel: 3 cm at 3 m."""
    step = strength / 8
    disparity = np.round(BASELINE * FOCAL / np.maximum(depth, 1e-3) / step) * step
    measured = (depth > 0) & (disparity > 0)
    return np.where(measured, BASELINE * FOCAL / np.maximum(disparity, step), 0).astype(np.float32)


def depth_range(depth: Depth, strength: float, rng: Random) -> Depth:
    """Nothing nearer than .4 m or farther than 5 m."""
    return np.where((depth > 0.4 * strength) & (depth < 5 / max(strength, 1e-3)), depth, np.float32(0))


def depth_noise(depth: Depth, strength: float, rng: Random) -> Depth:
    """Grows with the square of depth: 1 cm at 2.5 m."""
    return (depth + 0.0016 * strength * depth**2 * rng.standard_normal(depth.shape, np.float32)).astype(np.float32)


def misregistration(depth: Depth, strength: float, rng: Random) -> Depth:
    """Depth stands 4 pixels beside colour."""
    shift = round(4 * strength * depth.shape[1] / WIDTH) * int(rng.choice([-1, 1]))
    moved = np.roll(depth, shift, axis=1)
    if shift > 0:
        moved[:, :shift] = 0
    elif shift < 0:
        moved[:, shift:] = 0
    return moved


def pose(camera: Camera, strength: float, rng: Random) -> Camera:
    """A pose that is 1 cm and .5 degrees off."""
    axis, direction = (torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal(3)), dim=0) for _ in range(2))
    moved = camera.cam2world.double().clone()
    turn, _ = cv2.Rodrigues((axis * np.radians(0.5 * strength)).numpy())
    moved[:3, :3] = moved[:3, :3] @ torch.from_numpy(turn)
    moved[:3, 3] += 0.01 * strength * direction
    return camera.at(moved.to(camera.cam2world.dtype))


OF_COLOUR: dict[str, Callable[[Colours, float, Random], Colours]] = {
    "exposure": exposure,
    "white-balance": white_balance,
    "gamma": gamma,
    "vignetting": vignetting,
    "blur": blur,
    "noise": noise,
    "jpeg": jpeg,
}
OF_DEPTH: dict[str, Callable[[Depth, float, Random], Depth]] = {
    "bleed": bleed,
    "holes": holes,
    "quantisation": quantisation,
    "range": depth_range,
    "depth-noise": depth_noise,
    "misregistration": misregistration,
}
# Sensors of a kind have these.
SENSORS: dict[str, tuple[str, ...]] = {
    "structured-light": (*OF_COLOUR, *OF_DEPTH, "pose"),
    "time-of-flight": (*OF_COLOUR, "holes", "range", "depth-noise", "pose"),
    "stereo": (*OF_COLOUR, "bleed", "holes", "quantisation", "depth-noise", "pose"),
}
FAULTS = (*OF_COLOUR, *OF_DEPTH, "pose")
# Ten times what is usual is no camera any more.
STRONGEST = 10.0
# What a network can learn to undo: the others change what is true of a frame by itself.
LEARNABLE = ("blur", "noise", "jpeg", "bleed", "holes", "quantisation", "range", "depth-noise")


def check_sensor(sensor: str, strength: float) -> tuple[str, ...]:
    """The faults of a sensor.

    Raises:
        ValueError: there is no such sensor or fault, or the strength is no number from 0 to 10.
    """
    faults = SENSORS.get(sensor, (sensor,))
    if not set(faults) <= set(FAULTS):
        raise ValueError(f"sensor: expected one of {', '.join((*SENSORS, *FAULTS))}, got {sensor!r}")
    _check_strength(strength)
    return faults


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= STRONGEST:
        raise ValueError(f"strength: expected a number from 0 to {STRONGEST:g}, got {strength}")


def sensed(frame: RgbdFrame, faults: Sequence[str], strength: float, rng: Random) -> RgbdFrame:
    """A perfect frame as a sensor would give it.

    Args:
        frame: single, with depth.
        faults: out of FAULTS, in their order; those of a sensor by `check_sensor`.
        strength: 0 for none, 1 for what is usual.
        rng: of the faults.

    Raises:
        ValueError: there is no such fault, or the strength is no number from 0 to 10.
    """
    if not set(faults) <= set(FAULTS):
        raise ValueError(f"faults: expected some of {', '.join(FAULTS)}, got {faults!r}")
    _check_strength(strength)
    if strength == 0:
        return frame
    rgb, depth, camera = frame.rgb.astype(np.float32) / np.float32(255), frame.depth, frame.camera
    far = np.zeros(rgb.shape[:2], np.bool_) if depth is None else np.isposinf(depth)
    for fault in faults:
        if fault in OF_COLOUR:
            rgb = OF_COLOUR[fault](rgb, strength, rng).astype(np.float32).clip(0, 1)
        elif fault in OF_DEPTH and depth is not None:
            finite = OF_DEPTH[fault](np.where(np.isfinite(depth), depth, np.float32(0)), strength, rng)
            # That the sky is far is not measured, nor spoilt.
            depth = np.where(far, np.float32(np.inf), finite).astype(np.float32)
        elif fault == "pose":
            camera = pose(camera, strength, rng)
    return replace(frame, rgb=(rgb * 255).round().astype(np.uint8), depth=depth, camera=camera)


def sensed_clip(clip: Clip, faults: Sequence[str], strength: float, rng: Random) -> Clip:
    """The frames of a clip as a sensor would give them, each with faults of its own; see `sensed`."""
    frames = [RgbdFrame(one.rgb, one.sensed, one.camera) for one in clip]
    walk = RgbdFrame.stacked([sensed(frame, faults, strength, rng) for frame in frames])
    assert walk.depth is not None
    depth = np.where(np.isfinite(walk.depth), walk.depth, np.float32(0))
    return replace(clip, rgb=walk.rgb, depth=depth, camera=walk.camera)


def _linear(rgb: Colours) -> Colours:
    return rgb ** np.float32(2.2)


def _encoded(light: Colours) -> Colours:
    return light.clip(0, 1) ** np.float32(1 / 2.2)
