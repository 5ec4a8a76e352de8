"""Source frames move when the poses that placed them are corrected: localisation jumps, or a pose graph says better."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from torch import Tensor

from mirage_ros.memory.provenance import OBSERVATION
from mirage_ros.poses import invert
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.loop_closure import differing, frames_near
from mirage_ros.ros.transforms import FrameIds, bare
from mirage_ros.ros.waiting import TransformPendingError

# Camera frames whose stamps are remembered; older ones stay where they are.
REMEMBERED = 10_000


class Corrections:
    """Watches the link world_frame -> odom_frame, and takes new poses of source frames.

    Localisation corrects the drift of odometry by moving that link (REP-105). Poses that came through TF before a jump
    of it, and poses after it, do not agree; those before are moved by the jump.
    """

    def __init__(self, context: NodeContext, frames: FrameIds, give_up: Callable[[], None]) -> None:
        """Set up; `give_up` ends the work that builds on places which are about to move."""
        self._context, self._frames, self._give_up = context, frames, give_up
        self._link: Tensor | None = None
        self._through: deque[int] = deque(maxlen=REMEMBERED)
        # New poses by their stamps, and what the worker says of them.
        self._wanted: dict[int, Tensor] = {}
        self._looked: Future[dict[int, Tensor]] | None = None

    def restart(self) -> None:
        """TF starts anew: the next link is no jump, and what was placed before stays."""
        self._link = None
        self._through.clear()

    def look(self, place: Tensor) -> Tensor | None:
        """What moves in the world if the link has jumped since the last look: (4, 4), and source frames with it.

        Args:
            place: (3,) of the camera, where the size of a jump counts.

        Raises:
            BusyError: the work queue is full; the next look finds the same jump.
        """
        self._take_up()
        link = self._at(0)
        if link is None:
            return None
        change = None if self._link is None else link @ invert(self._link)
        # Small steps follow the drift: what was placed at its time is where it belongs.
        if change is not None and not self._jumps(change, place):
            change = None
        if change is not None:
            self._move(change)
        self._link = link
        return change

    def place(self, pose: Tensor, stamp: int) -> Tensor:
        """A (4, 4) pose that TF gave for a moment, as it is if the link then was not the one of now."""
        then = None if self._link is None else self._at(stamp)
        if then is None or self._link is None:
            return pose
        change = self._link @ invert(then)
        return change @ pose if self._jumps(change, pose[:3, 3]) else pose

    def note(self, stamp: int) -> None:
        """The camera frame of this stamp was placed through TF."""
        self._through.append(stamp)

    def repose(self, poses: Tensor, stamps: Sequence[int]) -> None:
        """New optical poses (N, 4, 4) of the camera frames with these stamps; those of other stamps are left out.

        Only those that differ from what the memory has end anybody's work, and only once the worker has found some.

        Raises:
            BusyError: the work queue is full.
        """
        self._take_up()
        # Those that the worker has not looked at yet, and these: a message need not name all that moved.
        wanted = self._wanted | dict(zip(stamps, poses, strict=True))
        self._looked = self._context.worker.call(partial(self._moving, wanted), slot="repose/frames", quick=True)
        self._wanted = wanted
        self._context.health.watch(self._looked, "repose/frames")

    def _take_up(self) -> None:
        """Move the camera frames that the worker found to have other poses; nothing while it still looks."""
        looked, wanted = self._looked, self._wanted
        if looked is None or not looked.done():
            return
        if not looked.cancelled() and looked.exception() is None and looked.result():
            # Once more, as some may be gone by then.
            self._do(lambda: self._repose(self._moving(wanted)), "repose/frames")
        self._looked, self._wanted = None, {}

    def _moving(self, wanted: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """New (4, 4) poses by the ids of the frames that they move; in the worker's thread.

        Raises:
            ValueError: none of the stamps is a camera frame's, or a pose is not rigid.
        """
        memory, slop = self._context.session.memory, self._context.parameters.observation.slop
        records, stamps = memory.frames(), list(wanted)
        found = frames_near(records, stamps, slop)
        if not found:
            raise ValueError(
                f"repose/frames: expected stamps of camera frames in the memory (memory/frames has them), got "
                f"{len(stamps)} others"
            )
        moving = differing(records, {frame: wanted[stamps[index]] for frame, index in found.items()})
        memory.check_poses(moving)
        return moving

    def _repose(self, poses: Mapping[int, Tensor]) -> Any:
        return self._context.session.repose(poses) if poses else None

    def _at(self, stamp: int) -> Tensor | None:
        """The link at a moment, 0 for the newest; None where it is not known or not looked for."""
        parameters = self._context.parameters
        world, odom = parameters.world_frame, parameters.odom_frame
        if not parameters.observation.jump or not self._frames.has_tf or bare(odom) in ("", bare(world)):
            return None
        try:
            return self._frames.transform(world, odom, stamp, "odom_frame")
        except TransformPendingError:
            return None

    def _jumps(self, change: Tensor, place: Tensor) -> bool:
        cosine = (float(change[:3, :3].diagonal().sum()) - 1) / 2
        angle = math.acos(min(1.0, max(-1.0, cosine)))
        moved = float((change[:3, :3] @ place.double() + change[:3, 3] - place).norm())
        return max(moved, angle) > self._context.parameters.observation.jump

    def _move(self, change: Tensor) -> None:
        session, through = self._context.session, frozenset(self._through)

        def work() -> Any:
            return self._repose(
                {
                    record.id: change @ record.camera.cam2world.double().cpu()
                    for record in session.memory.frames()
                    if record.kind == OBSERVATION and record.stamp in through
                }
            )

        self._do(work, "odom_frame")
        distance = float(change[:3, 3].norm())
        self._context.node.get_logger().info(f"the localisation jumped by {distance:.2f} m: source frames move along")

    def _do(self, work: Callable[[], Any], name: str) -> None:
        # In this order: of a queue that is full, nobody's work ends in vain.
        called = self._context.worker.call(work)
        self._give_up()
        self._context.health.watch(called, name)
