"""Elements and points for viewers and for readers outside the memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirage_ros.atomic_files import write_atomically
from mirage_ros.memory.elements import ElementStore
from mirage_ros.memory.provenance import FrameTable

_GREY = 160


@dataclass(frozen=True, eq=False)
class Elements:
    """Elements of a memory as tensors, one row each.

    Attributes:
        positions: (N, 3) float64 world metres.
        features: (N, C) float32.
        size: (N,) float32 metres, the side of the patch.
        confidence: (N,) float32 number of agreeing views.
        source: (N,) int64 id of the source frame.
        imagined: (N,) bool, whether that frame was imagined.
        cell: (N, 2) int64 row and column in the source frame's latent grid.
        colour: (N, 3) uint8, or None.
    """

    positions: Tensor
    features: Tensor
    size: Tensor
    confidence: Tensor
    source: Tensor
    imagined: Tensor
    cell: Tensor
    colour: Tensor | None


@dataclass(frozen=True, eq=False)
class Cloud:
    """Coloured points.

    Attributes:
        points: (N, 3) float64 world metres.
        colours: (N, 3) uint8 red, green, blue.
        confidence: (N,) float32.
    """

    points: Tensor
    colours: Tensor
    confidence: Tensor

    def save_ply(self, path: str | os.PathLike[str]) -> None:
        """Write a binary little-endian PLY with x y z, red green blue and confidence, atomically.

        Coordinates are float32, which every viewer reads; far from the world's origin they lose precision.
        """
        vertex = np.zeros(
            len(self.points),
            dtype=[(axis, "<f4") for axis in "xyz"]
            + [(name, "u1") for name in ("red", "green", "blue")]
            + [("confidence", "<f4")],
        )
        points, colours = self.points.float().cpu().numpy(), self.colours.cpu().numpy()
        for i, axis in enumerate("xyz"):
            vertex[axis] = points[:, i]
        for i, name in enumerate(("red", "green", "blue")):
            vertex[name] = colours[:, i]
        vertex["confidence"] = self.confidence.float().cpu().numpy()
        header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertex)}"]
        header += [f"property float {axis}" for axis in "xyz"]
        header += [f"property uchar {name}" for name in ("red", "green", "blue")]
        header += ["property float confidence", "end_header", ""]
        write_atomically(Path(path), "\n".join(header).encode("ascii") + vertex.tobytes())


def positions_of(store: ElementStore, origin: Tensor | None) -> Tensor:
    """(N, 3) float64 world metres of a memory's elements."""
    positions = store.column("positions").double()
    return positions if origin is None else positions + origin.to(positions)


def elements_of(store: ElementStore, table: FrameTable, origin: Tensor | None) -> Elements:
    """The elements of a memory."""
    frame = store.column("frame").to(torch.int64)
    return Elements(
        positions=positions_of(store, origin),
        features=store.decode(),
        size=store.column("size").float(),
        confidence=store.column("confidence").float(),
        source=table.ids(store.device)[frame],
        imagined=table.imagined(store.device)[frame],
        cell=store.column("cell").to(torch.int64),
        colour=store.column("colour").clone() if store.colour else None,
    )


def cloud_of(store: ElementStore, origin: Tensor | None) -> Cloud:
    """A memory's cloud in the colours that it keeps, else grey."""
    points, confidence = positions_of(store, origin), store.column("confidence").float()
    if store.colour:
        colours = store.column("colour").clone()
    else:
        colours = torch.full((len(points), 3), _GREY, dtype=torch.uint8, device=points.device)
    return Cloud(points, colours, confidence)
