"""The planner of examples/planner.py against a running node."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from mirage_ros.geometry import pinhole

PLANNER = Path(__file__).parents[2] / "examples" / "planner.py"


def test_the_planner_takes_the_way_that_shows_most(mirage, capsys):
    from mirage_ros.client import Mirage

    planner = runpy.run_path(str(PLANNER))
    camera = pinhole(80, 120, vertical_fov=0.9, cam2world=torch.eye(4, dtype=torch.float64))
    rgb = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    with Mirage(timeout=240.0) as client:
        client.observe(rgb, np.full((80, 120), 2.0, np.float32), camera)
    planner["main"](["--timeout", "240"])
    said = capsys.readouterr().out
    # Ahead all is known; aside there is something new, unless random networks put a wall there.
    assert re.match(r"(take [+-]\d+: \d+% would be new, [\d.]+ s a frame|every way is blocked)$", said), said


def test_what_a_planner_makes_of_depth():
    """A way is blocked where something stands before the camera, not where nothing is known or the sky is."""
    score = runpy.run_path(str(PLANNER))["score"]
    depth, visible = np.full((2, 9, 9), 3.0, np.float32), np.ones((2, 9, 9), np.float32)
    visible[1] = 0
    depth[0, 4, 4], depth[1, 4, 4], depth[1, 0, 0] = 0, np.inf, 0.1
    imagined = SimpleNamespace(depth=depth, visible=visible)
    assert score(imagined) == 0.5
    depth[1, 4, 4] = 0.2
    assert score(imagined) == -np.inf
