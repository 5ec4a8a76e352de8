"""The loop over chunks: several rollouts, each chunk read, denoised in batches, decoded, perceived and written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from mirage_ros.models.schedule import make_scheduler
from mirage_ros.world.denoise import Conditions, denoise, draw_noise, draw_unseen
from mirage_ros.world.networks import Networks
from mirage_ros.world.options import DenoiseSettings
from mirage_ros.world.reading import Reading
from mirage_ros.world.results import Cancel, Cancelled, ImaginedChunk, OnProgress, Progress, Span
from mirage_ros.world.rollout import Rollout

Prepared = tuple[Rollout, Span, Conditions, Reading]


class ChunkLoop:
    """Takes rollouts through their chunks.

    Args:
        networks: preset and device.
        rollouts: of the candidates.
        settings: of the denoising.
        on_progress: called after each denoising step and each stage.
        cancel: asked as often; true raises `Cancelled`.
    """

    def __init__(
        self,
        networks: Networks,
        rollouts: list[Rollout],
        settings: DenoiseSettings,
        on_progress: OnProgress | None,
        cancel: Cancel | None,
    ) -> None:
        self._networks, self._rollouts, self._settings = networks, rollouts, settings
        self._on_progress, self._cancel = on_progress, cancel
        self._context = networks.context(settings.prompt or "")
        self._empty = networks.context("") if settings.guidance != 1 else None
        self._steps = settings.steps or networks.preset.schedule.steps
        self._draws = networks.draws(settings.unseen)
        self._total = sum(rollout.spans[-1].stop for rollout in rollouts if not rollout.sample)
        self._done = 0

    def run(self) -> Iterator[ImaginedChunk]:
        """Yield chunks as they get ready, all first ones before the second ones."""
        for index in range(max(len(rollout.spans) for rollout in self._rollouts)):
            open_ = [(rollout, self._span(rollout, index)) for rollout in self._rollouts if index < len(rollout.spans)]
            # What was once written is not undone, so nobody is asked whether to go on until the chunk is whole.
            may_stop = True
            while open_:
                denser: list[tuple[Rollout, Span]] = []
                for group in _groups(self._prepared(open_, may_stop), self._settings.batch):
                    latents = self._denoise(group, may_stop)
                    for place, (rollout, span, _, reading) in enumerate(group):
                        with torch.no_grad():
                            self._finish(rollout, span, latents[place], reading, may_stop)
                            following = rollout.next_keyframe(rollout.spans[index])
                            if following is None:
                                chunk = rollout.chunk(rollout.spans[index])
                        if following is not None:
                            denser.append((rollout, following))
                            continue
                        if not rollout.sample:
                            self._done += len(chunk)
                            self._report(rollout, index, "write", self._steps)
                        yield chunk
                open_, may_stop = denser, False

    @torch.no_grad()
    def _span(self, rollout: Rollout, index: int) -> Span:
        if self._draws:
            rollout.spans[index] = rollout.look_ahead(rollout.spans[index])
        return rollout.spans[index]

    @torch.no_grad()
    def _prepared(self, spans: list[tuple[Rollout, Span]], may_stop: bool) -> list[Prepared]:
        prepared: list[Prepared] = []
        for rollout, span in spans:
            prepared.append((rollout, span, *rollout.prepare(span, self._context)))
            self._after(rollout, span.index, "read", 0, may_stop)
        return prepared

    @torch.no_grad()
    def _denoise(self, group: list[Prepared], may_stop: bool) -> Tensor:
        networks, (leader, span, _, _), spent = self._networks, group[0], dict[str, float]()
        with networks.timed(spent, "denoise"), networks.at_work(networks.transformer):
            stacked = Conditions.stacked([conditions for _, _, conditions, _ in group])
            latents = denoise(
                networks.transformer,
                make_scheduler(networks.preset.schedule, self._steps),
                self._noise(group, tuple(stacked.known.shape[1:]), span.index),
                stacked,
                guidance=self._settings.guidance,
                empty_context=None if self._empty is None else self._empty.expand(len(group), -1, -1),
                after_step=partial(self._after, leader, span.index, "denoise", may_stop=may_stop),
            )
            if networks.exemplars is not None and self._draws:
                # Luck of its own, which the estimate does not depend on.
                chance = self._noise(group, (len(networks.exemplars),), -1 - span.index)
                barred = torch.zeros(chance.shape, dtype=torch.bool, device=chance.device)
                for row, (rollout, *_) in zip(barred, group, strict=True):
                    row[list(rollout.history.drawn)] = True
                latents, used = draw_unseen(networks.exemplars, latents, stacked, chance, barred)
                for each, (rollout, *_) in zip(used, group, strict=True):
                    rollout.drawn |= each
        for rollout, *_ in group:
            rollout.seconds["denoise"] += spent["denoise"] / len(group)
        return latents

    def _noise(self, group: list[Prepared], shape: tuple[int, ...], chunk: int) -> Tensor:
        """(B, *shape) noise: candidates share it, samples of one do not."""
        seed, device = self._settings.seed, self._networks.device
        each = {
            sample: draw_noise(shape, seed + sample, chunk, device)
            for sample in {rollout.sample for rollout, *_ in group}
        }
        return torch.stack([each[rollout.sample] for rollout, *_ in group])

    def _finish(self, rollout: Rollout, span: Span, latents: Tensor, reading: Reading, may_stop: bool) -> None:
        def after_stage(stage: str) -> None:
            self._after(rollout, span.index, stage, self._steps, may_stop)

        rollout.finish(span, latents, reading, after_stage)

    def _report(self, rollout: Rollout, index: int, stage: str, step: int) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(stage, self._done, self._total, rollout.candidate, index, step, self._steps))

    def _after(self, rollout: Rollout, index: int, stage: str, step: int, may_stop: bool) -> None:
        """Report, then ask whether to go on."""
        self._report(rollout, index, stage, step)
        if may_stop and self._cancel is not None and self._cancel():
            raise Cancelled(f"cancelled after {self._done} of {self._total} frames")


def _groups(prepared: list[Prepared], batch: int | None) -> Iterator[list[Prepared]]:
    """Chunks of equal shapes, at most `batch` together."""
    by_shape: dict[object, list[Prepared]] = {}
    for entry in prepared:
        by_shape.setdefault(entry[2].shape, []).append(entry)
    for group in by_shape.values():
        size = batch or len(group)
        for begin in range(0, len(group), size):
            yield group[begin : begin + size]
