"""What the imagined camera shows as it is driven: the newest pose first, imagined where it rests."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.viewer.driver import Driver
from mirage_ros.viewer.source import Task
from mirage_ros.world.results import Cancelled

TIMEOUT = 60.0


def frames_at(poses: torch.Tensor) -> ImaginedFrame:
    count = len(poses)
    camera = pinhole(2, 3, focal=2.0, cam2world=poses)
    plain = np.zeros((count, 2, 3), np.float32)
    rgb = np.zeros((count, 2, 3, 3), np.uint8)
    return ImaginedFrame(rgb, plain, camera, visible=plain, coverage=plain.mean(axis=(1, 2)))


def at(x: float) -> torch.Tensor:
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = x
    return pose


class SlowSource:
    """Previews wait for the test's word; what is imagined ends when the test says so, or with its cancel."""

    def __init__(self) -> None:
        self.go, self.previewed, self.tasks = threading.Event(), [], []

    def preview(self, pose):
        self.previewed.append(float(pose[0, 3]))
        assert self.go.wait(TIMEOUT)
        if pose[0, 3] < 0:
            raise TimeoutError("the node did not answer")
        return frames_at(pose[None])[0]

    def imagine(self, paths, labels, remember):
        future: Future = Future()
        task = Task(lambda: future.set_exception(Cancelled("stopped")), future)
        self.tasks.append((paths, remember, task))
        return task


class Shown:
    def __init__(self) -> None:
        self.frames, self.said, self.changed = [], [], threading.Condition()

    def show(self, frame, kind):
        with self.changed:
            self.frames.append((float(frame.camera.cam2world[0, 3]), kind))
            self.changed.notify_all()

    def say(self, text):
        with self.changed:
            self.said.append(text)
            self.changed.notify_all()

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT)


def wait_for_tasks(source, count):
    ended = threading.Event()
    for _ in range(600):
        if len(source.tasks) >= count:
            return
        ended.wait(0.1)
    pytest.fail(f"{len(source.tasks)} of {count} were asked for")


@pytest.fixture
def parts():
    source, shown = SlowSource(), Shown()
    driver = Driver(source, shown.show, shown.say)
    yield source, shown, driver
    source.go.set()
    driver.close()


def test_poses_between_are_skipped_and_the_last_is_shown(parts):
    source, shown, driver = parts
    driver.rest = False
    for x in range(50):
        driver.move(at(x))
    source.go.set()
    shown.wait(lambda: shown.frames and shown.frames[-1] == (49.0, "preview"))
    assert len(source.previewed) < 10


def test_what_is_seen_at_rest_is_imagined_once_and_given_up_when_the_camera_moves(parts):
    source, _, driver = parts
    source.go.set()
    driver.move(at(1))
    wait_for_tasks(source, 1)
    (path,), remember, task = source.tasks[0]
    assert torch.equal(path, at(1)[None])
    assert not remember
    driver.move(at(2))
    wait_for_tasks(source, 2)
    assert isinstance(task.future.exception(TIMEOUT), Cancelled)
    assert torch.equal(source.tasks[1][0][0], at(2)[None])


def test_a_path_goes_on_while_the_camera_moves_until_it_is_stopped(parts):
    source, shown, driver = parts
    source.go.set()
    results = []
    driver.remember = True
    driver.imagine([at(0)[None], at(1)[None]], ["a", "b"], results.append)
    driver.move(at(3))
    shown.wait(lambda: (3.0, "preview") in shown.frames)
    (_, remember, task) = source.tasks[0]
    # Only a single one can be remembered.
    assert not remember
    assert not task.future.done()
    task.future.set_result([frames_at(at(0)[None]), frames_at(at(1)[None])])
    assert len(results[0]) == 2
    driver.imagine([at(4)[None]], ["c"], results.append)
    assert source.tasks[-1][1]
    driver.stop()
    assert source.tasks[-1][2].future.done()
    assert len(results) == 1


def test_a_source_that_fails_is_said_and_asked_again(parts):
    source, shown, driver = parts
    driver.rest = False
    source.go.set()
    driver.move(at(-1))
    shown.wait(lambda: any("did not answer" in text for text in shown.said))
    driver.move(at(5))
    shown.wait(lambda: (5.0, "preview") in shown.frames)
