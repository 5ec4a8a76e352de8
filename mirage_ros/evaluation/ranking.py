"""`mirage rank`: does imagining help a planner? Rankings of moves, and a planner that reaches a goal by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from scipy.stats import kendalltau
from tqdm import tqdm

from mirage_ros.evaluation.cases import Case
from mirage_ros.evaluation.methods import METHODS, Method, Outcome, find_methods, truth
from mirage_ros.evaluation.model_options import ModelOptions
from mirage_ros.evaluation.planner_decisions import (
    FACING,
    MOVES,
    NEAR,
    Decision,
    PlannerPlace,
    content_score,
    decisions,
    goal_score,
    nearness,
    places,
    space_score,
)
from mirage_ros.evaluation.report import markdown_table
from mirage_ros.evaluation.runner import append_rows, claim_folder, read_rows
from mirage_ros.evaluation.scores import interval
from mirage_ros.processes import refuse_several
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.world.model import WorldModel

# Of a move's last view: judged by what the true view has.
SCORES: dict[str, Callable[[WorldModel, ImaginedFrame, Decision], float]] = {
    "goal": lambda world, view, decision: goal_score(view.rgb, decision.goal),
    "space": lambda world, view, decision: space_score(view.depth),
}
# Judged by how near to the goal the move leads.
LEADING: dict[str, Callable[[WorldModel, ImaginedFrame, Decision], float]] = {
    "near by SSIM": SCORES["goal"],
    "near by content": lambda world, view, decision: content_score(world, view, decision.goal),
}
# A planner gives up after so many moves.
PATIENCE = 3
# Goes of the planner that moves at random, in each episode.
RANDOM_TRIES = 50


@dataclass
class RankOptions(ModelOptions):
    """Rank candidate moves by imagined views, and reach goals by such rankings, in held-out simulated scenes.

    A run that was stopped goes on when started again.
    """

    out: Path = Path("out/eval/rank")
    methods: Annotated[list[str], tyro.conf.arg(help="some of " + ", ".join(METHODS))] = field(
        default_factory=lambda: ["mirage", "readout", "none", "copy"]
    )
    decisions: int = 50
    episodes: int = 16
    """of the planner that reaches a goal"""


def rank(world: WorldModel, methods: dict[str, Method], count: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Score the candidates of every decision by every method and by the truth.

    Args:
        folder: rows are appended to its rows.jsonl as they are ready; what is there already is not done again.

    Returns:
        rows with decision, method, score, tau (Kendall's, against the truth) and regret (0 best, 1 worst choice).
    """
    rows = [row for row in read_rows(folder) if "decision" in row]
    # A kill may leave one score of a method and not the other.
    done = {(row["decision"], row["method"], row["score"]) for row in rows}
    for decision in tqdm(decisions(count, (world.height, world.width)), total=count, desc="decisions"):
        for name, method in methods.items():
            missing = [score for score in (*SCORES, *LEADING) if (decision.name, name, score) not in done]
            if not missing:
                continue
            cases = decision.candidates
            outcomes = [method(world, case, seed) for case in cases]
            views, true_views = (
                [last_view(each, case) for each, case in zip(some, cases, strict=True)]
                for some in (outcomes, [truth(world, case, seed) for case in cases])
            )
            found = []
            for score in missing:
                function = SCORES.get(score) or LEADING[score]
                guessed = [function(world, view, decision) for view in views]
                true = (
                    [function(world, view, decision) for view in true_views]
                    if score in SCORES
                    else [nearness(case.clip.camera.cam2world[-1], decision.goal_pose) for case in cases]
                )
                found.append({"score": score, **agreement(guessed, true), "guessed": guessed, "true": true})
            rows += append_rows(folder, [{"decision": decision.name, "method": name, **row} for row in found])
    return rows


def last_view(outcome: Outcome, case: Case) -> ImaginedFrame:
    """What a method answers for the end of a move; where it does not tell, nothing is invented."""
    visible = np.ones_like(outcome.depth[-1]) if outcome.visible is None else outcome.visible[-1]
    camera = case.clip.camera[len(case.clip) - 1]
    return ImaginedFrame(outcome.rgb[-1], outcome.depth[-1], camera, visible=visible, coverage=visible.mean())


