"""Every transition, twice over: what is opened is closed, threads end, failures say what to do."""

import gc
import os
import threading
import weakref

import pytest
from rclpy.lifecycle import TransitionCallbackReturn

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def interface(node):
    """Topics, services and timers that the node has now."""
    return (
        sorted(subscription.topic_name for subscription in node.subscriptions),
        sorted(publisher.topic_name for publisher in node.publishers),
        sorted(service.service_name for service in node.services),
        len(list(node.timers)),
        len(list(node.waitables)),
    )


def test_two_rounds_leave_nothing_behind(new_node):
    ros = new_node("rounds")
    node, threads, interfaces = ros.node, [], []
    for _ in range(2):
        at_rest = interface(node), {thread.name for thread in threading.enumerate()}
        assert node.trigger_configure() == SUCCESS
        configured = interface(node)
        assert node.trigger_activate() == SUCCESS
        active = interface(node)
        engine, worker = weakref.ref(node.configured.context.session), node.configured.context.worker
        assert node.trigger_deactivate() == SUCCESS
        assert interface(node) == configured
        assert node.trigger_activate() == SUCCESS
        assert interface(node) == active
        assert node.trigger_deactivate() == SUCCESS
        assert node.trigger_cleanup() == SUCCESS
        assert (interface(node), {thread.name for thread in threading.enumerate()}) == at_rest
        assert not worker._thread.is_alive()
        del worker
        gc.collect()
        assert engine() is None, "the model is still held"
        threads.append(at_rest[1])
        interfaces.append((configured, active))
    assert interfaces[0] == interfaces[1]
    assert "/rounds/imagined/image" in interfaces[0][1][1]
    assert "/rounds/imagined/image" not in interfaces[0][0][1]
    assert node.trigger_shutdown() == SUCCESS


def test_deactivating_stops_goals_and_the_node_works_again_afterwards(new_node):
    import torch

    from mirage_ros.client import ImaginationCancelled, Mirage
    from mirage_ros.trajectory import dolly

    ros = new_node("again").start()
    ros.observe()
    with Mirage("again", timeout=240.0) as client:
        goal = client.start([dolly(torch.eye(4), 0.5, 65)])
        ros.spin_until(lambda: ros.node.configured.context.worker.backlog)
        transition(ros, "deactivate")
        with pytest.raises(ImaginationCancelled):
            goal.result(240)
        from mirage_ros.client import MirageError

        with pytest.raises(MirageError, match="the node is not active"):
            client.imagine([dolly(torch.eye(4), 0.1, 3)])
        transition(ros, "activate")
        assert len(client.imagine([dolly(torch.eye(4), 0.1, 3)]).trajectories[0]) == 3
    ros.listen("/diagnostics")
    transition(ros, "deactivate")
    ros.spin_until(lambda: ros.diagnosis("lifecycle").startswith("inactive: activate it (ros2 lifecycle set /again/"))


def transition(ros, name):
    """Ask for a transition as `ros2 lifecycle set` does."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    client = ros.tester.create_client(ChangeState, "mirage/change_state")
    ros.spin_until(client.service_is_ready)
    number = getattr(Transition, f"TRANSITION_{name.upper()}")
    future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
    ros.spin_until(future.done)
    assert future.result().success


ESTIMATED = {"observation.depth": "estimated", "observation.estimator": "depth-anything"}


@pytest.mark.parametrize("part", ["model", "estimator"])
def test_configure_without_weights_says_what_to_do(new_node, tmp_path, part):
    bare = {"weights": str(tmp_path), "random_weights": False}
    estimated = {**ESTIMATED, "observation.estimator_weights": str(tmp_path)}
    ros = new_node(f"bare_{part}", **(bare if part == "model" else estimated)).spin_in_background()
    ros.listen("/diagnostics")
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    client = ros.tester.create_client(ChangeState, "mirage/change_state")
    ros.spin_until(client.service_is_ready)
    future = client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    ros.spin_until(future.done)
    assert not future.result().success
    ros.spin_until(lambda: str(tmp_path) in ros.diagnosis("inputs") + ros.diagnosis("lifecycle"))
    assert ros.node.configured is None


def test_what_was_remembered_is_there_after_cleanup_and_configure(new_node):
    ros = new_node("keeps", **{"memory.restore": True}).start()
    ros.observe()
    elements = len(ros.node.configured.context.session.memory)
    assert ros.node.trigger_deactivate() == SUCCESS
    assert ros.node.trigger_cleanup() == SUCCESS
    assert ros.node.trigger_configure() == SUCCESS
    assert len(ros.node.configured.context.session.memory) == elements
    assert ros.node.trigger_cleanup() == SUCCESS
    # A file that nobody can read is put aside, not lost and not fatal.
    (ros.folder / "autosave.safetensors").write_bytes(b"damaged")
    assert ros.node.trigger_configure() == SUCCESS
    assert len(ros.node.configured.context.session.memory) == 0
    assert (ros.folder / "autosave-1.safetensors").read_bytes() == b"damaged"
    assert sorted(os.listdir(ros.folder)) == ["autosave-1.safetensors", "autosave.lock"]


def test_a_service_that_cannot_be_opened_leaves_nothing_behind(new_node, monkeypatch):
    node = new_node("half").node
    at_rest = interface(node), {thread.name for thread in threading.enumerate()}

    def fail(*_):
        raise RuntimeError("no service")

    with monkeypatch.context() as patched:
        patched.setattr("mirage_ros.ros.node.Services", fail)
        assert node.trigger_configure() == FAILURE
    assert node.health.failure == "no service"
    assert (interface(node), {thread.name for thread in threading.enumerate()}) == at_rest
    assert node.trigger_configure() == SUCCESS
    # The file of automatic saves is free again.
    assert not node.health.standing
    assert node.trigger_cleanup() == SUCCESS
