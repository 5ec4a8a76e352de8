"""Reading the memory for target views, in the form that the transformer's memory branch takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.memory.frame_grids import splat_in_order
from mirage_ros.memory.readout import Readout
from mirage_ros.models import log_depth
from mirage_ros.models.branch_input import assemble, pack_filled, pluecker_rays
from mirage_ros.models.presets import Preset
from mirage_ros.world.layout import continue_planes
from mirage_ros.world.room import Room, room_of
from mirage_ros.world.spatial_memory import SourceFrames, SpatialMemory
from mirage_ros.world.unfolding import Unfolder

# Source frames that are unfolded for one chunk: those whose elements win most cells. What only others show is read as
# whole tokens.
MAX_SOURCES = 8
# A token magnified more than this is not sharp enough to be kept as it is, nor is a cell of which less is shown.
SHARP_SCALE, SHARP_SHARE = 1.5, 0.5


@dataclass(frozen=True, eq=False)
class Reading:
    """What the memory shows of T latent frames.

    Attributes:
        latents: (T, C, h, w), zero where not visible.
        visible: (T, 1, h, w) float32, one or zero.
        sharp: (T, 1, h, w) bool, visible for the greater part and not magnified much.
        depth: (T, h, w) metres of the cells, NaN where not visible.
        fine_depth: (T, 2h, 2w) metres, NaN where not visible.
        offset: (T, 2, h, w) cells from the cell's centre to the element.
        log_scale: (T, 1, h, w) logarithm of the element's size in target cells.
        camera: (T,) at latent resolution.
        observed: (T, 1, h, w) bool, cells whose nearest token a camera saw; None where nobody asked.
        room: that the memory tells of around these frames, beyond what they show; of a batch one for each. Only for
            branches that have walls and floors continued.
    """

    latents: Tensor
    visible: Tensor
    sharp: Tensor
    depth: Tensor
    fine_depth: Tensor
    offset: Tensor
    log_scale: Tensor
    camera: Camera
    observed: Tensor | None = None
    room: Room | tuple[Room, ...] | None = None

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int | slice) -> Reading:
        chosen = slice(index, index + 1) if isinstance(index, int) else index
        return replace(self, **{name: getattr(self, name)[chosen] for name in self._per_frame()})

    def of_batch(self, index: int) -> Reading:
        """One reading of a batch."""
        room = self.room[index] if isinstance(self.room, tuple) else self.room
        return replace(self, room=room, **{name: getattr(self, name)[index] for name in self._per_frame()})

    def _per_frame(self) -> list[str]:
        return [name for name, value in vars(self).items() if name != "room" and value is not None]

    def points(self, step: int = 2) -> Tensor:
        """(M, 3) places that the memory shows, every `step`-th row and column of cells; NaN where nothing."""
        return self.camera.lift(self.depth)[:, ::step, ::step].reshape(-1, 3)

    def coverage(self) -> Tensor:
        """(T,) share of cells that are visible."""
        return self.visible.mean(dim=(1, 2, 3))

    @classmethod
    def joined(cls, parts: Sequence[Reading]) -> Reading:
        """Frames of several readings in order; the room is that of the first."""
        camera = Camera.joined([part.camera for part in parts])
        names = set.intersection(*(set(part._per_frame()) for part in parts)) - {"camera"}
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return cls(**joined, camera=camera, room=parts[0].room)


def read_views(
    memory: SpatialMemory,
    camera: Camera,
    preset: Preset,
    unfolder: Unfolder | None,
    *,
    with_room: bool = False,
    with_observed: bool = False,
) -> Reading:
    """Read the memory by the preset's rule.

    With the rule 'unfold' the latents of the source frames are unfolded, splatted at twice the latent resolution and
    refolded; cells that only whole tokens reach are taken from them.

    Args:
        memory: to be read; one that keeps no frames is read whole.
        camera: (T,) at latent resolution, where the memory is.
        preset: gives the rule.
        unfolder: networks of the rule 'unfold'.
        with_room: fit a room to what was observed.
        with_observed: tell what a camera saw from what was imagined.
    """
    unfolding = preset.read_rule == "unfold"
    coarse = memory.read(camera, "nearest" if unfolding else preset.read_rule, observed_first=preset.observed_first)
    unfolded = others = None
    if unfolding and unfolder is not None and memory.sources is not None and (ids := _most_seen(coarse)):
        imagined = [frame for frame in ids if preset.observed_first and memory.sources.was_imagined(frame)]
        observed = [frame for frame in ids if frame not in imagined]
        unfolded = _unfold(memory.sources, observed, imagined, camera, coarse, unfolder)
        others = ~torch.isin(coarse.source, torch.tensor(ids, device=coarse.source.device))
    reading = as_reading(coarse, camera, unfolded, others)
    if with_observed and memory.sources is not None:
        reading = replace(reading, observed=was_observed(memory.sources, coarse))
    return replace(reading, room=room_of(memory, camera)) if with_room else reading


def was_observed(sources: SourceFrames, readout: Readout) -> Tensor:
    """(..., 1, h, w) bool, cells that show what a camera saw, of a readout (..., C, h, w)."""
    ids = torch.unique(readout.source).tolist()
    seen = [frame for frame in ids if frame >= 0 and not sources.was_imagined(frame)]
    return torch.isin(readout.source, torch.tensor(seen, dtype=readout.source.dtype, device=readout.source.device))


def as_reading(
    coarse: Readout,
    camera: Camera,
    unfolded: tuple[Tensor, Tensor, Readout] | None = None,
    others: Tensor | None = None,
) -> Reading:
    """A reading of what was unfolded, if anything was, and of whole tokens.

    Args:
        coarse: (..., T, C, h, w) whole tokens; where it has finer depth than that, it is taken.
        camera: (..., T) at latent resolution.
        unfolded: latents (..., T, C, h, w) and visibility after refolding, and the splat at `log_depth.FINE` times the
            resolution.
        others: (..., T, 1, h, w) bool, cells whose whole token is of a frame that was not unfolded, and which may show
            what those do not; of the others the whole token says less, as it fills its cell. None by default.
    """
    latents, visible, whole = coarse.latents.float(), coarse.visible, coarse.visible > 0
    enough = whole
    if unfolded is not None:
        refolded, shown, fine = unfolded
        whole = torch.zeros_like(whole) if others is None else whole & others & (shown == 0)
        latents, visible = torch.where(whole, latents, refolded), torch.where(whole, visible, shown)
        height, width = visible.shape[-2:]
        share = torch.nn.functional.adaptive_avg_pool2d(fine.visible.flatten(0, -4), (height, width))
        enough = whole | (share.reshape(visible.shape) >= SHARP_SHARE)
    depth = torch.where(coarse.visible > 0, coarse.depth, torch.nan)
    fine_depth = torch.where(whole, depth, torch.nan).squeeze(-3)
    fine_depth = fine_depth.repeat_interleave(log_depth.FINE, dim=-2).repeat_interleave(log_depth.FINE, dim=-1)
    if unfolded is not None and fine.depth.shape[-2:] == fine_depth.shape[-2:]:
        fine_depth = torch.where(fine.visible.squeeze(-3) > 0, fine.depth.squeeze(-3), fine_depth)
    if coarse.fine_depth is not None:
        drawn = coarse.fine_depth
        fine_depth = torch.where(fine_depth.isfinite() & valid_depth(drawn), drawn, fine_depth)
    return Reading(
        latents=latents,
        visible=visible,
        sharp=(visible > 0) & enough & (coarse.log_scale <= math.log(SHARP_SCALE)),
        depth=torch.where(visible > 0, depth, torch.nan).squeeze(-3),
        fine_depth=fine_depth,
        offset=coarse.offset,
        log_scale=coarse.log_scale,
        camera=camera,
    )


def known_latents(reading: Reading, preset: Preset) -> tuple[Tensor, Tensor]:
    """Latents (C, F, h, w) that the memory gives and where they are kept, depth channels included."""
    latents, kept = reading.latents, reading.sharp.expand_as(reading.latents)
    if not preset.keep_known:
        kept = torch.zeros_like(kept)
    if preset.depth_channels:
        depth = log_depth.pack(reading.fine_depth, preset.log_depth_mean, preset.log_depth_std)
        measured = pixel_unshuffle(valid_depth(reading.fine_depth)[:, None].float(), log_depth.FINE)
        kept = torch.cat([kept, (measured > 0) & kept[:, :1]], dim=1)
        latents = torch.cat([latents, depth], dim=1)
    return latents.transpose(0, 1).contiguous(), kept.transpose(0, 1).contiguous()


def branch_input(
    inputs: Sequence[str], reading: Reading, anchor: Tensor, preset: Preset, ones: Tensor | None = None
) -> Tensor:
    """The memory branch's input for the frames of a reading.

    Args:
        inputs: the branch's groups, see `memory_input.GROUPS`.
        reading: of target and preceding frames; its tensors may have a batch in front, and the result has it too. With
            a room for the groups of the layout.
        anchor: (..., 4, 4) cam2world that rays are relative to: the first target camera.
        preset: gives channels and the statistics of log depth.
        ones: (T, C, h, w) latents of an all-ones video, for the group of that name.

    Returns:
        (..., K, T, h, w).

    Raises:
        ValueError: the reading lacks a room.
    """
    values = {
        "latents": reading.latents,
        "visible": reading.visible,
        "offset": reading.offset,
        "log_scale": reading.log_scale,
    }
    if "depth" in inputs:
        values["depth"] = log_depth.pack(reading.fine_depth, preset.log_depth_mean, preset.log_depth_std)
    if "rays" in inputs:
        values["rays"] = pluecker_rays(reading.camera, anchor).to(reading.latents)
    if has_layout(inputs):
        values |= _layout(reading, preset)
    if ones is not None:
        values["ones"] = ones.to(reading.latents).expand(reading.latents.shape)
    return assemble(inputs, values, preset.latent_channels)


def has_layout(inputs: Sequence[str]) -> bool:
    """Whether the branch's groups need a reading with a room."""
    return bool({"layout", "layout_depth"} & set(inputs))


