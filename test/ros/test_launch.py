"""The launch files under the real launch, where that is installed: a ROS distribution has it, the wheels do not."""

from importlib.util import find_spec

import pytest
from std_msgs.msg import Header

from mirage_ros.resources import share_directory
from mirage_ros.ros.conversions import pose_to_stamped
from mirage_ros.ros.topics import topic
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.scene import build_scene

pytestmark = pytest.mark.skipif(
    not (find_spec("launch_ros") and find_spec("osrf_pycommon")), reason="launch_ros comes with a ROS distribution"
)

TIMEOUT = 120.0
# What `ros2 launch` does; it needs a main thread of its own.
SCRIPT = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

path, *arguments = sys.argv[1:]
given = [tuple(argument.split(":=")) for argument in arguments]
service = LaunchService(noninteractive=True)
source = PythonLaunchDescriptionSource(path)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)]))
sys.exit(service.run())
"""


@pytest.mark.parametrize("sim_time", [False, True])
def test_the_simulated_camera_and_the_node_work_together(ros, tmp_path, monkeypatch, sim_time):
    """Camera frames and poses in, imagined frames out: in a namespace, also with simulated time."""
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(share_directory().parents[1]))
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    script = tmp_path / "start.py"
    script.write_text(SCRIPT)
    arguments = ["namespace:=robot1", "seed:=3", "mirage:=true", "preset:=test", "random_weights:=true", "threads:=1"]
    clock = f"publish_clock:={str(sim_time).lower()}"
    ros.start_script(script, str(share_directory() / "launch" / "sim.launch.py"), *arguments, clock)
    node = ros.node("planner", namespace="robot1")
    status, frames = [], []
    for name, received in (("memory/status", status), ("imagined/image", frames)):
        row = topic(name)
        node.create_subscription(row.kind, name, received.append, row.qos())
    publisher = node.create_publisher(topic("pose").kind, "pose", topic("pose").qos())
    ros.spin_until(lambda: status and status[-1].observed_frames and publisher.get_subscription_count(), TIMEOUT)
    for pose in plan_path(build_scene(3, "rooms"), 60, 3)[:6]:
        publisher.publish(pose_to_stamped(pose.double(), Header(frame_id="map")))
    ros.spin_until(lambda: len(frames) >= 6, TIMEOUT)
    # Stamps are the node's clock, as the poses had none: seconds since the start, or since 1970.
    assert {frame.header.stamp.sec < 10**6 for frame in frames} == {sim_time}
