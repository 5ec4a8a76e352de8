"""The other process of the interface tests: echoes topics, answers services and runs the action.

`python peer.py` waits for work until it is interrupted. Values come from `filled`, which both sides share, so that
every field of every interface is compared.
"""

import array
import importlib
import re

import numpy as np

PRIMITIVES = {
    "boolean": lambda n: True,
    "octet": lambda n: bytes([n % 256]),
    "string": lambda n: f"text {n} é",
    "float": lambda n: n + 0.5,
    "double": lambda n: n + 0.25,
}


def filled(kind, counter=None):
    """An instance of a message class in which no field has its default value."""
    counter = counter or iter(range(1, 100000))
    message = kind()
    for name, type_name in kind.get_fields_and_field_types().items():
        setattr(message, name, value(type_name, getattr(message, name), counter))
    return message


def value(type_name, default, counter):
    fixed = re.fullmatch(r"(.+)\[(\d+)\]", type_name)
    if fixed:
        values = [value(fixed[1], None, counter) for _ in range(int(fixed[2]))]
        return np.array(values, dtype=default.dtype) if isinstance(default, np.ndarray) else values
    sequence = re.fullmatch(r"sequence<(.+?)(, \d+)?>", type_name)
    if sequence:
        values = [value(sequence[1], None, counter) for _ in range(2)]
        return array.array(default.typecode, values) if isinstance(default, array.array) else values
    number = next(counter)
    if type_name in PRIMITIVES:
        return PRIMITIVES[type_name](number)
    if re.fullmatch(r"u?int\d+", type_name):
        return number % 100 + 1
    package, name = type_name.split("/")
    return filled(getattr(importlib.import_module(f"{package}.msg"), name), counter)


def topics():
    from mirage_ros.msg import Candidate, ImaginedTrajectory, MemoryStatus, ViewScore

    return {"status": MemoryStatus, "candidate": Candidate, "imagined": ImaginedTrajectory, "score": ViewScore}


def services():
    from mirage_ros.srv import ExportCloud, LoadMemory, Repose, Reset, SaveMemory, ScoreViews, SetPrompt

    return {
        "export_cloud": ExportCloud,
        "load_memory": LoadMemory,
        "repose": Repose,
        "reset": Reset,
        "save_memory": SaveMemory,
        "score_views": ScoreViews,
        "set_prompt": SetPrompt,
    }


def main():
    from mirage_ros.ros.dds import use_default_profile

    use_default_profile()
    import rclpy
    from mirage_ros.action import Imagine
    from rclpy.action import ActionServer, CancelResponse
    from rclpy.callback_groups import ReentrantCallbackGroup
    from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
    from rclpy.qos import DurabilityPolicy, QoSProfile

    rclpy.init()
    # Whoever asks may know this process before it is known here: the answer waits.
    kept = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node = rclpy.create_node("peer")
    for topic, kind in topics().items():
        publisher = node.create_publisher(kind, f"{topic}_back", kept)
        node.create_subscription(kind, topic, publisher.publish, 10)
    for name, kind in services().items():

        def answer(request, response, kind=kind):
            return filled(kind.Response) if request == filled(kind.Request) else response

        node.create_service(kind, name, answer)

    def execute(goal):
        if goal.request != filled(Imagine.Goal):
            goal.abort()
            return Imagine.Result(status=Imagine.Result.REJECTED)
        import time

        while not goal.is_cancel_requested:
            goal.publish_feedback(filled(Imagine.Feedback))
            time.sleep(0.02)
        goal.canceled()
        return filled(Imagine.Result)

    server = ActionServer(
        node,
        Imagine,
        "imagine",
        execute,
        cancel_callback=lambda goal: CancelResponse.ACCEPT,
        callback_group=ReentrantCallbackGroup(),
    )
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        server.destroy()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
