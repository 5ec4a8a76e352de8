"""The numbers of one answer, and their summary over cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mirage_ros.evaluation import metrics
from mirage_ros.evaluation.cases import Case
from mirage_ros.evaluation.methods import Outcome

# Resamples of the confidence intervals.
BOOTSTRAP = 2000
# name: (column title, format, whether more is better; None for neither)
COLUMNS: dict[str, tuple[str, str, bool | None]] = {
    "psnr": ("PSNR dB", ".2f", True),
    "psnr_sky": ("with sky", ".2f", True),
    "psnr_visible": ("visible", ".2f", True),
    "psnr_hidden": ("hidden", ".2f", True),
    # Of all cases together; see `plausibility`.
    "hidden_distance": ("hidden FD", ".2f", False),
    "ssim": ("SSIM", ".3f", True),
    "lpips": ("LPIPS", ".3f", False),
    "depth_abs_rel": ("depth AbsRel", ".3f", False),
    "depth_delta": ("depth delta", ".3f", True),
    "reprojection_depth": ("reprojection depth", ".4f", False),
    "reprojection_colour": ("reprojection colour", ".2f", False),
    "photometric": ("flow photometric", ".2f", False),
    "cycle": ("flow cycle px", ".2f", False),
    "rotation": ("camera deg", ".2f", False),
    "translation": ("camera m", ".3f", False),
    "ms_per_frame": ("ms/frame", ".1f", False),
    "cache_kib": ("cache KiB", ".1f", False),
}
# Of these the fate over a walk is reported chunk by chunk: name, and which pixels they are about.
BY_CHUNK = {"psnr": "all", "psnr_visible": "visible", "psnr_hidden": "hidden"}
# A smaller share of a chunk's pixels says nothing of the chunk: a strip along an edge, or a few misjudged pixels.
LEAST_SHARE = 0.01
# Wall time differs from run to run; everything else must not.
TIMED = ("ms_per_frame",)


def score(case: Case, outcome: Outcome, lpips: metrics.Lpips | None = None) -> dict[str, float]:
    """All measures of an answer to a case, over its scored frames; the learned distance where its network is given."""
    scored = np.array(case.scored, dtype=np.int64)
    clip = case.clip
    rgb, truth = outcome.rgb[scored], clip.rgb[scored]
    static, visible, hidden = case.static()[scored], case.visible()[scored], case.hidden()[scored]
    measured = bool((clip.depth > 0).any())
    errors = metrics.depth_errors(outcome.depth[scored], clip.depth[scored], static)
    consistent = metrics.reprojection_error(outcome.rgb, outcome.depth, clip.camera)
    steady = metrics.flow_consistency(rgb)
    pose = (
        metrics.camera_errors(rgb, truth, clip.depth[scored], clip.camera[torch.from_numpy(scored)])
        if measured
        else {"rotation": np.nan, "translation": np.nan}
    )
    nothing = float("nan")
    return {
        "psnr": metrics.masked_psnr(rgb, truth, static),
        "psnr_sky": metrics.masked_psnr(rgb, truth, case.standing()[scored]),
        "psnr_visible": metrics.masked_psnr(rgb, truth, visible) if measured else nothing,
        "psnr_hidden": metrics.masked_psnr(rgb, truth, hidden) if measured else nothing,
        "ssim": metrics.masked_ssim(rgb, truth, static),
        **({} if lpips is None else {"lpips": lpips(rgb, truth)}),
        "depth_abs_rel": errors["abs_rel"],
        "depth_delta": errors["delta"],
        "reprojection_depth": consistent["depth"],
        "reprojection_colour": consistent["colour"],
        "photometric": steady["photometric"],
        "cycle": steady["cycle"],
        "rotation": float(pose["rotation"]),
        "translation": float(pose["translation"]),
        "ms_per_frame": 1000 * outcome.seconds / len(clip),
        "cache_kib": outcome.cache_bytes / 1024,
    }


def drift(case: Case, outcome: Outcome) -> list[float]:
    """PSNR in dB of every frame on its own, static pixels."""
    static = case.static()
    return [
        metrics.masked_psnr(outcome.rgb[i : i + 1], case.clip.rgb[i : i + 1], static[i : i + 1])
        for i in range(len(case.clip))
    ]


def by_chunk(case: Case, outcome: Outcome, new_frames: int) -> list[dict[str, float]]:
    """How an answer holds up: measures over the frames of each chunk together.

    Args:
        case: the walk, of frame 0 and those of its chunks.
        outcome: the answer.
        new_frames: that a chunk adds; the last may be shorter.

    Returns:
        of each chunk the PSNR in dB on static pixels, on those that the sources show and on those that they do not, NaN
        for less than `LEAST_SHARE` of its pixels; and `shown`, the share of static pixels that the sources show, the
        same for all methods.
    """
    clip = case.clip
    static, visible, known = case.static(), case.visible(), clip.depth > 0
    masks = dict(zip(BY_CHUNK, (static, visible, case.hidden()), strict=True))
    chunks = []
    for start in range(1, len(clip), new_frames):
        part = [index for index in range(start, min(start + new_frames, len(clip))) if index not in case.sources]
        rgb, truth = outcome.rgb[part], clip.rgb[part]
        chunk = {}
        for name, mask in masks.items():
            enough = mask[part].sum() >= LEAST_SHARE * mask[part].size
            chunk[name] = metrics.masked_psnr(rgb, truth, mask[part]) if enough else float("nan")
        told = known.any() and static[part].any()
        chunks.append({**chunk, "shown": float(visible[part].sum() / static[part].sum()) if told else float("nan")})
    return chunks


def chunk_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Mean over the cases of one method, chunk by chunk, of what `by_chunk` gives; NaN where no case has it.

    As many chunks as the shortest walk has; none where a row comes from a version without them.
    """
    length = min((len(row.get("chunks", ())) for row in rows), default=0)
    result = {}
    for name in (*BY_CHUNK, "shown"):
        values = np.array(
            [[chunk[name] for chunk in row["chunks"][:length]] for row in rows if length], dtype=np.float64
        )
        finite = [column[np.isfinite(column)] for column in values.T]
        result[name] = [float(column.mean()) if len(column) else float("nan") for column in finite]
    return result


def summary(rows: Sequence[Mapping[str, float]], seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Mean over cases and its 95 % confidence interval by bootstrap, of each measure; NaN where no case has it.

    The interval is NaN for fewer than three cases.
    """
    generator = np.random.default_rng(seed)
    result = {}
    for name in COLUMNS:
        values = np.array([row.get(name, np.nan) for row in rows], dtype=np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            result[name] = (float("nan"),) * 3
            continue
        if len(values) < 3:
            result[name] = (float(values.mean()), float("nan"), float("nan"))
            continue
        means = generator.choice(values, (BOOTSTRAP, len(values))).mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        result[name] = (float(values.mean()), float(low), float(high))
    return result
