"""Running methods over a protocol, case by case, resumable, split over processes; see `processes`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mirage_ros.atomic_files import write_atomically
from mirage_ros.evaluation.cases import Case, CaseList
from mirage_ros.evaluation.hidden_regions import PATCHES, hidden_patches
from mirage_ros.evaluation.kept_parts import keep
from mirage_ros.evaluation.methods import Method
from mirage_ros.evaluation.metrics import Lpips
from mirage_ros.evaluation.scores import by_chunk, drift, score
from mirage_ros.evaluation.two_sample import WINDOWS, hidden_windows
from mirage_ros.media import save_png
from mirage_ros.processes import is_mine, process_and_count
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

    Rows are appended to rows.jsonl as they are ready; what is there already is not done again. Of several processes
    each does its share of the cases, and has a file of rows of its own until all is done.

    Args:
        settings: what the figures depend on; a folder with other settings is refused.
        seed: of the methods, and of which cases are shown.
        lpips: the learned distance, if it is to be measured.
        sheets: cases whose pictures are kept for the report.

    Returns:
        all rows that are there, in the order of the cases; those of other processes may be missing.

    Raises:
        ValueError: the folder holds results under other settings.
    """
    claim_folder(folder, settings)
    rows = read_rows(folder)
    done = {(row["case"], row["method"]) for row in rows}
    shown_cases = set(np.random.default_rng(seed).permutation(len(protocol))[:sheets].tolist())
    mine = [number for number in range(len(protocol)) if is_mine(number)]
    with tqdm(total=len(mine) * len(methods), desc=protocol.name, unit="case") as bar:
        for number in mine:
            case = protocol.makers[number]()
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
                    "number": number,
                    "case": case.name,
                    "method": name,
                    **score(case, outcome, lpips),
                    "drift": [round(value, 4) for value in drift(case, outcome)],
                    "chunks": [{measure: round(value, 4) for measure, value in chunk.items()} for chunk in chunks],
                }
                _keep(folder, case, outcome.rgb, name, shown)
                append_rows(folder, [row])
                bar.update()
    # Once each, though processes of another number may have done it again.
    found = {(row["case"], row["method"]): row for row in read_rows(folder)}
    order = {name: place for place, name in enumerate(methods)}
    # Rows of earlier versions have no number, and lie in order.
    rows = sorted(found.values(), key=lambda row: (row.get("number", -1), order.get(row["method"], len(order))))
    if len(_row_files(folder)) > 1 and is_complete(rows, protocol, methods):
        write_atomically(folder / ROWS, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return rows


def is_complete(rows: list[dict[str, Any]], protocol: CaseList, methods: Mapping[str, Method]) -> bool:
    """Whether every process has done its share."""
    return sum(row["method"] in methods for row in rows) >= len(protocol) * len(methods)


def append_rows(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write finished rows, and give them back.

    One write for all, so that a kill leaves either none or what `read_rows` can cut off.
    """
    with _own_rows(folder).open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of all processes that are finished.

    A line that a kill cut off is left out, and cut off in this process's own file; others may be writing theirs.
    """
    rows = []
    for path in _row_files(folder):
        good, content = 0, path.read_bytes()
        for line in content.splitlines(keepends=True):
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
            good += len(line)
        if good < len(content) and path == _own_rows(folder):
            path.write_bytes(content[:good])
    return rows


def _row_files(folder: Path) -> list[Path]:
    """Rows of a process alone and, numbered, of each of several."""
    names = re.compile(rf"{Path(ROWS).stem}(-\d+)?\.jsonl")
    return sorted(path for path in folder.glob("*.jsonl") if names.fullmatch(path.name))


def _own_rows(folder: Path) -> Path:
    process, count = process_and_count()
    return folder / (ROWS if count == 1 else f"{Path(ROWS).stem}-{process}.jsonl")


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder for results under some settings.

    Raises:
        ValueError: it is a file, or holds results under other settings, or something else altogether.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out: expected a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    path, settings = folder / SETTINGS, dict(settings)
    # Looked for first: another process may claim the folder meanwhile, or be about to.
    others = [found for found in folder.iterdir() if not found.name.startswith(f".{SETTINGS}.")]
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
    if others:
        raise ValueError(f"out: expected an empty folder or one of such a run, {folder} holds other files")
    write_atomically(path, (json.dumps(settings, indent=2) + "\n").encode())


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
