"""The ROS side of a client: a node of its own that spins in a thread, services, publishers, the newest status."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

import rclpy
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor

from mirage_ros.action import Imagine
from mirage_ros.client.results import MirageError
from mirage_ros.msg import MemoryStatus
from mirage_ros.ros.topics import ACTIONS, SERVICES, topic

# Services after which what the memory holds is another.
CHANGING = ("reset", "load_memory", "repose", "observe")


class Link:
    """Connected to one node `mirage` from construction to `close`.

    Attributes:
        node: of the client.
        action: client of the action imagine.
        prefix: of the names of the node's topics and services.
    """

    def __init__(self, namespace: str, timeout: float) -> None:
        """Connect to the node of a namespace and wait, so many seconds, until it is active.

        Raises:
            TimeoutError: no active node was found; says what was.
        """
        self.prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        # Several clients may run at once; a name of its own each keeps ROS tools from mixing them up.
        self.node = rclpy.create_node(f"mirage_client_{time.monotonic_ns() % 10**9}", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._status: MemoryStatus | None = None
        self._closing = False
        self._publishers: dict[str, Any] = {}
        self._answers: set[Future[Any]] = set()
        self.listen("memory/status", self._on_status)
        self.action: Any = ActionClient(self.node, Imagine, self.prefix + ACTIONS[0][0])
        self._services: dict[str, Any] = {
            name: self.node.create_client(kind, self.prefix + name) for name, kind, _ in SERVICES
        }
        self._thread = threading.Thread(target=self._spin, name="mirage client", daemon=True)
        self._thread.start()
        try:
            self._wait_until_active(timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; whoever still waits for an answer gets a `MirageError`."""
        self._closing = True
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(5.0)
        self.action.destroy()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        for answer in list(self._answers):
            with suppress(InvalidStateError):
                answer.set_exception(MirageError("the client was closed before the answer came"))

    def now(self) -> int:
        """Nanoseconds of the client's clock."""
        return int(self.node.get_clock().now().nanoseconds)

    def listen(self, name: str, callback: Callable[[Any], None], at: str = "") -> None:
        """Subscribe to a topic of the node, which may be remapped to another place."""
        row, place = topic(name), at or name
        place = place if place.startswith("/") else self.prefix + place
        self.node.create_subscription(row.kind, place, callback, row.qos(output="best_effort"))

    def publisher(self, name: str) -> Any:
        """A publisher on a topic that the node listens to."""
        if name not in self._publishers:
            row = topic(name)
            # Reliable, whatever the node asks for: it hears both.
            self._publishers[name] = self.node.create_publisher(row.kind, self.prefix + name, row.qos("reliable"))
        return self._publishers[name]

    def forget_status(self) -> None:
        """The memory has changed: what was said of it is not so any more, and the node says anew what is."""
        self._status = None

    def status(self, limit: float) -> MemoryStatus:
        """The newest mirage_ros/MemoryStatus; a TimeoutError if none came until time.monotonic() was at the limit."""
        status: MemoryStatus = wait_for(lambda: self._status, limit, f"status: nothing on {self.prefix}memory/status")
        return status

    def call(self, service: str, **fields: Any) -> Future[Any]:
        """The response of a service, when it comes; cancelled, it is forgotten when it comes."""
        client = self._services[service]
        answer: Future[Any] = Future()
        request = client.srv_type.Request(**fields)

        def done(response: Any) -> None:
            if service in CHANGING and response.result().success:
                self.forget_status()
            with suppress(InvalidStateError):
                answer.set_result(response.result())

        def over(_: Future[Any]) -> None:
            self._answers.discard(answer)
            client.remove_pending_request(sent)
            if answer.cancelled() and service in CHANGING:
                # The node may have done it, or do it yet.
                self.forget_status()

        sent = client.call_async(request)
        self._answers.add(answer)
        answer.add_done_callback(over)
        sent.add_done_callback(done)
        return answer

    def ask(self, service: str, timeout: float, **fields: Any) -> Any:
        """The response of a service; a TimeoutError if none comes in time, a MirageError if the node refused."""
        answer = self.call(service, **fields)
        try:
            return checked(service, answer.result(timeout))
        except FutureTimeout:
            raise TimeoutError(f"{service}: no answer within {timeout:g} s") from None
        finally:
            answer.cancel()

    def _spin(self) -> None:
        while self._context.ok() and not self._closing:
            try:
                self._executor.spin()
            except (ExternalShutdownException, ShutdownException):
                return
            except Exception as error:
                # A fault in somebody's callback must not leave every later request without an answer.
                if self._context.ok():
                    self.node.get_logger().error(f"mirage client: {type(error).__name__}: {error}")

    def _on_status(self, message: MemoryStatus) -> None:
        self._status = message

    def _wait_until_active(self, timeout: float) -> None:
        limit, services = time.monotonic() + timeout, self._services.values()
        wait_for(
            lambda: self.action.server_is_ready() and all(client.service_is_ready() for client in services),
            limit,
            f"mirage: no node offers {self.prefix}imagine within {timeout:g} s; is it started and "
            "configured, and are ROS_DOMAIN_ID, namespace and MIRAGE_ROS_NETWORK the same?",
        )
        wait_for(
            lambda: self._status,
            max(limit, time.monotonic() + 0.1),
            f"mirage: the node at {self.prefix} is there but not active; activate it, or set autostart",
        )


def wait_for(
    condition: Callable[[], Any], limit: float, otherwise: str = "mirage: the node did not answer in time"
) -> Any:
    """What holds, once something does; a TimeoutError that says `otherwise` once time.monotonic() reaches the limit."""
    while not (found := condition()):
        if time.monotonic() > limit:
            raise TimeoutError(otherwise)
        time.sleep(0.01)
    return found


def checked(service: str, response: Any) -> Any:
    """The response, if it says that all went well; a MirageError with its reason otherwise."""
    if not response.success:
        raise MirageError(f"{service}: {response.message}")
    return response
