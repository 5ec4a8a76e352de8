"""`mirage sheet`: simulated scenes on a contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mirage_ros.media import colour_depth, colour_labels, contact_sheet, save_png
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import FAMILIES, build_scene


def seed_range(text: str) -> range:
    """`3` or `0-11`."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
        raise argparse.ArgumentTypeError(f"expected a seed (3) or a range of seeds (0-11), got {text!r}")
    return range(int(first), int(last or first) + 1)


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def main() -> None:
    """Draw one row of views for each scene, or three with depth and classes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="rooms")
    parser.add_argument("--seeds", type=seed_range, default=seed_range("0-5"), help="3, or 0-11")
    parser.add_argument("--views", type=positive, default=4, help="views of each scene, along a path")
    parser.add_argument("--layers", action="store_true", help="depth and classes below each row")
    parser.add_argument(
        "--size", type=positive, nargs=2, default=(128, 192), metavar=("HEIGHT", "WIDTH"), help="pixels"
    )
    parser.add_argument("--out", type=Path, default=Path("out/sheet.png"), help="PNG file (%(default)s)")
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        scene = build_scene(seed, options.family)
        path = plan_path(scene, 80, seed)
        picks = np.linspace(0, len(path) - 1, options.views).round().astype(int)
        with Renderer(scene, *options.size) as renderer:
            frames = [renderer.render(path[i], i / 10) for i in picks]
        rows.append((f"{options.family} {seed}", [frame.rgb for frame in frames]))
        if options.layers:
            rows.append(("depth, yellow is near", [colour_depth(frame.depth, far=8.0) for frame in frames]))
            rows.append(("grey static, orange moving, blue sky", [colour_labels(frame.labels) for frame in frames]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_png(options.out, contact_sheet(rows))
    print(options.out)