def episodes(
    world: WorldModel, methods: dict[str, Method], count: int, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """Let a planner with each method, and one that moves at random, look for the goal in every place.

    Returns:
        rows with episode, method and reached: 0 or 1, for the random planner the share of `RANDOM_TRIES`.
    """
    rows = [row for row in read_rows(folder) if "episode" in row]
    done = {(row["episode"], row["method"]) for row in rows}
    for index, place in enumerate(tqdm(places(count, (world.height, world.width)), total=count, desc="episodes")):
        for name in (*methods, "random"):
            if (place.name, name) in done:
                continue
            tries = 1 if name in methods else RANDOM_TRIES
            share = float(
                np.mean([reach(world, methods.get(name), place, seed + index, again) for again in range(tries)])
            )
            rows += append_rows(folder, [{"episode": place.name, "method": name, "reached": share}])
    return rows


def agreement(guessed: Sequence[float], true: Sequence[float]) -> dict[str, float]:
    """Kendall's tau of two lists of scores, 0 where all guesses are equal; and the regret of the best guess."""
    tau = float(kendalltau(guessed, true).statistic)
    # Of equal guesses the planner takes any: the mean regret of them.
    best = np.flatnonzero(np.asarray(guessed) == max(guessed))
    spread = max(true) - min(true)
    regret = float(np.mean([(max(true) - true[int(index)]) for index in best]) / spread) if spread > 0 else 0.0
    return {"tau": tau if np.isfinite(tau) else 0.0, "regret": regret}


def reach(world: WorldModel, method: Method | None, place: PlannerPlace, seed: int, attempt: int = 0) -> bool:
    """Whether a planner that picks the move whose imagined end looks most like the goal gets there.

    The goal is where two random moves lead, not within reach of the start. Without a method the planner picks at
    random.

    Args:
        method: that imagines, or none.
        seed: of goal and noise.
        attempt: of the planner that picks at random.
    """
    goal = goal_of(place, seed)
    picture, pose = place.view(goal), place.start
    generator = np.random.default_rng((seed, attempt))
    for _ in range(PATIENCE):
        if arrived(pose, goal):
            break
        moves = place.moves(pose)
        if not moves:
            break
        if method is None:
            chosen = int(generator.integers(len(moves)))
        else:
            cases = [place.case(poses, "move") for poses in moves]
            outcomes = [method(world, case, seed) for case in cases]
            chosen = int(
                np.argmax(
                    [
                        content_score(world, last_view(outcome, case), picture)
                        for outcome, case in zip(outcomes, cases, strict=True)
                    ]
                )
            )
        pose = moves[chosen][-1]
    return arrived(pose, goal)


def goal_of(place: PlannerPlace, seed: int) -> torch.Tensor:
    """The (4, 4) pose where two random moves lead, of a few draws the first at which a planner has not arrived yet."""
    generator = np.random.default_rng(seed)
    goal = place.start
    for _ in range(20):
        goal = place.start
        for _ in range(2):
            if moves := place.moves(goal):
                goal = moves[int(generator.integers(len(moves)))][-1]
        if not arrived(place.start, goal):
            break
    return goal


def arrived(pose: torch.Tensor, goal: torch.Tensor) -> bool:
    """Whether a pose is near the goal and faces the same way."""
    distance = float((pose[:2, 3] - goal[:2, 3]).norm())
    angle = float(torch.rad2deg(torch.arccos((pose[:3, 2] @ goal[:3, 2]).clamp(-1, 1))))
    return distance <= NEAR and angle <= FACING


def table(rows: Sequence[dict[str, Any]], reached: Sequence[dict[str, Any]]) -> str:
    """Markdown: tau and regret of each score, and the share of goals that were reached."""
    lines = []
    for name in dict.fromkeys(row["method"] for row in (*rows, *reached)):
        ranked, tried = ([row for row in each if row["method"] == name] for each in (rows, reached))
        columns = [
            [row[value] for row in ranked if row["score"] == score]
            for score in (*SCORES, *LEADING)
            for value in ("tau", "regret")
        ]
        columns.append([row["reached"] for row in tried])
        cells = ("{:.2f} ({:.2f} to {:.2f})".format(*interval(values)) if values else "-" for values in columns)
        lines.append([name, *cells])
    head = ["method", "goal view: tau", "regret", "free space: tau", "regret"]
    head += [title for score in LEADING for title in (f"{score}: tau", "regret")] + ["goals reached"]
    return markdown_table(head, lines)


def main() -> None:
    """Run the study."""
    options = tyro.cli(RankOptions, prog="mirage rank", description=RankOptions.__doc__)
    refuse_several("mirage rank")
    methods, out = find_methods(options.methods), options.out
    world = options.load()
    # The count is not among the settings: a run of more decisions goes on where a shorter one ended.
    claim_folder(out, {**options.settings(world), "moves": [list(each) for each in MOVES]})
    rows = rank(world, methods, options.decisions, options.seed, out)
    reached = episodes(world, methods, options.episodes, options.seed, out)
    rows = [row for row in rows if row["method"] in methods]
    reached = [row for row in reached if row["method"] in (*methods, "random")]
    text = table(rows, reached)
    (out / "table.md").write_text(text)
    decided, tried = (len({row[key] for row in each}) for each, key in ((rows, "decision"), (reached, "episode")))
    print(f"{decided} decisions among up to {len(MOVES)} moves, {tried} episodes; 95 % intervals")
    print(text)


if __name__ == "__main__":
    main()
