"""What a read gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Readout:
    """Elements projected into target views; `...` is the cameras' batch shape, usually (T,).

    Attributes:
        latents: (..., C, h, w) features of the winning elements, zero where no element is visible.
        visible: (..., 1, h, w) float32, one where an element is visible, else zero.
        depth: (..., 1, h, w) float32 metres of the winner along the target's optical axis, zero where none.
        offset: (..., 2, h, w) float32 cells (x, y) from the cell's centre to the winner's position.
        log_scale: (..., 1, h, w) float32 natural logarithm of the winner's cell size as seen from here, in target
            cells: zero at the scale at which it was written, positive when closer.
        confidence: (..., 1, h, w) float32 number of views that agree with the winner, see `LatentMemory`; zero where
            none.
        source: (..., 1, h, w) int64 id of the winner's source frame, -1 where none.
        index: (..., 1, h, w) int64 row of the winner, valid until the memory is next written; -1 where none.
        fine_depth: (..., h r, w r) float32 metres, finer than the cells', NaN where nothing is shown; None if the
            memory knows no finer.
    """

    latents: Tensor
    visible: Tensor
    depth: Tensor
    offset: Tensor
    log_scale: Tensor
    confidence: Tensor
    source: Tensor
    index: Tensor
    fine_depth: Tensor | None = None

    def coverage(self) -> Tensor:
        """(...) float32 share of cells that are visible."""
        return self.visible.mean(dim=(-3, -2, -1))

    def over(self, other: Readout) -> Readout:
        """This readout where it shows something, and another one of the same views where it does not."""
        shows = self.visible > 0
        cells = [(name, value) for name, value in self.tensors().items() if name != "fine_depth"]
        return Readout(**{name: torch.where(shows, mine, getattr(other, name)) for name, mine in cells})

    def to(self, device: torch.device | str) -> Readout:
        """The same readout on another device."""
        return Readout(**{name: value.to(device) for name, value in self.tensors().items()})

    def __getitem__(self, index: int | slice) -> Readout:
        """Select along the first batch dimension."""
        return Readout(**{name: value[index] for name, value in self.tensors().items()})

    @staticmethod
    def stacked(readouts: Sequence[Readout]) -> Readout:
        """Readouts of the same shapes with a batch dimension in front."""
        return Readout(
            **{name: torch.stack([getattr(readout, name) for readout in readouts]) for name in readouts[0].tensors()}
        )

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}
