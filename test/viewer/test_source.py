"""A saved memory answers without ROS: cloud, cameras, previews, paths, candidates."""

import threading

import numpy as np
import pytest
import torch

from mirage_ros.trajectory import dolly, pan
from mirage_ros.viewer.source import SavedMemory
from mirage_ros.world.results import Cancelled

SMALL = {"preset": "test", "random_weights": True, "device": "cpu", "threads": 1}
TIMEOUT = 240.0


class Heard:
    def __init__(self):
        self.clouds, self.poses, self.frames = [], None, []
        self.again = threading.Event()

    def cloud(self, points, colours):
        assert colours.shape == points.shape
        self.clouds.append(len(points))
        if len(self.clouds) > 1:
            self.again.set()

    def observed(self, poses):
        self.poses = poses

    def imagined(self, frame):
        self.frames.append(frame)


@pytest.fixture
def source(memory_file):
    source = SavedMemory(memory_file, **SMALL)
    yield source
    source.close()


def test_a_saved_memory_is_shown_previewed_and_imagined(source):
    heard = Heard()
    source.start(heard)
    here = heard.poses[-1]
    assert heard.clouds[0] > 0
    assert heard.poses.shape == (2, 4, 4)
    seen, away = source.preview(here), source.preview(pan(here, np.pi, 2)[-1])
    assert seen.coverage > away.coverage

    path = dolly(here, 0.2, 3)
    (frames,) = source.imagine([path], ["on"], remember=False).future.result(TIMEOUT)
    assert frames.camera.cam2world.shape == path.shape
    assert torch.allclose(frames.camera.cam2world, path)
    # They came one by one before that.
    assert np.array_equal(np.stack([frame.rgb for frame in heard.frames]), frames.rgb)
    assert len(heard.clouds) == 1

    left, right = (pan(here, angle, count) for angle, count in ((-0.5, 2), (0.5, 4)))
    one, other = source.imagine([left, right], ["left", "right"], remember=False).future.result(TIMEOUT)
    assert (len(one), len(other)) == (2, 4)


def test_what_is_remembered_grows_the_cloud(source):
    heard = Heard()
    source.start(heard)
    around = pan(heard.poses[-1], 1.5, 9)
    (frames,) = source.imagine([around], ["around"], remember=True).future.result(TIMEOUT)
    assert np.isfinite(frames.depth[-1]).any()
    assert heard.again.wait(TIMEOUT)
    assert heard.clouds[-1] > heard.clouds[0]


def test_a_cancelled_path_ends(source):
    heard = Heard()
    source.start(heard)
    task = source.imagine([dolly(heard.poses[-1], 1.0, 200)], ["far"], remember=False)
    task.cancel()
    with pytest.raises(Cancelled):
        task.future.result(TIMEOUT)


def test_a_file_of_another_preset_is_refused(memory_file):
    with pytest.raises(ValueError, match="channels"):
        SavedMemory(memory_file, preset="default", random_weights=True, threads=1)