def _layout(reading: Reading, preset: Preset) -> dict[str, Tensor]:
    """The groups 'layout' and 'layout_depth' of a reading, with or without a batch."""
    if reading.latents.ndim == 5:
        each = [_layout(reading.of_batch(index), preset) for index in range(len(reading.latents))]
        return {name: torch.stack([groups[name] for groups in each]) for name in each[0]}
    if not isinstance(reading.room, Room):
        raise ValueError(f"room: expected one for the layout in the branch's input, got {reading.room!r}")
    layout = continue_planes(
        reading.latents, reading.visible, reading.depth, reading.camera, reading.room, log_depth.FINE
    )
    depth = torch.where(valid_depth(reading.fine_depth), reading.fine_depth, layout.depth)
    packed = pack_filled(depth, preset.log_depth_mean, preset.log_depth_std)
    return {"layout": layout.latents, "layout_depth": packed}


def _most_seen(coarse: Readout) -> list[int]:
    """Ids of the frames that win most cells, oldest first; one wait for the device."""
    ids, counts = torch.unique(coarse.source[coarse.visible > 0], return_counts=True)
    best = torch.argsort(counts, descending=True, stable=True)[:MAX_SOURCES]
    return sorted(int(frame) for frame in ids[best].tolist())


def _unfold(
    sources: SourceFrames,
    observed: list[int],
    imagined: list[int],
    camera: Camera,
    coarse: Readout,
    unfolder: Unfolder,
) -> tuple[Tensor, Tensor, Readout]:
    grids = sources.frame_grids([*observed, *imagined])
    reader, features = unfolder.reader, unfolder(grids.latents)
    depth = grids.fine_depth(reader.source_factor)
    target = camera.resized(camera.height * reader.factor, camera.width * reader.factor)
    fine = splat_in_order(features, depth, grids.camera.resized(*depth.shape[-2:]), target, len(observed))
    latents, visible = reader.refold(fine, coarse)
    return latents, visible, fine
