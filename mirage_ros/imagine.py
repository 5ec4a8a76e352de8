"""`mirage imagine`: imagine a trajectory from one RGB-D image or from a recorded walk, without ROS."""

from __future__ import annotations

import json
import math
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from mirage_ros.evaluation.metrics import masked_psnr
from mirage_ros.images import depth_like
from mirage_ros.imagine_inputs import ImagineOptions, check_options, read_task
from mirage_ros.media import Pixels, colour_depth, contact_sheet, grey, save_png, spread
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import Perception
from mirage_ros.perception.registry import make_perception
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.video import VideoWriter
from mirage_ros.world.model import WorldModel
from mirage_ros.world.results import STAGES, ImaginedChunk

COLUMNS = 8
# Metres that the darkest colour of depth pictures stands for.
FAR = 6.0


class ImagineResults(AbstractContextManager["ImagineResults"]):
    """Writes chunks to a folder as they come.

    Files: imagined.mp4 (imagined, depth and visibility side by side, the true frame first where there is one),
    frames/NNNNNN.png, depth/NNNNNN.png (16 bit, millimetres, 0 unknown or too far), visibility/NNNNNN.png (0 invented,
    255 remembered).
    """

    def __init__(self, folder: Path, fps: float, truth: Pixels | None) -> None:
        """Make the folder and open the film."""
        self.folder, self.truth = folder, truth
        for part in ("frames", "depth", "visibility"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            # Frames of a longer run before this one must not be taken for this one's.
            for old in (folder / part).glob("[0-9]" * 6 + ".png"):
                old.unlink()
        self._film = VideoWriter(folder / "imagined.mp4", fps)
        self.chunks: list[ImaginedChunk] = []

    def add(self, chunk: ImaginedChunk) -> None:
        """Write a chunk's frames."""
        self.chunks.append(chunk)
        for index, rgb, depth, visible in zip(
            range(chunk.first, chunk.first + len(chunk)), chunk.rgb, chunk.depth, chunk.visible, strict=True
        ):
            known = np.isfinite(depth) & (depth < 65.5)
            millimetres = np.where(known, depth * 1000, 0).round().astype(np.uint16)
            panels = [rgb, colour_depth(depth, FAR), grey(visible)]
            for part, pixels in (("frames", rgb), ("depth", millimetres), ("visibility", panels[2][..., 0])):
                save_png(self.folder / part / f"{index:06d}.png", pixels)
            self._film.append(np.concatenate(panels if self.truth is None else [self.truth[index], *panels], axis=1))

    def __exit__(self, *_: object) -> None:
        self._film.close()

    def joined(self, name: str) -> NDArray[Any]:
        """A field of all chunks, one entry for each frame."""
        return np.concatenate([getattr(chunk, name) for chunk in self.chunks])


def scores(rgb: Pixels, truth: Pixels, visible: NDArray[np.float32]) -> dict[str, float | None]:
    """PSNR in dB against the truth: everywhere, where the memory knew something, where it did not.

    None where there is nothing to compare, as JSON has no NaN.
    """
    seen = visible > 0.5
    figures = {
        "psnr": masked_psnr(rgb, truth),
        "psnr_visible": masked_psnr(rgb, truth, seen),
        "psnr_hidden": masked_psnr(rgb, truth, ~seen),
    }
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _perception(options: ImagineOptions, world: WorldModel, true_depth: torch.Tensor | None) -> Perception:
    joint = bool(world.preset.depth_channels)
    name = options.depth_estimator
    if name == "auto":
        name = "joint" if joint else "memory" if true_depth is None else "sensor"
    if name == "sensor" and true_depth is None:
        raise ValueError("depth_estimator: expected a recorded walk (rgbd) for 'sensor', got a single image")
    return make_perception(
        name,
        options.dynamic_filter,
        device=world.device,
        sensor_depth=None if true_depth is None else true_depth.to(world.device),
        depth_source=options.depth_weights,
        namer_source=options.namer_weights,
        segmenter_source=options.segmenter_weights,
    )


def run(options: ImagineOptions) -> dict[str, Any]:
    """Imagine and write; returns what goes into report.json."""
    check_options(options)
    world = options.load(prompts=[options.prompt] if options.prompt else [])
    task = read_task(options, world)
    world.check_trajectory(task.camera)
    memory = world.new_memory()
    if options.memory is not None:
        memory = LatentMemory.load(options.memory, world.device, rules=memory.rules, patch=memory.patch)
    perception = _perception(options, world, task.true_depth)
    history = world.new_history()
    first = RgbdFrame(task.rgb, depth_like(task.camera, task.depth), task.camera[0])
    world.observe(memory, first, history=history)
    known = world.preview(memory, task.camera)
    # All that can be wrong is said here, before an earlier run's frames make room for this one's.
    chunks = world.imagine(
        memory,
        task.camera,
        prompt=options.prompt,
        seed=options.seed,
        steps=options.steps,
        unseen=options.unseen,
        first=first,
        perception=perception,
        history=history,
    )
    start, interrupted = time.perf_counter(), False
    with (
        ImagineResults(options.out, world.preset.fps if options.fps is None else options.fps, task.truth) as results,
        tqdm(total=len(task.camera), desc="imagine", unit="frame") as bar,
    ):
        try:
            for chunk in chunks:
                results.add(chunk)
                bar.update(len(chunk))
                bar.set_postfix(coverage=f"{chunk.coverage.mean():.0%}", elements=len(memory))
        except KeyboardInterrupt:
            # What is finished is kept: the memory is that of the last whole chunk.
            interrupted = True
            if not results.chunks:
                raise
    seconds = time.perf_counter() - start
    memory.save(options.out / "memory.safetensors")
    rgb, visible = results.joined("rgb"), results.joined("visible")
    report: dict[str, Any] = {
        "preset": options.preset,
        "weights": "random" if options.random_weights else options.weights or "the preset's own",
        "device": options.device,
        "threads": torch.get_num_threads(),
        "frames": len(rgb),
        "interrupted": interrupted,
        "seconds": seconds,
        "seconds_per_frame": {
            stage: sum(chunk.seconds[stage] for chunk in results.chunks) / len(rgb) for stage in STAGES
        },
        "coverage": [round(float(share), 4) for share in results.joined("coverage")],
        "elements": len(memory),
        "memory_bytes": memory.nbytes,
        "written": [asdict(chunk.report) for chunk in results.chunks],
        "notes": sorted({note for chunk in results.chunks for note in chunk.notes}),
    }
    # A loaded memory may hold what was imagined before.
    alone = options.memory is None
    rows: list[tuple[str, NDArray[Any]]] = [
        ("imagined", rgb),
        (f"readout of the {'first frame alone' if alone else 'loaded memory and the first frame'}", known.rgb),
        ("remembered (white) or invented", grey(visible)),
        ("imagined depth, yellow is near", colour_depth(results.joined("depth"), FAR)),
    ]
    if task.truth is not None:
        truth = task.truth[: len(rgb)]
        rows.insert(0, ("recorded", truth))
        # The first frame was given.
        report["imagined"] = scores(rgb[1:], truth[1:], visible[1:])
        name = "first_frame_readout" if alone else "memory_readout"
        report[name] = scores(known.rgb[1 : len(rgb)], truth[1:], known.visible[1 : len(rgb)])
        copied = np.repeat(truth[:1], len(truth) - 1, axis=0)
        report["first_frame_copied"] = {"psnr": scores(copied, truth[1:], visible[1:])["psnr"]}
    sheet = contact_sheet([(caption, spread(pictures[: len(rgb)], COLUMNS)) for caption, pictures in rows])
    save_png(options.out / "contact_sheet.png", sheet)
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def main() -> None:
    """Run the command."""
    options = tyro.cli(ImagineOptions, prog="mirage imagine", description=ImagineOptions.__doc__)
    report = run(options)
    frames, seconds = report["frames"], report["seconds"]
    print(f"{frames} frames in {seconds:.1f} s on {report['device']} with {report['threads']} threads")
    for name in ("imagined", "first_frame_readout", "memory_readout", "first_frame_copied"):
        if name in report:
            figures = {key: "-" if value is None else f"{value:.2f} dB" for key, value in report[name].items()}
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    for name in ("imagined.mp4", "contact_sheet.png", "memory.safetensors", "report.json"):
        print(options.out / name)
    if report["interrupted"]:
        raise SystemExit("interrupted; the files hold what was finished")
