"""The world model: observe, imagine, preview."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import Depth, Image, fit_camera, fit_colour, fit_fine_depth
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.models.presets import Preset
from mirage_ros.perception.pipeline import JointDepth, NoFilter, Perception
from mirage_ros.world import checks, loading
from mirage_ros.world.chunk_loop import Engine, Settings
from mirage_ros.world.chunk_plan import Span
from mirage_ros.world.history import History
from mirage_ros.world.latent_colours import LatentColours
from mirage_ros.world.networks import MAX_BYTES, Parts, new_memory
from mirage_ros.world.observing import observe
from mirage_ros.world.preview import preview
from mirage_ros.world.reading import ReadableMemory
from mirage_ros.world.results import Cancel, ImaginedChunk, OnProgress, Preview
from mirage_ros.world.rollout import Rollout


class WorldModel:
    """Imagines what a camera would see along a trajectory, from a memory that it reads and writes.

    Source: Mirage (arXiv 2606.09828). One step of a rollout is a chunk: the memory is projected into the target
    cameras, the transformer denoises the chunk under that readout, it is decoded, its depth is estimated and moving
    things and sky are masked, and the frames are encoded again and written back.

    Not thread-safe: one rollout at a time, though forks of a memory may be used by another model elsewhere.

    Attributes:
        parts: networks, preset and device.
        perception: depth, cameras and keep masks of decoded frames, unless a call brings its own.
    """

    def __init__(self, parts: Parts, perception: Perception | None = None) -> None:
        """Put a world model together.

        Args:
            parts: networks, preset and device.
            perception: by default the model's own depth where the preset has depth channels, and no filter; a preset
                without needs one to imagine.
        """
        self.parts = parts
        if perception is None and parts.preset.depth_channels:
            perception = Perception(JointDepth(), NoFilter())
        self.perception = perception
        self._colours: LatentColours | None = None

    @classmethod
    def from_pretrained(cls, source: str | Path | None = None, **options: Any) -> WorldModel:
        """Load a world model; see `loading.load_parts` for the options and errors.

        Args:
            source: folder or hub repository; the preset's own weights by default, for `default` those in the package.
            options: `preset`, `device`, `dtype`, `conventions`, `random_weights`, `perception` and others.
        """
        perception = options.pop("perception", None)
        return cls(loading.load_parts(source, **options), perception)

    @property
    def preset(self) -> Preset:
        """The preset."""
        return self.parts.preset

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.parts.device

    @property
    def height(self) -> int:
        """Rows of an imagined frame."""
        return self.parts.size[0]

    @property
    def width(self) -> int:
        """Columns of an imagined frame."""
        return self.parts.size[1]

    @property
    def time_stride(self) -> int:
        """Frames for each latent frame but the first."""
        return self.parts.autoencoder.strides[0]

    def new_memory(self, max_bytes: int = MAX_BYTES, *, dtype: torch.dtype = torch.int8) -> LatentMemory:
        """An empty memory that suits this model.

        Args:
            max_bytes: hard cap on its buffers.
            dtype: of its features.
        """
        return new_memory(self.preset, self.parts.autoencoder.channels, self.device, dtype, max_bytes, colour=True)

    def new_history(self, limit: int = 64) -> History:
        """An empty store of past frames that may serve as references; one belongs to one memory."""
        return History(limit)

    def frames_for(self, count: int) -> int:
        """The greatest length of a trajectory that is allowed and at most `count`; at least 1."""
        return max(0, count - 1) // self.time_stride * self.time_stride + 1

    def check_trajectory(self, trajectory: Camera) -> list[Span]:
        """The chunks of a trajectory.

        Raises:
            ValueError: it is not one batch of cameras, or no rollout has its length.
        """
        return checks.check_trajectory(self.parts, trajectory)

    def observe(
        self,
        memory: LatentMemory,
        rgb: Image,
        depth: Depth | None,
        camera: Camera,
        *,
        keep: NDArray[np.bool_] | Tensor | None = None,
        stamp: int = 0,
        history: History | None = None,
        perception: Perception | None = None,
    ) -> WriteReport:
        """Write a real camera frame.

        Args:
            memory: to write to.
            rgb: (H, W, 3) uint8 of any size; its middle is cut to the model's shape.
            depth: (H', W') metres of the same view, +inf where it is too far to measure (REP-118), 0 or NaN where it is
                unknown; estimated if None.
            camera: of the image, single.
            keep: (H', W') bool, false on what must not be remembered; nor is a cell of which that is the greater part,
                its token would look like it.
            stamp: nanoseconds.
            history: the frame is added to it.
            perception: for this call.

        Raises:
            ValueError: an argument does not fit; the memory is unchanged.
        """
        return observe(self.parts, memory, rgb, depth, camera, keep, stamp, history, perception or self.perception)

    def imagine(
        self,
        memory: ReadableMemory,
        trajectory: Camera,
        *,
        prompt: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        remember: bool = True,
        first: Image | None = None,
        first_depth: Depth | None = None,
        perception: Perception | None = None,
        on_progress: OnProgress | None = None,
        cancel: Cancel | None = None,
        stamps: Sequence[int] | None = None,
        history: History | None = None,
        guidance: float = 1.0,
    ) -> Iterator[ImaginedChunk]:
        """Imagine the views of a trajectory, chunk by chunk.

        Args:
            memory: what is known; grows with every chunk.
            trajectory: (T,) cameras of any size and optics, T = time stride x N + 1.
            prompt: text, for presets that take it.
            seed: of the noise; the same seed gives the same frames.
            steps: denoising steps; the preset's by default.
            remember: false leaves memory and history as they are; within the rollout chunks build on each other still.
            first: (H, W, 3) uint8 the view of the first camera, if it is known. What the memory shows of it is not
                written again, nor anything of it if the memory holds a frame of this very view.
            first_depth: (H', W') metres of it, +inf where it is too far to measure; for models with depth of their own.
                What nobody gives is taken from the memory; what that does not show is unknown, and guessed for the
                network alone. More than 25 m counts as too far (`perception.given.FAR`). To have the frame remembered
                as it was seen, `observe` it first.
            perception: for this call.
            on_progress: called after each denoising step and each stage.
            cancel: asked as often; true raises `Cancelled`.
            stamps: nanoseconds of the frames.
            history: past frames that may serve as references; it grows too.
            guidance: classifier-free guidance on the text.

        Yields:
            chunks as they get ready.

        Raises:
            ValueError: an argument does not fit; raised by this call, before any work.
            Cancelled: while iterating; the memory is as it was after the last finished chunk.
        """
        spans = self.check_trajectory(trajectory)
        settings = Settings(prompt or "", seed, steps, guidance)
        self.parts.check_prompt(settings.prompt)
        checks.check_memory(self.parts, memory)
        checks.check_not_empty(memory, first)
        perception = self._perception(perception)
        nanoseconds = checks.check_stamps(stamps, trajectory)
        view, metres = checks.check_first(self.parts, first, first_depth, trajectory)
        if view is not None:
            view = fit_colour(view.to(self.device), self.height, self.width)
        if metres is not None:
            metres = fit_fine_depth(metres.to(self.device), self.height, self.width, self.parts.latent_size)
        whose = memory if remember else memory.fork()
        past = self.new_history() if history is None else history if remember else history.fork()
        rollout = Rollout(
            self.parts,
            perception,
            whose,
            past,
            self._camera(trajectory),
            spans,
            nanoseconds,
            first=view,
            first_depth=metres,
        )
        return Engine(self.parts, [rollout], settings, on_progress, cancel).run()

    def imagine_candidates(
        self,
        memory: ReadableMemory,
        trajectories: Sequence[Camera],
        *,
        prompt: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        batch: int | None = None,
        perception: Perception | None = None,
        on_progress: OnProgress | None = None,
        cancel: Cancel | None = None,
        history: History | None = None,
        guidance: float = 1.0,
    ) -> Iterator[ImaginedChunk]:
        """Imagine several trajectories, each on its own fork of the memory, which is not changed.

        Args:
            memory, prompt, seed, steps, perception, on_progress, cancel, history, guidance: see `imagine`. All
                candidates share the noise, so that they differ by their cameras alone.
            trajectories: of any lengths that are allowed.
            batch: how many chunks are denoised together at most; all by default.

        Yields:
            chunks of the candidates, all first ones before the second ones.

        Raises:
            ValueError, Cancelled: see `imagine`.
        """
        if not trajectories:
            raise ValueError("trajectories: expected at least one, got none")
        settings = Settings(prompt or "", seed, steps, guidance, batch)
        plans = [self.check_trajectory(trajectory) for trajectory in trajectories]
        self.parts.check_prompt(settings.prompt)
        checks.check_memory(self.parts, memory)
        checks.check_not_empty(memory, None)
        perception = self._perception(perception)
        rollouts = [
            Rollout(
                self.parts,
                perception,
                memory.fork(),
                self.new_history() if history is None else history.fork(),
                self._camera(trajectory),
                spans,
                checks.check_stamps(None, trajectory),
                candidate=index,
            )
            for index, (trajectory, spans) in enumerate(zip(trajectories, plans, strict=True))
        ]
        return Engine(self.parts, rollouts, settings, on_progress, cancel).run()

    def preview(self, memory: ReadableMemory, trajectory: Camera) -> Preview:
        """Decode what the memory shows of the views, without imagining anything.

        Args:
            memory: what is known.
            trajectory: (T,) cameras; any number.

        Raises:
            ValueError: the trajectory is not one batch of cameras, or the memory is not one of this model's.
        """
        return preview(self.parts, memory, trajectory)

    def colours(self, features: Tensor) -> Tensor:
        """Colours (N, 3) 0..1 of latent tokens (N, C), for `LatentMemory.cloud`; see `LatentColours`."""
        if self._colours is None:
            self._colours = LatentColours.of(self.parts)
        return self._colours(features)

    def _perception(self, perception: Perception | None) -> Perception:
        chosen = perception or self.perception
        if chosen is None:
            raise ValueError(
                f"perception: expected a depth estimator, preset {self.preset.name!r} has no depth of its own"
            )
        return chosen

    def _camera(self, trajectory: Camera) -> Camera:
        return fit_camera(trajectory, self.height, self.width).to(self.device, torch.float64)
