"""`mirage optics`: estimate what a recording does not tell of its cameras, and say how sure that is.

Colour and depth are often two cameras that were recorded as one. Where their focal lengths are and how far they stand
apart shows in the recording itself: a point that depth gives must have one colour in all pictures. What makes those
colours agree best is looked for, from pair to pair of frames; drawn pairs (bootstrap) tell how sure it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from tqdm import tqdm

from mirage_ros.images import fit
from mirage_ros.recordings.walk_readers import READERS
from mirage_ros.rgbd import RgbdFrame

Floats = NDArray[np.float64]
# Size that frames are fitted to, and points of each pair.
HEIGHT, WIDTH, POINTS = 240, 320, 2000
# Frames that are read at most, frames from one of a pair to the other, and draws of pairs.
FRAMES, APART, DRAWS = 24, (1, 2, 4), 12
# Colours farther apart than this are of another thing, which stood before it or moved.
FURTHEST = 0.25
# Multiples of what was told that the search begins from, and one pixel of blur for each step of it.
STARTS, BLURS = (0.9, 1.0, 1.1), (3.0, 1.0)
# What a bootstrap must clear, in deviations, and the least share by which the error must fall.
SURE, GAIN = 3.0, 0.02


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
    """Two frames and points of the first one: pictures blurred by each of BLURS, pixels (N, 2) and metres (N,)."""

    pictures: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]
    pixels: Floats
    metres: Floats
    intrinsics: Floats
    # (4, 4), takes points of the first camera to the second.
    move: Floats

    def error(self, optics: Optics, poses_of: str, blur: int) -> float:
        """Mean absolute difference of colours, those beyond FURTHEST cut off; a gain for each channel is free."""
        focal, centre = self.intrinsics[[0, 1], [0, 1]], self.intrinsics[:2, 2]
        rays = (self.pixels - centre) / (focal * optics.depth)
        seen = np.concatenate([rays * self.metres[:, None], self.metres[:, None]], axis=1)
        shift = np.array([optics.shift, 0.0, 0.0])
        first = seen + shift
        moved = (first if poses_of == "colour" else seen) @ self.move[:3, :3].T + self.move[:3, 3]
        second = moved if poses_of == "colour" else moved + shift
        colours, inside = [], np.ones(len(first), np.bool_)
        for points, picture in zip((first, second), self.pictures, strict=True):
            places = points[:, :2] / np.maximum(points[:, 2:], 1e-3) * focal * optics.colour + centre - 0.5
            inside &= (places >= 0).all(axis=1) & (places <= (WIDTH - 1, HEIGHT - 1)).all(axis=1) & (points[:, 2] > 0.1)
            x, y = np.ascontiguousarray(places.astype(np.float32).T)
            colours.append(
                cv2.remap(picture[blur], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 3)
            )
        if inside.sum() < len(inside) / 10:
            return FURTHEST
        one, other = (colour[inside] for colour in colours)
        gain = np.median((one + 0.02) / (other + 0.02), axis=0)
        return float(np.minimum(np.abs(one - gain * other), FURTHEST).mean())


def pairs_of(frames: Sequence[RgbdFrame]) -> Iterator[_Pair]:
    """Pairs of frames of a walk with depth, each frame with the next, the one after and the fourth."""
    random, fitted = np.random.default_rng(0), [fit(frame, HEIGHT, WIDTH) for frame in frames]
    blurred = [
        [cv2.GaussianBlur(frame.rgb.astype(np.float32) / 255, (0, 0), blur) for blur in BLURS] for frame in fitted
    ]
    for first in range(len(fitted)):
        frame = fitted[first]
        if frame.depth is None:
            raise ValueError("walk: expected frames with depth")
        rows, columns = np.nonzero(np.isfinite(frame.depth) & (frame.depth > 0))
        if len(rows) < POINTS // 10:
            continue
        chosen = random.choice(len(rows), min(POINTS, len(rows)), replace=False)
        rows, columns = rows[chosen], columns[chosen]
        for second in (first + apart for apart in APART if first + apart < len(fitted)):
            here, there = (fitted[place].camera.cam2world.double().numpy() for place in (first, second))
            yield _Pair(
                (blurred[first], blurred[second]),
                np.stack([columns, rows], axis=1) + 0.5,
                frame.depth[rows, columns].astype(np.float64),
                frame.camera.intrinsics.double().numpy(),
                np.linalg.inv(there) @ here,
            )


def estimate(pairs: Sequence[_Pair], poses_of: str, start: Optics | None = None) -> Optics:
    """What makes the colours of all pairs agree best.

    Args:
        pairs: from `pairs_of`.
        poses_of: 'colour' or 'depth', the camera that was tracked.
        start: where to look; everywhere by default.
    """

    def error(optics: Optics, blur: int) -> float:
        return float(np.mean([pair.error(optics, poses_of, blur) for pair in pairs]))

    if start is None:
        coarse = [Optics(colour, depth) for colour in STARTS for depth in STARTS]
        start = min(coarse, key=lambda optics: error(optics, 0))
        blurs = range(len(BLURS))
    else:
        blurs = range(len(BLURS) - 1, len(BLURS))
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


def report(frames: Sequence[RgbdFrame], draws: int = DRAWS) -> str:
    """What was found, how sure it is, and what to write where.

    Raises:
        ValueError: there are too few frames with depth.
    """
    pairs = list(pairs_of(frames))
    if len(pairs) < 6:
        raise ValueError(f"walk: expected at least 6 pairs of frames with depth, got {len(pairs)}")
    last = len(BLURS) - 1

    def errors(optics: Optics, poses_of: str) -> Floats:
        return np.array([pair.error(optics, poses_of, last) for pair in pairs])

    found = {poses_of: estimate(pairs, poses_of) for poses_of in ("colour", "depth")}
    poses_of = min(found, key=lambda name: errors(found[name], name).mean())
    best, told = found[poses_of], errors(Optics(), "colour").mean()
    random, drawn = np.random.default_rng(0), []
    for _ in tqdm(range(draws), desc="how sure", unit="draw"):
        chosen = [pairs[place] for place in random.integers(len(pairs), size=len(pairs))]
        drawn.append(astuple(estimate(chosen, poses_of, best)))
    spread = np.std(drawn, axis=0)
    after = errors(best, poses_of).mean()
    intrinsics = frames[0].camera.intrinsics.double().numpy()
    focal = float(intrinsics[0, 0])
    rows = [
        f"{len(pairs)} pairs of {len(frames)} frames; poses are the {poses_of} camera's",
        f"colours differ by {told:.4f} as told, by {after:.4f} with what was found (of 1)",
        f"focal length of colour {best.colour * focal:.0f} +- {spread[0] * focal:.0f} pixels, told {focal:.0f}",
        f"focal length of depth {best.depth * focal:.0f} +- {spread[1] * focal:.0f} pixels, told {focal:.0f}",
        f"depth stands {best.shift * 100:.1f} +- {spread[2] * 100:.1f} cm to the right of colour",
    ]
    off = np.abs(np.array(astuple(best)) - astuple(Optics()))
    if after > told * (1 - GAIN) or not (off > SURE * np.maximum(spread, 1e-4)).any():
        return "\n".join([*rows, "nothing that was told is surely wrong: leave it as it is"])
    move = np.eye(4)
    move[0, 3] = best.shift
    matrices = {
        "camera-intrinsics.txt": _scaled(intrinsics, best.colour),
        "depth-intrinsics.txt": _scaled(intrinsics, best.depth),
        "depth-to-color.txt": move,
    }
    for name, matrix in matrices.items():
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
    parser.add_argument("--skip", type=int, default=1, help="take every so many-th frame (%(default)s)")
    options = parser.parse_args()
    if options.skip < 1:
        raise ValueError(f"skip: expected a whole number from 1, got {options.skip}")
    frames = [frame for index, frame in enumerate(READERS[options.format](options.walk)) if index % options.skip == 0]
    print(report(frames[:: -(-len(frames) // FRAMES)]))


if __name__ == "__main__":
    main()
