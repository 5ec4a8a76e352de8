"""One trajectory on its way: what is known at each chunk, and what becomes of its latents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.images import enlarge
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.memory.provenance import IMAGINATION, SourceFrame
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.models import log_depth
from mirage_ros.models.branch_input import pack_frames
from mirage_ros.perception.pipeline import DecodedFrames, Perceived, Perception
from mirage_ros.world.chunk_plan import Span
from mirage_ros.world.denoise import Conditions
from mirage_ros.world.history import History, PastFrame
from mirage_ros.world.reading import Reading, branch_input, has_layout, read_views
from mirage_ros.world.results import STAGES, ImaginedChunk

if TYPE_CHECKING:
    from mirage_ros.world.networks import Parts

# Two cameras are the same within a millimetre and a milliradian, and a hundredth of a cell.
SAME_POSE, SAME_CELL = 1e-3, 1e-2


@dataclass(frozen=True, eq=False)
class Tail:
    """The end of the last chunk, context of the next.

    Attributes:
        last: (C, 1, h, w) the last frame, as first latent frame of a clip.
        preceding: (C, P, h, w) latent frames before it, oldest first.
        reading: of those, as it was when they were imagined.
        past: the same frames and the last one in the history, which are not to be references as well.
    """

    last: Tensor
    preceding: Tensor
    reading: Reading | None
    past: tuple[PastFrame, ...]


@dataclass(eq=False)
class Rollout:
    """The state of one trajectory.

    Attributes:
        parts: networks and preset.
        perception: depth, cameras and keep masks of decoded frames.
        memory: what is read and written; the caller's, or a fork.
        history: frames that may serve as references.
        trajectory: (T,) cameras at the model's size, on its device.
        spans: the chunks.
        stamps: nanoseconds of each frame.
        candidate: index among the trajectories of one goal.
        first: (3, H, W) image of the first frame, if it is known.
        first_depth: (2h, 2w) metres of it, NaN where nobody gave them.
    """

    parts: Parts
    perception: Perception
    memory: Any
    history: History
    trajectory: Camera
    spans: list[Span]
    stamps: Sequence[int]
    candidate: int = 0
    first: Tensor | None = None
    first_depth: Tensor | None = None
    tail: Tail | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    # (1, 2h, 2w) bool, where nobody knows the depth of the known first frame.
    _unknown: Tensor | None = field(default=None, init=False)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall time of a stage; waits for the device, once a stage."""
        start = time.perf_counter()
        yield
        self.parts.wait()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def prepare(self, span: Span, context: Tensor) -> tuple[Conditions, Reading]:
        """Read the memory and gather what the chunk is conditioned on."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        with self.timed("read"):
            parts, preset = self.parts, self.parts.preset
            stride = parts.autoencoder.strides[0]
            cameras = self.trajectory[span.start : span.stop : stride]
            rows, columns = parts.latent_size
            branch = parts.transformer.branch
            inputs = () if branch is None else tuple(branch.config["inputs"])
            reading = read_views(
                self.memory, cameras.resized(rows, columns), preset, parts.unfolder, with_room=has_layout(inputs)
            )
            known, fixed = self._known(reading)
            clean_frames = 0
            if self.tail is not None or self.first is not None:
                known[:, :1] = self._first_latent(reading.fine_depth[:1])
                fixed[:, 0] = True
                clean_frames = 1
            tail = self.tail
            empty = known[:, :0]
            preceding = tail.preceding if tail is not None else empty
            past = tail.past if tail is not None else ()
            references = self.history.references(reading.points(), preset.references, past)
            memory = None
            if branch is not None:
                anchor = reading.camera.cam2world[0]
                shown = reading if tail is None or tail.reading is None else Reading.joined([reading, tail.reading])
                memory = branch_input(inputs, shown, anchor, preset, parts.ones(inputs, len(shown)))[None]
        conditions = Conditions(
            references=torch.stack([frame.latents for frame in references], dim=1)[None] if references else empty[None],
            preceding=preceding[None],
            memory=memory,
            known=known[None],
            fixed=fixed[None],
            context=context,
            clean_frames=clean_frames,
        )
        return conditions, reading

    def _known(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """Latents (C, F, h, w) that the memory gives and where they are kept, depth channels included."""
        preset = self.parts.preset
        latents, kept = reading.latents, reading.sharp.expand_as(reading.latents)
        if not preset.keep_known:
            kept = torch.zeros_like(kept)
        if preset.depth_channels:
            depth = log_depth.pack(reading.fine_depth, preset.log_depth_mean, preset.log_depth_std)
            measured = torch.nn.functional.pixel_unshuffle(
                valid_depth(reading.fine_depth)[:, None].float(), log_depth.FINE
            )
            kept = torch.cat([kept, (measured > 0) & kept[:, :1]], dim=1)
            latents = torch.cat([latents, depth], dim=1)
        return latents.transpose(0, 1).contiguous(), kept.transpose(0, 1).contiguous()

    def _copied(self, span: Span, reading: Reading) -> Tensor | None:
        """(F, h, w) bool, cells whose content is in the memory already; None where all may be written.

        Those that were kept as they were read, and of a known first frame what the memory shows; all of it if the
        memory holds a frame of this very view: what that one left out was meant to be left out. Other caches judge by
        themselves what they hold, but for that.
        """
        if not isinstance(self.memory, LatentMemory):
            if span.overlap or self.first is None or not _holds_view(self.memory, reading.camera[0]):
                return None
            first = torch.zeros_like(reading.sharp[:, 0])
            first[0] = True
            return first
        copied = self._known(reading)[1][0].clone() if self.parts.preset.keep_known else None
        if span.overlap or self.first is None or not len(self.memory):
            return copied
        if copied is None:
            copied = torch.zeros_like(reading.sharp[:, 0])
        copied[0] |= True if _holds_view(self.memory, reading.camera[0]) else reading.visible[0, 0] > 0
        return copied

    def _first_latent(self, read: Tensor) -> Tensor:
        """(C, 1, h, w) of the known first frame; depth that nobody gave is what the memory shows, (1, 2h, 2w)."""
        if self.tail is not None:
            return self.tail.last
        assert self.first is not None
        latent, preset = self.parts.encode(self.first[None, None])[0], self.parts.preset
        if not preset.depth_channels:
            return latent
        depth = read if self.first_depth is None else torch.where(self.first_depth > 0, self.first_depth, read)
        self._unknown = ~(depth > 0)
        packed = pack_frames(depth, preset.log_depth_mean, preset.log_depth_std)
        return torch.cat([latent, packed.transpose(0, 1).to(latent)])

    def finish(
        self, span: Span, latents: Tensor, reading: Reading, after_stage: Callable[[str], None]
    ) -> ImaginedChunk:
        """Decode, perceive, encode and write a chunk.

        Args:
            span: the chunk.
            latents: (C, F, h, w) clean.
            reading: what the memory showed.
            after_stage: called after 'decode' and 'perceive'; may raise to stop, nothing is written then.
        """
        parts, preset = self.parts, self.parts.preset
        overlap, channels = span.overlap, parts.autoencoder.channels
        with self.timed("decode"):
            video = parts.decode(latents[None, :channels])[0]
            joint = self._joint_depth(latents[channels:], span)
        after_stage("decode")
        with self.timed("perceive"):
            camera = self.trajectory[span.start : span.stop][overlap:]
            frames = DecodedFrames(
                video[overlap:], camera, span.start + overlap, None if joint is None else joint[overlap:]
            )
            perceived = self.perception.perceive(frames, self.memory)
            if preset.conventions.cameras == "given":
                perceived = replace(perceived, camera=camera)
        after_stage("perceive")
        with self.timed("write"):
            written = latents
            if preset.conventions.written_latents == "encoded":
                encoded = parts.encode(video[None])[0]
                written = torch.cat([encoded, latents[channels:]])
            past, tail = self._end(span, written, video, perceived, reading)
            # The last step that may fail.
            report = self._write(span, written, video, perceived, self._copied(span, reading))
            self.tail = tail
            for frame in past:
                self.history.add(frame)
        return ImaginedChunk(
            candidate=self.candidate,
            chunk=span.index,
            first=span.start + overlap,
            rgb=(video[overlap:] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy(),
            depth=torch.where(perceived.depth > 0, perceived.depth, 0.0).float().cpu().numpy(),
            visible=self._per_frame(reading.visible[:, 0], span).cpu().numpy(),
            coverage=self._per_frame(reading.coverage(), span).cpu().numpy(),
            camera=perceived.camera.to("cpu"),
            report=report,
            seconds=dict(self.seconds),
            notes=perceived.notes,
        )

    def _joint_depth(self, channels: Tensor, span: Span) -> Tensor | None:
        """(T, H, W) metres from depth channels (4, F, h, w); NaN in frames between latent frames."""
        preset, (height, width) = self.parts.preset, self.parts.size
        if not preset.depth_channels:
            return None
        fine = log_depth.unpack(channels.transpose(0, 1), preset.log_depth_mean, preset.log_depth_std)
        if self._unknown is not None and not span.overlap:
            # The network was given something there, which is no measurement.
            fine[:1] = torch.where(self._unknown, torch.nan, fine[:1])
        depth = torch.full((len(span), height, width), torch.nan, device=fine.device)
        depth[:: self.parts.autoencoder.strides[0]] = enlarge(fine, height, width)
        return depth

    def _per_frame(self, values: Tensor, span: Span) -> Tensor:
        """Values of latent frames, (F,) or cells (F, h, w), for each new frame."""
        stride = self.parts.autoencoder.strides[0]
        place = (torch.arange(len(span), device=values.device) + stride - 1) // stride
        values = values[place][span.overlap :].float()
        return values if values.ndim == 1 else enlarge(values, *self.parts.size)

    def _write(
        self, span: Span, latents: Tensor, video: Tensor, perceived: Perceived, copied: Tensor | None
    ) -> WriteReport:
        """Write the new latent frames; all or nothing."""
        parts, preset = self.parts, self.parts.preset
        stride, channels, overlap = parts.autoencoder.strides[0], parts.autoencoder.channels, span.overlap
        # Latent frame k stands for frame k x stride; `perceived` begins after the overlap.
        places = list(range(overlap * stride, len(span), stride))
        if not places:
            return WriteReport()
        # Of those after the overlap.
        new = slice(places[0] - overlap, None, stride)
        depth = perceived.depth[new]
        frames = [SourceFrame(stamp=self.stamps[span.start + place], kind=IMAGINATION) for place in places]
        colour = (video[places[0] :: stride] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        keep = perceived.keep[new] if preset.conventions.filter_dynamic else None
        return parts.write(
            self.memory,
            latents[:channels, overlap:].transpose(0, 1),
            depth,
            perceived.camera[new],
            keep,
            frames,
            None if copied is None else copied[overlap:],
            colour,
        )

    def _end(
        self, span: Span, latents: Tensor, video: Tensor, perceived: Perceived, reading: Reading
    ) -> tuple[list[PastFrame], Tail]:
        """The chunk's frames as possible references, and its end as context of the next."""
        parts, preset = self.parts, self.parts.preset
        stride, overlap = parts.autoencoder.strides[0], span.overlap
        rows, columns = parts.latent_size
        cells = perceived.depth.shape[-2] // rows, perceived.depth.shape[-1] // columns
        past: list[PastFrame] = []
        for index in range(overlap, latents.shape[1]):
            place = index * stride - overlap
            # The sample at the cell's centre: a mean across an edge would stand in the air.
            depth = perceived.depth[place, cells[0] // 2 :: cells[0], cells[1] // 2 :: cells[1]]
            past.append(
                PastFrame(
                    latents[:, index],
                    torch.where(valid_depth(depth), depth, torch.nan),
                    perceived.camera[place].resized(rows, columns),
                )
            )
        last = latents[:, -1:]
        if stride > 1:
            # The last latent frame stands for several frames; a clip's first stands for one.
            last = torch.cat([parts.encode(video[None, -1:])[0], last[parts.autoencoder.channels :]])
        before = slice(max(0, latents.shape[1] - 1 - preset.preceding), latents.shape[1] - 1)
        tail = Tail(
            last=last,
            preceding=latents[:, before],
            reading=reading[before] if before.stop > before.start else None,
            past=tuple(past[-(preset.preceding + 1) :]),
        )
        return past, tail


def _holds_view(memory: Any, camera: Camera) -> bool:
    """Whether elements of the memory come from a frame with this camera, single, at latent resolution.

    Of a cache that is compared with it only the first frame is known.
    """
    if isinstance(memory, LatentMemory):
        held = [frame.camera for frame in memory.frames()]
    else:
        first: Camera | None = getattr(memory, "first_camera", None)
        held = [] if first is None else [first.resized(camera.height, camera.width)]
    pose, intrinsics = camera.cam2world.cpu().double(), camera.intrinsics.cpu().double()
    return any(
        (one.height, one.width) == (camera.height, camera.width)
        and torch.allclose(one.cam2world.cpu().double(), pose, rtol=0, atol=SAME_POSE)
        and torch.allclose(one.intrinsics.cpu().double(), intrinsics, rtol=0, atol=SAME_CELL)
        for one in held
    )
