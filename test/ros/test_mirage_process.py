"""The executable `mirage` as users start it: the simulator's topics to frames, killed, restarted, misconfigured."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from std_msgs.msg import Header

from mirage_ros.ros.conversions import pose_from_stamped, poses_to_path
from mirage_ros.ros.executable import executable, parameter_arguments
from mirage_ros.ros.topics import topic

SMALL = {"preset": "test", "random_weights": True, "threads": 1, "observation.rate": 0.0, "memory.autosave": 0.2}
TIMEOUT = 280.0


class Listener:
    def __init__(self, ros, *names):
        self.node, self.received = ros.node("tester"), {name: [] for name in names}
        for name in names:
            row = topic(name)
            self.node.create_subscription(row.kind, row.name, self.received[name].append, row.qos())


@pytest.mark.timeout(1200)
def test_camera_to_frames_then_killed_in_mid_rollout_and_restored(ros, tmp_path):
    memory = tmp_path / "memory"
    parameters = {**SMALL, "memory.folder": str(memory)}
    remap = ("-r", "camera_pose:=true_pose")
    listener = Listener(ros, "imagined/image", "memory/status")
    poses = []
    ros.start("sim_camera", {"width": 96, "height": 64, "rate": 5.0, "motion": "path", "path_length": 10})
    truth = topic("camera_pose")
    listener.node.create_subscription(truth.kind, "true_pose", poses.append, 10)
    process = ros.start("mirage", parameters, *remap)
    status, images = listener.received["memory/status"], listener.received["imagined/image"]
    ros.spin_until(lambda: status and status[-1].observed_frames >= 2, TIMEOUT)
    path = listener.node.create_publisher(topic("path").kind, "path", 10)
    ros.spin_until(path.get_subscription_count)
    here, _, _ = pose_from_stamped(poses[-1])
    path.publish(poses_to_path(here.repeat(200, 1, 1), Header(frame_id="map")))
    ros.spin_until(lambda: len(images) >= 9 and (memory / "autosave.safetensors").exists(), TIMEOUT)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Whole, although it was killed at any moment.
    from mirage_ros.memory.latent import LatentMemory

    saved = len(LatentMemory.load(memory / "autosave.safetensors"))
    assert saved > 0
    status.clear()
    images.clear()
    # Without any camera: what is served comes from the file.
    again = ros.start("mirage", {**parameters, "observation.enabled": False}, *remap)
    ros.spin_until(lambda: status, TIMEOUT)
    assert status[-1].elements == saved
    path.publish(poses_to_path(here.repeat(5, 1, 1), Header(frame_id="map")))
    ros.spin_until(lambda: len(images) >= 5 or again.poll() is not None, TIMEOUT)
    assert again.poll() is None
    again.send_signal(signal.SIGINT)
    assert again.wait(30) == 0
    assert "Traceback" not in (tmp_path / "mirage.log").read_text()
    assert torch.isfinite(here).all()


@pytest.mark.parametrize(
    ("parameters", "status", "message"),
    [
        ({"preset": "huge"}, 1, "parameter preset: expected one of default, wan2.2-ti2v-5b, test, got 'huge'"),
        ({"presett": "test"}, 1, "parameter presett: expected one of"),
        ({"observation.rate": -1.0}, 1, "parameter observation.rate: expected float from 0.0 to 1000.0, got -1.0"),
        ({**SMALL, "observation.pose": "tf"}, 1, "observation.pose is tf, but tf2_ros is not installed"),
        ({**SMALL, "device": "abacus"}, 1, "device: expected 'cpu', 'cuda' or 'cuda:N', got 'abacus'"),
    ],
)
def test_mistakes_end_the_process_with_a_line_that_says_what_was_expected(ros, tmp_path, parameters, status, message):
    parameters = {"memory.folder": str(tmp_path / "memory"), **parameters}
    process = ros.start("mirage", parameters)
    assert process.wait(TIMEOUT) == status
    log = (tmp_path / "mirage.log").read_text()
    assert message in log
    assert "Traceback" not in log


@pytest.mark.parametrize("name", ["mirage", "sim_camera"])
@pytest.mark.parametrize("moment", ["importing", "working"])
def test_interrupts_end_it_quietly_at_any_moment_and_however_many(ros, tmp_path, name, moment):
    """As Ctrl-C under ros2 launch does: the terminal interrupts the node, and launch once more."""
    parameters = (
        {**SMALL, "memory.folder": str(tmp_path / "memory")} if name == "mirage" else {"width": 96, "height": 64}
    )
    others = set(Path("/dev/shm").iterdir())
    process, log = ros.start(name, parameters), tmp_path / f"{name}.log"

    def there():
        assert process.poll() is None, log.read_text()
        if moment == "working":
            return f"[{name}]: " in log.read_text()
        # The first library of torch's; hundreds of modules follow.
        return "libc10.so" in Path(f"/proc/{process.pid}/maps").read_text()

    ros.spin_until(there, TIMEOUT)
    mapped = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    # Ports are shared, and segments that were there before are those of whom it talks to.
    own = {Path(line.split()[-1]) for line in mapped if "/dev/shm/fastdds_" in line and "port" not in line} - others
    end = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < end, log.read_text()
        process.send_signal(signal.SIGINT)
        ros.executor.spin_once(timeout_sec=0.02)
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert not [path for path in own if path.exists()]


def test_an_interrupt_while_something_is_held_lets_that_end(tmp_path):
    code = """if True:
        import signal, sys, time
        from mirage_ros import interrupts
        interrupts.while_working()
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            print("done", flush=True)
        assert interrupts.came()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        signal.raise_signal(signal.SIGINT)
        print("ended", flush=True)
    """
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["done", "interrupted", "ended"]


def test_an_interrupt_that_python_swallows_leaves_an_ear_for_the_next(tmp_path):
    code = """if True:
        import signal, time
        from mirage_ros import interrupts
        class Finalised:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)
        interrupts.AGAIN = 0.1
        interrupts.while_working()
        Finalised()
        print("swallowed", flush=True)
        time.sleep(0.2)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("heard", flush=True)
    """
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["swallowed", "heard"]
    assert "KeyboardInterrupt" in told.stderr


def test_it_is_an_executable_of_the_package():
    assert executable("mirage").stat().st_mode & 0o111
    assert parameter_arguments({"a": 1})[0] == "--ros-args"
