"""What the window shows and asks: a saved memory with the model in this process, or (`live`) a running node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.media import Pixels
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameters import MirageParameters
from mirage_ros.ros.requests import ImagineRequest
from mirage_ros.ros.work_queue import Worker
from mirage_ros.world.results import ImaginedChunk

# Points of the cloud that a browser draws with ease.
CLOUD_POINTS = 200_000


class Listener(Protocol):
    """What a source tells; called from its threads."""

    def cloud(self, points: NDArray[np.floating[Any]], colours: Pixels) -> None:
        """The memory: (N, 3) metres and (N, 3) uint8."""

    def observed(self, poses: Tensor) -> None:
        """(N, 4, 4) optical poses of the camera frames in the memory, the newest last."""

    def robot(self, rgb: Pixels, pose: Tensor | None) -> None:
        """The robot's last frame, and where it was taken if that is known."""

    def imagined(self, frame: ImaginedFrame) -> None:
        """A single frame, as soon as it is there."""

    def path(self, poses: Tensor) -> None:
        """(T, 4, 4) of a path that somebody has imagined."""


@dataclass(eq=False)
class Task:
    """Imagining under way.

    Attributes:
        future: frames (T,) of each path; raises `Cancelled`, or what went wrong.
        cancel: stops it.
    """

    cancel: Callable[[], None]
    future: Future[list[ImaginedFrame]] = field(default_factory=Future)


class Source(Protocol):
    """Where previews and imagined frames come from. Any thread may ask."""

    def start(self, listener: Listener) -> None:
        """Begin to tell."""

    def preview(self, pose: Tensor) -> ImaginedFrame:
        """What the memory knows of the view from a (4, 4) optical pose; a TimeoutError if no answer comes."""

    def imagine(self, paths: Sequence[Tensor], labels: Sequence[str], remember: bool) -> Task:
        """Imagine (T, 4, 4) paths, each on its own fork unless a single one is to be remembered."""

    def close(self) -> None:
        """Stop all work."""


class SavedMemory:
    """A memory's file, and the model that reads and continues it, in this process and without ROS."""

    def __init__(self, path: Path, **parameters: Any) -> None:
        """Load the model and the file.

        Args:
            path: of a memory that `save_memory`, `LatentMemory.save` or the demo wrote.
            parameters: `preset`, `weights`, `device` and others of `MirageParameters`.

        Raises:
            ValueError, OSError: the file is missing, damaged or of another preset; weights are missing.
        """
        chosen = MirageParameters(**parameters)
        self._wanted = chosen.imagine
        self._session = ModelSession(chosen)
        self._session.load(self._session.read(path))
        self._worker = Worker("mirage view")
        self._listener: Listener | None = None

    def start(self, listener: Listener) -> None:
        """See `Source`."""
        self._listener = listener
        self._worker.call(self._tell).result()

    def preview(self, pose: Tensor) -> ImaginedFrame:
        """See `Source`."""
        shown: ImaginedFrame = self._worker.call(lambda: self._session.preview(pose), quick=True).result()
        return shown[0]

    def imagine(self, paths: Sequence[Tensor], labels: Sequence[str], remember: bool) -> Task:
        """See `Source`."""
        poses = tuple(self._session.padded(path) for path in paths)
        chunks: list[list[ImaginedChunk]] = [[] for _ in paths]

        def on_chunk(chunk: ImaginedChunk) -> None:
            chunks[chunk.candidate].append(chunk)
            if self._listener is not None and len(paths) == 1:
                for frame in list(chunk)[: len(paths[0]) - chunk.first]:
                    self._listener.imagined(frame)

        request = ImagineRequest(poses, remember=remember, steps=self._wanted.steps, unseen=self._wanted.unseen)
        parts = self._session.rollout(self._worker, request, on_chunk)
        job = self._worker.start(parts, name="view", exclusive=remember)
        task = Task(job.cancel)

        def done(finished: Future[Any]) -> None:
            error = finished.exception()
            if error is not None:
                task.future.set_exception(error)
                return
            if remember:
                self._worker.call(self._tell, slot="tell")
            task.future.set_result(
                [ImaginedFrame.joined(each)[: len(path)] for each, path in zip(chunks, paths, strict=True)]
            )

        job.future.add_done_callback(done)
        return task

    def close(self) -> None:
        """See `Source`."""
        self._worker.close()

    def _tell(self) -> None:
        if self._listener is None:
            return
        cloud = self._session.cloud(CLOUD_POINTS)
        self._listener.cloud(cloud.points.numpy(), cloud.colours.numpy())
        observed = [
            frame.camera.cam2world.cpu() for frame in self._session.memory.frames() if frame.kind == "observation"
        ]
        if observed:
            self._listener.observed(torch.stack(observed).double())
