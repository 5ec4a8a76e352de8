"""One trajectory on its way: what is known at each chunk, and what becomes of its latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import enlarge
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.models import log_depth
from mirage_ros.perception.pipeline import DecodedFrames, Perceived, Perception
from mirage_ros.world.between import LEAST_SHOWN, Between, Inventions, Keyframe, read_between
from mirage_ros.world.denoise import Conditions
from mirage_ros.world.doubt import DepthDoubt
from mirage_ros.world.history import History, PastFrame, Tail
from mirage_ros.world.look_ahead import look_ahead
from mirage_ros.world.networks import Networks
from mirage_ros.world.pieces import Piece, joined, piece_between, pixels_of_video
from mirage_ros.world.reading import Reading, branch_input, has_layout, known_latents, read_views
from mirage_ros.world.results import STAGES, ImaginedChunk, Span
from mirage_ros.world.spatial_memory import SpatialMemory


@dataclass(eq=False)
class Rollout:
    """The state of one trajectory.

    Attributes:
        networks: and their preset.
        perception: depth, cameras and keep masks of decoded frames.
        memory: what is read and written; the caller's, or a fork.
        history: frames that may serve as references.
        trajectory: (T,) cameras at the model's size, on its device.
        spans: the chunks.
        frames: what the memory is told of each frame.
        candidate: index among the trajectories of one goal.
        sample: which draw of it.
        first: (3, H, W) image of the first frame, if it is known.
        first_depth: (2h, 2w) metres of it, NaN where nobody gave them.
        doubt: of the depth of its frames.
        drawn: exemplars that this chunk took.
    """

    networks: Networks
    perception: Perception
    memory: SpatialMemory
    history: History
    trajectory: Camera
    spans: list[Span]
    frames: Sequence[SourceFrame]
    candidate: int = 0
    sample: int = 0
    first: Tensor | None = None
    first_depth: Tensor | None = None
    doubt: DepthDoubt = field(default_factory=DepthDoubt)
    drawn: set[int] = field(default_factory=set)
    tail: Tail | None = None
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    # Of this chunk, and the last one of the chunk before, by their places in the trajectory; and those before.
    _keyframes: dict[int, Keyframe] = field(default_factory=dict, init=False)
    _earlier: Inventions = field(default_factory=Inventions, init=False)
    _between: tuple[tuple[int, ...], Between] | None = field(default=None, init=False)
    _pieces: list[Piece] = field(default_factory=list, init=False)
    # (1, 2h, 2w) bool, where nobody knows the depth of the known first frame.
    _unknown: Tensor | None = field(default=None, init=False)

    def look_ahead(self, span: Span) -> Span:
        """The same chunk, if it is the last, its keyframe beyond its end where `world.look_ahead` says so.

        In the middle of a walk the next chunk goes on from a chunk's end, and its strips are wide.
        """
        if span.stop < self.spans[-1].stop:
            return span
        with self.networks.timed(self.seconds, "read"):
            cameras = self.trajectory[[span.start, span.stop - 1]]
            beyond = look_ahead(self.networks, self.memory, cameras)
        if beyond is None:
            return span
        self.trajectory = Camera.joined([self.trajectory, beyond])
        self.frames = [*self.frames, self.frames[span.stop - 1]]
        return replace(span, places=(span.start, len(self.trajectory) - 1))

    def prepare(self, span: Span, context: Tensor) -> tuple[Conditions, Reading]:
        """Read the memory and gather what the chunk is conditioned on."""
        with self.networks.timed(self.seconds, "read"):
            networks, preset, tail = self.networks, self.networks.preset, self.tail
            cameras = self.trajectory[list(span.places)].resized(*networks.latent_size)
            branch = networks.transformer.branch
            inputs = () if branch is None else tuple(branch.config["inputs"])
            wanted = {"with_room": has_layout(inputs), "with_observed": True}
            reading = read_views(self.memory, cameras, preset, networks.unfolder, **wanted)
            known, fixed = known_latents(reading, self.networks.preset)
            clean_frames = 0
            if span.overlap or self.first is not None:
                known[:, :1] = self._first_latent(span, reading)
                fixed[:, 0] = True
                clean_frames = 1
            nothing = known[:, :0]
            past = () if tail is None else tail.past
            references = self.history.references(reading.points(), preset.context_references, past)
            memory = None
            if branch is not None:
                shown = reading if tail is None or tail.reading is None else Reading.joined([reading, tail.reading])
                ones = networks.ones(inputs, len(shown))
                memory = branch_input(inputs, shown, reading.camera.cam2world[0], preset, ones)[None]
        past_latents = torch.stack([frame.latents for frame in references], dim=1) if references else nothing
        conditions = Conditions(
            references=past_latents[None],
            preceding=(nothing if tail is None else tail.preceding)[None],
            memory=memory,
            known=known[None],
            fixed=fixed[None],
            hidden=reading.visible.transpose(0, 1)[None] <= 0,
            context=context,
            clean_frames=clean_frames,
        )
        return conditions, reading

    def finish(self, span: Span, latents: Tensor, reading: Reading, after_stage: Callable[[str], None]) -> None:
        """Decode, perceive, encode and write what was denoised of a chunk.

        Args:
            span: the chunk.
            latents: (C, F, h, w) clean.
            reading: what the memory showed.
            after_stage: called after 'decode' and 'perceive'; may raise to stop, nothing is written then.
        """
        timed = self.networks.timed
        with timed(self.seconds, "decode"):
            video = self.networks.decode(latents[None, : self.networks.autoencoder.channels])[0]
            joint = self._joint_depth(latents, span)
        after_stage("decode")
        with timed(self.seconds, "perceive"):
            perceived = self._perceive(span, video, joint)
        after_stage("perceive")
        # Of a further keyframe: what the others of this chunk invented is in the memory by now.
        known = self._earlier.known(reading, self._keyframes.values())
        with timed(self.seconds, "write"):
            report = self._remember(span, latents, video, perceived, reading, known)
        visible = self._per_frame(known.float(), span)
        coverage = self._per_frame(known.float().mean(dim=(1, 2)), span)
        # A keyframe beyond the end is no frame of the chunk.
        count = len(places := tuple(place for place in span.imagined if place < span.stop))
        new = video[span.overlap :][:count]
        views = visible[:count], coverage[:count], perceived.camera[:count], report, perceived.notes
        self._pieces.append(Piece(places, new, perceived.depth[:count], *views))

    def next_keyframe(self, span: Span) -> Span | None:
        """Read the frames between the keyframes; the chunk with one more where they leave too much open."""
        done = {place for piece in self._pieces for place in piece.places}
        left = tuple(place for place in span.between if place not in done)
        if not left:
            self._between = None
            return None
        networks = self.networks
        with networks.timed(self.seconds, "read"):
            cameras = self.trajectory[list(left)].resized(*networks.latent_size)
            between = read_between(networks, self.memory, cameras, list(self._keyframes.values()), self._earlier)
        self._between = left, between
        worst = int(between.shown.argmin())
        return span.with_keyframe(left[worst]) if between.shown[worst] < LEAST_SHOWN else None

    def chunk(self, span: Span) -> ImaginedChunk:
        """The chunk whose keyframes are finished, its frames in order."""
        if self._between is not None:
            places, between = self._between
            with self.networks.timed(self.seconds, "decode"):
                self._pieces.append(piece_between(self.networks, places, between, self.trajectory[list(places)]))
        pieces, self._pieces, self._between = self._pieces, [], None
        self.history.note_drawn(self.drawn, len(self.networks.exemplars or ()))
        self.drawn = set()
        last = self._keyframes.pop(span.stop - 1, None)
        self._earlier.add(self._keyframes.values())
        self._keyframes = {} if last is None else {span.stop - 1: last}
        seconds, self.seconds = self.seconds, dict.fromkeys(STAGES, 0.0)
        return joined(pieces, self.candidate, self.sample, span.index, self.frames, seconds, self.doubt)

    def _first_latent(self, span: Span, reading: Reading) -> Tensor:
        """(C, 1, h, w) of the known first frame; depth that nobody gave is what the memory shows."""
        if span.overlap:
            return self._keyframes[span.start].latents[:, None]
        assert self.first is not None
        latent, read = self.networks.encode(self.first[None, None])[0], reading.fine_depth[:1]
        depth = read if self.first_depth is None else torch.where(self.first_depth > 0, self.first_depth, read)
        if self.networks.preset.depth_channels:
            self._unknown = ~(depth > 0)
            latent = self.networks.with_depth(latent, depth)
        return latent

    def _joint_depth(self, latents: Tensor, span: Span) -> Tensor | None:
        """(T, H, W) metres from the depth channels of latents (C, F, h, w); NaN in frames between latent frames."""
        preset, channels = self.networks.preset, latents[self.networks.autoencoder.channels :]
        if not preset.depth_channels:
            return None
        fine = log_depth.unpack(channels.transpose(0, 1), preset.log_depth_mean, preset.log_depth_std)
        if self._unknown is not None and not span.overlap:
            # The network was given something there, which is no measurement.
            fine[:1] = torch.where(self._unknown, torch.nan, fine[:1])
        depth = torch.full((len(span.decoded), *self.networks.size), torch.nan, device=fine.device)
        depth[:: self.networks.autoencoder.strides[0]] = enlarge(fine, *self.networks.size)
        return depth

    def _perceive(self, span: Span, video: Tensor, joint: Tensor | None) -> Perceived:
        """Depth, cameras and keep masks of the new frames of a video (T, 3, H, W)."""
        new, places = slice(span.overlap, None), span.imagined
        camera, step = self.trajectory[list(places)], places[1] - places[0] if len(places) > 1 else 1
        frames = DecodedFrames(video[new], camera, min(places, default=0), None if joint is None else joint[new], step)
        # Estimators and filters only read it.
        memory: Any = self.memory
        perceived = self.perception.perceive(frames, memory)
        given = self.networks.preset.conventions.cameras == "given"
        return replace(perceived, camera=camera) if given else perceived

    def _per_frame(self, values: Tensor, span: Span) -> Tensor:
        """Values of latent frames, (F,) or cells (F, h, w), for each new frame."""
        stride = self.networks.autoencoder.strides[0]
        place = (torch.arange(len(span.decoded), device=values.device) + stride - 1) // stride
        values = values[place][span.overlap :].float()
        return values if values.ndim == 1 else enlarge(values, *self.networks.size)

    def _remember(
        self, span: Span, latents: Tensor, video: Tensor, perceived: Perceived, reading: Reading, known: Tensor
    ) -> WriteReport:
        """Write the new latent frames to memory and history, and keep the chunk's end; all or nothing."""
        networks, overlap = self.networks, span.overlap
        stride, channels = networks.autoencoder.strides[0], networks.autoencoder.channels
        if networks.preset.conventions.written_latents == "encoded":
            latents = torch.cat([networks.encode(video[None])[0], latents[channels:]])
        # Latent frame k stands for frame k x stride of the span; `perceived` begins after the overlap.
        new = slice(overlap * (stride - 1), None, stride)
        depth, camera = perceived.depth[new], perceived.camera[new]
        past = [PastFrame.of(latents[:, overlap + index], depth[index], camera[index]) for index in range(len(depth))]
        last = latents[:, -1]
        if stride > 1:
            # The last latent frame stands for several frames; a clip's first stands for one.
            last = torch.cat([networks.encode(video[None, -1:])[0], latents[channels:, -1:]])[:, 0]
        report = WriteReport()
        if past:
            # The last step that may fail.
            report = self.memory.write(
                latents[:channels, overlap:].transpose(0, 1),
                depth,
                camera,
                perceived.keep[new] if networks.preset.conventions.filter_dynamic else None,
                [self.frames[place] for place in span.places[overlap:]],
                copied=self._copied(span, reading)[overlap:],
                colour=pixels_of_video(video[overlap * stride :: stride]) if self.memory.colour else None,
            )
        for frame in past:
            self.history.add(frame)
        if span.places[-1] == span.stop - 1:
            self.tail = self._end(latents, past, reading)
        self._keep_keyframes(span, torch.cat([latents[:, :-1], last[:, None]], dim=1), perceived, known)
        return report

    def _keep_keyframes(self, span: Span, latents: Tensor, perceived: Perceived, known: Tensor) -> None:
        """Keep what later frames are imagined after and read between: keyframes, or the last frame alone."""
        kept = [(place, index) for index, place in enumerate(span.places) if index >= span.overlap]
        if self.networks.preset.keyframe_stride == 1:
            kept = [(span.stop - 1, latents.shape[1] - 1)]
        for place, index in kept:
            at = span.imagined.index(place)
            seen = known[index] | (self.first is not None and place == 0)
            self._keyframes[place] = Keyframe.of(latents[:, index], perceived.depth[at], seen, perceived.camera[at])

    def _copied(self, span: Span, reading: Reading) -> Tensor:
        """(F, h, w) bool, cells whose content is in the memory already.

        Those that were kept as they were read, and of a known first frame what the memory shows; all of it if the
        memory holds a frame of this very view: what that one left out was meant to be left out. A memory that keeps no
        frames judges by itself what it holds, but for that.
        """
        named = self.memory.sources is not None
        copied = torch.zeros_like(reading.sharp[:, 0])
        if named and self.networks.preset.keep_known:
            copied |= known_latents(reading, self.networks.preset)[1][0]
        if not span.overlap and self.first is not None:
            if self.memory.holds_view(reading.camera[0]):
                copied[0] = True
            elif named:
                copied[0] |= reading.visible[0, 0] > 0
        return copied

    def _end(self, latents: Tensor, past: list[PastFrame], reading: Reading) -> Tail:
        """The end of a chunk as context of the next."""
        preceding = self.networks.preset.context_preceding
        before = slice(max(0, latents.shape[1] - 1 - preceding), latents.shape[1] - 1)
        return Tail(
            preceding=latents[:, before],
            reading=reading[before] if before.stop > before.start else None,
            past=tuple(past[-(preceding + 1) :]),
        )
