"""What moves with the source frames that a loop closure moves: imagined frames, and the cameras of the history."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from mirage_ros.geometry import SAME_POSE
from mirage_ros.memory.provenance import FrameRecord
from mirage_ros.poses import invert

Value = TypeVar("Value")


def frames_at(records: Iterable[FrameRecord], stamps: Sequence[int], slop: float) -> list[int]:
    """Ids of the observed frames with these stamps, nanoseconds, or nearest to them within so many seconds.

    Raises:
        ValueError: there is none for a stamp, or one for two of them.
    """
    observed, chosen = [record for record in records if record.kind == "observation"], []
    for index, stamp in enumerate(stamps):
        nearest = min(observed, key=lambda record: abs(record.stamp - stamp), default=None)
        if nearest is None or abs(nearest.stamp - stamp) > slop * 1e9:
            known = f"the nearest is {nearest.stamp * 1e-9:.3f}" if nearest else "the memory holds no observed frame"
            raise ValueError(
                f"poses[{index}].header.stamp: expected that of an observed frame, got {stamp * 1e-9:.3f}; {known}"
            )
        chosen.append(nearest.id)
    return chosen


def frames_near(records: Iterable[FrameRecord], stamps: Sequence[int], slop: float) -> dict[int, int]:
    """Ids of observed frames: index of the stamp nearest to theirs, nanoseconds, if within so many seconds.

    Of frames near to one stamp the nearest has it.

    Raises:
        ValueError: two are equally near, as those of two cameras are; ids tell them apart.
    """
    order = sorted(range(len(stamps)), key=stamps.__getitem__)
    times = [stamps[index] for index in order]
    nearest: dict[int, tuple[int, int]] = {}
    for record in records:
        place = bisect(times, record.stamp)
        near = min(range(max(place - 1, 0), min(place + 1, len(times))), key=lambda i: abs(times[i] - record.stamp))
        distance, index = abs(times[near] - record.stamp), order[near]
        if record.kind != "observation" or distance > slop * 1e9:
            continue
        best, other = nearest.get(index, (distance + 1, -1))
        if distance == best:
            raise ValueError(
                f"poses[{index}].header.stamp: expected that of one camera frame, got {stamps[index] * 1e-9:.3f} of "
                f"the frames {other} and {record.id}; call repose with ids"
            )
        if distance < best:
            nearest[index] = (distance, record.id)
    return {frame: index for index, (_, frame) in nearest.items()}


def differing(records: Iterable[FrameRecord], poses: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The (4, 4) poses, by ids of source frames, that are not where those frames are already, within `SAME_POSE`."""
    old = {record.id: record.camera.cam2world.double().cpu() for record in records if record.id in poses}
    return {frame: pose for frame, pose in poses.items() if not float((pose - old[frame]).abs().max()) <= SAME_POSE}


def distinct(keys: Sequence[int], values: Sequence[Value], name: str) -> dict[int, Value]:
    """Values by their keys; a ValueError that begins with the name if a key comes twice."""
    if len(set(keys)) < len(keys):
        raise ValueError(f"{name}: expected each source frame once, got {list(keys)}")
    return dict(zip(keys, values, strict=True))


class Correction:
    """How places move when source frames get new poses: each with the observed frame that is nearest to it."""

    def __init__(self, records: Sequence[FrameRecord], poses: Mapping[int, Tensor]) -> None:
        """From all frames of a memory before they move, and the new (4, 4) cam2world of some by their ids."""
        self._old = {record.id: record.camera.cam2world.double().cpu() for record in records}
        new = {frame: pose.double().cpu() for frame, pose in poses.items()}
        anchors = [record.id for record in records if record.kind == "observation"] or list(new)
        self._places = torch.stack([self._old[frame][:3, 3] for frame in anchors])
        self._changes = [new[frame] @ invert(self._old[frame]) if frame in new else None for frame in anchors]
        with_them = {
            record.id: self._carried(self._old[record.id]) for record in records if record.kind != "observation"
        }
        self.poses: dict[int, Tensor] = {frame: pose for frame, pose in with_them.items() if pose is not None} | new

    def _carried(self, pose: Tensor) -> Tensor | None:
        """Where the nearest observed frame takes a pose; None where that stays."""
        change = self._changes[int((self._places - pose[:3, 3]).norm(dim=1).argmin())]
        return None if change is None else change @ pose

    def moved(self, pose: Tensor) -> Tensor:
        """The new (4, 4) pose of a camera, that of a source frame or any other; its type and device stay."""
        exact = pose.double().cpu()
        own = [frame for frame, old in self._old.items() if float((old - exact).abs().max()) < SAME_POSE]
        found = self._carried(exact) if not own else self.poses.get(own[-1])
        return pose if found is None else found.to(pose)
