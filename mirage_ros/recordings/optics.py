"""`mirage optics`: estimate what a recording does not tell of its cameras, and say how sure that is.

Colour and depth are often two cameras that were recorded as one. What their focal lengths are and how far they stand
apart shows in the recording itself: a point that depth gives must have one colour in all pictures. What makes those
colours agree best is looked for, in pairs of frames near each other; the same for drawn frames (bootstrap) tells how
sure it is. Principal points are taken as told: one that is off shows as a distance.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from mirage_ros.images import fit
from mirage_ros.recordings.walk_readers import READERS
from mirage_ros.rgbd import RgbdFrame

Floats = NDArray[np.float64]
# The camera that was tracked.
PosesOf = Literal["colour", "depth"]
# Size that frames are fitted to, and points of each pair.
HEIGHT, WIDTH, POINTS = 240, 320, 3000
# A frame counts once the camera has moved so many metres or radians. Frames of a run, and how many runs, spread over
# the walk; how far apart the frames of a pair are; draws.
MOVED, TURNED, RUN, RUNS, APART, DRAWS = 0.04, 0.04, 6, 4, (1, 2, 4), 12
# Only points in the middle of both pictures count, so that they stay inside whatever the focal lengths; pairs of which
# fewer than this share do are left out.
MIDDLE, LEAST = 0.95, 0.3
# Colours farther apart than this are of another thing, which stood before it or moved.
FURTHEST = 0.25
# Multiples of what was told that the search begins from, and deviations of the pictures' blur, pixels, step by step.
STARTS, BLURS = (0.9, 1.0, 1.1), (3.0, 1.0)
# By how many deviations a value must differ from what was told, and the least share by which the error must fall. What
# was told needs no interpolation in the first picture, which alone is worth a few percent.
SURE, GAIN = 3.0, 0.06


@dataclass(frozen=True)
class Optics:
    """What differs from one camera for all.

    Attributes:
        colour, depth: focal lengths, as multiples of the one that was told.
        shift: metres that the depth camera stands to the right of the colour camera: added to x of its points.
    """

    colour: float = 1.0
    depth: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two frames and points of the first one.

    Attributes:
        first: number of the first frame.
        pictures: of both, blurred by each of BLURS.
        pixels, metres: (N, 2) and (N,) of the points.
        intrinsics: (3, 3).
        move: (4, 4), takes points of the first camera to the second.
    """

    first: int
    pictures: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]
    pixels: Floats
    metres: Floats
    intrinsics: Floats
    move: Floats

    def places(self, optics: Optics, poses_of: PosesOf) -> tuple[Floats, Floats]:
        """Where the points are in both pictures, (N, 2) each, pixel centres at integers; far outside if behind."""
        focal, centre = self.intrinsics[[0, 1], [0, 1]], self.intrinsics[:2, 2]
        rays = (self.pixels - centre) / (focal * optics.depth)
        seen = np.concatenate([rays * self.metres[:, None], self.metres[:, None]], axis=1)
        shift = np.array([optics.shift, 0.0, 0.0])
        first = seen + shift
        moved = (first if poses_of == "colour" else seen) @ self.move[:3, :3].T + self.move[:3, 3]
        second = moved if poses_of == "colour" else moved + shift
        one, other = (
            np.where(points[:, 2:] > 0.1, points[:, :2] / np.maximum(points[:, 2:], 0.1), 1e3) * focal * optics.colour
            + centre
            - 0.5
            for points in (first, second)
        )
        return one, other

    def error(self, optics: Optics, poses_of: PosesOf, blur: int) -> float:
        """Mean absolute difference of colours, those beyond FURTHEST cut off; a gain for each channel is free."""
        colours, inside = [], np.ones(len(self.pixels), np.bool_)
        for places, picture in zip(self.places(optics, poses_of), self.pictures, strict=True):
            inside &= (places >= 0).all(axis=1) & (places <= (WIDTH - 1, HEIGHT - 1)).all(axis=1)
            x, y = np.ascontiguousarray(places.astype(np.float32).T)
            sampled = cv2.remap(picture[blur], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            colours.append(sampled.reshape(-1, 3))
        if not inside.any():
            return FURTHEST
        one, other = colours
        gain = np.median((one[inside] + 0.02) / (other[inside] + 0.02), axis=0)
        difference = np.minimum(np.abs(one - gain * other), FURTHEST)
        return float(np.where(inside[:, None], difference, FURTHEST).mean())


def runs_of(frames: Iterable[RgbdFrame]) -> list[list[RgbdFrame]]:
    """Runs of frames near each other, fitted in size, spread over a walk that may be long.

    Raises:
        ValueError: a frame has no depth.
    """
    runs: list[list[RgbdFrame]] = []
    run: list[RgbdFrame] = []
    number, every, last = 0, 1, None
    for frame in frames:
        if frame.depth is None:
            raise ValueError("walk: expected frames with depth")
        if last is not None:
            step = (last.world2cam.double() @ frame.camera.cam2world.double()).numpy()
            turn = Rotation.from_matrix(step[:3, :3]).magnitude()
            if np.linalg.norm(step[:3, 3]) < MOVED and turn < TURNED:
                continue
        last = frame.camera
        run.append(fit(frame, HEIGHT, WIDTH))
        if len(run) == RUN:
            if number % every == 0:
                runs.append(run)
            number, run = number + 1, []
            if len(runs) == 2 * RUNS:
                runs, every = runs[::2], 2 * every
    return [*runs, run] if len(run) > 1 and every == 1 else runs


def pairs_of(runs: Iterable[Sequence[RgbdFrame]]) -> Iterator[_Pair]:
    """Pairs of frames of each run: each frame with the next, the one after and the fourth."""
    random, number = np.random.default_rng(0), 0
    for run in runs:
        blurred: list[list[NDArray[np.float32]]] = [
            [np.asarray(cv2.GaussianBlur(frame.rgb.astype(np.float32) / 255, (0, 0), blur)) for blur in BLURS]
            for frame in run
        ]
        for first, frame in enumerate(run):
            number += 1
            assert frame.depth is not None
            rows, columns = np.nonzero(np.isfinite(frame.depth) & (frame.depth > 0))
            if not len(rows):
                continue
            chosen = random.choice(len(rows), min(POINTS, len(rows)), replace=False)
            pixels: Floats = np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float64) + 0.5
            metres = frame.depth[rows[chosen], columns[chosen]].astype(np.float64)
            intrinsics = frame.camera.intrinsics.double().numpy()
            for second in (first + apart for apart in APART if first + apart < len(run)):
                move = (run[second].camera.world2cam.double() @ frame.camera.cam2world.double()).numpy()
                pair = _Pair(number, (blurred[first], blurred[second]), pixels, metres, intrinsics, move)
                middle = np.ones(len(pixels), np.bool_)
                for places in pair.places(Optics(), "colour"):
                    middle &= (np.abs(places + 0.5 - (WIDTH / 2, HEIGHT / 2)) < (WIDTH / 2, HEIGHT / 2)).all(axis=1)
                    middle &= (np.abs(places + 0.5 - intrinsics[:2, 2]) < MIDDLE * intrinsics[:2, 2]).all(axis=1)
                if middle.sum() >= LEAST * POINTS:
                    yield _Pair(number, pair.pictures, pixels[middle], metres[middle], intrinsics, move)


