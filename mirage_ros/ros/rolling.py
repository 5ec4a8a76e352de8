"""A rollout as work for the queue, with time for previews within it; free of ROS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.requests import ImagineRequest
from mirage_ros.ros.work_queue import Job, Steps, Worker
from mirage_ros.world.results import ImaginedChunk, Progress


def rolling(
    session: ModelSession,
    worker: Worker,
    request: ImagineRequest,
    on_chunk: Callable[[ImaginedChunk], None],
    on_progress: Callable[[Progress], None] | None = None,
) -> Callable[[Job], Steps]:
    """A rollout as work in parts: a chunk each, with time for quick calls between the layers of the networks.

    Args:
        session, worker: that do it.
        request: what.
        on_chunk, on_progress: called in the worker's thread.
    """

    def parts(job: Job) -> Steps:
        def cancelled() -> bool:
            worker.breathe()
            return job.cancelled

        chunks = session.imagine(request, on_progress, cancelled)
        try:
            while True:
                # Not across the yield: other jobs have their turn there.
                with session.pauses.between(worker.breathe):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                on_chunk(chunk)
                yield
        finally:
            chunks.close()
            session.idle()

    return parts


def padded(poses: Tensor, length: int) -> Tensor:
    """(length, 4, 4): the last pose is repeated."""
    return torch.cat([poses, poses[-1:].expand(length - len(poses), 4, 4)])
