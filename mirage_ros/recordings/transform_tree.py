"""Frames of a bag and where they stand in each other over time, as tf has them."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mirage_ros.poses import invert
from mirage_ros.recordings.bag_messages import frame_of, pose_of, stamp_of
from mirage_ros.trajectory import interpolate

# Nanoseconds between two poses, beyond which nothing is known in between unless they are the same but for this.
MAX_GAP, STILL = 2 * 10**9, 0.01


@dataclass(eq=False)
class Edge:
    """A frame's place in its parent over time.

    Attributes:
        parents: names of the parent frame; one, unless the bag contradicts itself.
        still: it does not change.
        poses: (4, 4) child to parent by nanoseconds.
    """

    parents: list[str]
    still: bool
    poses: dict[int, Tensor] = field(default_factory=dict)

    def at(self, stamp: int) -> Tensor | None:
        """The pose at a time; None outside of what was recorded, and in a gap during which it moved."""
        if self.still:
            return self.poses[max(self.poses)]
        if stamp in self.poses:
            return self.poses[stamp]
        times = sorted(self.poses)
        after = bisect(times, stamp)
        if not 0 < after < len(times):
            return None
        near = times[after - 1 : after + 1]
        ends = [self.poses[time] for time in near]
        if near[1] - near[0] > MAX_GAP and float((ends[1] - ends[0]).abs().max()) > STILL:
            return None
        knots, query = torch.tensor(near).double() - near[0], torch.tensor([stamp - near[0]]).double()
        return interpolate(torch.stack(ends), knots, query)[0]


class TransformTree:
    """Edges by child frame. Names of frames have no leading slash."""

    def __init__(self, edges: dict[str, Edge] | None = None) -> None:
        self.edges = dict(edges or {})

    def add(self, message: Any, child: str, still: bool) -> None:
        """Note the pose of a child frame that a stamped message gives; of several at one time the first."""
        parent = frame_of(message.header)
        edge = self.edges.setdefault(child, Edge([parent], still))
        # One that moves at times does not stand still.
        edge.still = edge.still and still
        if parent not in edge.parents:
            edge.parents.append(parent)
        edge.poses.setdefault(stamp_of(message.header), pose_of(message))

    def chain(self, frame: str, above: str | None = None) -> list[tuple[str, Edge]]:
        """Frames from one up to its root, or to one above it, each with its edge.

        Raises:
            ValueError: a frame on the way has two parents, or there is a circle.
        """
        chain: list[tuple[str, Edge]] = []
        while frame in self.edges and frame != above:
            edge = self.edges[frame]
            if len(edge.parents) > 1:
                raise ValueError(
                    f"tf: expected one parent of {frame!r}, got {' and '.join(map(repr, edge.parents))}; the bag holds "
                    "two trees (name a topic of poses, --topic pose=..., or leave one of them out)"
                )
            if len(chain) > len(self.edges):
                raise ValueError(f"tf: expected a tree, got a circle through {frame!r}")
            chain.append((frame, edge))
            frame = edge.parents[0]
        return chain

    def _names(self, frame: str) -> list[str]:
        """A frame and those above it, by their first parents: above where two ways meet nothing is asked."""
        names = [frame]
        while frame in self.edges and self.edges[frame].parents[0] not in names:
            frame = self.edges[frame].parents[0]
            names.append(frame)
        return names

    def moves(self, frame: str) -> bool:
        """Whether a frame changes its place under its root over time."""
        return any(not edge.still for _, edge in self.chain(frame))

    def pose(self, frame: str, stamp: int, above: str | None = None) -> Tensor | None:
        """(4, 4) of a frame in its root, or in one above it; None where it is not known at this time."""
        pose = torch.eye(4, dtype=torch.float64)
        for _, edge in self.chain(frame, above):
            step = edge.at(stamp)
            if step is None:
                return None
            pose = step @ pose
        return pose

    def between(self, target: str, source: str, stamp: int) -> Tensor | None:
        """(4, 4) that takes points of one frame to another; None where the two are not connected at this time."""
        ways = [self._names(frame) for frame in (target, source)]
        common = next((frame for frame in ways[0] if frame in ways[1]), None)
        if common is None:
            return None
        poses = [self.pose(frame, stamp, above=common) for frame in (target, source)]
        return None if poses[0] is None or poses[1] is None else invert(poses[0]) @ poses[1]
