"""A running node as the window's source: what it saw, previews, imagined frames as they come, candidates."""

import contextlib
import time

import numpy as np
import pytest
import torch
from sensor_msgs.msg import Image

from mirage_ros.geometry import pinhole
from mirage_ros.trajectory import dolly, pan
from mirage_ros.world.results import Cancelled

pytestmark = pytest.mark.slow
TIMEOUT = 240.0


class Heard:
    def __init__(self):
        self.points, self.poses, self.frames, self.pictures, self.paths = 0, None, [], [], []

    def cloud(self, points, colours):
        self.points = len(points)

    def observed(self, poses):
        self.poses = poses

    def robot(self, rgb, pose):
        self.pictures.append((rgb, pose))

    def imagined(self, frame):
        self.frames.append(frame)

    def path(self, poses):
        self.paths.append(poses)


def until(condition):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_running_node_is_shown_previewed_and_imagined(ros, tmp_path, caplog):
    from mirage_ros.viewer.live import LiveNode

    parameters = {"preset": "test", "random_weights": True, "threads": 1, "memory.restore": False}
    ros.start("mirage", {**parameters, "observation.enabled": False, "memory.folder": str(tmp_path / "memory")})
    with contextlib.closing(LiveNode(timeout=TIMEOUT)) as source:
        heard = Heard()
        source.start(heard)
        here = torch.eye(4, dtype=torch.float64)
        rgb = np.random.default_rng(0).integers(0, 255, (48, 72, 3), np.uint8)
        camera = pinhole(48, 72, vertical_fov=0.9, cam2world=here)
        source._mirage.observe(rgb, np.full((48, 72), 2.0, np.float32), camera, timeout=TIMEOUT)
        until(lambda: heard.points and heard.poses is not None)
        torch.testing.assert_close(heard.poses[-1], here)
        until(lambda: any(pose is not None for _, pose in heard.pictures))
        assert source.preview(here).coverage > source.preview(pan(here, np.pi, 2)[-1]).coverage

        # A picture that nobody can show ends nothing of what follows.
        source._mirage._link.publisher("image").publish(Image(height=1, width=1, step=1, encoding="odd", data=[0]))
        until(lambda: "image: " in caplog.text)
        path = dolly(here, 0.2, 3)
        (frames,) = source.imagine([path], ["on"], remember=False).future.result(TIMEOUT)
        until(lambda: len(heard.frames) == len(path))
        assert np.array_equal(np.stack([frame.rgb for frame in heard.frames]), frames.rgb)
        torch.testing.assert_close(heard.paths[-1], path)

        ways = [pan(here, angle, 2) for angle in (-0.4, 0.4)]
        left, right = source.imagine(ways, ["left", "right"], remember=False).future.result(TIMEOUT)
        assert (len(left), len(right)) == (2, 2)
        assert len(heard.frames) == len(path)

        task = source.imagine([dolly(here, 1.0, 300)], ["far"], remember=False)
        task.cancel()
        with pytest.raises(Cancelled):
            task.future.result(TIMEOUT)
