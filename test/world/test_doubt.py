"""Uncertainty of imagined depth: from the table, its file, and the spread of samples."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.perception.registry import make_perception
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.world.doubt import FILE, DepthDoubt, with_spread
from mirage_ros.world.model import WorldModel


def test_doubt_grows_with_depth_and_is_greater_of_what_was_invented():
    doubt = DepthDoubt(0.01, 0.2, 0.3)
    visible = np.array([[[1.0, 0.0]]], np.float32)
    depth = np.full_like(visible, 2.0)
    spread = doubt.uncertainty(depth, visible)
    np.testing.assert_allclose(spread[0, 0], np.sqrt(2) * 2 * np.array([0.01, 0.2]), rtol=1e-5)
    np.testing.assert_allclose(doubt.uncertainty(2 * depth, visible), 2 * spread)
    # What was drawn may be wrong by more than a mean; where nobody measured it, it is as the mean.
    drawn = doubt.of_samples().uncertainty(depth, visible)
    np.testing.assert_allclose(drawn[0, 0], np.sqrt(2) * 2 * np.array([0.01, 0.3]), rtol=1e-5)
    assert DepthDoubt().of_samples() == DepthDoubt()


def test_the_sky_is_endlessly_doubtful_and_no_depth_has_no_doubt():
    depth = np.array([[[np.inf, 0.0, 1.0]]], np.float32)
    spread = DepthDoubt().uncertainty(depth, np.ones_like(depth))
    assert spread[0, 0, 0] == math.inf
    assert np.isnan(spread[0, 0, 1])
    assert spread[0, 0, 2] > 0


def test_a_table_comes_back_from_its_file_and_other_files_are_refused(tmp_path):
    doubt = DepthDoubt(0.02, 0.3)
    doubt.save(tmp_path)
    assert DepthDoubt.load(tmp_path) == doubt
    assert DepthDoubt.load(tmp_path.parent) == DepthDoubt()
    for content in ("[]", "{", json.dumps({"visible": -1.0}), json.dumps({"sight": 1}), json.dumps({"hidden": [0.2]})):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(ValueError, match=str(tmp_path / FILE)):
            DepthDoubt.load(tmp_path)


@pytest.fixture(scope="module")
def world():
    perception = make_perception("memory", "none")
    return WorldModel.from_pretrained(preset="test", random_weights=True, perception=perception)


def view(world):
    """A memory that knows the view of one camera, and a trajectory that turns away from it."""
    memory, optics = world.new_memory(), pinhole(64, 96, vertical_fov=0.9).to(dtype=torch.float64)
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    frame = RgbdFrame(rgb, np.full((64, 96), 2.0, np.float32), optics.at(torch.eye(4, dtype=torch.float64)))
    world.observe(memory, frame)
    poses = torch.eye(4, dtype=torch.float64).repeat(9, 1, 1)
    for index in range(9):
        angle = 0.12 * index
        poses[index, [0, 2], [0, 2]] = math.cos(angle)
        poses[index, 0, 2], poses[index, 2, 0] = math.sin(angle), -math.sin(angle)
    return memory, optics.at(poses)


def test_samples_show_the_frames_of_the_first_and_doubt_where_they_differ(world):
    memory, trajectory = view(world)
    one = list(world.imagine(memory, trajectory, remember=False, seed=3))
    several = list(world.imagine(memory, trajectory, remember=False, seed=3, samples=3))
    others = [list(world.imagine(memory, trajectory, remember=False, seed=3 + index)) for index in (1, 2)]
    assert [chunk.first for chunk in several] == [chunk.first for chunk in one]
    for place, (chunk, alone) in enumerate(zip(several, one, strict=True)):
        np.testing.assert_array_equal(chunk.rgb, alone.rgb)
        np.testing.assert_array_equal(chunk.depth, alone.depth)
        depths = np.stack([alone.depth, *(other[place].depth for other in others)])
        usable = (np.isfinite(depths) & (depths > 0)).all(axis=0)
        expected = np.maximum(depths.std(axis=0, ddof=1), alone.depth * 0.07 * math.sqrt(2))
        np.testing.assert_allclose(chunk.uncertainty[usable], expected[usable], rtol=1e-3)


def test_samples_that_agree_are_no_surer_than_was_measured(world):
    memory, trajectory = view(world)
    measured = DepthDoubt(0.02, 0.3)
    (chunk, *_) = world.imagine(memory, trajectory, remember=False)
    chunk = replace(chunk, uncertainty=measured.uncertainty(chunk.depth, chunk.visible))
    same = [replace(chunk, sample=index) for index in (1, 0)]
    (found,) = with_spread(same, 2, measured)
    np.testing.assert_allclose(found.uncertainty, chunk.uncertainty, rtol=1e-5)
    # Of weights that nobody measured, it is the spread alone.
    (spread,) = with_spread(same, 2, DepthDoubt())
    hidden = (chunk.visible == 0) & (chunk.depth > 0) & np.isfinite(chunk.depth)
    assert (spread.uncertainty[hidden] < found.uncertainty[hidden]).all()


def test_only_the_first_sample_is_remembered(world):
    memory, trajectory = view(world)
    before = len(memory.frames())
    chunks = list(world.imagine(memory, trajectory, samples=2))
    alone, _ = view(world)
    list(world.imagine(alone, trajectory))
    assert len(memory.frames()) == len(alone.frames()) > before
    assert len(memory) == len(alone)
    assert chunks[0].report.cells > 0


@pytest.mark.parametrize("samples", [0, -1, 65, 1.5, True])
def test_numbers_of_samples_that_make_no_sense_are_refused(world, samples):
    memory, trajectory = view(world)
    with pytest.raises(ValueError, match="samples: expected a whole number from 1 to 64"):
        world.imagine(memory, trajectory, samples=samples)
