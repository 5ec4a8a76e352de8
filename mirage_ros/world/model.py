"""The world model: observe, imagine, preview."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Unpack

from mirage_ros.geometry import Camera
from mirage_ros.images import fit_camera, fit_colour
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.models.presets import Preset
from mirage_ros.perception.pipeline import JointDepth, NoFilter, Perception
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame
from mirage_ros.world import checks, loading
from mirage_ros.world.chunk_loop import ChunkLoop
from mirage_ros.world.doubt import with_spread
from mirage_ros.world.history import History
from mirage_ros.world.networks import MAX_BYTES, Networks, new_memory
from mirage_ros.world.observing import observe
from mirage_ros.world.options import DenoiseSettings, ImagineKeywords, settings_of
from mirage_ros.world.preview import preview
from mirage_ros.world.results import ImaginedChunk, Span, plan_chunks
from mirage_ros.world.rollout import Rollout
from mirage_ros.world.spatial_memory import SpatialMemory


class WorldModel:
    """Imagines what a camera would see along a trajectory, from a memory that it reads and writes.

    Source: Mirage (arXiv 2606.09828). One step of a rollout is a chunk: the memory is projected into the target
    cameras, the transformer denoises the chunk under that readout, it is decoded, its depth is estimated and moving
    things and sky are masked, and the frames are encoded again and written back.

    Not thread-safe: one rollout at a time, though forks of a memory may be used by another model elsewhere.

    Args:
        networks: with preset and device.
        perception: depth, cameras and keep masks of decoded frames, unless a call brings its own; by default the
            model's own depth where the preset has depth channels, and no filter. A preset without needs one to imagine.

    Attributes:
        networks, perception: see above.
    """

    def __init__(self, networks: Networks, perception: Perception | None = None) -> None:
        self.networks = networks
        if perception is None and networks.preset.depth_channels:
            perception = Perception(JointDepth(), NoFilter())
        self.perception = perception

    @classmethod
    def from_pretrained(cls, source: str | Path | None = None, **options: Any) -> WorldModel:
        """Load a world model; see `loading.load_networks` for the options and errors.

        Args:
            source: folder or hub repository; the preset's own weights by default, for `default` those in the package.
            options: `preset`, `device`, `dtype`, `conventions`, `random_weights`, `perception` and others.
        """
        perception = options.pop("perception", None)
        return cls(loading.load_networks(source, **options), perception)

    @property
    def preset(self) -> Preset:
        """The preset."""
        return self.networks.preset

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.networks.device

    @property
    def height(self) -> int:
        """Rows of an imagined frame."""
        return self.networks.size[0]

    @property
    def width(self) -> int:
        """Columns of an imagined frame."""
        return self.networks.size[1]

    @property
    def time_stride(self) -> int:
        """Frames for each latent frame but the first."""
        return self.networks.autoencoder.strides[0]

    def new_memory(self, max_bytes: int = MAX_BYTES, *, dtype: torch.dtype = torch.int8) -> LatentMemory:
        """An empty memory that suits this model.

        Args:
            max_bytes: hard cap on its buffers.
            dtype: of its features.
        """
        return new_memory(self.preset, self.networks.autoencoder.channels, self.device, dtype, max_bytes, colour=True)

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
        checks.check_cameras(trajectory)
        preset = self.preset
        return plan_chunks(len(trajectory), preset.chunk_frames, self.time_stride, preset.keyframe_stride)

    def observe(
        self,
        memory: SpatialMemory,
        frame: RgbdFrame,
        *,
        keep: NDArray[np.bool_] | None = None,
        history: History | None = None,
        perception: Perception | None = None,
        fit_exposure: bool = False,
    ) -> WriteReport:
        """Write a real camera frame.

        Args:
            memory: to write to.
            frame: single, of any size; its middle is cut to the model's shape. Depth is estimated if it has none.
            keep: (H, W) bool, false on what must not be remembered; nor is a cell of which that is the greater part,
                its token would look like it.
            history: the frame is added to it.
            perception: for this call.
            fit_exposure: bring the frame to the exposure and white balance of what the memory shows of it, for cameras
                whose exposure drifts a little. What gets brighter than white is lost.

        Raises:
            ValueError: an argument does not fit; the memory is unchanged.
        """
        return observe(self.networks, memory, frame, keep, history, perception or self.perception, fit_exposure)

    def imagine(
        self,
        memory: SpatialMemory,
        trajectory: Camera,
        *,
        remember: bool = True,
        first: RgbdFrame | None = None,
        stamps: Sequence[int] | None = None,
        **options: Unpack[ImagineKeywords],
    ) -> Iterator[ImaginedChunk]:
        """Imagine the views of a trajectory, chunk by chunk.

        Args:
            memory: what is known; grows with every chunk.
            trajectory: (T,) cameras of any size, fitted to the model's; T = time stride x N + 1.
            remember: write to `memory` and the history; otherwise to forks of them, and both stay as they are.
            first: the view of the first camera, if it is known. Its depth, if given, is kept: the frame comes out with
                it, and with +inf where it is too far to measure.
            stamps: nanoseconds of each frame, for the memory.
            options: see `ImagineKeywords`.

        Yields:
            chunks as they get ready.

        Raises:
            TypeError, ValueError: an argument does not fit; raised by this call, before any work.
            Cancelled: while iterating; the memory is as it was after the last finished chunk. Once the keyframe of a
                chunk is written nobody is asked any more until the chunk is given; an error then, such as a lack of
                memory, leaves the keyframe in the memory.
        """
        settings = settings_of(self.networks, options)
        rollouts = [
            self._rollout(
                memory, trajectory, stamps, options, first=first, remember=remember and not sample, sample=sample
            )
            # The one that writes comes last: then nobody is asked any more whether to go on.
            for sample in reversed(range(settings.samples))
        ]
        return self._run(rollouts, settings, options)

    def imagine_candidates(
        self,
        memory: SpatialMemory,
        trajectories: Sequence[Camera],
        *,
        batch: int | None = None,
        **options: Unpack[ImagineKeywords],
    ) -> Iterator[ImaginedChunk]:
        """Imagine several trajectories, each on its own forks of memory and history, which are not changed.

        Args:
            memory: what is known.
            trajectories: of any lengths that are allowed.
            batch: how many chunks are denoised together at most; all by default.
            options: see `ImagineKeywords`.

        Yields:
            chunks of the candidates, all first ones before the second ones.

        Raises:
            TypeError, ValueError, Cancelled: see `imagine`.
        """
        if not trajectories:
            raise ValueError("trajectories: expected at least one, got none")
        settings = settings_of(self.networks, options, batch)
        rollouts = [
            self._rollout(memory, trajectory, None, options, remember=False, candidate=index, sample=sample)
            for index, trajectory in enumerate(trajectories)
            for sample in range(settings.samples)
        ]
        return self._run(rollouts, settings, options)

    def preview(self, memory: SpatialMemory, trajectory: Camera) -> ImaginedFrame:
        """Decode what the memory shows of the views, without imagining anything.

        Colours are dark grey where nothing is known; depth is 0 there.

        Args:
            memory: what is known.
            trajectory: (T,) cameras; any number.

        Raises:
            ValueError: the trajectory is not one batch of cameras, or the memory is not one of this model's.
        """
        return preview(self.networks, memory, trajectory)

    def _rollout(
        self,
        memory: SpatialMemory,
        trajectory: Camera,
        stamps: Sequence[int] | None,
        options: ImagineKeywords,
        *,
        remember: bool,
        first: RgbdFrame | None = None,
        candidate: int = 0,
        sample: int = 0,
    ) -> Rollout:
        """The state of a trajectory that has yet to begin, and refuses what does not fit."""
        networks, perception = self.networks, options.get("perception") or self.perception
        spans = self.check_trajectory(trajectory)
        checks.check_memory(networks, memory)
        if not len(memory) and first is None:
            raise ValueError("memory: expected at least one observation, or the first view, got an empty memory")
        if perception is None:
            raise ValueError(
                f"perception: expected a depth estimator, preset {self.preset.name!r} has no depth of its own"
            )
        frames = checks.imagined_frames(stamps, len(trajectory))
        view = metres = None
        if first is not None:
            view, metres = checks.check_first(networks, first, trajectory)
            view = fit_colour(view.to(self.device), *networks.size)
            metres = None if metres is None else networks.fine_depth(metres.to(self.device))
        history = options.get("history")
        history = self.new_history() if history is None else history
        return Rollout(
            networks,
            perception,
            memory if remember else memory.fork(),
            history if remember else history.fork(),
            fit_camera(trajectory, *networks.size).to(self.device, torch.float64),
            spans,
            frames,
            candidate,
            sample,
            first=view,
            first_depth=metres,
            doubt=networks.doubt.of_samples() if networks.draws(options.get("unseen", "mean")) else networks.doubt,
        )

    def _run(
        self, rollouts: list[Rollout], settings: DenoiseSettings, options: ImagineKeywords
    ) -> Iterator[ImaginedChunk]:
        chunks = ChunkLoop(self.networks, rollouts, settings, options.get("on_progress"), options.get("cancel")).run()
        return chunks if settings.samples == 1 else with_spread(chunks, settings.samples, self.networks.doubt)
