"""`mirage eval worldscore`: WorldScore (Duan et al., arXiv 2504.00983), its samples in, its folder layout out.

With a folder of samples, each a folder with image_data.json and camera_data.json, this package alone imagines them.
Without one, the package worldscore says what to imagine: its runner gives for each sample a first image, prompts and
cameras, and takes frames back through its helper.

Facts of its format: cameras are cam2world with Blender's axes (x right, y up, z back), the first at the image; the
focal length of its configuration, 500, is in pixels of the sample's own resolution, principal point in the middle; with
`camera_type: blender` cameras are handed over as world2cam with those axes. Frames go to SAMPLE/frames/NNN.png and
SAMPLE/videos/output.mp4, the sample's description to image_data.json, the cameras to camera_data.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mirage_ros.evaluation.model_options import ModelOptions
from mirage_ros.geometry import Camera
from mirage_ros.media import read_picture, save_png
from mirage_ros.perception.pipeline import Perception
from mirage_ros.perception.registry import make_perception
from mirage_ros.poses import check_pose, invert
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.video import write_video
from mirage_ros.world.model import WorldModel

Split = Literal["static", "dynamic"]
# Axes: Blender's y and z point the other way.
_BLENDER = torch.diag(torch.tensor((1.0, -1.0, -1.0, 1.0), dtype=torch.float64))
# Frames a second of a film.
FPS = 10.0


@dataclass
class WorldScoreOptions(ModelOptions):
    """Imagine the samples of WorldScore, and write them in its layout."""

    folder: tyro.conf.Positional[Path | None] = None
    """of samples; without one the package worldscore gives them and takes them back"""
    out: Path = Path("out/eval/worldscore")
    """a subfolder for each sample of the folder"""
    images: Path | None = None
    """where paths of images begin; the folder by default"""
    split: Split = "static"
    model_name: str = "mirage"
    """under which worldscore's configuration knows this model"""
    depth_estimator: str = "depth-anything"
    """of the image and of imagined frames: WorldScore gives no depth"""
    depth_weights: str | None = None
    """folder or hub repository; the estimator's own by default"""
    dynamic_filter: str = "geometric"
    """what imagined frames leave out of the memory"""


def cameras_from_worldscore(
    matrices: Tensor | NDArray[np.floating] | Sequence[Any], height: int, width: int, focal_length: float = 500.0
) -> Camera:
    """Optical cameras of an image's pixels from (T, 4, 4) cam2world with Blender's axes, as in camera_data.json.

    Raises:
        ValueError: not rigid (T, 4, 4) matrices, or a focal length in pixels that is not positive.
    """
    poses = torch.as_tensor(np.asarray(matrices, dtype=np.float64))
    if poses.ndim != 3 or not len(poses):
        raise ValueError(f"cameras: expected (T, 4, 4) matrices, got {tuple(poses.shape)}")
    check_pose(poses, name="cameras")
    if not focal_length > 0:
        raise ValueError(f"focal_length: expected positive pixels, got {focal_length}")
    intrinsics = torch.tensor(
        [[focal_length, 0, width / 2], [0, focal_length, height / 2], [0, 0, 1]], dtype=torch.float64
    )
    return Camera(intrinsics, poses @ _BLENDER, height, width)


def cameras_to_worldscore(camera: Camera) -> NDArray[np.float64]:
    """(T, 4, 4) cam2world with Blender's axes, for camera_data.json."""
    return (camera.cam2world.double().cpu() @ _BLENDER).numpy()


def imagine_sample(
    world: WorldModel,
    perception: Perception,
    image: NDArray[np.uint8],
    camera: Camera,
    prompt: str = "",
    seed: int = 0,
) -> NDArray[np.uint8]:
    """The frames (T, H', W', 3) of one sample, at the model's size.

    A length that the model does not take is filled up with the last camera and cut off again.

    Args:
        perception: estimates depth of the image and of the frames; WorldScore gives none. Its scale is that of the
            cameras only as far as the estimator is metric.
        image: (H, W, 3) first frame.
        camera: (T,) cameras; the first is that of the image.
        prompt: for presets that take text.
    """
    count = len(camera)
    length = world.frames_for(count)
    if length < count:
        length += world.time_stride
    index = torch.arange(length).clamp(max=count - 1)
    memory, history = world.new_memory(), world.new_history()
    frame = RgbdFrame(image, None, camera[0])
    world.observe(memory, frame, history=history, perception=perception)
    chunks = world.imagine(
        memory,
        camera[index],
        prompt=prompt if world.preset.text else "",
        first=frame,
        seed=seed,
        perception=perception,
        history=history,
    )
    return np.concatenate([chunk.rgb for chunk in chunks])[:count]


