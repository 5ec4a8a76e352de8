"""The shipped DDS profile: no frame lost on this machine, nothing heard by another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("image_source.py")
COUNT, RATE = 300, 30.0
PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_720p_at_30_hz_for_10_seconds_loses_nothing(ros, reliability):
    from sensor_msgs.msg import Image

    from mirage_ros.ros.topics import image_qos

    node = ros.node("listener")
    received = []
    node.create_subscription(
        Image, "image", lambda m: received.append((m.header.frame_id, len(m.data))), image_qos(reliability)
    )
    source = ros.start_script(
        SOURCE, "--reliability", reliability, "--count", str(COUNT), "--rate", str(RATE), "--wait"
    )
    ros.spin_until(lambda: len(received) >= COUNT or source.poll() is not None, timeout=60.0)
    assert [frame for frame, _ in received] == [str(number) for number in range(COUNT)]
    assert {size for _, size in received} == {720 * 1280 * 3}


LISTENER = """
import time, sys
from mirage_ros.ros.dds import use_default_profile
use_default_profile()
import rclpy
from sensor_msgs.msg import Image
from mirage_ros.ros.topics import image_qos
rclpy.init()
node = rclpy.create_node("listener")
heard = []
node.create_subscription(Image, "image", lambda m: heard.append(1), image_qos("best_effort"))
# Until something is heard, or for so many seconds.
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and not heard:
    rclpy.spin_once(node, timeout_sec=0.1)
print("publishers", node.count_publishers("image"), "heard", len(heard))
"""

# Two hosts: each has its own network namespace and its own /dev/shm, joined by a cable (a veth pair).
TWO_HOSTS = r"""
set -eu
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
unshare --net --mount sh -c 'mount -t tmpfs tmpfs /dev/shm; echo ready; exec sleep 120' > ready.txt &
far=$!
trap 'kill $far' EXIT
while ! grep -q ready ready.txt; do sleep 0.05; done
ip link add near type veth peer name far netns $far
ip addr add 10.123.0.1/24 dev near; ip link set near up
nsenter -t $far -n -m sh -c 'ip link set lo up; ip addr add 10.123.0.2/24 dev far; ip link set far up'
"$PYTHON" "$SOURCE" --reliability best_effort --count 3600 --rate 30 &
source=$!
"$PYTHON" -c "$LISTENER" 40 | sed 's/^/same host: /'
nsenter -t $far -n -m "$PYTHON" -c "$LISTENER" "$PATIENCE" | sed 's/^/other host: /'
kill $source
"""


def two_hosts(tmp_path, domain_id, network):
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        pytest.skip("needs root and the tools unshare, nsenter and ip to make two hosts of one machine")
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow network namespaces")
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "SOURCE": str(SOURCE),
        "LISTENER": LISTENER,
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_LOG_DIR": str(tmp_path),
        "MIRAGE_ROS_NETWORK": "1" if network else "0",
        # Silence takes a fixed time to establish; a sound is waited for.
        "PATIENCE": "40" if network else "5",
    }
    for name in PROFILES:
        environment.pop(name, None)
    result = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", TWO_HOSTS],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines() if ": " in line)
    return {host: [int(word) for word in line.split() if word.isdigit()] for host, line in lines.items()}


def test_another_host_hears_nothing_by_default(tmp_path, domain_id):
    heard = two_hosts(tmp_path, domain_id, network=False)
    publishers, frames = heard["same host"]
    assert publishers == 1
    assert frames > 0
    assert heard["other host"] == [0, 0]


def test_another_host_hears_once_it_is_allowed(tmp_path, domain_id):
    heard = two_hosts(tmp_path, domain_id, network=True)
    publishers, frames = heard["other host"]
    assert publishers == 1
    assert frames > 0


class TestChoice:
    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch):
        for name in (*PROFILES, "MIRAGE_ROS_NETWORK", "RMW_IMPLEMENTATION", "ROS_DISTRO"):
            # Set first, so that what the function itself sets is undone too.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)

    def test_the_shipped_profile_is_the_default(self):
        from mirage_ros.ros.dds import use_default_profile

        profile = use_default_profile()
        assert Path(profile).name == "fastdds.xml"
        assert Path(profile).is_file()
        assert [os.environ.get(name) for name in PROFILES] == [profile, None]

    def test_older_distributions_know_it_by_another_name(self, monkeypatch):
        from mirage_ros.ros.dds import use_default_profile

        monkeypatch.setenv("ROS_DISTRO", "jazzy")
        profile = use_default_profile()
        assert [os.environ.get(name) for name in PROFILES] == [None, profile]

    @pytest.mark.parametrize("name", PROFILES)
    def test_a_chosen_profile_stays(self, monkeypatch, name):
        from mirage_ros.ros.dds import use_default_profile

        monkeypatch.setenv(name, "/mine.xml")
        assert use_default_profile() == "/mine.xml"

    @pytest.mark.parametrize(
        ("name", "value"), [("MIRAGE_ROS_NETWORK", "1"), ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")]
    )
    def test_opting_out_sets_nothing(self, monkeypatch, name, value):
        from mirage_ros.ros.dds import use_default_profile

        monkeypatch.setenv(name, value)
        assert use_default_profile() is None
        assert "FASTDDS_DEFAULT_PROFILES_FILE" not in os.environ

    def test_a_misspelt_opt_out_is_refused(self, monkeypatch):
        from mirage_ros.ros.dds import use_default_profile

        monkeypatch.setenv("MIRAGE_ROS_NETWORK", "yes")
        with pytest.raises(ValueError, match="MIRAGE_ROS_NETWORK: expected 0"):
            use_default_profile()
