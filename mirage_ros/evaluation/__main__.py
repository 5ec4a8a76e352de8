"""`mirage eval PROTOCOL`: run methods over a protocol and write a report."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from mirage_ros.evaluation.cases import CaseList
from mirage_ros.evaluation.methods import GROUPS, METHODS, Method, find_methods, of_other_weights
from mirage_ros.evaluation.metrics import Lpips
from mirage_ros.evaluation.protocols.recorded import Re10kProtocol, RgbdProtocol
from mirage_ros.evaluation.protocols.sim import SimProtocol, frozen_lists
from mirage_ros.evaluation.report import CHUNKS, write_report
from mirage_ros.evaluation.runner import evaluate
from mirage_ros.world.model import WorldModel

Name = Literal["default", "sim", "closed-loop", "drift", "rgbd", "re10k"]
# Walks of the simulator, which need no recordings; `default` runs them all.
SIMULATED: tuple[Name, ...] = ("sim", "closed-loop", "drift")


@dataclass
class Options:
    """Compare methods on frozen lists of walks."""

    protocol: tyro.conf.Positional[Name]
    """default runs sim, closed-loop and drift, one after the other"""
    folder: tyro.conf.Positional[Path | None] = None
    """of recordings, for rgbd and re10k"""
    out: Path = Path("out/eval")
    """results go to a subfolder named after the protocol"""
    methods: Annotated[list[str], tyro.conf.arg(help="some of " + ", ".join((*GROUPS, *METHODS)))] = field(
        default_factory=lambda: ["all"]
    )
    other_weights: tuple[str, ...] = ()
    """NAME=FOLDER: a further row 'mirage' with the weights of a folder, such as one of an earlier stage of training"""
    limit: int | None = None
    """only the first so many cases"""
    lpips: bool = False
    """measure the learned perceptual distance too; needs torchvision, which downloads AlexNet once"""
    preset: str = "default"
    weights: str | None = None
    """folder or hub repository; the preset's own by default"""
    random_weights: bool = False
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0


def protocol_of(options: Options, height: int, width: int) -> CaseList:
    """The protocol that the options name.

    Raises:
        ValueError: a folder is missing or not wanted.
    """
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"limit: expected at least 1, got {options.limit}")
    if options.protocol in frozen_lists():
        if options.folder is not None:
            raise ValueError(f"folder: expected none for {options.protocol}, got {options.folder}")
        return SimProtocol(options.protocol, height, width, options.limit)
    if options.folder is None:
        raise ValueError(f"folder: expected one with recordings for {options.protocol}, got none")
    if options.protocol == "rgbd":
        return RgbdProtocol(options.folder, height, width, options.limit)
    return Re10kProtocol(options.folder, height, width, options.limit)


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, _, source = text.partition("=")
        if not name or not source or name in METHODS or name in GROUPS:
            raise ValueError(f"other_weights: expected NEWNAME=FOLDER, got {text!r}")
        pairs.append((name, source))
    return pairs


def main() -> None:
    """Run the command."""
    options = tyro.cli(Options, prog="mirage eval", description=__doc__)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    methods = find_methods(options.methods)
    # Whatever is missing is said before the work begins.
    lpips = Lpips() if options.lpips else None
    descriptions = {name: METHODS[name][1] for name in methods}
    world = WorldModel.from_pretrained(
        options.weights, preset=options.preset, device=options.device, random_weights=options.random_weights
    )
    for name, source in _pairs(options.other_weights):
        methods[name] = of_other_weights(
            WorldModel.from_pretrained(source, preset=options.preset, device=options.device)
        )
        descriptions[name] = f"mirage with the weights {source}"
    names = SIMULATED if options.protocol == "default" else (options.protocol,)
    protocols = [protocol_of(replace(options, protocol=name), world.height, world.width) for name in names]
    for name, protocol in zip(names, protocols, strict=True):
        _run(replace(options, protocol=name), world, protocol, methods, descriptions, lpips)


def _run(
    options: Options,
    world: WorldModel,
    protocol: CaseList,
    methods: Mapping[str, Method],
    descriptions: Mapping[str, str],
    lpips: Lpips | None,
) -> None:
    # What the figures depend on. Date and machine are added for the reader only.
    settings = {
        "protocol": options.protocol,
        "folder": None if options.folder is None else options.folder.name,
        "cases": len(protocol),
        "preset": options.preset,
        "weights": "random" if options.random_weights else options.weights or "shipped",
        "size": f"{world.width}x{world.height}",
        "seed": options.seed,
        **({"lpips": "alex"} if options.lpips else {}),
        **dict(_pairs(options.other_weights)),
    }
    folder = options.out / options.protocol
    rows = evaluate(world, protocol, methods, folder, settings, options.seed, lpips)
    rows = [row for row in rows if row["method"] in methods]
    facts = {
        **settings,
        "device": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        if world.device.type == "cpu"
        else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }
    print(write_report(folder, rows, facts, descriptions))
    if options.protocol == "drift":
        print((folder / CHUNKS).read_text())
    print(folder / "report.html")


def _commit() -> str:
    """Of the source tree, if the code runs from one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


if __name__ == "__main__":
    main()