def write_sample(
    folder: Path,
    split: Split,
    description: dict[str, Any],
    frames: NDArray[np.uint8],
    camera: Camera,
    focal_length: float = 500.0,
) -> None:
    """Write a sample in WorldScore's layout without its package.

    Args:
        split: 'static' or 'dynamic'.
        description: the entry of WorldScore's JSON list; goes to image_data.json with the number of frames.
        frames: (T, H, W, 3).
        camera: (T,).
        focal_length: pixels.
    """
    for part in ("frames", "videos"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        save_png(folder / "frames" / f"{index:03d}.png", frame)
    write_video(folder / "videos" / "output.mp4", frames, FPS)
    data = {**description, "visual_movement": split, "total_frames": len(frames)}
    if split == "static":
        data.setdefault("anchor_frame_idx", [0, len(frames) - 1])
    cameras = {"focal_length": focal_length, "cameras_interp": cameras_to_worldscore(camera).tolist()}
    for name, content in (("image_data", data), ("camera_data", cameras)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=4) + "\n")


def imagine_folder(world: WorldModel, perception: Perception, options: WorldScoreOptions, folder: Path) -> None:
    """Imagine the samples of a folder into `options.out`.

    Raises:
        FileNotFoundError: the folder holds none, or an image or the cameras of one are missing.
        ValueError: a sample's files do not say what is needed.
    """
    samples = sorted(path.parent for path in folder.glob("*/image_data.json"))
    if not samples:
        raise FileNotFoundError(f"folder: expected samples with image_data.json in {folder}, got none")
    for sample in tqdm(samples, unit="sample"):
        description, cameras = (
            json.loads((sample / name).read_text()) for name in ("image_data.json", "camera_data.json")
        )
        for name, content, source in (("image", description, "image"), ("cameras_interp", cameras, "camera")):
            if name not in content:
                raise ValueError(f"{name}: expected in {sample}/{source}_data.json, got {', '.join(content) or 'none'}")
        image = read_picture((options.images or folder) / description["image"], "image")
        focal_length = float(cameras.get("focal_length", 500.0))
        camera = cameras_from_worldscore(cameras["cameras_interp"], image.shape[0], image.shape[1], focal_length)
        prompt = " ".join(description.get("prompt_list", ()))
        frames = imagine_sample(world, perception, image, camera, prompt, options.seed)
        write_sample(options.out / sample.name, options.split, description, frames, camera, focal_length)


def imagine_for_runner(world: WorldModel, perception: Perception, options: WorldScoreOptions) -> None:
    """Imagine what the package worldscore asks for, into the folders of its configuration.

    Raises:
        RuntimeError: the package is not installed.
    """
    try:
        from worldscore.benchmark.helpers import GetHelpers
    except ImportError as error:
        raise RuntimeError("folder: expected samples, or the package worldscore, which is not installed") from error
    samples, helper = GetHelpers(options.model_name, options.split)
    for sample in tqdm(samples, unit="sample"):
        keyframe, prompts, _, matrices = helper.adapt(sample)
        image, focal_length = np.asarray(keyframe.convert("RGB")), float(helper.focal_length)
        # As its adapters hand cameras over for camera_type 'blender'.
        camera = cameras_from_worldscore(
            invert(torch.as_tensor(matrices).double()), image.shape[0], image.shape[1], focal_length
        )
        frames = imagine_sample(world, perception, image, camera, " ".join(prompts), options.seed)
        helper.save([Image.fromarray(frame).resize(keyframe.size, Image.Resampling.LANCZOS) for frame in frames])


def main() -> None:
    """Run the command."""
    options = tyro.cli(WorldScoreOptions, prog="mirage eval worldscore", description=WorldScoreOptions.__doc__)
    world = options.load()
    perception = make_perception(
        options.depth_estimator, options.dynamic_filter, device=world.device, depth_source=options.depth_weights
    )
    if options.folder is None:
        imagine_for_runner(world, perception, options)
    else:
        imagine_folder(world, perception, options, options.folder)
        print(options.out)
