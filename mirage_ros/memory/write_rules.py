"""How writing decides, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, fields

# `WriteRules.share` and `WriteRules.known` for memories with depth patches whose readers unfold. There a cell with an
# edge is of use however its surfaces divide it, since each sub-cell is read at its own depth; and so is one that is
# mostly sky: the bars of a window fill less than half of theirs.
PATCHED_SHARE, PATCHED_KNOWN = 0.01, 0.1
# A cell is written although the memory holds its surface if the element there is coarser than this many cells of the
# new view; the coarse element is then replaced.
FINER = 1.5
# An element is seen through if the new view measures more than this share further at and around it.
FREE_SPACE = 0.1


@dataclass(frozen=True)
class WriteRules:
    """Thresholds of writing.

    Attributes:
        select: write only what the memory does not explain yet; without, every usable cell is appended and nothing is
            confirmed, replaced or removed.
        share: least share of one surface in a cell with an edge.
        known: least share of a cell that must be kept, and that must have a valid depth.
        context: cells around newly written ones that are written as well although they are explained, so that a network
            that unfolds a frame's latents sees neighbours; see `write.LAYERS` for where that ends.
    """

    select: bool = True
    share: float = 0.6
    known: float = 0.5
    context: int = 0

    def __post_init__(self) -> None:
        for name in ("share", "known"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= 1:
                raise ValueError(f"{name}: expected a share in (0, 1], got {value!r}")
        if isinstance(self.context, bool) or not isinstance(self.context, int) or not 0 <= self.context <= 16:
            raise ValueError(f"context: expected 0..16 cells, got {self.context!r}")


@dataclass
class WriteReport:
    """What happened to every cell of a write, and to the elements that were there.

    Each cell is counted once, by the first of these that applies: `copied`, `masked`, `invalid`, `edge`, `explained`,
    `dropped`, `replaced`, `written`.

    Attributes:
        copied: cells that the caller said were only read from the memory.
        masked: cells of which less than the share `WriteRules.known` was to be kept, or less than half of what has a
            depth.
        invalid: cells of which less than that share had a valid depth.
        edge: cells that mix surfaces.
        explained: cells that the memory held already.
        dropped: cells for which there was no room.
        replaced: cells written in place of a coarser or an imagined element.
        written: cells written where there was nothing.
        confirmed: elements that agreed with a view, counted once for each.
        seen_through: elements that a view saw through, counted once for each.
        removed: elements removed because views saw through them.
        superseded: elements removed because finer or real ones took their place, or because frames enough hold it.
        evicted: elements removed to stay under the byte cap.
    """

    copied: int = 0
    masked: int = 0
    invalid: int = 0
    edge: int = 0
    explained: int = 0
    dropped: int = 0
    replaced: int = 0
    written: int = 0
    confirmed: int = 0
    seen_through: int = 0
    removed: int = 0
    superseded: int = 0
    evicted: int = 0

    @property
    def cells(self) -> int:
        """Number of cells that were offered."""
        return self.copied + self.masked + self.invalid + self.edge + self.explained + self.dropped + self.added

    @property
    def added(self) -> int:
        """Elements that were added."""
        return self.replaced + self.written

    def __iadd__(self, other: WriteReport) -> WriteReport:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self
