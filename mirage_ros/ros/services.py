"""The services of the node. Their callbacks are coroutines: they wait for the worker without holding the executor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rclpy.callback_groups import ReentrantCallbackGroup
from torch import Tensor

from mirage_ros.ros.active_state import Stage
from mirage_ros.ros.autosave import memory_folder
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions import pose_from_stamped
from mirage_ros.ros.loop_closure import distinct, frames_at
from mirage_ros.ros.topics import SERVICES, check_prompt_length
from mirage_ros.ros.transforms import check_poses
from mirage_ros.ros.view_scoring import ViewScoring
from mirage_ros.ros.waiting import OpenRequests


class Services:
    """Answers requests about the memory, from configure to cleanup."""

    def __init__(self, context: NodeContext, stage: Stage) -> None:
        """Open the services; what is active meanwhile is on the stage."""
        self._context, self._stage, self._session = context, stage, context.session
        self._folder = memory_folder(context)
        self._requests = OpenRequests(context.node, self._destroy)
        # In a group that lets others run: one that waits would hold up every callback of the default group.
        group = ReentrantCallbackGroup()
        self._services = [
            context.node.create_service(
                kind, name, self._guarded(name, getattr(self, f"_{name}")), callback_group=group
            )
            for name, kind, _ in SERVICES
        ]

    def close(self) -> None:
        """Take the services away, once the requests that wait have been answered."""
        self._requests.close()

    def _destroy(self) -> None:
        for service in self._services:
            self._context.node.destroy_service(service)
        self._services.clear()

    def _guarded(self, name: str, answer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """An answer whose error becomes the response's message."""

        async def respond(request: Any, response: Any) -> Any:
            with self._requests.one():
                try:
                    await answer(request, response)
                    response.success = True
                except Exception as error:
                    response.success, response.message = False, str(error) or type(error).__name__
                    logger = self._context.node.get_logger()
                    logger.warning(f"{name}: {response.message}", throttle_duration_sec=1.0)
                return response

        return respond

    async def _do(self, work: Callable[[], Any], *, quick: bool = False) -> Any:
        return await self._requests.awaitable(self._context.worker.call(work, quick=quick))

    def _give_up(self) -> None:
        """Before the memory is replaced: what builds on it ends."""
        if self._stage.active is not None:
            self._stage.active.commands.clear()
        self._context.worker.cancel_jobs()

    async def _reset(self, request: Any, response: Any) -> None:
        self._give_up()
        response.removed = await self._do(lambda: self._session.reset(request.keep_observations))
        response.message = f"{response.removed} elements removed"

    async def _save_memory(self, request: Any, response: Any) -> None:
        path = path_below(self._folder, request.path, ".safetensors")
        response.elements = await self._do(lambda: self._session.save(path))
        response.path, response.bytes = str(path), path.stat().st_size

    async def _load_memory(self, request: Any, response: Any) -> None:
        path = path_below(self._folder, request.path, ".safetensors")
        loaded = await self._do(lambda: self._session.read(path))
        self._give_up()
        response.elements = await self._do(lambda: self._session.load(loaded))
        response.world_frame = self._context.parameters.world_frame

    async def _export_cloud(self, request: Any, response: Any) -> None:
        path = path_below(self._folder, request.path, ".ply")
        if not 0 <= request.min_confidence <= 1:
            raise ValueError(f"min_confidence: expected 0 to 1, got {request.min_confidence}")

        def work() -> int:
            cloud = self._session.cloud(min_confidence=request.min_confidence)
            path.parent.mkdir(parents=True, exist_ok=True)
            cloud.save_ply(path)
            return len(cloud.points)

        response.points = await self._do(work)
        response.path = str(path)

    async def _repose(self, request: Any, response: Any) -> None:
        active, limit = self._stage.require(), self._context.parameters.imagine.max_distance
        if not request.poses or len(request.frames) not in (0, len(request.poses)):
            raise ValueError(
                f"frames: expected none or one for each pose, got {len(request.frames)} and {len(request.poses)} poses"
            )

        def in_world() -> tuple[list[Tensor], list[int]]:
            poses, stamps = [], []
            for index, message in enumerate(request.poses):
                pose, frame, stamp = pose_from_stamped(message, f"poses[{index}]")
                poses.append(active.frames.optical(pose, frame, "optical", stamp, f"poses[{index}]"))
                stamps.append(stamp)
            check_poses(torch.stack(poses), limit, "poses")
            return poses, stamps

        placed: Any = await self._requests.awaitable(active.patience.future(in_world))
        poses, stamps = placed

        def by_id() -> dict[int, Tensor]:
            slop = self._context.parameters.observation.slop
            ids = list(request.frames) or frames_at(self._session.memory.frames(), stamps, slop)
            wanted = distinct(ids, poses, "frames" if len(request.frames) else "poses")
            self._session.memory.check_poses(wanted)
            return wanted

        wanted = await self._do(by_id, quick=True)
        # Only now: a request that is refused ends nobody's work.
        self._give_up()
        response.moved, response.elements = await self._do(lambda: self._session.repose(wanted))
        response.message = f"{response.moved} source frames moved"

    async def _score_views(self, request: Any, response: Any) -> None:
        scoring = ViewScoring(self._context, self._stage.require(), request)
        await self._requests.awaitable(scoring.place())
        response.message = scoring.note
        response.scores = await self._requests.awaitable(scoring.score())

    async def _set_prompt(self, request: Any, response: Any) -> None:
        check_prompt_length(request.prompt)
        await self._do(lambda: self._session.set_prompt(request.prompt))

    async def _observe(self, request: Any, response: Any) -> None:
        added = await self._requests.awaitable(self._stage.require().observing.observe_next())
        response.message = f"{added} elements added"


def path_below(folder: Path, text: str, suffix: str) -> Path:
    """The path that a request names, inside a folder.

    Args:
        folder: that it must not leave, also not by links.
        text: relative path; the suffix is added where it has none.
        suffix: that the file must have, with its dot.

    Raises:
        ValueError: empty, absolute, too long, hidden, with '..' or control characters, of another suffix, or out of the
            folder.
    """
    if not text or len(text) > 255 or any(ord(letter) < 32 for letter in text):
        raise ValueError(f"path: expected a name of 1 to 255 printable characters, got {text[:64]!r}")
    wanted = Path(text)
    if not wanted.parts or wanted.is_absolute() or ".." in wanted.parts or "\\" in text or text.startswith("~"):
        raise ValueError(f"path: expected a path relative to {folder} without '..', got {text!r}")
    if any(part.startswith(".") for part in wanted.parts):
        raise ValueError(f"path: expected names that do not start with a dot, got {text!r}")
    if not wanted.suffix:
        wanted = wanted.with_name(wanted.name + suffix)
    if wanted.suffix != suffix:
        raise ValueError(f"path: expected a name that ends in {suffix}, got {text!r}")
    path = folder / wanted
    # Links are followed before the comparison; parts that do not exist yet cannot be links.
    if not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep):
        raise ValueError(f"path: expected inside {folder}, got {text!r}, which leads out of it")
    return path
