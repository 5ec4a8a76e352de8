"""What the engine adds to the world model: out of memory, perception by name, clouds, files."""

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.memory import LatentMemory
from mirage_ros.ros.model_session import Engine, make_perception
from mirage_ros.ros.requests import Observation, Rollout, Settings
from mirage_ros.trajectory import dolly, pan

START = torch.eye(4, dtype=torch.float64)


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    engine = Engine(Settings(preset="test", random_weights=True, device="cpu", threads=1, max_bytes=4 << 20))
    yield engine
    torch.set_num_threads(threads)


@pytest.fixture
def seeing(engine):
    """The engine after one camera frame."""
    engine.reset(keep_observations=False)
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    camera = pinhole(64, 96, vertical_fov=0.9, cam2world=START)
    engine.observe(Observation(rgb, np.full((64, 96), 2.0, np.float32), camera, 5))
    return engine


class ShortOfMemory:
    """A depth estimator whose device has no memory left, the first times that it is asked."""

    def __init__(self, inner, times):
        self._inner, self.times = inner, times

    def estimate(self, frames, memory):
        if self.times:
            self.times -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._inner.estimate(frames, memory)


@pytest.fixture
def short(seeing):
    """Lets perception run out of memory so many times."""
    perception = seeing.world.perception
    inner = perception.depth

    def run_short(times):
        perception.depth = ShortOfMemory(inner, times)

    yield run_short
    perception.depth = inner


def test_out_of_memory_is_tried_once_more_in_smaller_batches(seeing, short):
    rollout = Rollout((dolly(START, 0.2, 5), pan(START, 0.2, 5)), seed=3)
    expected = {chunk.candidate: chunk.rgb for chunk in seeing.imagine(rollout)}
    short(1)
    got = {chunk.candidate: chunk.rgb for chunk in seeing.imagine(rollout)}
    assert set(got) == {0, 1}
    for candidate, rgb in got.items():
        # Batches of another size round differently.
        assert np.abs(rgb.astype(int) - expected[candidate]).max() <= 2


def test_out_of_memory_twice_is_reported(seeing, short):
    short(2)
    with pytest.raises(MemoryError, match="ran out of memory, also with one candidate at a time"):
        list(seeing.imagine(Rollout((dolly(START, 0.2, 5), pan(START, 0.2, 5)))))
    assert len(list(seeing.imagine(Rollout((dolly(START, 0.2, 5),))))) == 1


def test_what_is_not_to_be_remembered_is_not(seeing):
    before = len(seeing.memory), len(seeing.history)
    list(seeing.imagine(Rollout((pan(START, 1.0, 9),))))
    assert (len(seeing.memory), len(seeing.history)) == before
    list(seeing.imagine(Rollout((pan(START, 1.0, 9),), remember=True)))
    assert len(seeing.memory) > before[0]
    assert seeing.snapshot.frames > 1 == seeing.snapshot.observed_frames


def test_perception_by_name():
    from mirage_ros.perception.ghost_filter import GeometricFilter
    from mirage_ros.perception.memory_depth import MemoryDepth
    from mirage_ros.perception.pipeline import JointDepth

    assert isinstance(make_perception("auto", "none", joint=True).depth, JointDepth)
    assert isinstance(make_perception("auto", "none", joint=False).depth, MemoryDepth)
    assert isinstance(make_perception("memory", "geometric", joint=True).dynamic_filter, GeometricFilter)
    with pytest.raises(ValueError, match="perception.depth: expected 'memory' for a preset without depth channels"):
        make_perception("joint", "none", joint=False)


def test_clouds_are_limited_and_sure(seeing):
    everything = seeing.cloud()
    assert len(everything.points) == len(seeing.memory)
    assert len(seeing.cloud(limit=10).points) <= 10
    assert len(seeing.cloud(min_confidence=0.99).points) == 0
    assert everything.colours.float().mean() == pytest.approx(127, abs=30)


def test_a_loaded_memory_can_be_looked_at_at_once(seeing, tmp_path):
    fov = seeing.cameras(START).intrinsics[1, 1]
    count = seeing.save(tmp_path / "deep" / "memory.safetensors")
    other = Engine(Settings(preset="test", random_weights=True, device="cpu", max_bytes=4 << 20, vertical_fov=2.0))
    assert other.load(tmp_path / "deep" / "memory.safetensors") == count
    assert other.cameras(START).intrinsics[1, 1] == pytest.approx(float(fov), rel=1e-5)
    assert other.preview(START).coverage[0] > 0.9
    with pytest.raises(OSError, match="No such file"):
        other.load(tmp_path / "missing.safetensors")
    assert len(other.memory) == count


def test_a_memory_with_other_depth_patches_is_taken_over(seeing, tmp_path):
    path = tmp_path / "memory.safetensors"
    own = seeing.memory
    before = LatentMemory(own.channels, dtype=own.dtype, patch=2, colour=own.colour)
    camera = pinhole(8, 12, focal=10.0, cam2world=START[None])
    colour = torch.zeros(1, 8, 12, 3, dtype=torch.uint8) if own.colour else None
    before.write(torch.zeros(1, own.channels, 8, 12), torch.full((1, 16, 24), 2.0), camera, colour=colour)
    before.save(path)
    assert own.patch != 2
    assert seeing.load(path) == len(before) > 0
    assert seeing.memory.patch == own.patch


def test_a_camera_frame_without_depth_gets_that_of_the_estimator(depth_anything_folder):
    """A real Depth Anything network of minute size, its weights saved to a folder."""
    weights = str(depth_anything_folder("metric"))
    settings = {"preset": "test", "random_weights": True, "device": "cpu", "max_bytes": 4 << 20}
    engine = Engine(Settings(**settings, observed_depth="depth-anything", observed_depth_weights=weights))
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    camera = pinhole(64, 96, vertical_fov=0.9, cam2world=START)
    assert engine.observe(Observation(rgb, None, camera, 5)) > 0
    positions = engine.memory.elements().positions
    assert (positions[:, 2] > 0).all()
    assert (positions[:, 2] <= 20).all()
