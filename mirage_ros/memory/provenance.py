"""Source frames: when, where and how each element of the memory came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.elements import Undo
from mirage_ros.poses import check_pose, invert

OBSERVATION, IMAGINATION = "observation", "imagination"
KINDS = (OBSERVATION, IMAGINATION)
# Elements name their frame by a 16-bit slot.
MAX_SLOTS = 2**15 - 1
# Metres: what is further from the world's origin along an axis is no place, and would overflow float32 somewhere.
MAX_COORDINATE = 1e12
# Metres, and cosine of the angle between the views, within which two frames see about the same.
SAME_PLACE, SAME_VIEW = 0.3, 0.94
# Ids and sequence numbers are stored as signed 64-bit numbers.
_LARGEST_ID = 2**63 - 1

ROW = np.dtype(
    [
        ("id", "<i8"),
        ("stamp", "<i8"),
        ("sequence", "<i8"),
        ("cam2world", "<f8", (4, 4)),
        ("intrinsics", "<f8", (3, 3)),
        ("height", "<u2"),
        ("width", "<u2"),
        ("imagined", "?"),
        ("used", "?"),
    ]
)


@dataclass(frozen=True)
class SourceFrame:
    """What a caller says about a frame it writes.

    Attributes:
        id: any whole number from 0 that is unique in the memory; if None one more than the largest that it holds.
        stamp: nanoseconds; zero if unknown.
        kind: 'observation' for a real camera frame, 'imagination' for a generated one.
    """

    id: int | None = None
    stamp: int = 0
    kind: str = OBSERVATION

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        for name in ("id", "stamp"):
            value = getattr(self, name)
            if value is None and name == "id":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= _LARGEST_ID:
                raise ValueError(f"{name}: expected a whole number from 0, below 2^63, got {value!r}")


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """A source frame as the memory knows it.

    Attributes:
        id, stamp, kind: see `SourceFrame`.
        camera: optics at latent resolution and pose, float64.
        elements: how many elements came from it.
    """

    id: int
    stamp: int
    kind: str
    camera: Camera
    elements: int


class FrameTable:
    """Rows of source frames in slots that are used again once no element refers to them."""

    def __init__(self, max_bytes: int, rows: NDArray[np.void] | None = None) -> None:
        # Old and new rows exist together while the table grows, and the ids once more on the device.
        self.max_bytes = max_bytes
        self.limit = min(max_bytes // (2 * ROW.itemsize + 8), MAX_SLOTS)
        self.rows = np.zeros(0, ROW) if rows is None else rows
        self._device_ids: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held, the ids on the device included."""
        return self.rows.nbytes + (0 if self._device_ids is None else self._device_ids.nbytes)

    def copy(self) -> FrameTable:
        """An independent table."""
        return FrameTable(self.max_bytes, self.rows.copy())

    def slots(self) -> NDArray[np.int64]:
        """Slots in use, in the order in which their frames were written."""
        used = np.flatnonzero(self.rows["used"])
        return used[np.argsort(self.rows["sequence"][used], kind="stable")]

    def slot_of(self, frame: int) -> int:
        """Slot of a frame id.

        Raises:
            ValueError: no frame has this id.
        """
        found = np.flatnonzero(self.rows["used"] & (self.rows["id"] == frame))
        if len(found) == 0:
            raise ValueError(f"frame: expected the id of a source frame of this memory, got {frame!r}")
        return int(found[0])

    def ids(self, device: torch.device) -> Tensor:
        """(S,) int64 id of each slot, at least one."""
        if self._device_ids is None or self._device_ids.device != device:
            ids = np.where(self.rows["used"], self.rows["id"], -1)
            self._device_ids = torch.from_numpy(ids if len(ids) else np.full(1, -1)).to(device)
        return self._device_ids

    def is_full(self) -> bool:
        """Whether there is no room for another frame."""
        return len(self.rows) >= self.limit and bool(self.rows["used"].all())

    def add(self, frame: SourceFrame, camera: Camera, undo: Undo) -> int:
        """Take a slot for a frame; `camera` is single, at latent resolution.

        Raises:
            ValueError: the id is taken.
        """
        if frame.id is not None and (self.rows["used"] & (self.rows["id"] == frame.id)).any():
            raise ValueError(f"frame: expected an id that is not in the memory yet, got {frame.id}")
        rows, free = self.rows, np.flatnonzero(~self.rows["used"])
        if len(free) == 0:
            grown = np.zeros(min(max(len(rows) + 9, len(rows) * 5 // 4), self.limit), ROW)
            grown[: len(rows)] = rows
            free = np.arange(len(rows), len(grown))
            undo.append(lambda: self._put(rows, [], []))
            self.rows = grown
        slot = int(free[0])
        row, before = self.rows[slot], self.rows[slot].copy()
        used = self.rows[self.rows["used"]]
        undo.append(lambda: self._put(self.rows, slot, before))
        row["id"] = frame.id if frame.id is not None else _next_id(used["id"])
        row["sequence"] = int(self.rows["sequence"].max(initial=-1)) + 1
        row["stamp"], row["imagined"], row["used"] = frame.stamp, frame.kind == IMAGINATION, True
        row["cam2world"] = camera.cam2world.double().cpu().numpy()
        row["intrinsics"] = camera.intrinsics.double().cpu().numpy()
        row["height"], row["width"] = camera.height, camera.width
        self._device_ids = None
        return slot

    def release(self, slots: NDArray[np.int64], undo: Undo) -> None:
        """Free slots that no element refers to any more."""
        before = self.rows[slots]
        undo.append(lambda: self._put(self.rows, slots, before))
        self.rows["used"][slots] = False
        self._device_ids = None

    def _put(self, rows: NDArray[np.void], slots: Any, values: Any) -> None:
        """Put rows back as they were."""
        rows[slots] = values
        self.rows, self._device_ids = rows, None

    def imagined(self, device: torch.device) -> Tensor:
        """(S,) bool, whether the slot's frame was imagined."""
        return torch.from_numpy(self.rows["imagined"].copy()).to(device)

    def mixed(self) -> bool:
        """Whether there are observed frames and imagined ones."""
        imagined = self.rows["imagined"][self.rows["used"]]
        return bool(imagined.any() and not imagined.all())

    def sequence(self, device: torch.device) -> Tensor:
        """(S,) int64, rising in the order of writing."""
        return torch.from_numpy(self.rows["sequence"].copy()).to(device)

    def camera(self, slots: NDArray[np.int64] | int) -> Camera:
        """Cameras at latent resolution, float64; the frames share one grid."""
        rows = self.rows[slots]
        sizes = np.unique(np.stack([rows["height"], rows["width"]], axis=-1).reshape(-1, 2), axis=0)
        if len(sizes) != 1:
            raise ValueError(f"frames: expected frames of one latent grid, got grids {sizes.tolist()}")
        intrinsics, cam2world = torch.from_numpy(rows["intrinsics"].copy()), torch.from_numpy(rows["cam2world"].copy())
        return Camera(intrinsics, cam2world, int(sizes[0, 0]), int(sizes[0, 1]))

    def cameras_near(self, place: NDArray[np.float64], slots: NDArray[np.int64], count: int) -> Camera | None:
        """See `LatentMemory.cameras_near`; of the frames in these slots."""
        rows = self.rows
        observed = slots[~rows["imagined"][slots]]
        slots = (observed if len(observed) else slots)[::-1]
        poses = rows["cam2world"][slots]
        away = np.linalg.norm(poses[:, :3, 3] - place, axis=1)
        chosen: list[int] = []
        for index in np.argsort(away, kind="stable"):
            beside = np.linalg.norm(poses[chosen, :3, 3] - poses[index, :3, 3], axis=1) < SAME_PLACE
            alike = poses[chosen, :3, 2] @ poses[index, :3, 2] > SAME_VIEW
            same_grid = all(
                (rows[name][slots[chosen]] == rows[name][slots[index]]).all() for name in ("height", "width")
            )
            if same_grid and not (beside & alike).any():
                chosen.append(int(index))
            if len(chosen) == count:
                break
        return self.camera(slots[chosen]) if chosen else None

    def record(self, slot: int, elements: int) -> FrameRecord:
        """What is known of the frame in a slot."""
        row = self.rows[slot]
        kind = IMAGINATION if row["imagined"] else OBSERVATION
        return FrameRecord(int(row["id"]), int(row["stamp"]), kind, self.camera(slot), elements)

    def check_new(self, frames: list[SourceFrame]) -> None:
        """Refuse ids that are taken, here or among themselves."""
        given = [frame.id for frame in frames if frame.id is not None]
        taken = set(self.rows["id"][self.rows["used"]].tolist()) & set(given)
        if taken or len(set(given)) < len(given):
            raise ValueError(f"frame: expected ids that are unique and not in the memory yet, got {given}")

    def check_poses(self, poses: Mapping[int, Tensor]) -> None:
        """Refuse unknown ids and anything but single rigid poses."""
        for frame, pose in poses.items():
            self.slot_of(frame)
            check_pose(pose, name=f"poses[{frame}]")
            if pose.shape != (4, 4):
                raise ValueError(f"poses[{frame}]: expected (4, 4), got {tuple(pose.shape)}")
            check_place(pose, f"poses[{frame}]")

    def move(self, poses: Mapping[int, Tensor]) -> list[tuple[int, Tensor]]:
        """Give frames new poses; (slot, (4, 4) float64 transform from the old place to the new) of each."""
        changes = []
        for frame, pose in poses.items():
            slot = self.slot_of(frame)
            old = torch.from_numpy(self.rows["cam2world"][slot].copy())
            new = pose.detach().double().cpu()
            changes.append((slot, new @ invert(old)))
            self.rows["cam2world"][slot] = new.numpy()
        return changes


def check_place(poses: Tensor, name: str) -> None:
    """Refuse poses (..., 4, 4) that are further than MAX_COORDINATE from the world's origin."""
    if (poses[..., :3, 3].abs() > MAX_COORDINATE).any():
        raise ValueError(
            f"{name}: expected within {MAX_COORDINATE:g} m of the origin, got {poses[..., :3, 3].tolist()}"
        )


def _next_id(taken: NDArray[np.int64]) -> int:
    """One more than the largest id or, where that is the largest there can be, the least that is free."""
    largest = int(taken.max(initial=-1))
    if largest < _LARGEST_ID:
        return largest + 1
    return int(np.setdiff1d(np.arange(len(taken) + 1), taken)[0])