def estimate(pairs: Sequence[_Pair], poses_of: PosesOf, start: Optics | None = None) -> Optics:
    """What makes the colours of all pairs agree best.

    Args:
        pairs: from `pairs_of`.
        poses_of: the camera that was tracked.
        start: where to look; everywhere by default.
    """

    def error(optics: Optics, blur: int) -> float:
        return float(np.mean([pair.error(optics, poses_of, blur) for pair in pairs]))

    blurs = range(len(BLURS)) if start is None else range(len(BLURS) - 1, len(BLURS))
    if start is None:
        coarse = [Optics(colour, depth) for colour in STARTS for depth in STARTS]
        start = min(coarse, key=lambda optics: error(optics, 0))
    for blur in blurs:
        begin = np.array(astuple(start))
        simplex = begin + np.concatenate([np.zeros((1, 3)), np.diag([0.03, 0.03, 0.02])])
        found = minimize(
            lambda values, blur=blur: error(Optics(*values), blur),
            begin,
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-6, "maxfev": 150},
        )
        start = Optics(*(float(value) for value in found.x))
    return start


def report(frames: Iterable[RgbdFrame], *, files: bool = True, draws: int = DRAWS) -> str:
    """What was found, how sure it is, and what to write where.

    Args:
        frames: in order.
        files: say what to write into the files of an RGB-D folder.
        draws: of the bootstrap, at least 2.

    Raises:
        ValueError: too few frames have depth and overlap with others.
    """
    if draws < 2:
        raise ValueError(f"draws: expected at least 2, got {draws}")
    frames = iter(frames)
    first = next(frames, None)
    runs = [] if first is None else runs_of(chain([first], frames))
    pairs = list(pairs_of(runs))
    if first is None or len(pairs) < 6:
        wanted = "at least 6 pairs of frames that overlap and between which the camera moved"
        raise ValueError(f"walk: expected {wanted}, got {len(pairs)}")

    def errors(optics: Optics, poses_of: PosesOf) -> Floats:
        return np.array([pair.error(optics, poses_of, len(BLURS) - 1) for pair in pairs])

    cameras: tuple[PosesOf, PosesOf] = ("colour", "depth")
    found = {name: estimate(pairs, name) for name in cameras}
    better = errors(found["colour"], "colour") - errors(found["depth"], "depth")
    told_apart = abs(better.mean()) > 2 * better.std(ddof=1) / np.sqrt(len(better))
    poses_of: PosesOf = "depth" if told_apart and better.mean() > 0 else "colour"
    best, told = found[poses_of], errors(Optics(), "colour").mean()
    after = errors(best, poses_of).mean()
    random, drawn, firsts = np.random.default_rng(0), [], sorted({pair.first for pair in pairs})
    for _ in tqdm(range(draws), desc="how sure", unit="draw"):
        # Frames, not pairs: those of one frame share its depth.
        chosen = [pair for first in random.choice(firsts, len(firsts)) for pair in pairs if pair.first == first]
        begin = Optics(*(np.array(astuple(best)) + random.normal(0, (0.02, 0.02, 0.01))))
        drawn.append(astuple(estimate(chosen, poses_of, begin)))
    spread = np.std(drawn, axis=0, ddof=1)
    intrinsics = first.camera.intrinsics.double().numpy()
    focal = float(intrinsics[0, 0])
    whose = f"poses are the {poses_of} camera's" if told_apart else "whose poses they are cannot be told"
    rows = [
        f"{len(pairs)} pairs out of {sum(map(len, runs))} frames, fitted to {WIDTH}x{HEIGHT}; {whose}",
        f"colours differ by {told:.4f} as told, by {after:.4f} with what was found (of 1)",
        f"focal length of colour {best.colour * focal:.0f} +- {spread[0] * focal:.0f} pixels, told {focal:.0f}",
        f"focal length of depth {best.depth * focal:.0f} +- {spread[1] * focal:.0f} pixels, told {focal:.0f}",
        f"depth stands {best.shift * 100:.1f} +- {spread[2] * 100:.1f} cm to the right of colour",
    ]
    # What is not surely other than it was told stays.
    off = np.abs(np.array(astuple(best)) - astuple(Optics())) > SURE * np.maximum(spread, 1e-3)
    if after >= told * (1 - GAIN) or not off.any():
        return "\n".join([*rows, "nothing that was told is surely wrong: leave it as it is"])
    names = ("focal length of colour", "focal length of depth", "distance")
    rows.append("surely other than told: " + ", ".join(name for name, sure in zip(names, off, strict=True) if sure))
    best = Optics(
        *(
            value if sure else as_told
            for value, as_told, sure in zip(astuple(best), astuple(Optics()), off, strict=True)
        )
    )
    move = np.eye(4)
    move[0, 3] = best.shift
    matrices = {
        "camera-intrinsics.txt": _scaled(intrinsics, best.colour),
        "depth-intrinsics.txt": _scaled(intrinsics, best.depth),
        "depth-to-color.txt": move,
    }
    for name, matrix in matrices.items() if files else ():
        lines = "\n".join(" ".join(f"{value:.6g}" for value in row) for row in matrix)
        rows.append(f"\n{name}\n{lines}")
    if poses_of == "depth":
        rows.append("\nand multiply each pose from the right by the inverse of depth-to-color")
    return "\n".join(rows)


def _scaled(intrinsics: Floats, focal: float) -> Floats:
    """With other focal lengths, pixel centres at integers."""
    matrix = intrinsics.copy()
    matrix[[0, 1], [0, 1]] *= focal
    matrix[:2, 2] -= 0.5
    return matrix


def main() -> None:
    """Read a walk and say what was found."""
    parser = argparse.ArgumentParser(prog="mirage optics", description=__doc__)
    parser.add_argument("walk", type=Path, help="folder or bag, read as told")
    parser.add_argument("--format", choices=tuple(READERS), default="rgbd")
    options = parser.parse_args()
    told = options.walk / "depth-intrinsics.txt"
    if options.format == "rgbd" and told.is_file():
        raise ValueError(f"walk: expected a recording that is told as one camera, but {told} tells of the other")
    print(report(READERS[options.format](options.walk), files=options.format == "rgbd"))


if __name__ == "__main__":
    main()
