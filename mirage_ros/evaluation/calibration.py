"""`mirage eval calibration`: how sure imagined depth is, against the truth; with --write the table that says so.

Scales are fitted on every other held-out walk and judged on those between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from mirage_ros.evaluation.cases import Case
from mirage_ros.evaluation.methods import observed
from mirage_ros.evaluation.model_options import ModelOptions
from mirage_ros.evaluation.protocols.sim import sim_cases
from mirage_ros.evaluation.report import markdown_table
from mirage_ros.resources import weights_directory
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.world.doubt import DepthDoubt
from mirage_ros.world.model import WorldModel
from mirage_ros.world.options import ImagineKeywords, Unseen

# Every so many-th pixel counts along rows and columns; fewer errors say nothing of their scale.
STEP, LEAST = 4, 1000
LEVELS = np.arange(0.05, 1.0, 0.05)


@dataclass
class CalibrationOptions(ModelOptions):
    """Measure how sure imagined depth is."""

    limit: int | None = None
    """only the first so many walks"""
    samples: int = 1
    """draws of each walk; of more than one the uncertainty is their spread"""
    write: bool = False
    """write the table that fits beside the weights (--weights, or those in the source tree's weights/)"""


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of the pixels of some walks, (N,) each.

    Attributes:
        error: absolute natural logarithm of true over imagined depth.
        scale: that the model gave: of a Laplace distribution of that logarithm.
        known: whether the memory showed the pixel.
    """

    error: NDArray[np.float32]
    scale: NDArray[np.float32]
    known: NDArray[np.bool_]

    def of(self, chosen: NDArray[np.bool_]) -> Errors:
        """Of some of the pixels."""
        return Errors(self.error[chosen], self.scale[chosen], self.known[chosen])

    @staticmethod
    def joined(parts: Iterable[Errors]) -> Errors:
        """Of several walks."""
        parts = list(parts)
        return Errors(*(np.concatenate([getattr(part, name) for part in parts]) for name in Errors.__annotations__))


def errors_of(world: WorldModel, case: Case, seed: int, samples: int, unseen: Unseen = "mean") -> Errors:
    """Errors of what is imagined along a walk, where the truth stands still and both depths are finite."""
    memory = world.new_memory()
    history = observed(world, memory, case)
    first = RgbdFrame(case.clip.rgb[0], case.clip.sensed[0], case.clip.camera[0])
    parts = []
    options: ImagineKeywords = {"seed": seed, "samples": samples, "history": history, "unseen": unseen}
    for chunk in world.imagine(memory, case.clip.camera, first=first, **options):
        assert chunk.uncertainty is not None
        places = np.arange(chunk.first, chunk.first + len(chunk))
        truth = case.clip.depth[places]
        usable = case.static[places] & (truth > 0) & np.isfinite(truth) & (chunk.depth > 0) & np.isfinite(chunk.depth)
        usable[places == 0] = False
        cells = np.zeros_like(usable)
        cells[:, STEP // 2 :: STEP, STEP // 2 :: STEP] = True
        usable &= cells
        scale = chunk.uncertainty[usable] / chunk.depth[usable] / np.sqrt(2)
        error = np.abs(np.log(truth[usable] / chunk.depth[usable]))
        parts.append(Errors(error.astype(np.float32), scale.astype(np.float32), chunk.visible[usable] > 0))
    return Errors.joined(parts)


def fit(errors: Errors, drawn: Errors | None = None) -> DepthDoubt:
    """The table under which nine tenths of the errors of each kind are within their interval.

    Scales by the distance from what is known (2, 5, 10 ... % of the image's width) were too sure on other walks than
    they were fitted on, see docs/quality.md.

    Args:
        errors: of the mean.
        drawn: of samples.

    Raises:
        ValueError: there are too few errors to say anything.
    """
    kinds = [errors.error[errors.known], errors.error[~errors.known]]
    kinds += [] if drawn is None else [drawn.error[~drawn.known]]
    counts = [len(kind) for kind in kinds]
    if min(counts) < LEAST:
        raise ValueError(f"walks: expected {LEAST} pixels each that are known, hidden and drawn, got {counts}")
    return DepthDoubt(*(_scale(kind) for kind in kinds))


def _scale(errors: NDArray[np.float32]) -> float:
    return round(max(float(np.quantile(errors, 0.9) / np.log(10)), 1e-3), 4)


def scaled(errors: Errors, doubt: DepthDoubt) -> Errors:
    """The same errors with the scales of a table."""
    scale = np.where(errors.known, np.float32(doubt.visible), np.float32(doubt.hidden))
    return replace(errors, scale=scale)


def figures(errors: Errors) -> dict[str, float]:
    """Shares of truths within the 50 and 90 % intervals, and the mean difference over all levels: 0 is best."""
    shares = np.array([(errors.error <= -np.log(1 - level) * errors.scale).mean() for level in LEVELS])
    inside = [float((errors.error <= -np.log(1 - level) * errors.scale).mean()) for level in (0.5, 0.9)]
    # Mean of the negative log density: smaller is better, and a table of wide intervals pays for them.
    density = float((errors.error / errors.scale + np.log(2 * errors.scale)).mean())
    return {
        "50 %": inside[0],
        "90 %": inside[1],
        "calibration error": float(np.abs(shares - LEVELS).mean()),
        "NLL": density,
    }


def report(tables: Mapping[str, Errors]) -> str:
    """Figures of each table, of what was known and what was hidden."""
    lines = []
    for name, errors in tables.items():
        for kind, chosen in (("known", errors.known), ("hidden", ~errors.known)):
            if chosen.any():
                values = figures(errors.of(chosen))
                lines.append([name, f"{kind}, {int(chosen.sum())}", *(f"{value:.3f}" for value in values.values())])
    head = ["uncertainty", "pixels", "inside 50 %", "inside 90 %", "calibration error", "NLL"]
    return markdown_table(head, lines)


def main() -> None:
    """Run the command."""
    options = tyro.cli(CalibrationOptions, prog="mirage eval calibration", description=__doc__)
    world = options.load()
    walks = sim_cases("sim", world.height, world.width, options.limit)
    if len(walks) < 2:
        raise ValueError(f"limit: expected at least 2 walks, one to fit and one to judge, got {len(walks)}")
    unseen: tuple[Unseen, ...] = ("mean", "sample") if world.networks.draws("sample") else ("mean",)
    each = [
        [errors_of(world, case, options.seed, options.samples, kind) for kind in unseen]
        for case in tqdm(walks, unit="walk")
    ]
    judged, *judged_drawn = (Errors.joined(parts) for parts in zip(*each[1::2], strict=True))
    fitted, *fitted_drawn = (Errors.joined(parts) for parts in zip(*each[::2], strict=True))
    doubt = fit(fitted, *fitted_drawn)
    tables = {
        "as given" if options.samples == 1 else f"spread of {options.samples}": judged,
        "table": scaled(judged, doubt),
    }
    if fitted_drawn:
        tables |= {"drawn, as given": judged_drawn[0], "drawn, table": scaled(judged_drawn[0], doubt.of_samples())}
    print(report(tables))
    print(doubt)
    if options.write:
        folder = Path(options.weights) if options.weights else weights_directory() / options.preset
        print(doubt.save(folder))


if __name__ == "__main__":
    main()
