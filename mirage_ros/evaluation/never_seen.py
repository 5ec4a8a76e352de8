"""`mirage eval occupancy`: is what is imagined of places that no camera saw worth anything to a planner?

From one camera frame of a held-out scene the map of what was seen is made; ways to look around and to go on are
imagined, and their occupancy is compared with the scene's true plan in the cells that were never observed and of which
imagination says something. Baselines are asked about the same cells.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from mirage_ros.evaluation.model_options import ModelOptions
from mirage_ros.evaluation.planner_decisions import PlannerPlace, places
from mirage_ros.evaluation.report import markdown_table
from mirage_ros.evaluation.runner import append_rows, claim_folder, read_rows
from mirage_ros.geometry import Camera
from mirage_ros.images import enlarge, fit_camera
from mirage_ros.models.branch_input import fill_rows
from mirage_ros.occupancy.grid import GridShape
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.sim.floor_plan import is_inside, is_occupied
from mirage_ros.trajectory import pan
from mirage_ros.world.model import WorldModel
from mirage_ros.world.reading import read_views
from mirage_ros.world.surroundings import Surroundings

# The map: of the node's resolution and heights, as large as a room.
SHAPE = GridShape(extent=10.0)
# Radians to look to either side, in steps between so many poses.
LOOK, STEPS = 1.5, 3
# What a method says of a cell: 0 to 100 per cent, or nothing.
NOTHING = 101
# Values that are told apart where their rates are fitted: the lowest of each class.
CLASSES = (0, 1, 2, 4, 7, 10, 13, 20, 30, 45, 60, 75, 90, 97, NOTHING)
# Cells farther than this from all that was observed are counted on their own, metres.
FAR = 0.3

# Probabilities of the values; of nothing a half.
VALUES = np.append(np.arange(NOTHING) / 100, 0.5)
RESAMPLES = 1000

# Cells of a line that must have been seen, and of free space behind it that do not speak against a wall, of each.
LEAST_CELLS, OPEN_SHARE = 20, 0.02
# Lines that differ by less than so many degrees and cells are one.
SAME_ANGLE, SAME_DISTANCE = 10.0, 6.0
# In the order in which they are likely to be occupied.
BEFORE, ON, BEHIND = 0, 1, 2

# Counts of free and occupied cells by what a method says: (2 sets: all, far; 2; NOTHING + 1).
Counts = NDArray[np.int64]


@dataclass
class NeverSeenOptions(ModelOptions):
    """Judge imagined occupancy of places that no camera saw. A run that was stopped goes on when started again."""

    out: Path = Path("out/eval/occupancy")
    episodes: int = 100
    """places; each is one episode"""


def looked_around(world: WorldModel, place: PlannerPlace, seed: int) -> tuple[Surroundings, list[ImaginedFrame], Any]:
    """The map of a first camera frame, what is imagined of ways to look around and on, and the memory before."""
    frame = place.renderer.render(place.start)
    memory, history = world.new_memory(), world.new_history()
    grid = Surroundings(SHAPE, memory)
    world.observe(memory, frame, keep=np.isfinite(frame.depth), history=history)
    grid.saw(frame)
    before, imagined = memory.fork(), []
    sides = (pan(place.start, turn, STEPS) for turn in (LOOK, -LOOK))
    looks = [step for side in sides for step in pairwise(side)]
    for poses in (*map(torch.stack, looks), *place.moves()):
        ends = place.renderer.camera(poses[[0, -1]])
        imagined.append(ImaginedFrame.joined(list(world.imagine(memory, ends, history=history, seed=seed))))
    return grid, imagined, before


@torch.no_grad()
def readout_frames(world: WorldModel, memory: Any, camera: Camera) -> ImaginedFrame:
    """What a memory shows of (T,) views, without invention: holes are as deep as the nearest seen cell of the row."""
    camera = fit_camera(camera, *world.networks.size).to(world.device, torch.float64)
    reading = read_views(memory, camera.resized(*world.networks.latent_size), world.preset, world.networks.unfolder)
    seen = reading.fine_depth.isfinite()[:, None]
    filled = fill_rows(reading.fine_depth.nan_to_num(0.0)[:, None], seen)[:, 0]
    depth, visible = (enlarge(each.float(), world.height, world.width).cpu().numpy() for each in (filled, seen[:, 0]))
    return ImaginedFrame(
        rgb=np.zeros((*depth.shape, 3), np.uint8),
        depth=depth,
        visible=visible,
        coverage=visible.mean(axis=(1, 2)),
        uncertainty=world.networks.doubt.uncertainty(depth, visible),
        camera=camera.to("cpu"),
    )


def continue_walls(known: NDArray[np.int8], place: tuple[float, float]) -> NDArray[np.uint8]:
    """What straight walls say of every cell of a grid.

    A wall is a line along a metre or more of occupied cells behind which hardly any free cell was seen.

    Args:
        known: (rows, columns) 0 free, 100 occupied, -1 unknown.
        place: row and column of the camera.

    Returns:
        (rows, columns) uint8: BEFORE all walls, as the camera sees it, BEHIND one of them, or ON the first.
    """
    rows, columns = np.indices(known.shape) + 0.5
    free = known == 0
    behind, on = np.zeros(known.shape, np.bool_), np.zeros(known.shape, np.bool_)
    for angle, distance in _lines(known == 100):
        beyond = columns * math.cos(angle) + rows * math.sin(angle) - distance
        side = place[1] * math.cos(angle) + place[0] * math.sin(angle) - distance
        beyond = -beyond if side > 0 else beyond
        if (free & (beyond > 2)).sum() > OPEN_SHARE * max(free.sum(), 1):
            continue
        behind |= beyond > 2
        on |= np.abs(beyond) <= 2
    return np.where(behind, BEHIND, np.where(on, ON, BEFORE)).astype(np.uint8)


def _lines(occupied: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Angle of the normal in radians and distance in cells from the low corner, strongest first, each wall once."""
    found = cv2.HoughLines(occupied.astype(np.uint8), 1, np.pi / 180, LEAST_CELLS)
    kept: list[tuple[float, float]] = []
    for distance, angle in [] if found is None else found.reshape(-1, 2).astype(float):
        if not any(_same(angle, distance, *other) for other in kept):
            kept.append((angle, distance + 0.5))
    return kept


