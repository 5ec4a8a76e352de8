"""Show the memory the first half of a recorded walk, imagine the second half, and compare it with what was there.

The walk is a folder in the layout of 7-Scenes: NAME.color.jpg or .png, NAME.depth.png, NAME.pose.txt for each frame,
and camera-intrinsics.txt.
Leaves imagined.mp4 (what was there, what was imagined), memory.safetensors and cloud.ply.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mirage_ros.evaluation.metrics import masked_psnr
from mirage_ros.geometry import Camera
from mirage_ros.images import fit
from mirage_ros.recordings.rgbd_folder import RgbdFolder
from mirage_ros.video import write_video
from mirage_ros.world.model import WorldModel


def main(arguments: list[str] | None = None) -> None:
    """Run on a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("walk", type=Path, help="folder with NAME.color.jpg, NAME.depth.png, NAME.pose.txt")
    parser.add_argument("--out", type=Path, default=Path("out/recorded_walk"), help="folder of the results")
    parser.add_argument("--frames", type=int, default=49, help="how many to imagine, at most")
    options = parser.parse_args(arguments)
    walk, world = RgbdFolder(options.walk), WorldModel.from_pretrained()
    memory, history = world.new_memory(), world.new_history()

    half = len(walk) // 2
    if half < 1:
        parser.error(f"walk: expected at least 2 frames, got {len(walk)} in {options.walk}")
    for index in range(half):
        # `history` lends past frames as references to what is imagined.
        world.observe(memory, walk[index], history=history)
    print(f"{half} frames seen, {len(memory)} elements in {memory.nbytes / 2**20:.1f} MiB")

    count = world.frames_for(min(options.frames, len(walk) - half))
    true = [walk[half + index] for index in range(count)]
    poses = torch.stack([frame.camera.cam2world for frame in true])
    first = true[0].camera
    trajectory = Camera(first.intrinsics, poses, first.height, first.width)
    options.out.mkdir(parents=True, exist_ok=True)
    chunks = list(world.imagine(memory, trajectory, history=history))
    rgb, known = (np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("rgb", "visible"))
    truth = np.stack([fit(frame, world.height, world.width).rgb for frame in true])
    print(
        f"{count} frames imagined, {known.mean():.0%} of them remembered; PSNR {masked_psnr(rgb, truth):.1f} dB, "
        f"{masked_psnr(rgb, truth, known > 0.5):.1f} dB in what was remembered"
    )
    write_video(options.out / "imagined.mp4", np.concatenate([truth, rgb], axis=2), world.preset.fps)
    memory.save(options.out / "memory.safetensors")
    memory.cloud().save_ply(options.out / "cloud.ply")


if __name__ == "__main__":
    main()
