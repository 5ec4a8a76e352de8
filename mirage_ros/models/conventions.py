"""Where the public Mirage code departs from the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Conventions:
    """Where the public Mirage code (github.com/microsoft/LatentSpatialMemory) departs from the paper.

    Weights trained with the public code expect all of its behaviour, so these switches are set together.

    Attributes:
        name: of the set.
        written_latents: 'encoded' encodes the decoded frames again before they are written, 'denoised' writes the
            network's output as it is.
        cameras: after a chunk, 'refined' takes the depth estimator's cameras where it gives any, 'given' the
            trajectory's.
        filter_dynamic: leave moving things and sky out of the memory.
        integer_centres: cell centres at integer coordinates rather than at +0.5.
        footprints: an element covers what its patch covers rather than one cell.
        bilinear_depth: depth is brought to the latent grid by bilinear interpolation rather than by a median.
    """

    name: str = "paper"
    written_latents: Literal["encoded", "denoised"] = "encoded"
    cameras: Literal["refined", "given"] = "refined"
    filter_dynamic: bool = True
    integer_centres: bool = False
    footprints: bool = True
    bilinear_depth: bool = False


PAPER = Conventions()
PUBLIC = Conventions(
    name="public",
    written_latents="denoised",
    cameras="given",
    filter_dynamic=False,
    integer_centres=True,
    footprints=False,
    bilinear_depth=True,
)
CONVENTIONS = {conventions.name: conventions for conventions in (PAPER, PUBLIC)}
