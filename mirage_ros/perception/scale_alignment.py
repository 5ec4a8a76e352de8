"""Estimated depth brought to the scale of the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mirage_ros.geometry import valid_depth
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.memory_depth import MemoryDepth, token_grid
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, DepthEstimator

Mode = Literal["scale", "scale-shift"]
MODES: tuple[Mode, ...] = ("scale", "scale-shift")
# Cells that both must see: as a share of all, and as a number.
MIN_OVERLAP = 0.05
MIN_CELLS = 24
# Share of the overlap that must fit, and the relative error within which a cell fits even if most fit better.
MIN_INLIERS = 0.5
CLOSE = 0.1
# Largest relative deviation of a fit that is still believed.
MAX_DEVIATION = 0.2
_HYPOTHESES = 256
# Tukey's constant: 95 % efficient under Gaussian noise.
_TUKEY = 4.685
_ITERATIONS = 20


@dataclass(frozen=True)
class Alignment:
    """1 / depth = scale x (1 / estimate) + shift.

    Attributes:
        scale, shift: of inverse depth; shift in 1 / metre.
        inliers: share of the overlap that fits.
        overlap: share of the cells that both see.
        refused: why the fit is not to be used; empty if it is.
    """

    scale: float
    shift: float
    inliers: float
    overlap: float
    refused: str = ""

    def apply(self, depth: Tensor) -> Tensor:
        """Depth in the memory's scale; invalid stays invalid, and what the shift puts beyond infinity becomes 0."""
        inverse = self.scale / depth + self.shift
        return torch.where(valid_depth(depth) & (inverse > 1e-4), 1 / inverse, 0.0)


