"""`mirage data`: clips from the simulator to shards, in parallel processes; run it again to go on.

With --walk, clips are cut out of a recorded walk instead. Rendering can be split over machines: torchrun --no-python
mirage data ..., see `processes`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mirage_ros.atomic_files import write_atomically
from mirage_ros.processes import is_mine, process_and_count, refuse_several
from mirage_ros.recordings.bags import ROLES, rosbag_frames
from mirage_ros.recordings.clips import Clip, clips_of
from mirage_ros.recordings.tum import UNITS, tum_frames
from mirage_ros.recordings.walk_readers import READERS, realestate10k_frames
from mirage_ros.sim.scene import FAMILIES
from mirage_ros.sim.sensors import FAULTS, SENSORS, check_sensor, sensed_clip
from mirage_ros.sim.splits import DEFAULT_FAMILIES, SEEDS, Split, check_families, scene_seeds
from mirage_ros.training.render import ClipSettings, render_clip
from mirage_ros.training.shards import MANIFEST, write_shard


def plan(split: Split, scenes: int, first: int, families: list[str], clips_per_shard: int) -> list[tuple[str, ...]]:
    """Which scenes go into which shard, families in turn: 'family seed' each.

    Raises:
        ValueError: the split must not hold these scenes, or holds fewer.
    """
    check_families(split, families)
    pairs = [f"{family} {seed}" for seed in scene_seeds(split, first, scenes) for family in families]
    return [tuple(pairs[i : i + clips_per_shard]) for i in range(0, len(pairs), clips_per_shard)]


def generate(
    folder: Path,
    shards: list[tuple[str, ...]],
    settings: ClipSettings,
    processes: int,
    facts: dict[str, Any],
    sensor: str | None = None,
    strength: float = 1.0,
) -> dict[str, Any]:
    """Render what is missing.

    Args:
        folder: where shards and manifest go.
        shards: from `plan`.
        processes: that render at the same time.
        facts: what else the manifest says, which is returned; of several processes each renders its share, and what
            others have yet to do is missing in it.
        sensor, strength: what frames are taken with, see `sensors.check_sensor`; perfect ones by default.

    Raises:
        ValueError: the folder holds shards that were made in another way.
    """
    if sensor is not None:
        check_sensor(sensor, strength)
        facts = {**facts, "sensor": sensor, "strength": strength}
    folder.mkdir(parents=True, exist_ok=True)
    facts = {**facts, "settings": asdict(settings)}
    process, processes_in_all = process_and_count()
    own = folder / (MANIFEST if processes_in_all == 1 else f".manifest-{process}.json")
    manifest = _open_manifest(folder, facts)
    done = manifest["shards"]
    if processes_in_all > 1:
        _save(own, manifest)
        # Of two that begin together in different ways, at least the second finds out before it renders.
        _open_manifest(folder, facts)
    missing = {}
    for index, scenes in enumerate(shards):
        name = f"{index:05d}.tar"
        if name in done and done[name]["scenes"] != list(scenes):
            raise ValueError(f"out: {folder / name} holds other scenes than asked for; give another folder")
        if is_mine(index) and (name not in done or not (folder / name).is_file()):
            missing[name] = scenes
    # OpenGL does not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting = {
            pool.submit(_render_shard, folder / name, scenes, settings, sensor, strength): name
            for name, scenes in missing.items()
        }
        for future in tqdm(as_completed(waiting), total=len(waiting), desc="shards", unit="shard"):
            name = waiting[future]
            done[name] = {"scenes": list(missing[name]), "clips": future.result()}
            _save(own, manifest)
    while True:
        # The last one to write has seen all that were there before, also those that ended before they could say so.
        _save(folder / MANIFEST, manifest)
        before, manifest = manifest, _open_manifest(folder, facts)
        if manifest == before:
            break
    return manifest


def cut(
    folder: Path,
    walk: Path,
    format: str,
    pictures: Path | None,
    settings: ClipSettings,
    clips_per_shard: int,
    skip: int,
    topics: Mapping[str, str] | None = None,
    prompt: str = "",
    camera: Path | None = None,
    depth_units: float | None = None,
) -> dict[str, Any]:
    """Cut a recorded walk into clips; they are appended to the folder's shards.

    Args:
        folder: where shards and manifest go.
        walk: folder of the walk or of the bag, or the camera file of a RealEstate10K clip.
        format: one of READERS, or 'realestate10k'.
        pictures: frames of the RealEstate10K clip.
        settings: frames of a clip and their size.
        clips_per_shard: clips that share a shard.
        skip: every so many-th frame is taken.
        topics: of a bag, see `rosbag_frames`.
        prompt: what is to be seen, for models that take text.
        camera, depth_units: of a walk in TUM's layout, see `tum_frames`.

    Returns:
        the manifest.

    Raises:
        ValueError: there is no such format, or the walk is too short for a clip.
    """
    if topics and format != "rosbag":
        raise ValueError(f"topics: expected with the format rosbag, got {format!r}")
    if format != "tum" and (camera is not None or depth_units is not None):
        raise ValueError(f"camera, depth_units: expected with the format tum, got {format!r}")
    if format == "rosbag":
        frames = rosbag_frames(walk, topics)
    elif format == "realestate10k":
        if pictures is None:
            raise ValueError("pictures: expected a folder of frames beside the camera file")
        frames = realestate10k_frames(walk, pictures)
    elif format == "tum":
        frames = tum_frames(walk, camera, UNITS if depth_units is None else depth_units)
    elif format in READERS:
        frames = READERS[format](walk)
    else:
        raise ValueError(f"format: expected {', '.join(READERS)} or realestate10k, got {format!r}")
    folder.mkdir(parents=True, exist_ok=True)
    refuse_several("cutting a walk")
    manifest = _open_manifest(folder, {"settings": asdict(settings)})
    done = manifest["shards"]
    if any(shard["scenes"] == [str(walk)] for shard in done.values()):
        return manifest
    clips = clips_of(frames, walk.stem, settings.frames, settings.height, settings.width, skip, prompt)
    # All or nothing: the walk is named in the manifest once its last shard is there.
    new: dict[str, Any] = {}
    for held in iter(lambda: list(islice(clips, clips_per_shard)), []):
        name = f"{len(done) + len(new):05d}.tar"
        new[name] = {"scenes": [str(walk)], "clips": write_shard(folder / name, held)}
    if not new:
        least = f"{settings.frames * skip} frames, which a clip takes; --frames makes shorter ones"
        raise ValueError(f"walk: {walk} has fewer than {least}")
    manifest["shards"] = {**done, **new}
    _save(folder / MANIFEST, manifest)
    return manifest


def _one_thread() -> None:
    os.environ["LP_NUM_THREADS"] = "1"


def _render_shard(
    path: Path, scenes: tuple[str, ...], settings: ClipSettings, sensor: str | None, strength: float
) -> list[str]:
    def clips() -> Iterator[Clip]:
        for scene in scenes:
            family, seed = scene.split()
            clip = render_clip(int(seed), family, settings)
            if clip is not None and sensor is not None:
                rng = np.random.default_rng([int(seed), FAMILIES.index(family)])
                clip = sensed_clip(clip, check_sensor(sensor, strength), strength, rng)
            if clip is not None:
                yield clip

    return write_shard(path, clips())


def _open_manifest(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The folder's manifest, and what processes have written of their own shares."""
    shards: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    paths = [folder / MANIFEST, *sorted(folder.glob(".manifest-*.json"))]
    for path in [path for path in paths if path.is_file()]:
        kept = json.loads(path.read_text())
        for name, value in {"sensor": None, "strength": None, **facts}.items():
            if kept.get(name) != value:
                raise ValueError(f"out: {path} was made with {name} {kept.get(name)}, asked for {value}")
        shards |= kept["shards"]
    return {**kept, **facts, "shards": dict(sorted(shards.items()))}


