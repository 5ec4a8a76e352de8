"""WorldScore (Duan et al., arXiv 2504.00983): its cameras and first images in, its folder layout out.

Its runner gives for each sample a first image, prompts, and cameras, and takes frames back through its helper:

    dataloader, helper = GetHelpers(model_name, visual_movement)            # of the package worldscore
    for data in dataloader:
        image, prompts, cameras, cameras_interp = helper.adapt(data)
        generate(world, perception, image, prompts, cameras_interp, helper)

Facts of its format: cameras are cam2world with Blender's axes (x right, y up, z back), the first at the image; the
focal length of its configuration, 500, is in pixels of the sample's own resolution, principal point in the middle; with
`camera_type: blender` cameras are handed over as world2cam with those axes. Frames go to SAMPLE/frames/NNN.png and
SAMPLE/videos/output.mp4, the sample's description to image_data.json, the cameras to camera_data.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mirage_ros.geometry import Camera, check_pose, invert
from mirage_ros.media import save_png
from mirage_ros.perception.pipeline import Perception
from mirage_ros.video import write_video
from mirage_ros.world.model import WorldModel

# Axes: Blender's y and z point the other way.
_BLENDER = (1.0, -1.0, -1.0, 1.0)
SPLITS = ("static", "dynamic")


class Helper(Protocol):
    """What is used of WorldScore's helper."""

    focal_length: float

    def save(self, all_interpframes: Sequence[Image.Image]) -> None:
        """Write frames and film of the current sample."""
        ...


def cameras_from_worldscore(
    matrices: Tensor | NDArray[np.floating] | Sequence[Any],
    height: int,
    width: int,
    focal_length: float = 500.0,
    *,
    world2cam: bool = False,
) -> Camera:
    """Optical cameras of WorldScore's matrices.

    Args:
        matrices: (T, 4, 4) cam2world with Blender's axes, as in camera_data.json.
        height, width: pixels of the sample's image.
        focal_length: pixels of that image.
        world2cam: the matrices are inverted, as WorldScore's adapters hand them over for camera_type 'blender'.

    Raises:
        ValueError: not rigid (T, 4, 4) matrices, or a focal length that is not positive.
    """
    poses = torch.as_tensor(np.asarray(matrices, dtype=np.float64))
    if poses.ndim != 3 or not len(poses):
        raise ValueError(f"cameras: expected (T, 4, 4) matrices, got {tuple(poses.shape)}")
    check_pose(poses, name="cameras")
    if not focal_length > 0:
        raise ValueError(f"focal_length: expected positive pixels, got {focal_length}")
    if world2cam:
        poses = invert(poses)
    optical = poses @ torch.diag(torch.tensor(_BLENDER, dtype=torch.float64))
    intrinsics = torch.tensor(
        [[focal_length, 0, width / 2], [0, focal_length, height / 2], [0, 0, 1]], dtype=torch.float64
    )
    return Camera(intrinsics, optical, height, width)


def cameras_to_worldscore(camera: Camera) -> NDArray[np.float64]:
    """(T, 4, 4) cam2world with Blender's axes, for camera_data.json."""
    turned = camera.cam2world.double().cpu() @ torch.diag(torch.tensor(_BLENDER, dtype=torch.float64))
    return turned.numpy()


def imagine_sample(
    world: WorldModel,
    perception: Perception,
    image: NDArray[np.uint8],
    camera: Camera,
    prompt: str = "",
    seed: int = 0,
) -> NDArray[np.uint8]:
    """The frames of one sample.

    A length that the model does not take is filled up with the last camera and cut off again.

    Args:
        world: the model.
        perception: estimates depth of the image and of the frames; WorldScore gives none. Its scale is that of the
            cameras only as far as the estimator is metric.
        image: (H, W, 3) first frame.
        camera: (T,) cameras; the first is that of the image.
        prompt: for presets that take text.
        seed: of the noise.

    Returns:
        (T, H', W', 3) at the model's size.
    """
    count = len(camera)
    length = world.frames_for(count)
    if length < count:
        length += world.time_stride
    index = torch.arange(length).clamp(max=count - 1)
    memory, history = world.new_memory(), world.new_history()
    world.observe(memory, image, None, camera[0], history=history, perception=perception)
    chunks = world.imagine(
        memory,
        camera[index],
        prompt=prompt if world.preset.text else "",
        first=image,
        seed=seed,
        perception=perception,
        history=history,
    )
    return np.concatenate([chunk.rgb for chunk in chunks])[:count]


def generate(
    world: WorldModel,
    perception: Perception,
    start_keyframe: Image.Image,
    inpainting_prompt_list: Sequence[str],
    cameras_interp: Tensor,
    helper: Helper,
    seed: int = 0,
) -> None:
    """Imagine a sample that WorldScore's runner gave, and hand the frames back, at the size of its image.

    Args:
        world, perception, seed: see `imagine_sample`.
        start_keyframe: first image.
        inpainting_prompt_list: prompts, joined.
        cameras_interp: (T, 4, 4) of an adapter with camera_type 'blender'.
        helper: of the sample.
    """
    image = np.asarray(start_keyframe.convert("RGB"))
    camera = cameras_from_worldscore(
        cameras_interp, image.shape[0], image.shape[1], float(helper.focal_length), world2cam=True
    )
    frames = imagine_sample(world, perception, image, camera, " ".join(inpainting_prompt_list), seed)
    helper.save([Image.fromarray(frame).resize(start_keyframe.size, Image.Resampling.LANCZOS) for frame in frames])


def write_sample(
    folder: Path,
    split: str,
    description: dict[str, Any],
    frames: NDArray[np.uint8],
    camera: Camera,
    focal_length: float = 500.0,
    fps: float = 10.0,
) -> None:
    """Write a sample in WorldScore's layout without its package.

    Args:
        folder: of the sample.
        split: 'static' or 'dynamic'.
        description: the entry of WorldScore's JSON list; goes to image_data.json with the number of frames.
        frames: (T, H, W, 3).
        camera: (T,).
        focal_length: pixels.
        fps: of the film.

    Raises:
        ValueError: an unknown split, or as many cameras as frames are missing.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if len(camera) != len(frames):
        raise ValueError(f"camera: expected {len(frames)}, one for each frame, got {len(camera)}")
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    (folder / "videos").mkdir(exist_ok=True)
    for index, frame in enumerate(frames):
        save_png(folder / "frames" / f"{index:03d}.png", frame)
    write_video(folder / "videos" / "output.mp4", frames, fps)
    data = {**description, "visual_movement": split, "total_frames": len(frames)}
    if split == "static":
        data.setdefault("anchor_frame_idx", [0, len(frames) - 1])
    (folder / "image_data.json").write_text(json.dumps(data, indent=4) + "\n")
    cameras = {"focal_length": focal_length, "cameras_interp": cameras_to_worldscore(camera).tolist()}
    (folder / "camera_data.json").write_text(json.dumps(cameras, indent=4) + "\n")
