"""Frames of a chunk that were made together, and how they become the chunk that a caller gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import enlarge
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.perception.pipeline import FAR
from mirage_ros.world.between import Between
from mirage_ros.world.doubt import DepthDoubt
from mirage_ros.world.networks import Networks
from mirage_ros.world.results import ImaginedChunk


@dataclass(frozen=True, eq=False)
class Piece:
    """Frames of a chunk that were made together.

    Attributes:
        places: of the frames in the trajectory.
        video: (T, 3, H, W) 0..1.
        depth: (T, H, W) metres.
        visible: (T, H, W) float32.
        coverage: (T,) float32.
        camera: (T,).
        report: what was written of them.
        notes: of perception.
    """

    places: tuple[int, ...]
    video: Tensor
    depth: Tensor
    visible: Tensor
    coverage: Tensor
    camera: Camera
    report: WriteReport = field(default_factory=WriteReport)
    notes: tuple[str, ...] = ()


def piece_between(networks: Networks, places: tuple[int, ...], between: Between, camera: Camera) -> Piece:
    """Frames between keyframes, decoded; their cameras are (T,)."""
    size, known = networks.size, between.known.float()
    return Piece(
        places,
        networks.decode(between.latents[None])[0],
        enlarge(torch.where(between.depth > FAR, torch.inf, between.depth), *size).float(),
        enlarge(known, *size),
        known.mean(dim=(1, 2)),
        camera,
    )


def joined(
    pieces: Sequence[Piece],
    candidate: int,
    sample: int,
    chunk: int,
    frames: Sequence[SourceFrame],
    seconds: dict[str, float],
    doubt: DepthDoubt,
) -> ImaginedChunk:
    """A chunk out of its pieces, its frames in the order of the trajectory.

    Args:
        pieces: that have every new frame of the chunk once.
        candidate, sample, chunk: indices of the trajectory, of what was drawn of it, and of the chunk.
        frames: what the memory was told of each frame of the trajectory.
        seconds: wall time of each stage.
        doubt: of the model.
    """
    places = [place for piece in pieces for place in piece.places]
    order, report = torch.tensor(places).argsort(), WriteReport()
    for piece in pieces:
        report += piece.report

    def all_of(name: str) -> Tensor:
        values = torch.cat([getattr(piece, name) for piece in pieces])
        return values[order.to(values.device)]

    depth, visible = all_of("depth"), all_of("visible").cpu().numpy()
    metres = torch.where(depth > 0, depth, 0.0).float().cpu().numpy()
    return ImaginedChunk(
        rgb=pixels_of_video(all_of("video")).cpu().numpy(),
        depth=metres,
        camera=Camera.joined([piece.camera for piece in pieces])[order].to("cpu"),
        stamp=np.array([frames[place].stamp for place in sorted(places)], np.int64),
        visible=visible,
        uncertainty=doubt.uncertainty(metres, visible),
        coverage=all_of("coverage").cpu().numpy(),
        candidate=candidate,
        sample=sample,
        chunk=chunk,
        first=min(places),
        report=report,
        seconds=seconds,
        notes=tuple(dict.fromkeys(note for piece in pieces for note in piece.notes)),
    )


def pixels_of_video(video: Tensor) -> Tensor:
    """Frames (T, 3, H, W) 0..1 as (T, H, W, 3) uint8."""
    return (video * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
