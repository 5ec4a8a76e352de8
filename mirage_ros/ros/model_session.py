"""The world model, its memory and its history, and what is done with them: in the worker's thread, without ROS."""

from __future__ import annotations

import gc
import itertools
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.images import fit_camera
from mirage_ros.memory.cloud import Cloud
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.occupancy.grid import GridShape
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame
from mirage_ros.ros.loop_closure import Correction
from mirage_ros.ros.parameters import MirageParameters
from mirage_ros.ros.requests import ImagineRequest, Snapshot
from mirage_ros.ros.work_queue import Job, LayerPauses, Steps, Worker
from mirage_ros.world.results import STAGES, Cancel, ImaginedChunk, OnProgress
from mirage_ros.world.surroundings import Surroundings

logger = logging.getLogger(__name__)


class ModelSession:
    """One memory and the model that reads and writes it.

    Attributes:
        snapshot: replaced as a whole after every change; any thread may look at it.
        occupancy: grids of what was observed and what is imagined.
        pauses: moments within `imagine` at which previews can be made.
    """

    def __init__(self, parameters: MirageParameters) -> None:
        """Load the model.

        Raises:
            MissingWeightsError: the weights are not there; the message says what to do.
            PerceptionUnavailableError: nor is what the depth estimator of camera frames needs.
            ValueError: a parameter is not usable.
        """
        from mirage_ros.ros.model_loading import camera_perception, load_world

        self.world = load_world(parameters)
        self._fit_exposure = parameters.observation.exposure == "fitted"
        self._observed = camera_perception(parameters.observation, self.world.device)
        parts = self.world.networks
        whole = (parts.transformer, parts.reader, parts.autoencoder)
        self.pauses = LayerPauses(() if parts.offload else whole)
        self._max_bytes = parameters.memory.max_bytes
        self.memory = self.world.new_memory(max_bytes=self._max_bytes)
        self.history = self.world.new_history()
        self.prompt = ""
        self._corrections = 0
        self._optics = pinhole(self.world.height, self.world.width, vertical_fov=parameters.imagine.vertical_fov).to(
            dtype=torch.float64
        )
        shape = {name: getattr(parameters.occupancy, name) for name in GridShape.__dataclass_fields__}
        doubt = parts.doubt.of_samples() if parts.draws(parameters.imagine.unseen) else parts.doubt
        self.occupancy = Surroundings(GridShape(**shape), self.memory, doubt)
        self.snapshot = Snapshot(max_bytes=self._max_bytes)
        self._refresh()

    def cameras(self, poses: Tensor) -> Camera:
        """Cameras in float64 at the model's size with the optics of the last camera frame, at (..., 4, 4) poses."""
        optics = self._optics
        # Single precision would round places of a large map to centimetres.
        return Camera(optics.intrinsics, poses.double().cpu(), optics.height, optics.width)

    def observe(self, frame: RgbdFrame) -> int:
        """Write a camera frame; what it shows wins over what was imagined. Returns the number of elements added."""
        report = self.world.observe(
            self.memory, frame, history=self.history, perception=self._observed, fit_exposure=self._fit_exposure
        )
        optics = fit_camera(frame.camera.to(dtype=torch.float64), self.world.height, self.world.width)
        self._optics = optics.at(torch.eye(4, dtype=torch.float64))
        self.occupancy.saw(frame)
        self._wrote(evicted=report.evicted)
        return report.added

    def preview(self, pose: Tensor) -> ImaginedFrame:
        """What the memory knows of the view from one (4, 4) pose."""
        return self.world.preview(self.memory, self.cameras(pose[None]).to(self.world.device))

    def rollout(
        self,
        worker: Worker,
        request: ImagineRequest,
        on_chunk: Callable[[ImaginedChunk], None],
        on_progress: OnProgress | None = None,
    ) -> Callable[[Job], Steps]:
        """`imagine` as work in parts for a queue: a chunk each, with time for quick calls between the layers.

        What comes of it, and how far it is, is told in the worker's thread.
        """

        def parts(job: Job) -> Steps:
            def cancelled() -> bool:
                worker.breathe()
                return job.cancelled

            chunks = self.imagine(request, on_progress, cancelled)
            try:
                while True:
                    # Not across the yield: other jobs have their turn there.
                    with self.pauses.between(worker.breathe):
                        chunk = next(chunks, None)
                    if chunk is None:
                        return
                    on_chunk(chunk)
                    yield
            finally:
                chunks.close()
                self.snapshot = replace(self.snapshot, stage="idle")

        return parts

    def imagine(
        self, request: ImagineRequest, on_progress: OnProgress | None = None, cancel: Cancel | None = None
    ) -> Generator[ImaginedChunk, None, None]:
        """Imagine chunk by chunk. When memory of the device runs out, it is freed and the rest is tried once more in
        smaller batches.

        Raises:
            Cancelled: `cancel` said so.
            ValueError: a trajectory does not fit the model.
        """
        done: set[tuple[int, int]] = set()
        corrections = self._corrections
        try:
            for chunk in self._chunks(request, on_progress, cancel):
                done.add((chunk.candidate, chunk.chunk))
                yield self._noted(chunk, request, corrections)
            return
        except torch.OutOfMemoryError as error:
            if request.remember:
                # What was imagined is in the memory by now: doing it again would not give the same.
                self.free()
                raise MemoryError(f"the device ran out of memory after {len(done)} chunks: {error}") from None
            logger.warning("the device ran out of memory; trying once more, one candidate at a time")
        self.free()
        try:
            for chunk in self._chunks(replace(request, batch=1), on_progress, cancel):
                if (chunk.candidate, chunk.chunk) not in done:
                    yield self._noted(chunk, request, corrections)
        except torch.OutOfMemoryError as error:
            self.free()
            raise MemoryError(f"the device ran out of memory, also with one candidate at a time: {error}") from None

    def _chunks(
        self, request: ImagineRequest, on_progress: OnProgress | None, cancel: Cancel | None
    ) -> Iterator[ImaginedChunk]:
        def progress(state: Any) -> None:
            self.snapshot = replace(self.snapshot, stage=state.stage)
            if on_progress is not None:
                on_progress(state)

        options: dict[str, Any] = {
            "prompt": (self.prompt if request.prompt is None else request.prompt) or None,
            "seed": request.seed,
            "steps": request.steps or None,
            "unseen": request.unseen,
            "samples": request.samples,
            "on_progress": progress,
            "cancel": cancel,
            "history": self.history,
        }
        trajectories = [self.cameras(poses).to(self.world.device) for poses in request.poses]
        if len(trajectories) > 1:
            return self.world.imagine_candidates(self.memory, trajectories, batch=request.batch or None, **options)
        options |= {"remember": request.remember, "first": request.first, "stamps": request.stamps}
        return self.world.imagine(self.memory, trajectories[0], **options)

    def _noted(self, chunk: ImaginedChunk, request: ImagineRequest, corrections: int) -> ImaginedChunk:
        # Candidates contradict one another, what nobody sees is in no map, and places of before a correction are wrong.
        if len(request.poses) == 1 and request.stamps is not None and corrections == self._corrections:
            self.occupancy.imagined_frames(chunk)
        seconds = {stage: chunk.seconds.get(stage, math.nan) / len(chunk) for stage in STAGES}
        self.snapshot = replace(self.snapshot, seconds=seconds, visibility=float(chunk.coverage[-1]), notes=chunk.notes)
        # What a fork was written is gone with it.
        if request.remember and chunk.report.cells > 0:
            self._wrote(evicted=chunk.report.evicted)
        return chunk

    def check(self, poses: Sequence[Tensor]) -> None:
        """Refuse trajectories that the model cannot take, with a ValueError; cheap, and for any thread."""
        for trajectory in poses:
            self.world.check_trajectory(self.cameras(trajectory))

    def padded(self, poses: Tensor) -> Tensor:
        """Poses (T, 4, 4), the last one repeated up to the next length of a trajectory that the model takes."""
        count = len(poses)
        length = next(length for length in itertools.count(count) if self.world.frames_for(length) >= count)
        return torch.cat([poses, poses[-1:].expand(length - count, 4, 4)])

    def set_prompt(self, prompt: str) -> None:
        """Text for what is imagined from now on; a ValueError if the preset takes none."""
        self.world.networks.check_prompt(prompt)
        self.prompt = prompt

    def reset(self, keep_observations: bool) -> int:
        """Forget; the number of elements removed."""
        before = len(self.memory)
        if keep_observations:
            self.memory.forget([frame.id for frame in self.memory.frames() if frame.kind == "imagination"])
            self.occupancy.clear_imagined()
        else:
            self.memory.clear()
            self.occupancy.clear()
        self.history = self.world.new_history()
        self._wrote()
        return before - len(self.memory)

    def repose(self, poses: Mapping[int, Tensor]) -> tuple[int, int]:
        """Give source frames new (4, 4) poses by their ids; what was imagined near them and the history move along.

        Returns:
            The numbers of frames and of elements that moved.

        Raises:
            ValueError: an id is unknown or a pose not rigid; nothing has moved then.
        """
        self.memory.check_poses(poses)
        correction = Correction(self.memory.frames(), poses)
        elements = self.memory.repose(correction.poses)
        self._corrections += 1
        self.occupancy.renew()
        self.history.move(correction.moved)
        self._wrote()
        return len(correction.poses), elements

    def save(self, path: Path) -> int:
        """Write the memory to a file; the number of elements."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.memory.save(path)
        return len(self.memory)

    def read(self, path: Path) -> LatentMemory:
        """A file's memory, of the live one's kind; that one is untouched. A ValueError or OSError if it cannot be."""
        # Weights of before may have wanted coarser patches.
        read = LatentMemory.load(path, self.world.device, self._max_bytes, self.memory.rules, self.memory.patch)
        self.memory.fork().restore(read)
        return read

    def load(self, memory: LatentMemory) -> int:
        """Take over what `read` gave; the number of elements."""
        self.memory.restore(memory)
        self.occupancy.renew()
        self.history = self.world.new_history()
        frames = self.memory.frames()
        if frames:
            # So that a restored memory can be looked at before a camera has spoken.
            optics = frames[-1].camera.resized(self.world.height, self.world.width).to("cpu", torch.float64)
            self._optics = optics.at(torch.eye(4, dtype=torch.float64))
        self._wrote()
        return len(self.memory)

    def cloud(self, limit: int | None = None, min_confidence: float = 0.0) -> Cloud:
        """Coloured points of the memory on the CPU: those of this confidence, and every n-th of more than the limit.

        Confidence is n / (n + 2) for n views that agree: 1/3 in doubt, 1/2 new, towards 1.
        """
        cloud = self.memory.cloud()
        confidence = cloud.confidence / (cloud.confidence + 2)
        keep = (confidence >= min_confidence).nonzero().squeeze(1)
        if limit is not None and len(keep) > limit:
            keep = keep[:: -(-len(keep) // limit)]
        return Cloud(cloud.points[keep].cpu(), cloud.colours[keep].cpu(), confidence[keep].cpu())

    def free(self) -> None:
        """Give unused memory of the device back."""
        gc.collect()
        torch.cuda.empty_cache()

    def _wrote(self, evicted: int = 0) -> None:
        """Note that the memory changed."""
        self._refresh()
        old = self.snapshot
        self.snapshot = replace(old, evicted=old.evicted + evicted, written=time.monotonic(), changes=old.changes + 1)

    def _refresh(self) -> None:
        frames = self.memory.frames()
        self.snapshot = replace(
            self.snapshot,
            elements=len(self.memory),
            bytes=self.memory.nbytes,
            frames=len(frames),
            observed_frames=sum(frame.kind == "observation" for frame in frames),
        )
