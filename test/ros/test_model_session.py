"""What the engine adds to the world model: out of memory, perception by name, clouds, files."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.memory import LatentMemory
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.model_loading import make_perception
from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameters import ImagineParameters, MemoryParameters, MirageParameters, ObservationParameters
from mirage_ros.ros.requests import ImagineRequest
from mirage_ros.ros.work_queue import Worker
from mirage_ros.trajectory import dolly, pan

TIMEOUT = 60.0
START = torch.eye(4, dtype=torch.float64)
SMALL = {"preset": "test", "random_weights": True, "device": "cpu", "memory": MemoryParameters(max_bytes=4 << 20)}


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    engine = ModelSession(MirageParameters(**SMALL, threads=1))
    yield engine
    torch.set_num_threads(threads)


@pytest.fixture
def seeing(engine):
    """The engine after one camera frame."""
    engine.reset(keep_observations=False)
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    camera = pinhole(64, 96, vertical_fov=0.9, cam2world=START)
    engine.observe(RgbdFrame(rgb, np.full((64, 96), 2.0, np.float32), camera, 5))
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
    rollout = ImagineRequest((dolly(START, 0.2, 5), pan(START, 0.2, 5)), seed=3)
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
        list(seeing.imagine(ImagineRequest((dolly(START, 0.2, 5), pan(START, 0.2, 5)))))
    assert len(list(seeing.imagine(ImagineRequest((dolly(START, 0.2, 5),))))) == 1


@pytest.mark.parametrize("candidates", [1, 2])
def test_a_goal_on_a_fork_changes_nothing_outside_of_it(seeing, candidates):
    """Neither memory nor history, nor what autosave, cloud and status go by: changes, age, evictions."""
    path = pan(START, 1.0, 9)

    def outside():
        held = seeing.snapshot
        return len(seeing.memory), len(seeing.history), held.changes, held.written, held.evicted, held.elements

    before = outside()
    (*_, last) = seeing.imagine(ImagineRequest((path,) * candidates))
    assert outside() == before
    assert seeing.snapshot.visibility == last.coverage[-1]
    assert seeing.snapshot.seconds["denoise"] > 0
    list(seeing.imagine(ImagineRequest((path,), remember=True)))
    assert len(seeing.memory) > before[0]
    assert seeing.snapshot.changes > before[2]
    assert seeing.snapshot.frames > 1 == seeing.snapshot.observed_frames


def test_poses_far_from_the_origin_of_a_map_keep_their_precision(engine):
    """UTM coordinates: single precision would round them to half a metre."""
    engine.reset(keep_observations=False)
    here = START.clone()
    here[:2, 3] = torch.tensor([500_000.1234, 4_649_776.5678], dtype=torch.float64)
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    camera = pinhole(64, 96, vertical_fov=0.9, cam2world=here)
    assert camera.cam2world.dtype == torch.float64
    engine.observe(RgbdFrame(rgb, np.full((64, 96), 2.0, np.float32), camera, 5))
    assert torch.equal(engine.memory.frames()[-1].camera.cam2world.cpu(), here)
    preview = engine.preview(here)
    assert torch.equal(preview.camera.cam2world[0], here)
    assert preview.coverage[0] > 0.9
    (chunk,) = engine.imagine(ImagineRequest((here[None],)))
    assert torch.equal(chunk.camera.cam2world[0], here)


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
    other = ModelSession(MirageParameters(**SMALL, imagine=ImagineParameters(vertical_fov=2.0)))
    assert other.load(other.read(tmp_path / "deep" / "memory.safetensors")) == count
    assert other.cameras(START).intrinsics[1, 1] == pytest.approx(float(fov), rel=1e-5)
    assert other.preview(START).coverage[0] > 0.9
    with pytest.raises(OSError, match="No such file"):
        other.read(tmp_path / "missing.safetensors")
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
    assert seeing.load(seeing.read(path)) == len(before) > 0
    assert seeing.memory.patch == own.patch


def test_a_camera_frame_without_depth_gets_that_of_the_estimator(depth_anything_folder):
    """A real Depth Anything network of minute size, its weights saved to a folder."""
    weights = str(depth_anything_folder("metric"))
    estimated = ObservationParameters(depth="estimated", estimator="depth-anything", estimator_weights=weights)
    engine = ModelSession(MirageParameters(**SMALL, observation=estimated))
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    camera = pinhole(64, 96, vertical_fov=0.9, cam2world=START)
    assert engine.observe(RgbdFrame(rgb, None, camera, 5)) > 0
    positions = engine.memory.elements().positions
    assert (positions[:, 2] > 0).all()
    assert (positions[:, 2] <= 20).all()
    # The map takes it too, and grows with the next.
    before = int((engine.occupancy.observed != 0).sum())
    assert before > 0
    engine.observe(RgbdFrame(rgb, None, camera.at(pan(START, 0.4, 2)[-1]), 6))
    assert int((engine.occupancy.observed != 0).sum()) > before


@pytest.fixture
def rollout(seeing):
    length = seeing.world.frames_for(seeing.world.preset.chunk_frames)
    return ImagineRequest((dolly(START, 0.3, length),), seed=3)


def test_a_trajectory_is_padded_with_its_last_pose():
    temporal = SimpleNamespace(world=SimpleNamespace(frames_for=lambda count: (count - 1) // 4 * 4 + 1))
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, 0, 3] = torch.arange(3)
    padded = ModelSession.padded(temporal, poses)
    assert padded[:, 0, 3].tolist() == [0, 1, 2, 2, 2]
    assert ModelSession.padded(temporal, padded).equal(padded)


def test_what_was_begun_before_a_correction_is_in_no_map_after_it(seeing):
    poses = seeing.padded(dolly(START, 0.3, 2 * seeing.world.preset.chunk_frames))
    request = ImagineRequest((poses,), seed=3, stamps=list(range(len(poses))))
    chunks, start = seeing.imagine(request), seeing.occupancy.guesses
    next(chunks)
    assert seeing.occupancy.guesses > start
    (frame,) = seeing.memory.frames()
    moved = START.clone()
    moved[0, 3] = 0.5
    seeing.repose({frame.id: moved})
    corrected = seeing.occupancy.guesses
    assert len(list(chunks)) > 0
    assert seeing.occupancy.guesses == corrected
    next(seeing.imagine(request))
    assert seeing.occupancy.guesses > corrected


def test_previews_between_the_layers_are_right_and_do_not_change_what_is_imagined(seeing, rollout):
    alone = list(seeing.imagine(rollout))
    expected = seeing.preview(START)
    previews = []

    def look():
        with seeing.pauses.between(lambda: None):
            previews.append(seeing.preview(START))

    with seeing.pauses.between(lambda: len(previews) < 5 and look()):
        chunks = list(seeing.imagine(rollout))
    assert len(previews) == 5
    for preview in previews:
        np.testing.assert_array_equal(preview.rgb, expected.rgb)
    for before, after in zip(alone, chunks, strict=True):
        np.testing.assert_array_equal(before.rgb, after.rgb)


def test_a_preview_that_comes_during_a_denoising_step_does_not_wait_for_its_end(seeing, rollout):
    worker, order = Worker(), []
    transformer = seeing.world.networks.transformer

    def ask(layer, inputs):
        if "asked" not in order:
            order.append("asked")
            worker.call(lambda: (seeing.preview(START), order.append("preview")), quick=True)

    handles = [
        transformer.register_forward_pre_hook(ask),
        transformer.register_forward_hook(lambda layer, inputs, output: order.append("step")),
    ]
    try:
        worker.start(seeing.rollout(worker, rollout, lambda chunk: None), name="rollout").future.result(TIMEOUT)
    finally:
        for handle in handles:
            handle.remove()
        assert worker.close(TIMEOUT)
    assert order.index("asked") < order.index("preview") < order.index("step")


def test_nothing_is_called_outside_of_the_context(seeing, rollout):
    called = []
    with seeing.pauses.between(lambda: called.append(1)):
        list(seeing.imagine(rollout))
    inside = len(called)
    list(seeing.imagine(rollout))
    assert len(called) == inside > 0
