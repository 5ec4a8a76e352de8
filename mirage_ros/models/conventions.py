"""Where the public Mirage code departs from the paper, as switches that are set together.

Weights trained with the public code (github.com/microsoft/LatentSpatialMemory) expect its behaviour; `paper` is what
this project does otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Conventions:
    """How a rollout feeds and fills the memory.

    Attributes:
        name: of the set.
        written_latents: 'encoded' encodes the decoded frames again before they are written, 'denoised' writes the
            network's output as it is.
        cameras: after a chunk, 'refined' takes the depth estimator's cameras where it gives any, 'given' the
            trajectory's.
        filter_dynamic: leave moving things and sky out of the memory.
        visibility: what the branch is told beside the readout, 'mask' or 'ones' (a constant in its place).
        read_rule: rule of the memory's read, 'default' for the preset's own.
        integer_centres: cell centres at integer coordinates rather than at +0.5.
        footprints: an element covers what its patch covers rather than one cell.
        bilinear_depth: depth is brought to the latent grid by bilinear interpolation rather than by a median.
    """

    name: str
    written_latents: Literal["encoded", "denoised"]
    cameras: Literal["refined", "given"]
    filter_dynamic: bool
    visibility: Literal["mask", "ones"]
    read_rule: Literal["default", "strict"]
    integer_centres: bool
    footprints: bool
    bilinear_depth: bool


PAPER = Conventions(
    name="paper",
    written_latents="encoded",
    cameras="refined",
    filter_dynamic=True,
    visibility="mask",
    read_rule="default",
    integer_centres=False,
    footprints=True,
    bilinear_depth=False,
)
PUBLIC = Conventions(
    name="public",
    written_latents="denoised",
    cameras="given",
    filter_dynamic=False,
    visibility="ones",
    read_rule="strict",
    integer_centres=True,
    footprints=False,
    bilinear_depth=True,
)
CONVENTIONS = {conventions.name: conventions for conventions in (PAPER, PUBLIC)}


def conventions(name: str) -> Conventions:
    """The set of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in CONVENTIONS:
        raise ValueError(f"conventions: expected one of {', '.join(CONVENTIONS)}, got {name!r}")
    return CONVENTIONS[name]
