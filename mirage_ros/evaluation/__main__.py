"""`mirage eval PROTOCOL`: run methods over a protocol and write a report.

`mirage eval worldscore` makes samples for that benchmark, `mirage eval calibration` says how sure imagined depth is,
`mirage eval occupancy` what is imagined of places that nobody saw is worth, `mirage eval exploration` whether that
helps a robot that explores. A protocol can be split over processes and machines: torchrun --no-python mirage eval ...
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from mirage_ros.evaluation import calibration, exploration, never_seen, worldscore
from mirage_ros.evaluation.cases import CaseList
from mirage_ros.evaluation.methods import GROUPS, METHODS, Method, find_methods, imagined
from mirage_ros.evaluation.metrics import Lpips
from mirage_ros.evaluation.model_options import ModelOptions, device_name
from mirage_ros.evaluation.protocols.recorded import re10k_cases, rgbd_cases
from mirage_ros.evaluation.protocols.sim import frozen_lists, sim_cases
from mirage_ros.evaluation.report import CHUNKS, family_markdown, write_report
from mirage_ros.evaluation.runner import evaluate, is_complete
from mirage_ros.processes import refuse_several
from mirage_ros.resources import source_commit
from mirage_ros.sim.sensors import FAULTS, SENSORS, check_sensor
from mirage_ros.world.model import WorldModel

Name = Literal["default", "sim", "closed-loop", "drift", "unfamiliar", "rgbd", "re10k"]
# Walks in the families that the shipped weights were trained on, which need no recordings; `default` runs them.
SIMULATED: tuple[Name, ...] = ("sim", "closed-loop", "drift")


@dataclass
class EvaluationOptions(ModelOptions):
    """Compare methods on frozen lists of walks; worldscore and calibration have --help of their own."""

    protocol: tyro.conf.Positional[Name]
    """default runs sim, closed-loop and drift, one after the other; unfamiliar: flats and a family never trained on"""
    folder: tyro.conf.Positional[Path | None] = None
    """of recordings, for rgbd and re10k"""
    out: Path = Path("out/eval")
    """results go to a subfolder named after the protocol"""
    methods: Annotated[list[str], tyro.conf.arg(help="some of " + ", ".join((*GROUPS, *METHODS)))] = field(
        default_factory=lambda: ["compared"]
    )
    other_weights: tuple[str, ...] = ()
    """NAME=FOLDER: a further row 'mirage' with the weights of a folder, such as one of an earlier stage of training"""
    limit: int | None = None
    """only the first so many cases"""
    sensor: Annotated[str | None, tyro.conf.arg(help="one of " + ", ".join((*SENSORS, *FAULTS)))] = None
    """the first frame comes from such a sensor, or with such a fault, instead of being perfect"""
    strength: float = 1.0
    """of its faults; 1 is usual"""
    sheets: int = 6
    """contact sheets, of so many cases chosen by the seed: the truth and each of the methods in their order"""
    lpips: bool = False
    """measure the learned perceptual distance too; needs torchvision, which downloads AlexNet once"""


def protocol_of(options: EvaluationOptions, height: int, width: int) -> CaseList:
    """The protocol that the options name.

    Raises:
        ValueError: a folder is missing or not wanted.
    """
    if options.sheets < 0:
        raise ValueError(f"sheets: expected at least 0, got {options.sheets}")
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"limit: expected at least 1, got {options.limit}")
    if options.protocol in frozen_lists():
        if options.folder is not None:
            raise ValueError(f"folder: expected none for {options.protocol}, got {options.folder}")
        cases = sim_cases(options.protocol, height, width, options.limit)
    elif options.folder is None:
        raise ValueError(f"folder: expected one with recordings for {options.protocol}, got none")
    else:
        recorded = rgbd_cases if options.protocol == "rgbd" else re10k_cases
        cases = recorded(options.folder, height, width, options.limit)
    if options.sensor is None:
        return cases
    check_sensor(options.sensor, options.strength)
    return cases.seen_by(options.sensor, options.strength)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, _, source = text.partition("=")
        if not name or not source or name in METHODS or name in GROUPS:
            raise ValueError(f"other_weights: expected NEWNAME=FOLDER, got {text!r}")
        pairs[name] = source
    return pairs


def main() -> None:
    """Run the command."""
    commands = {
        "worldscore": worldscore.main,
        "calibration": calibration.main,
        "occupancy": never_seen.main,
        "exploration": exploration.main,
    }
    if sys.argv[1:2] and sys.argv[1] in commands:
        refuse_several(f"mirage eval {sys.argv[1]}")
        commands[sys.argv.pop(1)]()
        return
    options = tyro.cli(EvaluationOptions, prog="mirage eval", description=__doc__)
    methods = find_methods(options.methods)
    # Whatever is missing is said before the work begins.
    lpips = Lpips() if options.lpips else None
    descriptions = {name: METHODS[name][1] for name in methods}
    others = _pairs(options.other_weights)
    world = options.load()
    for name, source in others.items():
        methods[name] = imagined("latent", replace(options, weights=source, random_weights=False).load())
        descriptions[name] = f"mirage with the weights {source}"
    names = SIMULATED if options.protocol == "default" else (options.protocol,)
    each = [replace(options, protocol=name) for name in names]
    protocols = [protocol_of(own, world.height, world.width) for own in each]
    for own, protocol in zip(each, protocols, strict=True):
        _run(own, world, protocol, methods, descriptions, lpips)


def _run(
    options: EvaluationOptions,
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
        **options.settings(world),
        # A finished case is not drawn again for more of them.
        **({} if options.sheets == EvaluationOptions.sheets else {"sheets": options.sheets}),
        **({"lpips": "alex"} if options.lpips else {}),
        **({} if options.sensor is None else {"sensor": options.sensor, "strength": options.strength}),
        **_pairs(options.other_weights),
    }
    folder = options.out / options.protocol
    rows = evaluate(world, protocol, methods, folder, settings, options.seed, lpips, options.sheets)
    if not is_complete(rows, protocol, methods):
        print(f"{folder}: this process is done; of all {len(protocol)} walks the one that ends last writes the report")
        return
    rows = [row for row in rows if row["method"] in methods]
    facts = {
        **settings,
        "device": device_name(world),
        "torch": torch.__version__,
        "commit": source_commit(),
        "date": datetime.date.today().isoformat(),
    }
    print(write_report(folder, rows, facts, descriptions))
    if options.protocol in frozen_lists():
        families = family_markdown(rows)
        (folder / "families.md").write_text(families)
        print(families)
    if options.protocol == "drift":
        print((folder / CHUNKS).read_text())
    print(folder / "report.html")


if __name__ == "__main__":
    main()
