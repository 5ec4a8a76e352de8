"""The state of a memory: its elements and source frames, looked at, shared, moved and forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from mirage_ros.geometry import Camera, same_view
from mirage_ros.memory.cloud import Cloud, Elements, cloud_of, elements_of
from mirage_ros.memory.elements import ElementStore
from mirage_ros.memory.frame_grids import FrameGrids, grids_of
from mirage_ros.memory.provenance import FrameRecord, FrameTable
from mirage_ros.memory.zbuffer.projection import Convention

# What memories that exchange their content have in common.
_KIND = ("channels", "dtype", "device", "patch", "colour", "convention", "max_bytes")


class MemoryState:
    """Elements and source frames, shared between forks until one of them changes.

    Attributes:
        convention: where cell centres are.
    """

    convention: Convention

    def __init__(self, store: ElementStore, table: FrameTable) -> None:
        """Take over a store and a table."""
        # Positions are relative to this place in the world; set by the first write.
        self._origin: Tensor | None = None
        self._table = table
        self._adopt(store)

    def _adopt(self, store: ElementStore) -> None:
        self._store = store
        store.owners.add(self)

    def _own(self) -> ElementStore:
        """The store, which is this memory's alone from now on."""
        shared = self._store
        if len(shared.owners) > 1:
            store, self._table = shared.copy(), self._table.copy()
            self._adopt(store)
            # Last: from here on the other owner, perhaps in another thread, may change what was copied.
            shared.owners.discard(self)
        return self._store

    def __len__(self) -> int:
        return self._store.count

    @property
    def nbytes(self) -> int:
        """Bytes held by all buffers, see the class. What a fork still shares is counted in both."""
        return self._store.nbytes + self._table.nbytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one element."""
        return self._store.row_bytes

    def fork(self) -> Self:
        """A memory with the same content that goes its own way; both share buffers until one of them is changed."""
        fork = object.__new__(type(self))
        fork.__dict__.update(self.__dict__)
        self._store.owners.add(fork)
        return fork

    def restore(self, other: Self) -> None:
        """Take over the content of another memory, usually a fork of this one taken earlier, by sharing its buffers.

        What this memory held is let go of; `other` is unchanged and remains independent. So a rollout that is cancelled
        can leave the very object that its caller holds as it was:

            before = memory.fork()
            ...  # write to memory
            memory.restore(before)

        Raises:
            TypeError: `other` is of another class.
            ValueError: it was made with other channels, types, conventions or bounds; nothing has changed.
        """
        if type(other) is not type(self):
            raise TypeError(f"other: expected {type(self).__name__}, got {type(other).__name__}")
        if other is self:
            return
        for name in _KIND:
            own, theirs = getattr(self, name), getattr(other, name)
            if own != theirs:
                raise ValueError(f"other: expected {name} {own} like this memory, got {theirs}")
        self._store.owners.discard(self)
        self._adopt(other._store)
        self._table, self._origin = other._table, other._origin

    def clear(self) -> None:
        """Forget everything and free the buffers."""
        store = self._store
        emptied = ElementStore(store.channels, store.dtype, store.device, store.patch, store.colour)
        self._store.owners.discard(self)
        self._adopt(emptied)
        self._table = FrameTable(self._table.max_bytes)
        self._origin = None

    def frames(self) -> list[FrameRecord]:
        """The source frames that elements came from, in the order of writing."""
        counts = self._counts()
        return [self._table.record(int(slot), int(counts[slot])) for slot in self._slots()]

    @property
    def sources(self) -> Self:
        """What knows the frames that a readout's `source` names: here the memory itself."""
        return self

    def holds_view(self, camera: Camera) -> bool:
        """Whether elements come from a frame with this camera, single, at latent resolution."""
        return any(same_view(frame.camera, camera) for frame in self.frames())

    def was_imagined(self, frame: int) -> bool:
        """Whether a source frame was imagined, by its id; looks at no element.

        Raises:
            ValueError: the id is unknown.
        """
        return bool(self._table.rows["imagined"][self._table.slot_of(frame)])

    def cameras_near(self, place: Tensor, count: int) -> Camera | None:
        """Cameras of the observed frames nearest to a place; of imagined ones if there is no other.

        Of frames that look the same way from the same place, one stands for all.

        Args:
            place: (3,) world coordinates in metres.
            count: how many at most.

        Returns:
            (F,) float64 on the CPU, nearest first, of equally near ones the newest, all with the grid of the first one;
            None if there is no frame.
        """
        return self._table.cameras_near(place.detach().cpu().double().numpy(), self._slots(), count)

    def _slots(self) -> NDArray[np.int64]:
        """Slots of frames that left elements, in the order of writing."""
        slots, counts = self._table.slots(), self._counts()
        return slots[counts[slots] > 0]

    def _counts(self) -> NDArray[np.int64]:
        frame = self._store.column("frame").to(torch.int64)
        counts: NDArray[np.int64] = torch.bincount(frame, minlength=len(self._table.rows)).cpu().numpy()
        return counts

    def check_poses(self, poses: Mapping[int, Tensor]) -> None:
        """Refuse poses that `repose` would refuse, with its ValueError."""
        self._table.check_poses(poses)

    @torch.no_grad()
    def repose(self, poses: Mapping[int, Tensor]) -> int:
        """Move source frames, and the elements that came from them, as after a loop closure.

        Frames that left no element are not kept: `frames` names those that can be moved.

        Args:
            poses: frame id -> (4, 4) cam2world.

        Returns:
            how many elements moved.

        Raises:
            ValueError: an id is unknown or a pose is not a rigid transform; nothing has moved then.
        """
        self.check_poses(poses)
        store = self._own()
        moved = self._table.move(poses)
        origin = torch.zeros(3, dtype=torch.float64) if self._origin is None else self._origin.cpu()
        total = 0
        frame, positions = store.column("frame"), store.rows_first("positions")
        for slot, change in moved:
            rows = store.rows_of((frame == slot).nonzero().squeeze(1))
            change, shift = change.to(store.device), origin.to(store.device)
            positions[rows] = _moved(positions[rows].double(), change, shift).float()
            total += len(rows)
        store.moved()
        return total

    def forget(self, frames: Iterable[int]) -> int:
        """Remove every element that came from these frames; the number of elements removed.

        Raises:
            ValueError: an id is unknown; nothing is removed then.
        """
        slots = [self._table.slot_of(frame) for frame in frames]
        store = self._own()
        chosen = torch.tensor(slots, dtype=torch.int16, device=store.device)
        gone = store.rows_of(torch.isin(store.column("frame"), chosen).nonzero().squeeze(1))
        store.remove(gone, [])
        store.compact()
        self._table.release(np.array(slots, dtype=np.int64), [])
        return len(gone)

    def elements(self) -> Elements:
        """The elements as tensors, for inspection and for readers of one's own."""
        return elements_of(self._store, self._table, self._origin)

    def frame_grids(self, frames: Sequence[int] | None = None) -> FrameGrids:
        """Latents of source frames put back on their grids, for readers that unfold: see `FrameGrids`.

        Args:
            frames: ids, in this order; by default all of them in the order of writing. They share one latent grid.

        Raises:
            ValueError: an id is unknown or given twice, grids differ, or there is no frame.
        """
        if frames is None:
            slots = self._slots()
        else:
            slots = np.array([self._table.slot_of(frame) for frame in frames], np.int64)
            if len(np.unique(slots)) < len(slots):
                raise ValueError(f"frames: expected each id once, got {list(frames)}")
        return grids_of(self._store, self._table, slots, self._origin, self.convention)

    def cloud(self) -> Cloud:
        """Points for a viewer, in the colours that are kept with the elements, or grey."""
        return cloud_of(self._store, self._origin)


def _moved(positions: Tensor, change: Tensor, origin: Tensor) -> Tensor:
    """Positions (N, 3) relative to an origin after a rigid change (4, 4) of the world."""
    return (change[:3, :3] @ (positions.mT + origin.unsqueeze(-1)) + change[:3, 3:] - origin.unsqueeze(-1)).mT
