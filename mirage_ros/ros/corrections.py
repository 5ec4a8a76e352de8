"""Source frames move when the poses that placed them are corrected: localisation jumps, or a pose graph says better."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from mirage_ros.memory.provenance import OBSERVATION
from mirage_ros.poses import invert
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.loop_closure import frames_near
from mirage_ros.ros.patience import TransformPendingError
from mirage_ros.ros.transforms import FrameIds, bare

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

    def restart(self) -> None:
        """TF starts anew: the next link is no jump, and what was placed before stays."""
        self._link = None
        self._through.clear()

    def look(self, place: Tensor) -> Tensor | None:
        """What moves in the world if the link has jumped since the last look: (4, 4), and source frames with it.

        Args:
            place: (3,) of the camera, where the size of a jump counts.
        """
        link, before = self._at(0), self._link
        self._link = link if link is not None else before
        if link is None or before is None:
            return None
        change = link @ invert(before)
        if not self._jumps(change, place):
            # Small steps follow the drift: what was placed at its time is where it belongs.
            return None
        self._move(change)
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

        Raises:
            ValueError: none of the stamps is a camera frame's.
        """
        session, slop = self._context.session, self._context.parameters.observation.slop
        found = frames_near(session.memory.frames(), stamps, slop)
        if not found:
            raise ValueError(
                f"repose/frames: expected stamps of camera frames in the memory (memory/frames has them), got "
                f"{len(stamps)} others"
            )
        self._do(lambda: session.repose({frame: poses[index] for frame, index in found.items()}), "repose/frames")

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
            moved = {
                record.id: change @ record.camera.cam2world.double().cpu()
                for record in session.memory.frames()
                if record.kind == OBSERVATION and record.stamp in through
            }
            return session.repose(moved) if moved else None

        distance = float(change[:3, 3].norm())
        self._context.node.get_logger().info(f"the localisation jumped by {distance:.2f} m: source frames move along")
        self._do(work, "odom_frame")

    def _do(self, work: Callable[[], Any], name: str) -> None:
        self._give_up()
        self._context.health.watch(self._context.worker.call(work), name)
