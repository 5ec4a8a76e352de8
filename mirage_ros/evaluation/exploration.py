"""`mirage eval exploration`: does imagining help a robot to see more of a room for the same way?

In held-out scenes a robot takes some moves, each chosen among the same few; what it sees is the simulator's, what it
chooses by is its own. The planners differ in what a move is worth to them, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mirage_ros.evaluation.explorers import EXPLORERS, RADIUS, RISK, Explorer, ExploringRobot
from mirage_ros.evaluation.model_options import ModelOptions
from mirage_ros.evaluation.planner_decisions import MOVES, PlannerPlace, move, places
from mirage_ros.evaluation.report import markdown_table
from mirage_ros.evaluation.runner import append_rows, claim_folder, read_rows
from mirage_ros.evaluation.scores import BOOTSTRAP, Interval, interval
from mirage_ros.occupancy.grid import GridShape
from mirage_ros.sim.floor_plan import is_inside
from mirage_ros.sim.paths import collides
from mirage_ros.world.model import WorldModel
from mirage_ros.world.surroundings import Surroundings

# So many moves in an episode, each one of `MOVES`; where none is safe, a turn on the spot.
BUDGET, TURNS = 4, ((90.0, 0.0), (-90.0, 0.0))
# So many metres are as long as a turn by 90 degrees.
TURN = 0.8
# The map: coarser than the node's, as many are made; a robot that goes its whole way stays in its middle half.
SHAPE = GridShape(resolution=0.1, extent=16.0)
# Poses of a way that are looked at for something in it.
CHECKED = 33


@dataclass
class ExplorationOptions(ModelOptions):
    """Let planners explore held-out scenes. A run that was stopped goes on when started again."""

    out: Path = Path("out/eval/exploration")
    episodes: int = 100
    planners: Annotated[list[str], tyro.conf.arg(help="some of " + ", ".join(EXPLORERS))] = field(
        default_factory=lambda: list(EXPLORERS)
    )


def explore(world: WorldModel, explorer: Explorer, place: PlannerPlace, seed: int) -> dict[str, Any]:
    """One episode.

    Returns:
        area: square metres of the scene that were observed, after each view; effort: metres, turns counted as such;
        collisions: moves that ended at an obstacle.
    """
    memory, pose = world.new_memory(), place.start
    robot = ExploringRobot(world, memory, world.new_history(), Surroundings(SHAPE, memory), seed)
    area, effort, collisions = [_look(robot, place, pose)], 0.0, 0
    for _ in range(BUDGET):
        for choices in (MOVES, TURNS):
            ways = [move(pose, *choice, poses=CHECKED) for choice in choices]
            found = explorer(robot, [place.renderer.camera(way[[0, -1]]) for way in ways])
            chosen = max(range(len(found)), key=[(risk <= RISK, value) for value, risk in found].__getitem__)
            if found[chosen][1] <= RISK:
                break
        hit = [collides(place.scene, way, RADIUS) for way in ways[chosen][1:, :3, 3]]
        reached = hit.index(True) if True in hit else CHECKED - 1
        pose, collisions = ways[chosen][reached], collisions + (True in hit)
        turn, distance = choices[chosen]
        effort += (distance + abs(turn) / 90 * TURN) * reached / (CHECKED - 1)
        area.append(_look(robot, place, pose))
    return {"area": [round(value, 3) for value in area], "effort": effort, "collisions": collisions}


def _look(robot: ExploringRobot, place: PlannerPlace, pose: Tensor) -> float:
    """See what is there; square metres of the scene that were observed by now."""
    frame = place.renderer.render(pose)
    robot.world.observe(robot.memory, frame, keep=np.isfinite(frame.depth), history=robot.history)
    robot.surroundings.saw(frame)
    seen = (robot.surroundings.known() >= 0) & is_inside(place.scene, robot.surroundings.middles())
    return float(seen.sum() * SHAPE.resolution**2)


def run(world: WorldModel, planners: Sequence[str], count: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Rows with episode, planner and what `explore` gives; what a folder holds already is not done again."""
    rows = read_rows(folder)
    done = {(row["episode"], row["planner"]) for row in rows}
    for place in tqdm(places(count, (world.height, world.width)), total=count, desc="exploration", unit="place"):
        for name in planners:
            if (place.name, name) not in done:
                found = explore(world, EXPLORERS[name], place, seed)
                rows += append_rows(folder, [{"episode": place.name, "planner": name, **found}])
    return rows


def table(rows: Sequence[dict[str, Any]], planners: Sequence[str]) -> str:
    """Markdown: means over the places where all planners were, with 95 % intervals, and differences to the first."""
    done = [{row["episode"] for row in rows if row["planner"] == name} for name in planners]
    rows = [row for row in rows if row["episode"] in set.intersection(*done)]
    gained, effort, hits = (
        {name: np.array([value(row) for row in rows if row["planner"] == name], float) for name in planners}
        for value in (_gained, lambda row: row["effort"], lambda row: row["collisions"])
    )
    first, lines = planners[0], []
    for name in planners:
        cells = [interval(gained[name]), _ratio(gained[name], effort[name]), interval(hits[name])]
        cells += [] if name == first else [interval(gained[name] - gained[first])]
        texts = ["{:.2f} ({:.2f} to {:.2f})".format(*cell) for cell in cells]
        lines.append([name, *texts, *[""] * (4 - len(texts))])
    head = ["planner", "new square metres", "for each metre", "collisions", f"square metres minus those of {first}"]
    return markdown_table(head, lines)


def _gained(row: dict[str, Any]) -> float:
    return float(row["area"][-1] - row["area"][0])


def _ratio(gained: NDArray[np.float64], effort: NDArray[np.float64]) -> Interval:
    """Of the sums, with its interval: where a robot is stopped at once, a ratio of its own would say nothing."""
    drawn = np.random.default_rng(0).integers(len(gained), size=(BOOTSTRAP, len(gained)))
    low, high = np.quantile(gained[drawn].sum(axis=1) / effort[drawn].sum(axis=1), [0.025, 0.975])
    return float(gained.sum() / effort.sum()), float(low), float(high)


def main() -> None:
    """Run the study."""
    options = tyro.cli(ExplorationOptions, prog="mirage eval exploration", description=__doc__)
    if not options.planners or set(options.planners) - EXPLORERS.keys():
        raise ValueError(f"planners: expected some of {', '.join(EXPLORERS)}, got {options.planners}")
    world = options.load()
    claim_folder(options.out, {**options.settings(world), "moves": [list(each) for each in MOVES], "budget": BUDGET})
    torch.set_grad_enabled(False)
    rows = run(world, options.planners, options.episodes, options.seed, options.out)
    text = table(rows, options.planners)
    (options.out / "table.md").write_text(text)
    print(f"{len({row['episode'] for row in rows})} episodes of {BUDGET} moves; 95 % intervals")
    print(text)


if __name__ == "__main__":
    main()