def fit(estimate: Tensor, reference: Tensor, mode: Mode = "scale") -> Alignment:
    """Robustly fit an estimate to a reference, in inverse depth.

    `scale` starts at the median of the ratios; `scale-shift` at the best of 256 pairs of cells (RANSAC). Both are
    improved by iteratively reweighted least squares with Tukey's weights on relative errors.

    Args:
        estimate, reference: (...) depth in cells, invalid where unknown; of one shape.
        mode: 'scale', or 'scale-shift' for estimates known up to both.

    Returns:
        the fit; `refused` says why it must not be used: less than 5 % or 24 cells seen by both, less than half of them
        fitting, a deviation above 20 %, or a scale that is not positive.

    Raises:
        ValueError: shapes differ or the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if estimate.shape != reference.shape:
        raise ValueError(f"reference: expected {tuple(estimate.shape)} like estimate, got {tuple(reference.shape)}")
    both = valid_depth(estimate) & valid_depth(reference)
    number = int(both.sum())
    overlap = number / max(both.numel(), 1)
    if number < MIN_CELLS or overlap < MIN_OVERLAP:
        return Alignment(1.0, 0.0, 0.0, overlap, f"only {number} of {both.numel()} cells overlap with the memory")
    x, y = estimate[both].double().reciprocal(), reference[both].double().reciprocal()
    # The estimate errs more than the memory, so it is explained by the memory: x = gain y + offset. The other way
    # round its errors would flatten the slope.
    gain, offset = (x / y).median(), torch.zeros((), dtype=torch.float64, device=x.device)
    if mode == "scale-shift":
        gain, offset = _best_pair(y, x)
    deviation = 1.0
    for _ in range(_ITERATIONS):
        expected = (gain * y + offset).clamp(min=1e-9)
        # Relative, because depth errs by a share of itself.
        residual = x / expected - 1
        deviation = max(1.4826 * float(residual.abs().median()), 1e-4)
        weights = (1 - (residual / (_TUKEY * deviation)).square()).clamp(min=0).square() / expected.square()
        if mode == "scale":
            gain = (weights * x * y).sum() / (weights * y * y).sum()
            continue
        mean_x, mean_y = (weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()
        spread = (weights * (y - mean_y).square()).sum()
        if spread <= 1e-4 * mean_y.square() * weights.sum():
            return Alignment(1.0, 0.0, 0.0, overlap, "depth hardly varies where both see, so a shift cannot be told")
        gain = (weights * (y - mean_y) * (x - mean_x)).sum() / spread
        offset = mean_x - gain * mean_y
    residual = (x / (gain * y + offset).clamp(min=1e-9) - 1).abs()
    inliers = float((residual < max(CLOSE, 3 * deviation)).double().mean())
    scale, shift = float(1 / gain), float(-offset / gain)
    refused = ""
    if not 0 < scale < float("inf"):
        refused = f"the best scale is {scale:.3g}"
    elif deviation > MAX_DEVIATION:
        refused = f"estimate and memory deviate by {100 * deviation:.0f} % at the best scale"
    elif inliers < MIN_INLIERS:
        refused = f"only {100 * inliers:.0f} % of the cells that overlap with the memory fit"
    return Alignment(scale, shift, inliers, overlap, refused)


def _best_pair(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset of x = gain y + offset through the pair of cells that most others agree with."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(len(y), (_HYPOTHESES, 2), generator=generator).to(y.device)
    sample = torch.randint(len(y), (min(len(y), 2048),), generator=generator).to(y.device)
    x1, x2, y1, y2 = x[pairs[:, 0]], x[pairs[:, 1]], y[pairs[:, 0]], y[pairs[:, 1]]
    apart = (y2 - y1).abs() > 0.02 * y1
    gain = torch.where(apart, (x2 - x1) / torch.where(apart, y2 - y1, 1.0), torch.nan)
    offset = x1 - gain * y1
    residual = ((gain[:, None] * y[sample] + offset[:, None]) / x[sample] - 1).abs()
    # Truncated errors: the number of inliers alone does not tell a good pair from the best one.
    cost = residual.clamp(max=CLOSE).nan_to_num(CLOSE).mean(dim=1)
    cost = torch.where(gain > 0, cost, torch.inf)
    best = cost.argmin()
    if not bool(cost[best].isfinite()):
        return (x / y).median(), torch.zeros_like(x[0])
    return gain[best], offset[best]


class AlignedDepth:
    """Another estimator's depth in the scale of the memory.

    Each frame is fitted on its own. A frame whose fit is refused takes the median fit of the chunk's other frames; if
    all are refused, the last good fit of an earlier chunk; if there is none, the depth comes from the memory instead.
    Into an empty memory metric depth goes as it is.

    Args:
        estimator: whose depth is aligned.
        metric: whether its depth is in metres; it is known up to scale and shift if not.
    """

    def __init__(self, estimator: DepthEstimator, *, metric: bool = True) -> None:
        self.estimator, self.metric = estimator, metric
        self._last: Alignment | None = None

    @torch.no_grad()
    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """Aligned depth; the notes say what was refused and what was used instead.

        Raises:
            ValueError: the memory is empty and the estimator's depth is not metric.
        """
        raw = self.estimator.estimate(frames, memory)
        if not len(memory):
            if not self.metric:
                raise ValueError("memory: expected one to align depth without a scale to, got an empty memory")
            return raw
        height, width = frames.rgb.shape[-2:]
        grid = token_grid(memory, height, width)
        reference = memory.read(raw.camera.resized(*grid)).depth.squeeze(1)
        estimated = _at_cells(raw.depth, *grid)
        fits = [
            fit(estimated[t], reference[t], "scale" if self.metric else "scale-shift") for t in range(len(reference))
        ]
        good = [f for f in fits if not f.refused]
        notes = raw.notes
        if good:
            self._last = _median(good)
        if len(good) < len(fits):
            reason = next(f.refused for f in fits if f.refused)
            which = f"depth: {len(fits) - len(good)} of {len(fits)} frames could not be aligned ({reason})"
            if self._last is None:
                fallback = MemoryDepth().estimate(frames, memory)
                return DepthEstimate(fallback.depth, raw.camera, (*notes, f"{which}; depth is the memory's instead"))
            source = "the others of the chunk" if good else "an earlier chunk"
            notes = (*notes, f"{which}; they take the scale of {source}")
        applied = []
        for t, own in enumerate(fits):
            used = self._last if own.refused else own
            assert used is not None
            applied.append(used.apply(raw.depth[t]))
        return DepthEstimate(torch.stack(applied), raw.camera, notes)


def _median(fits: list[Alignment]) -> Alignment:
    """The fit of median scale."""
    return sorted(fits, key=lambda f: f.scale)[len(fits) // 2]


def _at_cells(depth: Tensor, rows: int, columns: int) -> Tensor:
    """(T, rows, columns) depth at the pixel in the middle of each cell."""
    height, width = depth.shape[-2:]
    y = ((torch.arange(rows, device=depth.device) + 0.5) * height / rows).long()
    x = ((torch.arange(columns, device=depth.device) + 0.5) * width / columns).long()
    return depth[:, y[:, None], x]
