"""Buffers of elements: growth, compaction, quantised features, and how many bytes they hold."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mirage_ros.memory.depth_patches import check_patch
from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks

FEATURE_DTYPES = (torch.int8, torch.float16, torch.bfloat16, torch.float32)
# Rows moved at once when elements close ranks: bounds the temporary copy.
_MOVED = 4096
# An int8 scale is chosen this much above the largest feature, so that later ones rarely exceed it.
_HEADROOM = 1.25
# Steps that take back the changes of one write, to be called the last first. Each is entered before its change, and may
# be called whether or not that came about.
Undo: TypeAlias = list[Callable[[], Any]]


def layout(
    channels: int, dtype: torch.dtype, patch: int, colour: bool
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Name -> shape and type of what is stored of one element, in the order in which the buffers grow."""
    # Features first: growing them needs the most room, and then the other buffers are still small.
    columns: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "features": ((channels,), dtype),
        "positions": ((3,), torch.float32),
        "size": ((), torch.float16),
        "confidence": ((), torch.uint8),
        "frame": ((), torch.int16),
        "cell": ((2,), torch.uint8),
    }
    if colour:
        columns["colour"] = ((3,), torch.uint8)
    if patch:
        columns["patch"] = ((patch, patch), torch.int8)
    return columns


class ElementStore:
    """One buffer for each property, padded to whole blocks.

    Elements keep the order in which they came. One that is removed leaves a hole, so that a write costs what it
    changes, not what is held.

    Attributes:
        columns: name -> buffer. `positions` is (3, capacity), NaN where there is no element; the others are
            (capacity, ...).
        scale: (C,) float32 factors of int8 features, else None.
        end: rows in use, holes included.
        holes: (n,) int64 rows below the end without an element, rising.
        owners: the memories that share this store; it may be changed in place only by a single owner.
    """

    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, patch: int, colour: bool) -> None:
        """An empty store; arguments and errors are those of `LatentMemory`."""
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= 65536:
            raise ValueError(f"channels: expected 1..65536, got {channels!r}")
        if dtype not in FEATURE_DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(map(str, FEATURE_DTYPES))}, got {dtype}")
        check_patch(patch)
        self.channels, self.dtype, self.device, self.patch, self.colour = channels, dtype, device, patch, colour
        self._layout = layout(channels, dtype, patch, colour)
        self.end, self.holes = 0, torch.zeros(0, dtype=torch.int64, device=device)
        self.columns = {name: self._allocate(name, 0) for name in self._layout}
        self.scale = torch.zeros(channels, device=device) if dtype == torch.int8 else None
        self.owners: weakref.WeakSet[object] = weakref.WeakSet()
        self._blocks: Blocks | None = None
        # Scales that were raised since features were last rounded: rows that are concerned, (C,) old scale / new.
        self._raises: list[tuple[int, Tensor]] = []

    @property
    def count(self) -> int:
        """Elements held."""
        return self.end - len(self.holes)

    def _allocate(self, name: str, capacity: int) -> Tensor:
        shape, dtype = self._layout[name]
        if name == "positions":
            return torch.full((3, capacity), torch.nan, device=self.device)
        return torch.zeros((capacity, *shape), dtype=dtype, device=self.device)

    @property
    def row_bytes(self) -> int:
        """Bytes of one element."""
        return sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self._layout.values())

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return self.columns["size"].shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of every buffer that this store holds."""
        held = sum(buffer.untyped_storage().nbytes() for buffer in self.columns.values())
        return held + sum(part.nbytes for part in (self.scale, self._blocks) if part is not None)

    def limit(self, max_bytes: int) -> int:
        """Most rows, in whole blocks, whose buffers fit."""
        fixed = 0 if self.scale is None else self.scale.nbytes
        return max(0, (max_bytes - fixed) // (self.row_bytes * BLOCK + Blocks.BYTES)) * BLOCK

    def rows_first(self, name: str) -> Tensor:
        """(capacity, ...) the buffer of a column, seen by rows."""
        return self.columns[name].mT if name == "positions" else self.columns[name]

    def live(self) -> Tensor:
        """(count,) int64 rows that hold elements."""
        held = torch.ones(self.end, dtype=torch.bool, device=self.device)
        return held.index_fill_(0, self.holes, False).nonzero().squeeze(1)

    def column(self, name: str) -> Tensor:
        """(count, ...) values of the elements in the order of writing, without a copy where there is no hole."""
        rows = self.rows_first(name)
        return rows.index_select(0, self.live()) if len(self.holes) else rows[: self.end]

    def rows_of(self, elements: Tensor) -> Tensor:
        """(n,) int64 rows of elements that are counted without the holes."""
        return self.live()[elements] if len(self.holes) else elements

    def elements_of(self, rows: Tensor) -> Tensor:
        """The reverse: which elements, counted without the holes, some rows hold; -1 stays."""
        return rows - torch.searchsorted(self.holes, rows.contiguous()) if len(self.holes) else rows

    def make_room(self, added: int, max_bytes: int, undo: Undo) -> None:
        """Make room for more rows at the end; no more elements than `limit(max_bytes)` in all.

        Ranks are closed first. Buffers grow by a sixty-fourth at least, one after the other, so that old and new of
        only one exist together. Where the next growth would exceed `max_bytes` in passing, all the room is taken at
        once.
        """
        capacity = self.capacity
        if self.end + added > capacity:
            self.compact(undo)
        if self.end + added <= capacity:
            return
        most = self.limit(max_bytes)
        wanted = -(-max(self.end + added, capacity * 65 // 64) // BLOCK) * BLOCK
        if wanted * self.row_bytes + most * self.channels * self.dtype.itemsize > max_bytes * 0.98:
            wanted = most
        undo.append(lambda: self._narrow(capacity))
        for name in self.columns:
            new = self._allocate(name, min(wanted, most))
            old = self.rows_first(name)[: self.end]
            (new.mT if name == "positions" else new)[: self.end] = old
            self.columns[name] = new
            del old, new

    def _narrow(self, capacity: int) -> None:
        # Without allocating anything: what has grown keeps its room.
        self.columns = {
            name: buffer[..., :capacity] if name == "positions" else buffer[:capacity]
            for name, buffer in self.columns.items()
        }
        self._blocks = None

    def append(self, rows: dict[str, Tensor], max_bytes: int, undo: Undo) -> None:
        """Add elements.

        Args:
            rows: name -> (n, ...) values, `features` (n, C) float.
            max_bytes: see `make_room`; the caller has made sure that there is room.
            undo: see `Undo`. Until `settle` is called, older int8 features have the scale that they had.
        """
        self.make_room(len(rows["size"]), max_bytes, undo)
        values = {**rows, "features": self._encode(rows["features"], undo)}
        end = self.end
        chosen = slice(end, end + len(rows["size"]))
        before = {name: self.rows_first(name)[chosen].clone() for name in self.columns}

        def take_back() -> None:
            for name, old in before.items():
                self.rows_first(name)[chosen] = old
            self.end, self._blocks = end, None

        undo.append(take_back)
        for name in self.columns:
            self.rows_first(name)[chosen] = values[name].to(self.columns[name])
        self.end = chosen.stop

    def _encode(self, features: Tensor, undo: Undo) -> Tensor:
        """Features as they are stored.

        int8: scale = largest magnitude of a channel x 1.25 / 127. When a later feature exceeds what its channel's scale
        can hold, that scale is raised the same way and the channel's stored values are rounded again, by `settle`; a
        value is off by half a step of the scale it was written with, and half a step of each scale raised since.
        """
        if self.scale is None:
            limit = torch.finfo(self.dtype).max
            return features.float().clamp(-limit, limit).to(self.dtype)
        if len(features):
            scale, raises = self.scale, self._raises
            largest = features.float().abs().amax(dim=0)
            # A scale below the smallest normal float32 would turn its inverse into infinity.
            raised = torch.where(largest > scale * 127, largest * (_HEADROOM / 127), scale).clamp(min=1e-30)
            undo.append(lambda: self.__dict__.update(scale=scale, _raises=raises))
            if self.count and bool((raised != scale).any()):
                self._raises = [*raises, (self.end, scale / raised)]
            self.scale = raised
        return (features.float() / self.scale).round_().clamp_(-127, 127).to(torch.int8)

    def settle(self) -> None:
        """Round int8 features again whose scales were raised. Not to be taken back: the last step of a write."""
        if not self._raises:
            return
        # All the room that is needed: nothing can fail for want of memory from here on.
        room = torch.empty((_MOVED, self.channels), device=self.device)
        for end, ratio in self._raises:
            for start in range(0, end, _MOVED):
                part = self.columns["features"][start : min(start + _MOVED, end)]
                part.copy_(room[: len(part)].copy_(part).mul_(ratio).round_())
        self._raises = []

    def decode(self, elements: Tensor | None = None) -> Tensor:
        """(n, C) float32 features of some elements, of all by default."""
        stored = self.column("features") if elements is None else self.columns["features"][self.rows_of(elements)]
        return stored.float() if self.scale is None else stored.float() * self.scale

    def set_confidence(self, rows: Tensor, values: Tensor, undo: Undo) -> None:
        """Give elements in some rows other confidences."""
        before = self.columns["confidence"][rows]
        undo.append(lambda: self.columns["confidence"].index_put_((rows,), before))
        self.columns["confidence"][rows] = values

    def remove(self, rows: Tensor, undo: Undo) -> None:
        """Leave rows, of which each is named once, without their elements, as holes that `compact` closes."""
        if not len(rows):
            return
        before, holes = self.rows_first("positions")[rows], self.holes

        def take_back() -> None:
            self.rows_first("positions")[rows] = before
            self.holes, self._blocks = holes, None

        undo.append(take_back)
        # A row that is not finite is never seen.
        self.rows_first("positions")[rows] = torch.nan
        self.holes = torch.cat([holes, rows]).sort().values

    def compact(self, undo: Undo | None = None) -> None:
        """Close the ranks of the elements, whose order stays."""
        if not len(self.holes):
            return
        live, holes, end, raises, first = self.live(), self.holes, self.end, self._raises, int(self.holes[0])
        moved = live[first:]
        done: list[tuple[str, int]] = []
        if undo is not None:
            lost = {name: self.rows_first(name)[holes] for name in self.columns}

            def take_back() -> None:
                for name, start in reversed(done):
                    part, rows = moved[start : start + _MOVED], self.rows_first(name)
                    rows[part] = rows[first + start : first + start + len(part)].clone()
                for name, values in lost.items():
                    self.rows_first(name)[holes] = values
                self.holes, self.end, self._raises, self._blocks = holes, end, raises, None

            undo.append(take_back)
        for name in self.columns:
            rows = self.rows_first(name)
            for start in range(0, len(moved), _MOVED):
                # A row never moves up, so what is overwritten has been read.
                part = moved[start : start + _MOVED]
                rows[first + start : first + start + len(part)] = rows[part]
                done.append((name, start))
        self.rows_first("positions")[len(live) : end] = torch.nan
        self._raises = [(rows - int((holes < rows).sum()), ratio) for rows, ratio in raises]
        self.end, self.holes, self._blocks = len(live), holes[:0], None

    def moved(self) -> None:
        """Say that positions or sizes were changed in place."""
        self._blocks = None

    def blocks(self) -> Blocks:
        """Boxes of the blocks; what came since they were last asked for is added, what was removed still counts."""
        boxes = self._blocks
        if boxes is None or boxes.rows < self.end:
            first = 0 if boxes is None else boxes.rows // BLOCK
            new = Blocks(self.columns["positions"][:, first * BLOCK :], self.columns["size"][first * BLOCK :])
            new.rows = self.end
            self._blocks = boxes = new if boxes is None else boxes.followed_by(new, first)
        return boxes

    def copy(self) -> ElementStore:
        """An independent store with the same content."""
        copy = object.__new__(ElementStore)
        copy.__dict__.update(self.__dict__)
        copy.columns = {name: buffer.clone() for name, buffer in self.columns.items()}
        copy.scale = None if self.scale is None else self.scale.clone()
        copy.owners = weakref.WeakSet()
        return copy