def _same(angle: float, distance: float, other: float, its: float) -> bool:
    turn = abs(angle - other) % math.pi
    if turn > math.pi / 2:
        # The normals of a line may point either way.
        turn, distance = math.pi - turn, -distance
    return math.degrees(turn) < SAME_ANGLE and abs(distance - its) < SAME_DISTANCE


def said_of(grid: Surroundings, frames: Sequence[ImaginedFrame]) -> NDArray[np.uint8]:
    """(rows, columns) uint8 per cent that a map with such frames gives, NOTHING where it gives none."""
    told = copy.copy(grid)
    for each in frames:
        told.imagined_frames(each)
    guessed = told.guessed()
    return np.where(guessed < 0, NOTHING, guessed).astype(np.uint8)


def episode(world: WorldModel, place: PlannerPlace, seed: int) -> dict[str, Counts]:
    """Counts of each method in one place."""
    grid, imagined, before = looked_around(world, place, seed)
    centres = grid.middles()
    known, half = grid.known(), SHAPE.resolution / 2
    truth = is_occupied(place.scene, centres, min_height=SHAPE.min_height, max_height=SHAPE.max_height, margin=half)
    column, row = ((place.start[:2, 3] - grid.corner) / SHAPE.resolution).tolist()
    says = {
        "imagined": said_of(grid, imagined),
        "readout, holes filled": said_of(grid, [readout_frames(world, before, each.camera) for each in imagined]),
        "walls continue": continue_walls(known, (row, column)),
        "unknown": np.full(known.shape, NOTHING, np.uint8),
    }
    asked = (known < 0) & (says["imagined"] < NOTHING) & is_inside(place.scene, centres)
    distance = cv2.distanceTransform((known < 0).astype(np.uint8), cv2.DIST_L2, 5) * SHAPE.resolution
    sets = (asked, asked & (distance > FAR))
    return {
        name: np.array(
            [
                [np.bincount(said[chosen & (truth == label)], minlength=NOTHING + 1) for label in (0, 1)]
                for chosen in sets
            ]
        )
        for name, said in says.items()
    }


