"""What `mirage imagine` is asked: its options, and the files that they name."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from mirage_ros.evaluation.model_options import ModelOptions
from mirage_ros.geometry import Camera
from mirage_ros.images import doubt_of_optics, fit_colour, fit_nearest
from mirage_ros.media import read_depth, read_picture
from mirage_ros.recordings.rgbd_folder import RgbdFolder, read_intrinsics
from mirage_ros.recordings.trajectories import read_trajectory
from mirage_ros.world.model import WorldModel
from mirage_ros.world.options import Unseen


@dataclass(kw_only=True)
class ImagineOptions(ModelOptions):
    """Imagine what a camera would see along a trajectory, and write film, frames, depth, visibility and memory."""

    out: Path
    """folder for the results"""
    image: Path | None = None
    """first view: an image file"""
    depth: Path | None = None
    """its depth: 16-bit PNG in millimetres, 0 and 65535 unknown; or .npy in metres, 0 unknown, +inf too far (sky)"""
    camera: Path | None = None
    """its intrinsics: text file with 3x3 numbers, pixel centres at integers as in ROS and OpenCV"""
    trajectory: Path | None = None
    """target poses; the first is that of the image. 4x4 matrices, TUM, nerfstudio or RealEstate10K"""
    format: Annotated[str | None, tyro.conf.arg(help="of the trajectory; guessed by default")] = None
    rgbd: Path | None = None
    """a recorded walk in place of the five options above: its first frame is seen, the poses of all are imagined"""
    every: int = 1
    """take every n-th frame of the walk"""
    frames: int | None = None
    """imagine at most this many frames"""
    memory: Path | None = None
    """start from a memory file"""
    depth_estimator: str = "auto"
    """of imagined frames: joint, memory, sensor (recorded walks), depth-anything, map-anything, unidepth; auto takes
    the model's own, else the walk's, else the memory's"""
    dynamic_filter: str = "geometric"
    """what keeps moving things and sky out of the memory: none, geometric, open-vocabulary"""
    depth_weights: str | None = None
    """folder or hub repository of the depth estimator's weights; default: the published ones"""
    namer_weights: str | None = None
    """the same for the language model of the filter open-vocabulary"""
    segmenter_weights: str | None = None
    """the same for its segmenter"""
    prompt: str = ""
    steps: int | None = None
    """denoising steps; the preset's by default"""
    unseen: Unseen = "sample"
    """where nothing was seen: one of what may be there, or its mean, which errs least and looks like fog"""
    fps: float | None = None
    """of the film; the preset's by default"""


@dataclass(frozen=True, eq=False)
class ImagineTask:
    """What is asked for.

    Attributes:
        rgb: (H, W, 3) uint8 first view.
        depth: (H', W') float32 metres of it.
        camera: (T,) target cameras; the first is that of the image.
        truth: (T, h, w, 3) uint8 real views of the targets as the model would see them, where a walk was recorded.
        true_depth: (T, h, w) float32 metres of them.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    camera: Camera
    truth: NDArray[np.uint8] | None = None
    true_depth: torch.Tensor | None = None


SINGLE = ("image", "depth", "camera", "trajectory")


def check_options(options: ImagineOptions) -> None:
    """Refuse what can be seen to be wrong before anything is loaded or written.

    Raises:
        ValueError: an option is out of range, or options contradict each other; names it.
        FileNotFoundError: an input is missing, or a folder holds no walk.
    """
    for name, least in (("every", 1), ("frames", 1), ("steps", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise ValueError(f"fps: expected above 0 and at most 1000, got {options.fps}")
    given = [name for name in SINGLE if getattr(options, name) is not None]
    if options.rgbd is not None and given:
        raise ValueError(f"rgbd: expected alone, got {', '.join(given)} too")
    if options.rgbd is None and len(given) < len(SINGLE):
        missing = next(name for name in SINGLE if name not in given)
        raise ValueError(f"{missing}: expected with the others of {', '.join(SINGLE)}, or rgbd alone, got none")
    for name in (*SINGLE, "memory"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"{name}: {path} is not a file")
    if options.rgbd is not None:
        if not options.rgbd.is_dir():
            raise FileNotFoundError(f"rgbd: {options.rgbd} is not a folder")
        RgbdFolder(options.rgbd)
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"out: expected a folder, got the file {options.out}")


def read_task(options: ImagineOptions, world: WorldModel) -> ImagineTask:
    """Read the inputs that the options name, which `check_options` has passed.

    Raises:
        ValueError: an input does not fit; names it.
        FileNotFoundError: an input is missing.
    """
    if options.rgbd is not None:
        walk, size = RgbdFolder(options.rgbd), (world.height, world.width)
        indices = range(0, len(walk), options.every)
        frames = [walk[i] for i in indices[: world.frames_for(min(len(indices), options.frames or len(indices)))]]
        first = frames[0]
        camera = first.camera.at(torch.stack([frame.camera.cam2world for frame in frames]))
        colour = torch.stack([fit_colour(torch.from_numpy(frame.rgb), *size) for frame in frames])
        truth = (colour * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        true_depth = torch.stack([fit_nearest(torch.from_numpy(frame.depth), *size) for frame in frames])
        return ImagineTask(first.rgb, first.depth, camera, truth, true_depth)
    assert options.image is not None
    assert options.depth is not None
    assert options.camera is not None
    assert options.trajectory is not None
    rgb = read_picture(options.image, "image")
    intrinsics = read_intrinsics(options.camera, "camera")
    poses = read_trajectory(options.trajectory, options.format, optics=False).cam2world
    if options.frames is not None:
        poses = poses[: world.frames_for(options.frames)]
    camera = Camera(intrinsics, poses, *rgb.shape[:2])
    if (doubt := doubt_of_optics(camera)) is not None:
        warnings.warn(f"camera: {doubt}", stacklevel=2)
    return ImagineTask(rgb, _read_depth(options.depth), camera)


def _read_depth(path: Path) -> NDArray[np.float32]:
    if path.suffix == ".npy":
        try:
            metres = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"depth: expected an array of metres, got {path}: {error}") from None
        if metres.ndim != 2 or not np.issubdtype(metres.dtype, np.floating):
            raise ValueError(
                f"depth: expected (H, W) floating-point metres, got {metres.shape} {metres.dtype} in {path}"
            )
        return metres.astype(np.float32)
    return read_depth(path, "depth")
