"""What happens between the layers: it can read the same networks, and it leaves the result as it is."""

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.ros.commanding import rolling
from mirage_ros.ros.model_session import Engine
from mirage_ros.ros.requests import Observation, Rollout, Settings
from mirage_ros.ros.work_queue import Worker
from mirage_ros.trajectory import dolly

START = torch.eye(4, dtype=torch.float64)
TIMEOUT = 60.0


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    engine = Engine(Settings(preset="test", random_weights=True, device="cpu", threads=1, max_bytes=4 << 20))
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    camera = pinhole(64, 96, vertical_fov=0.9, cam2world=START)
    engine.observe(Observation(rgb, np.full((64, 96), 2.0, np.float32), camera, 5))
    yield engine
    torch.set_num_threads(threads)


@pytest.fixture
def rollout(engine):
    length = engine.world.frames_for(engine.world.preset.chunk_frames)
    return Rollout((dolly(START, 0.3, length),), seed=3)


def test_previews_between_the_layers_are_right_and_do_not_change_what_is_imagined(engine, rollout):
    alone = list(engine.imagine(rollout))
    expected = engine.preview(START)
    previews = []

    def look():
        with engine.pauses.between(lambda: None):
            previews.append(engine.preview(START))

    with engine.pauses.between(lambda: len(previews) < 5 and look()):
        chunks = list(engine.imagine(rollout))
    assert len(previews) == 5
    for preview in previews:
        np.testing.assert_array_equal(preview.rgb, expected.rgb)
    for before, after in zip(alone, chunks, strict=True):
        np.testing.assert_array_equal(before.rgb, after.rgb)


def test_a_preview_that_comes_during_a_denoising_step_does_not_wait_for_its_end(engine, rollout):
    worker, order = Worker(), []
    transformer = engine.world.networks.transformer

    def ask(layer, inputs):
        if "asked" not in order:
            order.append("asked")
            worker.call(lambda: (engine.preview(START), order.append("preview")), quick=True)

    handles = [
        transformer.register_forward_pre_hook(ask),
        transformer.register_forward_hook(lambda layer, inputs, output: order.append("step")),
    ]
    try:
        worker.start(rolling(engine, worker, rollout, lambda chunk: None), name="rollout").future.result(TIMEOUT)
    finally:
        for handle in handles:
            handle.remove()
        assert worker.close(TIMEOUT)
    assert order.index("asked") < order.index("preview") < order.index("step")


def test_nothing_is_called_outside_of_the_context(engine, rollout):
    called = []
    with engine.pauses.between(lambda: called.append(1)):
        list(engine.imagine(rollout))
    inside = len(called)
    list(engine.imagine(rollout))
    assert len(called) == inside > 0
