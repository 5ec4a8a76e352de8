"""A saved memory of the minute preset, as the window opens it."""

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameters import MirageParameters
from mirage_ros.trajectory import look_at

SMALL = {"preset": "test", "random_weights": True, "device": "cpu", "threads": 1}


@pytest.fixture(scope="session")
def memory_file(seen_walls, tmp_path_factory):
    """`seen_walls` by the minute preset."""
    return seen_walls(tmp_path_factory.mktemp("memory") / "memory.safetensors", SMALL)


@pytest.fixture(scope="session")
def seen_walls():
    """A function that saves what a model with some options remembers of two views of walls to a file."""
    return save_walls


def save_walls(path, options):
    """A memory of two views of walls, from 1.2 m above the floor of a world whose z is up, saved to a file."""
    session = ModelSession(MirageParameters(**options))
    rng = np.random.default_rng(0)
    for ahead in ((1.0, 0.0), (0.8, 0.6)):
        eye = torch.tensor([0.0, 0.0, 1.2], dtype=torch.float64)
        pose = look_at(eye, eye + torch.tensor([*ahead, 0.0], dtype=torch.float64))
        camera = pinhole(48, 64, vertical_fov=1.0, cam2world=pose)
        # Walls at 3 m and a floor, so that there is one to click on.
        down = camera.rays()[..., 2].numpy()
        depth = np.where(down < -0.4, 1.2 / np.maximum(-down, 1e-6), 3.0).astype(np.float32)
        session.observe(RgbdFrame(rng.integers(0, 255, (48, 64, 3), np.uint8), depth, camera))
    session.save(path)
    return path
