"""The numbers of one answer, and their summary over cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    "psnr_visible": ("visible", ".2f", True),
    "psnr_hidden": ("hidden", ".2f", True),
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
# Wall time differs from run to run; everything else must not.
TIMED = ("ms_per_frame",)


def score(case: Case, outcome: Outcome, lpips: metrics.Lpips | None = None) -> dict[str, float]:
    """All measures of an answer to a case, over its scored frames; the learned distance where its network is given."""
    scored = np.array(case.scored, dtype=np.int64)
    clip = case.clip
    rgb, truth = outcome.rgb[scored], clip.rgb[scored]
    static, visible = case.static()[scored], case.visible()[scored]
    measured = bool((clip.depth > 0).any())
    known = clip.depth[scored] > 0
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
        "psnr_visible": metrics.masked_psnr(rgb, truth, visible) if measured else nothing,
        "psnr_hidden": metrics.masked_psnr(rgb, truth, static & known & ~visible) if measured else nothing,
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
