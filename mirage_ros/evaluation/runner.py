"""Running methods over a protocol, case by case, resumable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mirage_ros.evaluation.cases import CaseList
from mirage_ros.evaluation.hidden_regions import hidden_patches, keep_patches
from mirage_ros.evaluation.methods import Method
from mirage_ros.evaluation.metrics import Lpips
from mirage_ros.evaluation.scores import by_chunk, drift, score
from mirage_ros.media import save_png
from mirage_ros.world.model import WorldModel

ROWS, SETTINGS = "rows.jsonl", "settings.json"
# Cases whose pictures are kept for the report, and pictures of each.
SHOWN_CASES, SHOWN_FRAMES = 6, 6


def evaluate(
    world: WorldModel,
    protocol: CaseList,
    methods: Mapping[str, Method],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int = 0,
    lpips: Lpips | None = None,
) -> list[dict[str, Any]]:
    """Score every method on every case.

    Rows are appended to rows.jsonl as they are ready; what is there already is not done again.

    Args:
        world: the model.
        protocol: the cases.
        methods: by name.
        folder: for results.
        settings: what the figures depend on; a folder with other settings is refused.
        seed: of the noise.
        lpips: the learned distance, if it is to be measured.

    Raises:
        ValueError: the folder holds results under other settings.
    """
    claim_folder(folder, settings)
    rows = read_rows(folder)
    done = {(row["case"], row["method"]) for row in rows}
    total = len(protocol) * len(methods)
    with tqdm(total=total, desc=protocol.name, unit="case") as bar, (folder / ROWS).open("a") as file:
        for number, case in enumerate(protocol.cases()):
            if all((case.name, name) in done for name in methods):
                bar.update(len(methods))
                continue
            scored, hidden = list(case.scored), case.hidden()
            keep_patches(folder, case.name, hidden_patches(case.clip.rgb[scored], hidden[scored]))
            if number < SHOWN_CASES:
                _keep_pictures(folder, case.name, "truth", case.clip.rgb)
            for name, method in methods.items():
                bar.set_postfix(case=case.name, method=name)
                if (case.name, name) not in done:
                    outcome = method(world, case, seed)
                    row = {
                        "case": case.name,
                        "method": name,
                        **score(case, outcome, lpips),
                        "drift": [round(value, 4) for value in drift(case, outcome)],
                        "chunks": [
                            {measure: round(value, 4) for measure, value in chunk.items()}
                            for chunk in by_chunk(case, outcome, world.preset.chunk_frames - 1)
                        ],
                    }
                    keep_patches(folder, case.name, hidden_patches(outcome.rgb[scored], hidden[scored]), name)
                    if number < SHOWN_CASES:
                        _keep_pictures(folder, case.name, name, outcome.rgb)
                    rows.append(row)
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                bar.update()
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


def _keep_pictures(folder: Path, case: str, method: str, rgb: np.ndarray) -> None:
    place = folder / "pictures" / case
    place.mkdir(parents=True, exist_ok=True)
    picked = np.linspace(0, len(rgb) - 1, SHOWN_FRAMES).round().astype(int)
    save_png(place / f"{method}.png", np.concatenate([rgb[index] for index in picked], axis=1))