def _save(path: Path, manifest: dict[str, Any]) -> None:
    ordered = {**manifest, "shards": dict(sorted(manifest["shards"].items()))}
    write_atomically(path, json.dumps(ordered, indent=1).encode())


def _role(entry: str) -> tuple[str, str]:
    role, equals, name = entry.partition("=")
    if not equals or role not in ROLES or not name:
        raise ValueError(f"topic: expected ROLE=NAME with a role out of {', '.join(ROLES)}, got {entry!r}")
    return role, name


def main() -> None:
    """Render clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/train"), help="folder (%(default)s)")
    parser.add_argument("--split", choices=tuple(SEEDS), default="train", help="whose seeds to use (%(default)s)")
    parser.add_argument("--scenes", type=int, default=300, help="of each family (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="skip so many seeds of the split (%(default)s)")
    parser.add_argument("--family", choices=FAMILIES, action="append", help=f"default: {', '.join(DEFAULT_FAMILIES)}")
    parser.add_argument("--frames", type=int, default=ClipSettings.frames, help="of a clip (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 192), metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--clips-per-shard", type=int, default=16)
    processors = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    parser.add_argument("--processes", type=int, default=processors, help="that render at once (%(default)s)")
    parser.add_argument("--sensor", help=f"take frames with one of {', '.join((*SENSORS, *FAULTS))}; perfect otherwise")
    parser.add_argument("--strength", type=float, help="of the sensor's faults; 1, which is usual, by default")
    walks = parser.add_argument_group("recorded walks")
    walks.add_argument("--walk", type=Path, help="folder of the walk, or camera file of a RealEstate10K clip")
    walks.add_argument("--format", choices=(*READERS, "realestate10k"), default="rgbd")
    walks.add_argument("--pictures", type=Path, help="frames of the RealEstate10K clip, named by their stamps")
    walks.add_argument(
        "--topic", action="append", default=[], metavar="ROLE=NAME", help=f"of a bag; roles: {', '.join(ROLES)}"
    )
    walks.add_argument("--camera", type=Path, help="of a TUM walk: text file of 3x3 intrinsics, centres at integers")
    walks.add_argument("--depth-units", type=float, help="of a TUM walk: in a metre (5000)")
    walks.add_argument("--prompt", default="", help="what is to be seen, for models that take text")
    walks.add_argument("--skip", type=int, default=1, help="take every so many-th frame")
    options = parser.parse_args()
    for name in ("frames", "clips_per_shard", "processes", "skip"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name}: expected a whole number from 1, got {getattr(options, name)}")
    if options.sensor and options.walk:
        raise ValueError("sensor: expected none with --walk: a recorded walk had one of its own")
    if options.strength is not None and not options.sensor:
        raise ValueError("strength: expected with --sensor, got it alone")
    settings = replace(ClipSettings(), frames=options.frames, height=options.size[0], width=options.size[1])
    if options.walk is not None:
        walk = (options.out, options.walk, options.format, options.pictures, settings, options.clips_per_shard)
        topics = dict(_role(entry) for entry in options.topic)
        manifest = cut(*walk, options.skip, topics, options.prompt, options.camera, options.depth_units)
    else:
        families = options.family or list(DEFAULT_FAMILIES)
        shards = plan(options.split, options.scenes, options.first, families, options.clips_per_shard)
        facts = {"split": options.split, "first": options.first, "families": families, "mujoco": version("mujoco")}
        strength = 1.0 if options.strength is None else options.strength
        manifest = generate(options.out, shards, settings, options.processes, facts, options.sensor, strength)
    count = sum(len(shard["clips"]) for shard in manifest["shards"].values())
    print(f"{options.out}: {count} clips of {settings.frames} frames in {len(manifest['shards'])} shards")


if __name__ == "__main__":
    main()
