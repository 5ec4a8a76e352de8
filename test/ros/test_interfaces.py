"""Every message, service and action of the package crosses between two processes unchanged."""

import importlib.util
import re
from pathlib import Path

import pytest

PEER_FILE = Path(__file__).with_name("peer.py")
SPEC = importlib.util.spec_from_file_location("interface_peer", PEER_FILE)
peer = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(peer)

TIMEOUT = 30.0


@pytest.fixture
def other_process(ros):
    ros.start_script(PEER_FILE)
    return ros


@pytest.mark.parametrize("topic", ["status", "candidate", "imagined", "score"])
def test_messages_cross(other_process, topic):
    from rclpy.qos import DurabilityPolicy, QoSProfile

    kind = peer.topics()[topic]
    node = other_process.node("tester")
    received = []
    node.create_subscription(
        kind, f"{topic}_back", received.append, QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    publisher = node.create_publisher(kind, topic, 10)
    other_process.spin_until(lambda: publisher.get_subscription_count() and node.count_publishers(f"{topic}_back"))
    sent = peer.filled(kind)
    publisher.publish(sent)
    other_process.spin_until(lambda: received)
    assert received[0] == sent
    assert received[0] != kind()


def test_services_answer(other_process):
    node = other_process.node("tester")
    for name, kind in peer.services().items():
        client = node.create_client(kind, name)
        other_process.spin_until(client.service_is_ready)
        future = client.call_async(peer.filled(kind.Request))
        other_process.spin_until(future.done)
        assert future.result() == peer.filled(kind.Response), name


def test_action_gives_feedback_and_can_be_cancelled(other_process):
    from action_msgs.msg import GoalStatus
    from mirage_ros.action import Imagine
    from rclpy.action import ActionClient

    node = other_process.node("tester")
    client = ActionClient(node, Imagine, "imagine")
    feedback = []
    other_process.spin_until(client.server_is_ready)
    sending = client.send_goal_async(
        peer.filled(Imagine.Goal), feedback_callback=lambda message: feedback.append(message.feedback)
    )
    other_process.spin_until(sending.done)
    goal = sending.result()
    assert goal.accepted
    other_process.spin_until(lambda: feedback)
    assert feedback[0] == peer.filled(Imagine.Feedback)
    cancelling = goal.cancel_goal_async()
    other_process.spin_until(cancelling.done)
    finishing = goal.get_result_async()
    other_process.spin_until(finishing.done)
    assert finishing.result().status == GoalStatus.STATUS_CANCELED
    assert finishing.result().result == peer.filled(Imagine.Result)
    client.destroy()


def test_every_field_is_commented():
    from mirage_ros.resources import share_directory

    files = [path for folder in ("msg", "srv", "action") for path in (share_directory() / folder).glob("*.*")]
    definitions = [path for path in files if path.suffix in (".msg", ".srv", ".action")]
    assert len(definitions) == 12
    bare = []
    for path in definitions:
        previous = ""
        for line in path.read_text().splitlines():
            field = line.strip() and not line.startswith(("#", "---", " "))
            constant = re.match(r"\w+ [A-Z_]+=", line)
            if field and not constant and "#" not in line and not previous.startswith("#"):
                bare.append(f"{path.name}: {line}")
            # A comment on its own line speaks for the fields of the block below it.
            previous = line if line.startswith("#") or not line.strip() or not previous.startswith("#") else previous
    assert not bare
