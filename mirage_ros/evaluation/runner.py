"""Running methods over a protocol, case by case, resumable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mirage_ros.evaluation.cases import Case, CaseList
from mirage_ros.evaluation.hidden_regions import PATCHES, hidden_patches
from mirage_ros.evaluation.kept_parts import keep
from mirage_ros.evaluation.methods import Method
from mirage_ros.evaluation.metrics import Lpips
from mirage_ros.evaluation.scores import by_chunk, drift, score
from mirage_ros.evaluation.two_sample import WINDOWS, hidden_windows
from mirage_ros.media import save_png
from mirage_ros.world.model import WorldModel

ROWS, SETTINGS = "rows.jsonl", "settings.json"
# Pictures of a case that is shown in the report.
SHOWN_FRAMES = 6


def evaluate(
    world: WorldModel,
    protocol: CaseList,
    methods: Mapping[str, Method],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int = 0,
    lpips: Lpips | None = None,
    sheets: int = 6,
) -> list[dict[str, Any]]:
    """Score every method on every case.

    Rows are appended to rows.jsonl as they are ready; what is there already is not done again.

    Args:
        settings: what the figures depend on; a folder with other settings is refused.
        seed: of the methods, and of which cases are shown.
        lpips: the learned distance, if it is to be measured.
        sheets: cases whose pictures are kept for the report.

    Raises:
        ValueError: the folder holds results under other settings.
    """
    claim_folder(folder, settings)
    rows = read_rows(folder)
    done = {(row["case"], row["method"]) for row in rows}
    shown_cases = set(np.random.default_rng(seed).permutation(len(protocol))[:sheets].tolist())
    with tqdm(total=len(protocol) * len(methods), desc=protocol.name, unit="case") as bar:
        for number, case in enumerate(protocol):
            missing = [name for name in methods if (case.name, name) not in done]
            bar.update(len(methods) - len(missing))
            if not missing:
                continue
            shown = number in shown_cases
            _keep(folder, case, case.clip.rgb, None, shown)
            for name in missing:
                bar.set_postfix(case=case.name, method=name)
                outcome = methods[name](world, case, seed)
                chunks = by_chunk(case, outcome, world.preset.chunk_frames - 1)
                row = {
                    "case": case.name,
                    "method": name,
                    **score(case, outcome, lpips),
                    "drift": [round(value, 4) for value in drift(case, outcome)],
                    "chunks": [{measure: round(value, 4) for measure, value in chunk.items()} for chunk in chunks],
                }
                _keep(folder, case, outcome.rgb, name, shown)
                rows += append_rows(folder, [row])
                bar.update()
    return rows


def append_rows(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write finished rows, and give them back.

    One write for all, so that a kill leaves either none or what `read_rows` can cut off.
    """
    with (folder / ROWS).open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows that are finished; a line that a kill cut off is left out, and cut off in the file."""
    path = folder / ROWS
    if not path.exists():
        return []
    rows, good = [], 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
        good += len(line)
    if good < len(content):
        path.write_bytes(content[:good])
    return rows


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder for results under some settings.

    Raises:
        ValueError: it is a file, or holds results under other settings, or something else altogether.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out: expected a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    path, settings = folder / SETTINGS, dict(settings)
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"out: expected the settings of a run in {path}, which cannot be read: {error}") from error
        different = sorted(name for name in settings.keys() | found.keys() if settings.get(name) != found.get(name))
        if different:
            raise ValueError(
                f"out: expected a new folder or one with the same settings, {folder} has other "
                + ", ".join(f"{name} ({found.get(name)!r}, not {settings.get(name)!r})" for name in different)
            )
        return
    if any(folder.iterdir()):
        raise ValueError(f"out: expected an empty folder or one of such a run, {folder} holds other files")
    # Whole or not at all: a kill must not leave half a file, which a later run could not read.
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(settings, indent=2) + "\n")
    fresh.replace(path)


def _keep(folder: Path, case: Case, rgb: NDArray[np.uint8], method: str | None, shown: bool) -> None:
    """Keep patches and windows, and where they are shown pictures, of a method's answer or of the truth."""
    scored = list(case.scored)
    parts = rgb[scored], case.hidden[scored]
    keep(folder, PATCHES, case.name, hidden_patches(*parts), method)
    keep(folder, WINDOWS, case.name, hidden_windows(*parts, parity=int(method is not None)), method)
    if shown:
        path = folder / "pictures" / case.name / f"{method or 'truth'}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picked = np.linspace(0, len(rgb) - 1, SHOWN_FRAMES).round().astype(int)
        save_png(path, np.concatenate(rgb[picked], axis=1))
