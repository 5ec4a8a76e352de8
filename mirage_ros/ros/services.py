"""The services of the node. Their callbacks are coroutines: they wait for the worker without holding the executor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from mirage_ros.ros.files_below import path_below
from mirage_ros.ros.futures import awaitable
from mirage_ros.ros.model_session import Engine
from mirage_ros.ros.topics import SERVICES
from mirage_ros.ros.work_queue import Worker

MAX_PROMPT = 4000


class Services:
    """Answers requests about the memory, from configure to cleanup."""

    def __init__(
        self,
        node: Node,
        engine: Engine,
        worker: Worker,
        folder: Path,
        world_frame: str,
        give_up: Callable[[], None],
        observe_next: Callable[[], Any],
    ) -> None:
        """Open the services.

        Args:
            node: owns them.
            engine, worker: do the work.
            folder: that files must stay in.
            world_frame: of positions.
            give_up: called before the memory is replaced, to stop what builds on it.
            observe_next: asks for the next camera frame; gives a concurrent future of its number of new elements.
        """
        self._node, self._engine, self._worker = node, engine, worker
        self._folder, self._world_frame = folder, world_frame
        self._give_up, self._observe_next = give_up, observe_next
        self._open, self._closed = 0, False
        # In a group that lets others run: one that waits would hold up every callback of the default group.
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(kind, name, self._guarded(name, getattr(self, f"_{name}")), callback_group=group)
            for name, kind, _ in SERVICES
        ]

    def close(self) -> None:
        """Take the services away, once the requests that wait have been answered."""
        self._closed = True
        if not self._open:
            self._destroy()

    def _destroy(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)
        self._services.clear()

    def _guarded(self, name: str, answer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """An answer whose error becomes the response's message."""

        async def respond(request: Any, response: Any) -> Any:
            self._open += 1
            try:
                await answer(request, response)
                response.success = True
            except Exception as error:
                response.success = False
                response.message = str(error) or type(error).__name__
                self._node.get_logger().warning(f"{name}: {response.message}", throttle_duration_sec=1.0)
            self._open -= 1
            executor = self._node.executor
            if self._closed and not self._open and executor is not None:
                # After this response has gone out.
                executor.create_task(self._destroy)
            return response

        return respond

    async def _do(self, work: Callable[[], Any], *, quick: bool = False) -> Any:
        return await awaitable(self._node, self._worker.call(work, quick=quick))

    async def _reset(self, request: Any, response: Any) -> None:
        self._give_up()
        response.removed = await self._do(lambda: self._engine.reset(request.keep_observations))
        response.message = f"{response.removed} elements removed"

    async def _save_memory(self, request: Any, response: Any) -> None:
        path = path_below(self._folder, request.path, ".safetensors")
        response.elements = await self._do(lambda: self._engine.save(path))
        response.path, response.bytes = str(path), path.stat().st_size

    async def _load_memory(self, request: Any, response: Any) -> None:
        path = path_below(self._folder, request.path, ".safetensors")
        self._give_up()
        response.elements = await self._do(lambda: self._engine.load(path))
        response.world_frame = self._world_frame

    async def _export_cloud(self, request: Any, response: Any) -> None:
        path = path_below(self._folder, request.path, ".ply")
        if not 0 <= request.min_confidence <= 1:
            raise ValueError(f"min_confidence: expected 0 to 1, got {request.min_confidence}")

        def work() -> int:
            cloud = self._engine.cloud(min_confidence=request.min_confidence)
            path.parent.mkdir(parents=True, exist_ok=True)
            cloud.save_ply(path)
            return len(cloud.points)

        response.points = await self._do(work)
        response.path = str(path)

    async def _set_prompt(self, request: Any, response: Any) -> None:
        if len(request.prompt) > MAX_PROMPT:
            raise ValueError(f"prompt: expected at most {MAX_PROMPT} characters, got {len(request.prompt)}")
        await self._do(lambda: self._engine.set_prompt(request.prompt))

    async def _observe(self, request: Any, response: Any) -> None:
        added = await awaitable(self._node, self._observe_next())
        response.message = f"{added} elements added"