def run(world: WorldModel, count: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Rows with episode and counts by method; what a folder holds already is not done again."""
    rows = read_rows(folder)
    done = {row["episode"] for row in rows}
    for place in tqdm(places(count, (world.height, world.width)), total=count, desc="occupancy", unit="place"):
        if place.name not in done:
            counts = {name: each.tolist() for name, each in episode(world, place, seed).items()}
            rows += append_rows(folder, [{"episode": place.name, "counts": counts}])
    return rows


def area_under_curve(counts: Counts, values: NDArray[np.float64]) -> float:
    """Area under the ROC curve of counts (2, K) of free and occupied cells whose scores are (K); ties count half."""
    order, place = np.unique(values, return_inverse=True)
    free, occupied = (np.bincount(place, weights=each, minlength=len(order)) for each in counts)
    below = np.cumsum(free) - free
    pairs = free.sum() * occupied.sum()
    return float(((below + free / 2) * occupied).sum() / pairs) if pairs else float("nan")


def log_score(counts: Counts, probabilities: NDArray[np.float64]) -> float:
    """Mean bits that the truth of a cell is worth after the probabilities (K) were told; 1 for a half, 0 is best."""
    p = probabilities.clip(0.005, 0.995)
    return float(-(counts[0] * np.log2(1 - p) + counts[1] * np.log2(p)).sum() / max(counts.sum(), 1))


def fitted(counts: Counts) -> NDArray[np.float64]:
    """(K) rate of occupied cells among those with such a value, of classes of values; with one cell of each added."""
    of_class = np.digitize(np.arange(counts.shape[1]), CLASSES) - 1
    free, occupied = (np.bincount(of_class, weights=each, minlength=len(CLASSES)) for each in counts)
    return ((occupied + 1) / (free + occupied + 2))[of_class]


def held_out_bits(counts: Counts) -> NDArray[np.float64]:
    """(N) bits of all cells of N episodes, counts (N, 2, K), under rates that were fitted on half of the others.

    Two episodes in turn, so that both halves have all families.
    """
    half = np.arange(len(counts)) // 2 % 2
    rates = [fitted(counts[half != number].sum(axis=0)) for number in (0, 1)]
    return np.array([log_score(each, rates[number]) * each.sum() for each, number in zip(counts, half, strict=True)])


def measures(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """(R) values of each measure of counts (N, 2, K): of all episodes first, then of resamples of them."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(counts), size=(RESAMPLES, len(counts)))
    chosen = [np.arange(len(counts)), *drawn]
    bits, cells = held_out_bits(counts), counts.sum(axis=(1, 2))
    totals = [counts[some].sum(axis=0) for some in chosen]
    return {
        "AUC": np.array([area_under_curve(total, VALUES) for total in totals]),
        "bits": np.array([log_score(total, VALUES) for total in totals]),
        "bits, rates fitted": np.array([bits[some].sum() / max(cells[some].sum(), 1) for some in chosen]),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: each method in all cells, and in those away from what was seen, with 95 % intervals."""
    text = ""
    for number, kind in enumerate(("all cells", f"cells more than {FAR:g} m from what was observed")):
        counts = {name: np.array([row["counts"][name] for row in rows])[:, number] for name in rows[0]["counts"]}
        found = {name: measures(each) for name, each in counts.items()}
        lines = []
        for name, values in found.items():
            cells = [name, *(_interval(values[measure]) for measure in values)]
            if name == "walls continue":
                # Its values are an order and no probabilities.
                cells[2] = "-"
            behind = found["imagined"]["AUC"] - values["AUC"]
            lines.append([*cells, "" if name == "imagined" else _interval(behind)])
        first = counts["imagined"].sum(axis=(0, 2))
        text += f"{kind}: {first.sum():,}, {first[1] / first.sum():.1%} of them occupied\n\n"
        head = ["method", "AUC", "bits a cell", "with rates fitted", "AUC of imagined minus its"]
        text += markdown_table(head, lines) + "\n"
    return text


def _interval(values: NDArray[np.float64]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(values[0], *np.nanquantile(values[1:], [0.025, 0.975]))


def main() -> None:
    """Run the study."""
    options = tyro.cli(NeverSeenOptions, prog="mirage eval occupancy", description=__doc__)
    world = options.load()
    claim_folder(options.out, options.settings(world))
    rows = run(world, options.episodes, options.seed, options.out)[: options.episodes]
    text = table(rows)
    (options.out / "table.md").write_text(text)
    print(f"{len(rows)} episodes; 95 % intervals by bootstrap over episodes")
    print(text)


if __name__ == "__main__":
    main()
