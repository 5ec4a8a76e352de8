"""`mirage train`: all phases of a preset, one after the other; run it again to go on where it stopped.

On several GPUs or machines: `accelerate launch -m mirage_ros.training.train default`.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mirage_ros.models.presets import PRESETS, preset
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.recipe import DEFAULT_EXEMPLARS, DEFAULT_LOOPS, EXEMPLARS, PHASES, Recipe, phases_of, run

# Options that are given phase by phase, and the field of `LoopSettings` that each sets.
FIELDS = {"minutes": "minutes", "steps": "steps", "rate": "learning_rate"}


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=tuple(PRESETS))
    parser.add_argument("--data", type=Path, default=Path("data/train"), help="shards of `mirage data` (%(default)s)")
    parser.add_argument("--held-out", type=Path, default=Path("data/held-out"), help="shards to validate on")
    parser.add_argument("--run", type=Path, help="folder of the run (runs/PRESET)")
    parser.add_argument("--source", type=Path, help="folder with vae/ and transformer/ to start from")
    parser.add_argument("--phase", choices=PHASES, action="append", help="only these; default: all")
    parser.add_argument("--minutes", action="append", default=[], metavar="PHASE=N", help="budget of a phase")
    parser.add_argument("--steps", action="append", default=[], metavar="PHASE=N", help="the same in steps")
    parser.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="PHASE=X",
        help="learning rate; lower it to continue trained weights",
    )
    parser.add_argument("--batch", type=int, help="samples of one process in one pass")
    parser.add_argument("--accumulate", type=int, help="passes of a step")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory for a third more time")
    parser.add_argument("--shard", action="store_true", help="split the blocks' weights over the processes (FSDP2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare samples")
    parser.add_argument("--precision", choices=("bf16", "no"), default="bf16")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="on a CPU (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="start anew rather than resume")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = preset(options.preset)
    phases = phases_of(chosen)
    if other := sorted(set(options.phase or ()) - set(phases)):
        raise ValueError(f"phase: expected some of {', '.join(phases)} for preset {chosen.name!r}, got {other}")
    phases = tuple(phase for phase in phases if not options.phase or phase in options.phase)
    loops = {phase: loop for phase, loop in DEFAULT_LOOPS.items() if phase in phases}
    wanted = EXEMPLARS in phases
    common = {
        name: getattr(options, name)
        for name in ("batch", "accumulate", "seed", "workers", "precision", "shard")
        if getattr(options, name) is not None
    }
    loops = {phase: replace(loop, **common) for phase, loop in loops.items()}
    for name, field in FIELDS.items():
        for entry in getattr(options, name):
            phase, number = _of_phase(name, entry, loops)
            changed: dict[str, Any] = {field: int(number) if name == "steps" else number}
            loops[phase] = replace(loops[phase], **changed)
    recipe = Recipe(
        chosen,
        options.run or Path("runs") / chosen.name,
        options.data,
        options.held_out,
        loops,
        stages=StageSettings(gradient_checkpointing=options.gradient_checkpointing).fitting(chosen),
        source=options.source,
        exemplars=DEFAULT_EXEMPLARS if wanted else 0,
    )
    run(recipe, resume=not options.fresh)
    if torch.distributed.is_initialized():
        # Otherwise what one process still has to send may end with it.
        torch.distributed.destroy_process_group()


def _of_phase(name: str, entry: str, loops: Mapping[str, object]) -> tuple[str, float]:
    phase, equals, number = entry.partition("=")
    if not equals or phase not in loops:
        known = ", ".join(loops) or "those that train (exemplars does not)"
        raise ValueError(f"{name}: expected PHASE=NUMBER with a phase out of {known}, got {entry!r}")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    kind = "whole " if name == "steps" else ""
    if not 0 < value < math.inf or (kind and value % 1):
        raise ValueError(f"{name}: expected a positive {kind}number after {phase}=, got {number!r}")
    return phase, value


if __name__ == "__main__":
    main()
