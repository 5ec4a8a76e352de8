"""The numbers of one answer, and their summary over cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.evaluation import metrics
from mirage_ros.evaluation.cases import Case
from mirage_ros.evaluation.hidden_pixels import border_index, continuation, low_psnr
from mirage_ros.evaluation.methods import Outcome
from mirage_ros.evaluation.returning import kept_on_return, returns

# Mean and its 95 % confidence interval.
Interval = tuple[float, float, float]
# Resamples of the confidence intervals.
BOOTSTRAP = 2000
# Title and format of every column.
COLUMNS: dict[str, tuple[str, str]] = {
    "psnr": ("PSNR dB", ".2f"),
    "psnr_sky": ("with sky", ".2f"),
    "psnr_visible": ("visible", ".2f"),
    "psnr_hidden": ("hidden", ".2f"),
    "psnr_low": ("hidden low16", ".2f"),
    # Of all cases together; see `hidden_regions` and `two_sample`.
    "hidden_distance": ("hidden FD", ".2f"),
    "hidden_auc": ("hidden AUC", ".2f"),
    "border_index": ("hidden border", ".2f"),
    "seam_step": ("seam step", ".2f"),
    "seam_match": ("seam match", ".2f"),
    "kept_on_return": ("kept on return", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "lpips": ("LPIPS", ".3f"),
    "depth_abs_rel": ("depth AbsRel", ".3f"),
    "depth_delta": ("depth delta", ".3f"),
    "reprojection_depth": ("reprojection depth", ".4f"),
    "reprojection_colour": ("reprojection colour", ".2f"),
    "photometric": ("flow photometric", ".2f"),
    "cycle": ("flow cycle px", ".2f"),
    "flicker_visible": ("flicker visible", ".2f"),
    "flicker_hidden": ("flicker hidden", ".2f"),
    "rotation": ("camera deg", ".2f"),
    "translation": ("camera m", ".3f"),
    "ms_per_frame": ("ms/frame", ".1f"),
    "cache_kib": ("cache KiB", ".1f"),
}
# Of these the fate over a walk is reported chunk by chunk: name, and which pixels they are about.
BY_CHUNK = {"psnr": "all", "psnr_visible": "visible", "psnr_hidden": "hidden"}
# A smaller share of a chunk's pixels says nothing of the chunk: a strip along an edge, or a few misjudged pixels.
LEAST_SHARE = 0.01


def score(case: Case, outcome: Outcome, lpips: metrics.Lpips | None = None) -> dict[str, float]:
    """All measures of an answer to a case, over its scored frames; the learned distance where its network is given."""
    scored, clip = np.array(case.scored, dtype=np.int64), case.clip
    rgb, truth, depth = outcome.rgb[scored], clip.rgb[scored], clip.depth[scored]
    masks = {"": case.static, "_sky": case.standing, "_visible": case.visible, "_hidden": case.hidden}
    return {
        **{f"psnr{name}": metrics.masked_psnr(rgb, truth, mask[scored]) for name, mask in masks.items()},
        "psnr_low": low_psnr(rgb, truth, case.hidden[scored]),
        "border_index": border_index(rgb, case.hidden[scored]),
        **continuation(rgb, truth, case.hidden[scored], case.visible[scored]),
        "kept_on_return": kept_on_return(outcome.rgb, clip.rgb, case.hidden, returns(clip.camera)),
        "ssim": metrics.masked_ssim(rgb, truth, case.static[scored]),
        **({} if lpips is None else {"lpips": lpips(rgb, truth)}),
        **metrics.depth_errors(outcome.depth[scored], depth, case.static[scored]),
        **metrics.reprojection_errors(outcome.rgb, outcome.depth, clip.camera),
        **metrics.flow_errors(rgb),
        **metrics.flicker(
            outcome.rgb, clip.depth, clip.camera, {"flicker_visible": case.visible, "flicker_hidden": case.hidden}
        ),
        **metrics.camera_errors(rgb, truth, depth, clip.camera[torch.from_numpy(scored)]),
        "ms_per_frame": 1000 * outcome.seconds / len(clip),
        "cache_kib": outcome.cache_bytes / 1024,
    }


def drift(case: Case, outcome: Outcome) -> list[float]:
    """PSNR in dB of every frame on its own, static pixels."""
    frames = zip(outcome.rgb, case.clip.rgb, case.static, strict=True)
    return [metrics.masked_psnr(*(values[None] for values in frame)) for frame in frames]


def by_chunk(case: Case, outcome: Outcome, new_frames: int) -> list[dict[str, float]]:
    """How an answer holds up: measures over the frames of each chunk together.

    Args:
        new_frames: that a chunk adds; the last may be shorter.

    Returns:
        of each chunk the PSNR in dB on static pixels, on those of them that the first frame shows and on those that it
        does not, NaN for less than `LEAST_SHARE` of its pixels; and `shown`, the share of static pixels that the first
        frame shows, the same for all methods.
    """
    clip, static, visible = case.clip, case.static, case.visible
    masks = dict(zip(BY_CHUNK, (static, visible, case.hidden), strict=True))
    known = bool((clip.depth > 0).any())
    chunks = []
    for start in range(1, len(clip), new_frames):
        part = slice(start, start + new_frames)
        rgb, truth = outcome.rgb[part], clip.rgb[part]
        chunk = {}
        for name, mask in masks.items():
            enough = mask[part].sum() >= LEAST_SHARE * mask[part].size
            chunk[name] = metrics.masked_psnr(rgb, truth, mask[part]) if enough else float("nan")
        told = known and static[part].any()
        chunks.append({**chunk, "shown": float(visible[part].sum() / static[part].sum()) if told else float("nan")})
    return chunks


def chunk_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Mean over the cases of one method, chunk by chunk, of what `by_chunk` gives; NaN where no case has it.

    As many chunks as the shortest walk has; none where a row comes from a version without them.
    """
    length = min((len(row.get("chunks", ())) for row in rows), default=0)
    result = {}
    for name in (*BY_CHUNK, "shown"):
        columns = [_finite([row["chunks"][index][name] for row in rows]) for index in range(length)]
        result[name] = [float(column.mean()) if len(column) else float("nan") for column in columns]
    return result


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """Mean over cases and its interval, of each measure; NaN where no case has it.

    The interval is NaN for fewer than three cases.
    """
    generator = np.random.default_rng(0)
    result = {}
    for name in COLUMNS:
        values = _finite([row.get(name, np.nan) for row in rows])
        if len(values) >= 3:
            result[name] = interval(values, generator)
        else:
            result[name] = (float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"))
    return result


def interval(values: Sequence[float] | NDArray[np.float64], generator: np.random.Generator | None = None) -> Interval:
    """Mean and its 95 % confidence interval by bootstrap."""
    array, generator = np.asarray(values, dtype=np.float64), generator or np.random.default_rng(0)
    means = generator.choice(array, (BOOTSTRAP, len(array))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(array.mean()), float(low), float(high)


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    return array[np.isfinite(array)]
