from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from mirage_ros.evaluation.__main__ import EvaluationOptions, protocol_of
from mirage_ros.evaluation.cases import Case, CaseList
from mirage_ros.geometry import pinhole
from mirage_ros.recordings.clips import Clip
from mirage_ros.world.model import WorldModel

SIZE = (32, 48)


@pytest.fixture(scope="session")
def world() -> WorldModel:
    torch.set_num_threads(1)
    return WorldModel.from_pretrained(preset="default", random_weights=True, size=SIZE)


def make_case(name: str, phase: float) -> Case:
    """A textured wall two metres away, the camera slides along it; a box moves in front of it."""
    count = 6
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = torch.arange(count) * 0.1
    camera = pinhole(*SIZE, focal=40.0, cam2world=poses)
    depth = np.full((count, *SIZE), 2.0, np.float32)
    points = camera.lift(torch.from_numpy(depth).double()).numpy()
    rgb = (np.stack([np.sin(points[..., 0] * k + phase) for k in (7, 11, 17)], -1) * 120 + 128).astype(np.uint8)
    labels = np.zeros(depth.shape, np.uint8)
    for index in range(count):
        columns = slice(5 * index, 5 * index + 6)
        labels[index, 10:20, columns], depth[index, 10:20, columns], rgb[index, 10:20, columns] = 1, 1.0, 255
    return Case(Clip(name=name, rgb=rgb, depth=depth, labels=labels, camera=camera, fps=10.0))


def walls_of(*cases: Case) -> CaseList:
    """A protocol of some cases."""
    return CaseList("walls", [partial(lambda case: case, case) for case in cases])


@pytest.fixture
def walls() -> CaseList:
    return walls_of(make_case("one", 0.0), make_case("two", 1.0))


@pytest.fixture
def long_walks(long_walk) -> CaseList:
    return walls_of(long_walk)


@pytest.fixture(scope="session")
def long_walk() -> Case:
    """The first of the long walks."""
    (case,) = protocol_of(EvaluationOptions("drift", limit=1), *SIZE)
    return case


@pytest.fixture(scope="session")
def case() -> Case:
    return make_case("one", 0.0)
