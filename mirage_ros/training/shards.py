"""Clips in WebDataset tar shards: written in parallel, resumable, with a manifest.

A sample is one clip; its files are NAME.rgb-0000.png, NAME.depth-0000.png (16 bit, millimetres, 0 unknown),
NAME.labels-0000.png of each frame, and NAME.clip.json (cameras, frames a second, prompt). https://github.com/webdataset
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import webdataset

from mirage_ros.geometry import Camera
from mirage_ros.recordings.clips import Clip

MANIFEST = "manifest.json"
# Metres that 16 bits of millimetres hold.
FURTHEST = 65.535


def encode_clip(clip: Clip) -> dict[str, Any]:
    """A clip as a WebDataset sample: names to bytes."""
    camera = clip.camera
    sample: dict[str, Any] = {
        "__key__": clip.name,
        "clip.json": json.dumps(
            {
                "fps": clip.fps,
                "prompt": clip.prompt,
                "height": camera.height,
                "width": camera.width,
                "intrinsics": camera.intrinsics.expand(len(clip), 3, 3).tolist(),
                "cam2world": camera.cam2world.expand(len(clip), 4, 4).tolist(),
            }
        ).encode(),
    }
    known = np.isfinite(clip.depth) & (clip.depth > 0) & (clip.depth <= FURTHEST)
    millimetres = np.where(known, np.round(np.where(known, clip.depth, 0) * 1000), 0).astype(np.uint16)
    for index in range(len(clip)):
        sample[f"rgb-{index:04d}.png"] = _png(clip.rgb[index][..., ::-1])
        sample[f"depth-{index:04d}.png"] = _png(millimetres[index])
        sample[f"labels-{index:04d}.png"] = _png(clip.labels[index])
    return sample


def decode_clip(sample: dict[str, Any]) -> Clip:
    """The clip of a WebDataset sample.

    Raises:
        ValueError: a file is missing or damaged.
    """
    name = sample.get("__key__", "?")
    if "clip.json" not in sample:
        raise ValueError(f"{name}: expected clip.json in the sample, got {', '.join(sorted(sample))}")
    facts = json.loads(sample["clip.json"])
    count = len(facts["cam2world"])
    camera = Camera(
        torch.tensor(facts["intrinsics"]), torch.tensor(facts["cam2world"]), facts["height"], facts["width"]
    )
    rgb = np.stack([_image(sample, f"rgb-{i:04d}.png", cv2.IMREAD_COLOR)[..., ::-1] for i in range(count)])
    depth = np.stack([_image(sample, f"depth-{i:04d}.png", cv2.IMREAD_UNCHANGED) for i in range(count)])
    labels = np.stack([_image(sample, f"labels-{i:04d}.png", cv2.IMREAD_UNCHANGED) for i in range(count)])
    metres = depth.astype(np.float32) / np.float32(1000)
    return Clip(
        rgb=np.ascontiguousarray(rgb),
        depth=metres,
        camera=camera,
        name=name,
        labels=labels,
        fps=facts["fps"],
        prompt=facts.get("prompt", ""),
    )


def write_shard(path: Path, clips: Iterable[Clip]) -> list[str]:
    """Write a shard, whole or not at all; returns the names of its clips."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    names = []
    try:
        with open(part, "wb") as file, webdataset.TarWriter(file, compress=False, mtime=0.0) as writer:
            for clip in clips:
                writer.write(encode_clip(clip))
                names.append(clip.name)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return names


def read_shard(path: str | Path) -> Iterator[Clip]:
    """The clips of a shard in order."""
    # Whole, whichever of several processes or workers reads it: webdataset would split shards among them, or refuse.
    splitters = {"nodesplitter": None, "workersplitter": None}
    for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False, **splitters):
        yield decode_clip(sample)


def shard_paths(folder: str | Path) -> list[Path]:
    """The finished shards of a folder in order.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(Path(folder).glob("*.tar"))
    if not found:
        raise FileNotFoundError(
            f"data: {folder} holds no shard (*.tar); make them with `mirage data --out {folder}`, "
            "and --split held-out if they are to measure or validate on"
        )
    return found


def read_clips(folder: str | Path) -> Iterator[Clip]:
    """The clips of a folder that `mirage data` made, shard by shard."""
    for path in shard_paths(folder):
        yield from read_shard(path)


def _png(image: np.ndarray) -> bytes:
    # Level 1: half the time of the default for a tenth more bytes.
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ValueError(f"image: cannot be written as PNG, got {image.shape} {image.dtype}")
    return bytes(encoded)


def _image(sample: dict[str, Any], name: str, flags: int) -> np.ndarray:
    if name not in sample:
        raise ValueError(f"{sample.get('__key__', '?')}: expected {name} in the sample")
    image = cv2.imdecode(np.frombuffer(sample[name], np.uint8), flags)
    if image is None:
        raise ValueError(f"{sample.get('__key__', '?')}: {name} is no image or is damaged")
    return image
