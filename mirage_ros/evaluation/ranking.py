"""`mirage rank`: does imagining help a planner? Rankings of moves, and a planner that reaches a goal by them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from scipy.stats import kendalltau
from tqdm import tqdm

from mirage_ros.evaluation.decisions import MOVES, Place, decisions, free_moves, goal_score, places, space_score
from mirage_ros.evaluation.methods import METHODS, Method, find_methods
from mirage_ros.world.model import WorldModel

SCORES: dict[str, Callable[[Any, Any, Any], float]] = {
    "goal": lambda rgb, depth, goal: goal_score(rgb[-1], goal),
    "space": lambda rgb, depth, goal: space_score(depth[-1]),
}
# A planner has arrived this near, metres and degrees, and gives up after so many moves.
NEAR, FACING, PATIENCE = 0.5, 30.0, 3


@dataclass
class Options:
    """Rank candidate moves by imagined views, and reach goals by such rankings, in held-out simulated scenes."""

    out: Path = Path("out/eval/rank")
    methods: Annotated[list[str], tyro.conf.arg(help="some of " + ", ".join(METHODS))] = None  # type: ignore[assignment]
    decisions: int = 50
    episodes: int = 16
    """of the planner that reaches a goal"""
    preset: str = "default"
    weights: str | None = None
    random_weights: bool = False
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0


def rank(world: WorldModel, methods: dict[str, Method], count: int, seed: int) -> list[dict[str, Any]]:
    """Score the candidates of every decision by every method and by the truth.

    Returns:
        rows with decision, method, score, tau (Kendall's, against the truth) and regret (0 best, 1 worst choice).
    """
    rows = []
    for decision in tqdm(decisions(count, (world.height, world.width)), total=count, desc="decisions"):
        answers = {
            name: [method(world, case, seed) for case in decision.candidates] for name, method in methods.items()
        }
        for score, function in SCORES.items():
            true = [function(case.clip.rgb, case.clip.depth, decision.goal) for case in decision.candidates]
            for name, outcomes in answers.items():
                guessed = [function(outcome.rgb, outcome.depth, decision.goal) for outcome in outcomes]
                rows.append({"decision": decision.name, "method": name, "score": score, **agreement(guessed, true)})
    return rows


def agreement(guessed: Sequence[float], true: Sequence[float]) -> dict[str, float]:
    """Kendall's tau of two lists of scores, 0 where all guesses are equal; and the regret of the best guess."""
    tau = float(kendalltau(guessed, true).statistic)
    # Of equal guesses the planner takes any: the mean regret of them.
    best = np.flatnonzero(np.asarray(guessed) == max(guessed))
    spread = max(true) - min(true)
    regret = float(np.mean([(max(true) - true[int(index)]) for index in best]) / spread) if spread > 0 else 0.0
    return {"tau": tau if np.isfinite(tau) else 0.0, "regret": regret}


def reach(world: WorldModel, method: Method | None, place: Place, seed: int) -> bool:
    """Whether a planner that picks the move whose imagined end looks most like the goal gets there.

    The goal is where two random moves lead. Without a method the planner picks at random.
    """
    generator = np.random.default_rng(seed)
    goal = place.start
    for _ in range(2):
        moves = free_moves(place.scene, goal)
        if moves:
            goal = moves[int(generator.integers(len(moves)))][-1]
    picture, pose = place.view(goal), place.start
    for _ in range(PATIENCE):
        if arrived(pose, goal):
            break
        moves = free_moves(place.scene, pose)
        if not moves:
            break
        if method is None:
            chosen = int(generator.integers(len(moves)))
        else:
            outcomes = [method(world, place.case(poses, "move"), seed) for poses in moves]
            chosen = int(np.argmax([goal_score(outcome.rgb[-1], picture) for outcome in outcomes]))
        pose = moves[chosen][-1]
    return arrived(pose, goal)


def arrived(pose: torch.Tensor, goal: torch.Tensor) -> bool:
    """Whether a pose is near the goal and faces the same way."""
    distance = float((pose[:2, 3] - goal[:2, 3]).norm())
    angle = float(torch.rad2deg(torch.arccos((pose[:3, 2] @ goal[:3, 2]).clamp(-1, 1))))
    return distance <= NEAR and angle <= FACING


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % confidence interval by bootstrap."""
    array = np.asarray(values, dtype=np.float64)
    means = np.random.default_rng(seed).choice(array, (2000, len(array))).mean(axis=1)
    return float(array.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def table(rows: Sequence[dict[str, Any]], reached: dict[str, list[bool]]) -> str:
    """Markdown: tau and regret of each score, and the share of goals that were reached."""
    lines = [
        "| method | goal view: tau | regret | free space: tau | regret | goals reached |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys([*(row["method"] for row in rows), *reached]):
        cells = []
        for score in SCORES:
            for value in ("tau", "regret"):
                values = [row[value] for row in rows if row["method"] == name and row["score"] == score]
                cells.append(_cell(interval(values)) if values else "-")
        cells.append(_cell(interval([float(hit) for hit in reached[name]])) if reached.get(name) else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"


def main() -> None:
    """Run the study."""
    options = tyro.cli(Options, prog="mirage rank", description=Options.__doc__)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    methods = find_methods(options.methods or ["mirage", "readout", "none"])
    world = WorldModel.from_pretrained(
        options.weights, preset=options.preset, device=options.device, random_weights=options.random_weights
    )
    rows = rank(world, methods, options.decisions, options.seed)
    reached: dict[str, list[bool]] = {name: [] for name in [*methods, "random"]}
    size = (world.height, world.width)
    for index, place in enumerate(tqdm(places(options.episodes, size), total=options.episodes, desc="episodes")):
        for name in reached:
            reached[name].append(reach(world, methods.get(name), place, options.seed + index))
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"rows": rows, "reached": reached, "decisions": options.decisions, "moves": MOVES}
    (options.out / "rank.json").write_text(json.dumps(result, indent=2) + "\n")
    text = table(rows, reached)
    (options.out / "table.md").write_text(text)
    print(f"{options.decisions} decisions among up to {len(MOVES)} moves, {options.episodes} episodes; 95 % intervals")
    print(text)


if __name__ == "__main__":
    main()
