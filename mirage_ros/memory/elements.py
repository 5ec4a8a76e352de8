"""Buffers of elements: growth, compaction, quantised features, and how many bytes they hold."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks

FEATURE_DTYPES = (torch.int8, torch.float16, torch.bfloat16, torch.float32)
# Rows moved at once when elements close ranks: bounds the temporary copy.
_MOVED = 4096
# An int8 scale is chosen this much above the largest feature, so that later ones rarely exceed it.
_HEADROOM = 1.25


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


def check_patch(patch: int) -> None:
    """Refuse a number of sub-cells that no element has.

    Raises:
        ValueError: it is out of range.
    """
    if isinstance(patch, bool) or not isinstance(patch, int) or not 0 <= patch <= 16:
        raise ValueError(f"patch: expected 0..16 sub-cells, got {patch!r}")


class ElementStore:
    """One buffer for each property, padded to whole blocks.

    Attributes:
        columns: name -> buffer. `positions` is (3, capacity), NaN beyond `count`; the others are (capacity, ...).
        scale: (C,) float32 factors of int8 features, else None.
        count: rows in use.
        owners: the memories that share this store; it may be changed in place only by a single owner.
    """

    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, patch: int, colour: bool) -> None:
        """An empty store; see `LatentMemory` for the arguments.

        Raises:
            ValueError: an argument is out of range.
        """
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= 65536:
            raise ValueError(f"channels: expected 1..65536, got {channels!r}")
        if dtype not in FEATURE_DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(map(str, FEATURE_DTYPES))}, got {dtype}")
        check_patch(patch)
        self.channels, self.dtype, self.device, self.patch, self.colour = channels, dtype, device, patch, colour
        self._layout = layout(channels, dtype, patch, colour)
        self.count = 0
        self.columns = {name: self._allocate(name, 0) for name in self._layout}
        self.scale = torch.zeros(channels, device=device) if dtype == torch.int8 else None
        self.owners: weakref.WeakSet[object] = weakref.WeakSet()
        self._blocks: Blocks | None = None

    def _allocate(self, name: str, capacity: int) -> Tensor:
        shape, dtype = self._layout[name]
        if name == "positions":
            return torch.full((3, capacity), torch.nan, device=self.device)
        return torch.zeros((capacity, *shape), dtype=dtype, device=self.device)

    @property
    def row_bytes(self) -> int:
        """Bytes of one element."""
        sizes = (torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self._layout.values())
        return sum(sizes)

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return self.columns["size"].shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of every buffer that this store holds."""
        held = sum(buffer.untyped_storage().nbytes() for buffer in self.columns.values())
        held += 0 if self.scale is None else self.scale.nbytes
        return held + (0 if self._blocks is None else self._blocks.nbytes)

    def limit(self, max_bytes: int) -> int:
        """Most rows, in whole blocks, whose buffers fit."""
        fixed = 0 if self.scale is None else self.scale.nbytes
        return max(0, (max_bytes - fixed) // (self.row_bytes * BLOCK + Blocks.BYTES)) * BLOCK

    def reserve(self, rows: int, max_bytes: int) -> None:
        """Make room for `rows` elements in all; at most `limit(max_bytes)`.

        Buffers grow by a sixty-fourth at least, one after the other, so that old and new of only one exist together.
        Where the next growth would exceed `max_bytes` in passing, all the room is taken at once.
        """
        if rows <= self.capacity:
            return
        most = self.limit(max_bytes)
        wanted = -(-max(rows, self.capacity * 65 // 64) // BLOCK) * BLOCK
        features = self.channels * self.dtype.itemsize
        if wanted * self.row_bytes + most * features > max_bytes * 0.98:
            wanted = most
        # The boxes are made again on the next read, and count meanwhile.
        self._blocks = None
        wanted = min(wanted, most)
        for name in self.columns:
            old = self.columns[name]
            new = self._allocate(name, wanted)
            if name == "positions":
                new[:, : self.count] = old[:, : self.count]
            else:
                new[: self.count] = old[: self.count]
            self.columns[name] = new
            del old, new

    def append(self, rows: dict[str, Tensor], max_bytes: int) -> None:
        """Add elements.

        Args:
            rows: name -> (n, ...) values, `positions` (n, 3), `features` (n, C) float.
            max_bytes: see `reserve`; the caller has made sure that there is room.
        """
        added = len(rows["size"])
        self.reserve(self.count + added, max_bytes)
        chosen = slice(self.count, self.count + added)
        for name, buffer in self.columns.items():
            if name == "positions":
                buffer[:, chosen] = rows[name].T.to(buffer)
            elif name == "features":
                buffer[chosen] = self.encode(rows[name])
            else:
                buffer[chosen] = rows[name].to(buffer)
        self.count += added
        self._blocks = None

    def encode(self, features: Tensor) -> Tensor:
        """Features as they are stored.

        int8: scale = largest magnitude of a channel x 1.25 / 127. When a later feature exceeds what its channel's scale
        can hold, that scale is raised the same way and the channel's stored values are rounded again; a value is off by
        half a step of the scale it was written with, and half a step of each scale raised since.
        """
        if self.scale is None:
            limit = torch.finfo(self.dtype).max
            return features.float().clamp(-limit, limit).to(self.dtype)
        if len(features):
            largest = features.float().abs().amax(dim=0)
            # A scale below the smallest normal float32 would turn its inverse into infinity.
            raised = torch.where(largest > self.scale * 127, largest * (_HEADROOM / 127), self.scale).clamp(min=1e-30)
            if self.count and bool((raised != self.scale).any()):
                ratio = self.scale / raised
                for start in range(0, self.count, _MOVED):
                    part = self.columns["features"][start : min(start + _MOVED, self.count)]
                    part.copy_((part.float() * ratio).round_().to(torch.int8))
            self.scale = raised
        return (features.float() / self.scale).round_().clamp_(-127, 127).to(torch.int8)

    def decode(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """(n, C) float32 features of some rows."""
        stored = self.columns["features"][: self.count][rows].float()
        return stored if self.scale is None else stored * self.scale

    def keep(self, kept: Tensor) -> None:
        """Drop the rows where `kept` (count,) is false; the others keep their order."""
        rows = kept.nonzero().squeeze(1)
        if len(rows) == self.count:
            return
        for name, buffer in self.columns.items():
            for start in range(0, len(rows), _MOVED):
                # A row never moves up, so what is overwritten has been read.
                part = rows[start : start + _MOVED]
                if name == "positions":
                    buffer[:, start : start + len(part)] = buffer.index_select(1, part)
                else:
                    buffer[start : start + len(part)] = buffer.index_select(0, part)
        self.columns["positions"][:, len(rows) : self.count] = torch.nan
        self.count = len(rows)
        self._blocks = None

    def moved(self) -> None:
        """Say that positions or sizes were changed in place."""
        self._blocks = None

    def blocks(self) -> Blocks:
        """Boxes of the blocks, made when first asked for after a change."""
        if self._blocks is None:
            self._blocks = Blocks(self.columns["positions"], self.columns["size"])
        return self._blocks

    def used(self) -> Iterator[tuple[str, Tensor]]:
        """Names and the rows in use."""
        for name, buffer in self.columns.items():
            yield name, buffer[:, : self.count] if name == "positions" else buffer[: self.count]

    def emptied(self) -> ElementStore:
        """A new store of the same kind without elements."""
        return ElementStore(self.channels, self.dtype, self.device, self.patch, self.colour)

    def copy(self) -> ElementStore:
        """An independent store with the same content."""
        copy = object.__new__(ElementStore)
        copy.__dict__.update(self.__dict__)
        copy.columns = {name: buffer.clone() for name, buffer in self.columns.items()}
        copy.scale = None if self.scale is None else self.scale.clone()
        copy.owners = weakref.WeakSet()
        return copy
