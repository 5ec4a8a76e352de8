"""From noise to latents: the sampling loop over one batch of chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.models.exemplars import Exemplars
from mirage_ros.models.schedule import Scheduler, add_noise
from mirage_ros.models.transformer import MirageTransformer

# Latent cells: what is hidden and nowhere wider than twice this is no place for anything new.
CRACK = 1
# Shares of a step between two tokens that the cells beside it take over, from the border inwards.
STEP_SHARES = (0.375, 0.125)


@dataclass(frozen=True, eq=False)
class Conditions:
    """What one chunk is denoised under; chunks of equal shapes are stacked along the batch.

    Attributes:
        references: (B, C, R, h, w) past frames.
        preceding: (B, C, P, h, w) end of the last chunk.
        memory: (B, K, F + P, h, w) input of the memory branch, targets before preceding; None without a branch.
        known: (B, C, F, h, w) clean latents where `fixed`.
        fixed: (B, C, F, h, w) bool, cells that are kept rather than invented. A frame that is fixed everywhere is
            context and gets timestep 0.
        hidden: (B, 1, F, h, w) bool, where the memory shows nothing.
        context: (B, L, D) from `MirageTransformer.embed_text`.
        clean_frames: number of leading target frames that are fixed everywhere.
    """

    references: Tensor
    preceding: Tensor
    memory: Tensor | None
    known: Tensor
    fixed: Tensor
    hidden: Tensor
    context: Tensor
    clean_frames: int

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """What must be equal for two chunks to be stacked."""
        parts = (self.references, self.preceding, self.known, self.context)
        return (*(tuple(part.shape[1:]) for part in parts), (self.clean_frames,))

    @staticmethod
    def stacked(parts: list[Conditions]) -> Conditions:
        """Several chunks as one batch."""
        names = [name for name, value in vars(parts[0]).items() if isinstance(value, Tensor)]
        stacked: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return replace(parts[0], **stacked)


def denoise(
    model: MirageTransformer,
    scheduler: Scheduler,
    noise: Tensor,
    conditions: Conditions,
    *,
    guidance: float = 1.0,
    empty_context: Tensor | None = None,
    after_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Run the solver.

    Fixed cells follow their known value through the noise levels, as RePaint does (arXiv 2201.09865), so that what is
    invented fits to them, and come out as they went in. There is no host synchronisation in the loop but what
    `after_step` does.

    Args:
        model: in evaluation mode.
        scheduler: new, from `schedule.make_scheduler`.
        noise: (B, C, F, h, w) float32.
        conditions: see there.
        guidance: classifier-free guidance on the text: 1 runs the model once a step, else twice.
        empty_context: (B, L, D) context of no text, for guidance.
        after_step: called with the number of finished steps; may raise to stop.

    Returns:
        (B, C, F, h, w) float32 clean latents; without steps between tokens in what is hidden, where they are estimates
        of large tokens.
    """
    references, targets = conditions.references.shape[2], noise.shape[2]
    frames = references + targets + conditions.preceding.shape[2]
    noisy = torch.zeros(1, frames, device=noise.device)
    noisy[:, references + conditions.clean_frames : references + targets] = 1
    noisy = noisy.expand(len(noise), -1)
    if conditions.clean_frames == targets:
        return conditions.known.clone()

    def predict(sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        sequence = torch.cat([conditions.references, sample, conditions.preceding], dim=2)
        flow: Tensor = model(sequence, noisy * timestep, context, conditions.memory, references=references)
        return flow[:, :, references : references + targets]

    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    sample = torch.where(conditions.fixed, add_noise(conditions.known, noise, sigmas[0]), noise)
    sample = _with_clean(sample, conditions)
    for step, timestep in enumerate(scheduler.timesteps):
        flow = predict(sample, timestep, conditions.context)
        if guidance != 1 and empty_context is not None:
            unguided = predict(sample, timestep, empty_context)
            flow = unguided + guidance * (flow - unguided)
        sample = scheduler.step(flow, timestep, sample, return_dict=False)[0]  # type: ignore[arg-type]
        sample = torch.where(conditions.fixed, add_noise(conditions.known, noise, sigmas[step + 1]), sample)
        sample = _with_clean(sample, conditions)
        if after_step is not None:
            after_step(step + 1)
    side = int(model.backbone.config["patch_size"][-1])
    if model.estimates_clean and side > len(STEP_SHARES):
        sample = without_token_steps(sample, conditions.hidden & ~conditions.fixed, side)
    return sample


def without_token_steps(latents: Tensor, free: Tensor, side: int) -> Tensor:
    """Spread the steps between tokens, each of which one linear layer draws by itself, over the cells beside them.

    What is more of a step than of the slopes on either side is taken away, as video codecs do between their blocks
    (List et al., Adaptive Deblocking Filter, 2003).

    Args:
        latents: (..., h, w) in tokens of side x side cells, more than two.
        free: of the same shape, bool, cells that may be changed.
    """
    for axis in (-2, -1):
        latents, free = latents.transpose(axis, -1).clone(), free.transpose(axis, -1)
        border = torch.arange(side, latents.shape[-1], side, device=latents.device)
        step = latents[..., border] - latents[..., border - 1]
        slopes = latents[..., border - 1] - latents[..., border - 2] + latents[..., border + 1] - latents[..., border]
        excess = step - slopes / 2
        for inwards, share in enumerate(STEP_SHARES):
            for cells, change in ((border - 1 - inwards, share * excess), (border + inwards, -share * excess)):
                latents[..., cells] += change * free[..., cells]
        latents, free = latents.transpose(axis, -1), free.transpose(axis, -1)
    return latents


def draw_unseen(
    exemplars: Exemplars, mean: Tensor, conditions: Conditions, chance: Tensor, barred: Tensor
) -> tuple[Tensor, list[set[int]]]:
    """Draw one of what may be there in place of its mean, frame by frame, where the memory shows nothing.

    Args:
        exemplars: what is drawn from.
        mean: (B, C, F, h, w) from `denoise`.
        conditions: that the mean was estimated under.
        chance: (B, N) standard normal numbers; all frames of a chunk share them.
        barred: (B, N) bool, exemplars that were drawn before.

    Returns:
        (B, C, F, h, w) float32 clean latents, and the exemplars that each of the B chunks took.
    """
    first, frames = conditions.clean_frames, mean.shape[2]
    if first == frames:
        return mean, [set() for _ in mean]
    # (B F', c, h, w)
    means, hidden, fixed = (
        part[:, :, first:].transpose(1, 2).flatten(0, 1) for part in (mean, conditions.hidden, conditions.fixed)
    )
    is_open = unseen_parts(hidden) & ~fixed
    drawn, picked = exemplars.draw(
        means, is_open, *(each.repeat_interleave(frames - first, dim=0) for each in (chance, barred))
    )
    used = torch.where(is_open.flatten(1).any(dim=1), picked, -1).reshape(len(mean), -1).tolist()
    latents = drawn.reshape(len(mean), -1, *drawn.shape[1:]).transpose(1, 2)
    return torch.cat([mean[:, :, :first], latents], dim=2), [set(row) - {-1} for row in used]


def unseen_parts(hidden: Tensor) -> Tensor:
    """Parts of what is hidden (N, 1, h, w) bool where something new may be: wide ones that reach the edge of the view.

    What surrounds a crack or a hole tells what is in it: the shadow of a thing, or in a window the sky, which no memory
    holds.
    """
    side = 2 * CRACK + 1
    inner = -F.max_pool2d(-hidden.float(), side, 1, CRACK)
    wide = F.max_pool2d(inner, side, 1, CRACK)
    reached = wide.clone()
    reached[..., 1:-1, 1:-1] = 0
    while not torch.equal(grown := F.max_pool2d(reached, 3, 1, 1) * wide, reached):
        reached = grown
    return reached > 0


def _with_clean(sample: Tensor, conditions: Conditions) -> Tensor:
    count = conditions.clean_frames
    if not count:
        return sample
    return torch.cat([conditions.known[:, :, :count], sample[:, :, count:]], dim=2)


def draw_noise(shape: tuple[int, ...], seed: int, chunk: int, device: torch.device) -> Tensor:
    """Gaussian noise of one chunk, the same on every device.

    It depends on seed and chunk alone: candidates of one goal share it, which makes them comparable.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + chunk) % 2**63)
    return torch.randn(shape, generator=generator).to(device)
