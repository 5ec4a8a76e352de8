"""The state of a memory: its elements and source frames, looked at, shared, moved and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from mirage_ros.geometry import Camera, same_view
from mirage_ros.memory.cloud import Cloud, Elements, cloud_of
from mirage_ros.memory.elements import ElementStore
from mirage_ros.memory.frame_grids import FrameGrids, grids_of
from mirage_ros.memory.provenance import FrameRecord, FrameTable
from mirage_ros.memory.zbuffer.projection import Convention

# Metres, and cosine of the angle between the views, within which two frames see about the same.
SAME_PLACE, SAME_VIEW = 0.3, 0.94
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
        emptied = self._store.emptied()
        self._store.owners.discard(self)
        self._adopt(emptied)
        self._table = FrameTable(self._table.max_bytes)
        self._origin = None

    def frames(self) -> list[FrameRecord]:
        """The source frames that elements came from, in the order of writing."""
        counts = self._counts()
        return [self._table.record(slot, int(counts[slot])) for slot in self._table.slots() if counts[slot]]

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
        rows, counts = self._table.rows, self._counts()
        slots = np.array([slot for slot in self._table.slots() if counts[slot]], np.int64)
        observed = slots[~rows["imagined"][slots]]
        slots = (observed if len(observed) else slots)[::-1]
        poses = rows["cam2world"][slots]
        away = np.linalg.norm(poses[:, :3, 3] - place.detach().cpu().double().numpy(), axis=1)
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
        return self._table.camera(slots[chosen]) if chosen else None

    def _counts(self) -> NDArray[np.int64]:
        frame = self._store.columns["frame"][: len(self)].to(torch.int64)
        return torch.bincount(frame, minlength=len(self._table.rows)).cpu().numpy()

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
        self._table.check_poses(poses)
        store = self._own()
        moved = self._table.move(poses)
        origin = torch.zeros(3, dtype=torch.float64) if self._origin is None else self._origin.cpu()
        total = 0
        frame = store.columns["frame"][: store.count]
        for slot, change in moved:
            rows = (frame == slot).nonzero().squeeze(1)
            old = store.columns["positions"].index_select(1, rows).double()
            change, shift = change.to(self._store.device), origin.to(self._store.device).unsqueeze(-1)
            new = change[:3, :3] @ (old + shift) + change[:3, 3:] - shift
            store.columns["positions"][:, rows] = new.float()
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
        gone = torch.isin(
            store.columns["frame"][: store.count], torch.tensor(slots, dtype=torch.int16, device=self._store.device)
        )
        before = store.count
        store.keep(~gone)
        self._table.release(np.array(slots, dtype=np.int64))
        return before - store.count

    def forget_older(self, stamp: int) -> int:
        """Remove every element of frames before a stamp in nanoseconds; the number of elements removed."""
        return self.forget([record.id for record in self.frames() if record.stamp < stamp])

    def elements(self) -> Elements:
        """The elements as tensors, for inspection and for readers of one's own."""
        store, table = self._store, self._table
        frame = store.columns["frame"][: store.count].to(torch.int64)
        return Elements(
            positions=self._world(),
            features=store.decode(),
            size=store.columns["size"][: store.count].float(),
            confidence=store.columns["confidence"][: store.count].float(),
            source=table.ids(store.device)[frame],
            imagined=table.imagined(store.device)[frame],
            cell=store.columns["cell"][: store.count].to(torch.int64),
            colour=store.columns["colour"][: store.count].clone() if self._store.colour else None,
        )

    def frame_grids(self, frames: Sequence[int] | None = None) -> FrameGrids:
        """Latents of source frames put back on their grids, for readers that unfold: see `FrameGrids`.

        Args:
            frames: ids, in this order; by default all of them in the order of writing. They share one latent grid.

        Raises:
            ValueError: an id is unknown or given twice, grids differ, or there is no frame.
        """
        if frames is None:
            counts = self._counts()
            slots = np.array([slot for slot in self._table.slots() if counts[slot]], np.int64)
        else:
            slots = np.array([self._table.slot_of(frame) for frame in frames], np.int64)
            if len(np.unique(slots)) < len(slots):
                raise ValueError(f"frames: expected each id once, got {list(frames)}")
        return grids_of(self._store, self._table, slots, self._origin, self.convention)

    def cloud(self, colour: Callable[[Tensor], Tensor] | None = None) -> Cloud:
        """Points for a viewer.

        Args:
            colour: features (N, C) float32 to colours (N, 3) float in 0..1, such as a model's linear preview; by
                default the stored colours, or grey.
        """
        stored = self._store.columns["colour"][: len(self)] if self._store.colour else None
        confidence = self._store.columns["confidence"][: len(self)].float()
        painted = None if colour is None else colour(self._store.decode())
        return cloud_of(self._world(), stored, painted, confidence)

    def age(self, now: int) -> Tensor:
        """(N,) float64 seconds from the stamp of each element's source frame to `now` in nanoseconds."""
        stamps = torch.from_numpy(self._table.rows["stamp"].copy()).to(self._store.device)
        return (now - stamps[self._store.columns["frame"][: len(self)].to(torch.int64)]).double() * 1e-9

    def _world(self) -> Tensor:
        positions = self._store.columns["positions"][:, : len(self)].T.double()
        return positions if self._origin is None else positions + self._origin.to(positions)
