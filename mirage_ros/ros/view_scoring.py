"""A request to score views, step by step: poses into the world frame, what is imagined along them, the scores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.images import centre_window
from mirage_ros.msg import ViewScore
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.active_state import ActiveState
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions import image_to_numpy, ns_from_stamp, path_to_poses
from mirage_ros.ros.requests import ImagineRequest, draw_seed
from mirage_ros.ros.transforms import check_poses
from mirage_ros.ros.work_queue import Job, Steps
from mirage_ros.world.results import Cancelled, ImaginedChunk, Progress
from mirage_ros.world.view_scores import check_map, score_views

# The largest robot, metres.
MAX_RADIUS = 5.0
# Of a goal picture less may not be left, and what is cut of it is not worth a word above the other. The first is a
# little less than the two thirds of a square that views of 3:2 keep, as windows are whole pixels.
LEAST_KEPT, NEARLY_ALL = 0.65, 0.98


class ViewScoring:
    """One request, whose steps are taken in this order.

    Attributes:
        note: what its author should know of how it was taken; empty if there is nothing.
    """

    def __init__(self, context: NodeContext, active: ActiveState, request: Any) -> None:
        """Check what can be checked at once.

        Raises:
            ValueError: the request is not usable; names the field.
        """
        self._context, self._active, self._request = context, active, request
        limits, frames = context.parameters.imagine, sum(len(path.poses) for path in request.paths)
        if not request.paths or frames > limits.max_frames:
            raise ValueError(
                f"paths: expected at least one, and at most {limits.max_frames} poses in all (imagine.max_frames), "
                f"got {len(request.paths)} with {frames}"
            )
        if request.imagine and len(request.paths) > limits.max_candidates:
            raise ValueError(
                f"paths: expected at most {limits.max_candidates} to imagine (imagine.max_candidates), "
                f"got {len(request.paths)}"
            )
        if not 0 <= request.radius <= MAX_RADIUS:
            raise ValueError(f"radius: expected 0 to {MAX_RADIUS:g} m, got {request.radius}")
        self._seed = draw_seed(request.seed)
        self.note = ""
        self._goal = self._picture()
        self._poses: list[Tensor] = []
        self._chunks: dict[int, list[ImaginedChunk]] = {}
        # Whoever asks is connected now, as far as the graph knows of it already.
        self._heard = self._is_heard()

    def place(self) -> Future[Any]:
        """Bring the poses into the world frame, which may have to wait for transforms."""
        return self._active.patience.future(self._place)

    def score(self) -> Future[Any]:
        """A list of scores: first every path is imagined on its own fork of the memory, if that is wanted.

        It is made part by part, so that other work has its turn.

        Raises:
            ValueError: the memory has no map yet, or the model cannot take the poses.
            BusyError: the work queue is full.
        """
        # Before the work: without a map it would be in vain.
        check_map(self._context.session.occupancy)
        imagining = self._imagining() if self._request.imagine else None

        def parts(job: Job) -> Steps:
            # It may have waited for long.
            self._check_heard()
            if imagining is not None:
                yield from imagining(job)
            return (yield from self._scores())

        return self._context.worker.start(parts, name=f"scores of {len(self._poses)} paths").future

    def _imagining(self) -> Callable[[Job], Steps]:
        session, defaults = self._context.session, self._context.parameters.imagine
        poses = tuple(map(session.padded, self._poses))
        session.check(poses)
        request = ImagineRequest(
            poses,
            seed=self._seed,
            steps=defaults.steps,
            samples=defaults.samples,
            batch=defaults.batch,
        )
        return session.rollout(
            self._context.worker,
            request,
            lambda chunk: self._chunks.setdefault(chunk.candidate, []).append(chunk),
            self._check_heard,
        )

    def _check_heard(self, *_: Progress) -> None:
        """Stop the work once no client of the service is left; a service does not say whose request it is."""
        heard = self._is_heard()
        # The graph may not know a new client yet.
        if self._heard and not heard:
            raise Cancelled("nobody is left to hear the scores")
        self._heard = heard

    def _is_heard(self) -> bool:
        node = self._context.node
        try:
            return bool(node.count_clients(node.resolve_service_name("score_views")))
        except Exception:
            if node.context.ok():
                raise
            return False

    def _scores(self) -> Steps:
        session = self._context.session
        imagined = [
            ImaginedFrame.joined(self._chunks[index])[: len(path)]
            for index, path in enumerate(self._poses)
            if self._request.imagine
        ]
        scores: list[ViewScore] = []
        for score in score_views(
            session.world.networks,
            session.memory,
            session.occupancy,
            [session.cameras(path) for path in self._poses],
            radius=self._request.radius,
            goal=self._goal,
            imagined=imagined or None,
        ):
            scores.append(ViewScore(**asdict(score)))
            yield
        return scores

    def _place(self) -> list[Tensor]:
        placed = []
        for index, path in enumerate(self._request.paths):
            name = f"paths[{index}]"
            try:
                poses, frame, stamps = path_to_poses(path)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            stamp = ns_from_stamp(path.header.stamp, f"{name}.header.stamp") or stamps[0]
            poses = self._active.frames.optical(poses, frame, self._request.pose_of, stamp, name)
            check_poses(poses, self._context.parameters.imagine.max_distance, name)
            placed.append(poses)
        # All of them, or none where one still has to wait.
        self._poses = placed
        return placed

    def _picture(self) -> NDArray[np.uint8] | None:
        goal = self._request.goal
        if not goal.height and not goal.width and not len(goal.data):
            return None
        try:
            picture = image_to_numpy(goal, "rgb8")
        except ValueError as error:
            raise ValueError(f"goal: {error}") from None
        rows, columns = self._context.session.world.networks.size
        window = centre_window(picture.shape[:2], (rows, columns))
        kept = window.height * window.width / (goal.height * goal.width)
        if kept < LEAST_KEPT:
            raise ValueError(
                f"goal: expected about the shape of the model's views, {columns}x{rows}, "
                f"got {goal.width}x{goal.height}, of which {1 - kept:.0%} would be cut off"
            )
        if kept < NEARLY_ALL:
            self.note = (
                f"goal: of {goal.width}x{goal.height} the middle {window.width}x{window.height} is compared, "
                f"the shape of the model's views of {columns}x{rows}"
            )
        return picture
