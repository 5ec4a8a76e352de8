"""Results as a Markdown table, plots, contact sheets and one HTML page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mirage_ros.evaluation.hidden_regions import LEAST_PATCHES, hidden_distance
from mirage_ros.evaluation.scores import BY_CHUNK, COLUMNS, Interval, chunk_summary, summary
from mirage_ros.evaluation.two_sample import LEAST_WINDOWS, kept_auc
from mirage_ros.media import contact_sheet, read_picture, save_png
from mirage_ros.page import figure, table, write_page
from mirage_ros.resources import optional_package

Rows = Sequence[Mapping[str, Any]]
# Of each method, what `summary` and `chunk_summary` give.
Summaries = Mapping[str, Mapping[str, Interval]]
Chunks = Mapping[str, Mapping[str, Sequence[float]]]
CHUNKS = "chunks.md"
# What measures of all cases together take.
NEEDED = {
    "hidden_distance": f"{LEAST_PATCHES} patches of hidden places",
    "hidden_auc": f"{LEAST_WINDOWS} windows of hidden places in either half of the walks",
}
# A perfect answer must not squeeze the others' curves together.
MOST_DB = 60.0


def write_report(folder: Path, rows: Rows, settings: Mapping[str, Any], descriptions: Mapping[str, str]) -> str:
    """Write summary.json, table.md, drift.png, sheet-CASE.png and report.html; gives the table.

    Walks of several chunks get chunks.md and chunks.png too, and their figures into summary.json.

    Args:
        folder: where pictures of the run are already.
    """
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    summaries = {name: {**summary(own), **_together(folder, name)} for name, own in by_method.items()}
    chunks = {name: chunk_summary(own) for name, own in by_method.items()}
    chunks = {name: values for name, values in chunks.items() if len(values["psnr"]) > 1}
    figures = _strict({"settings": dict(settings), "methods": summaries, "chunks": chunks})
    (folder / "summary.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    tables = [markdown(summaries)]
    note = "".join(
        f"{COLUMNS[name][0]} is left out: it takes {needed}.\n"
        for name, needed in NEEDED.items()
        if not _any_finite(values[name][0] for values in summaries.values())
    )
    text = f"{tables[0]}\n{note}" if note else tables[0]
    (folder / "table.md").write_text(text)
    pictures = [_plot_drift(folder / "drift.png", by_method)]
    if chunks:
        tables.append(chunk_markdown(chunks))
        (folder / CHUNKS).write_text(tables[1])
        pictures.append(_plot_chunks(folder / "chunks.png", chunks))
    pictures += _sheets(folder, list(by_method))
    legend = {name: descriptions.get(name, "") for name in by_method}
    _write_page(folder / "report.html", settings, tables, legend, pictures, note)
    return text


def _together(folder: Path, method: str) -> dict[str, Interval]:
    """Measures of all cases together, which have no interval."""
    values = {"hidden_distance": hidden_distance(folder, method), "hidden_auc": kept_auc(folder, method)}
    return {name: (value, math.nan, math.nan) for name, value in values.items()}


def _strict(value: Any) -> Any:
    """The same with null for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _strict(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _any_finite(values: Iterable[float]) -> bool:
    return any(map(math.isfinite, values))


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    texts = ["| " + " | ".join(cells) + " |" for cells in (head, *lines)]
    return "\n".join([texts[0], "|" + "---|" * len(head), *texts[1:]]) + "\n"


def markdown(summaries: Summaries) -> str:
    """The table: means, with half the width of their 95 % intervals; columns that nobody has are left out."""
    shown = [name for name in COLUMNS if _any_finite(values[name][0] for values in summaries.values())]
    lines = ([method, *(_cell(name, values[name]) for name in shown)] for method, values in summaries.items())
    return markdown_table(["method", *(COLUMNS[name][0] for name in shown)], lines)


def family_markdown(rows: Rows) -> str:
    """The table of each method in each family of simulated scenes, whose names cases begin with.

    Measures that take all cases together are left out.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['method']}, {row['case'].partition('-')[0]}", []).append(row)
    missing = dict.fromkeys(NEEDED, (math.nan, math.nan, math.nan))
    return markdown({name: {**summary(own), **missing} for name, own in groups.items()})


def _cell(name: str, value: Interval) -> str:
    mean, low, high = value
    text = _number(mean, COLUMNS[name][1])
    return f"{text} ±{(high - low) / 2:.2f}" if name.startswith("psnr") and math.isfinite(low) else text


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def chunk_markdown(chunks: Chunks) -> str:
    """PSNR in dB of every chunk: all pixels, visible and hidden ones, as far as known; then the share of the visible.

    Args:
        chunks: by method, what `chunk_summary` gives.
    """
    shown = _shown(chunks)
    entries = [
        (method, pixels, values[name], COLUMNS[name][1])
        for name, pixels in BY_CHUNK.items()
        for method, values in chunks.items()
    ]
    lines = (
        [method, pixels, *(_number(value, form) for value in values), *["-"] * (len(shown) - len(values))]
        for method, pixels, values, form in (*entries, ("share of pixels", "visible", shown, ".0%"))
        if _any_finite(values)
    )
    return markdown_table(["method", "pixels", *(str(number + 1) for number in range(len(shown)))], lines)


def _shown(chunks: Chunks) -> Sequence[float]:
    """The visible share is the same for all methods; the one with the most chunks stands for them."""
    return max((values["shown"] for values in chunks.values()), key=len)


def pyplot() -> Any:
    """Matplotlib's, for files rather than a screen; a RuntimeError if it is not installed."""
    optional_package("matplotlib", "eval").use("Agg")
    from matplotlib import pyplot

    return pyplot


def _plot_drift(path: Path, by_method: Mapping[str, Rows]) -> Path:
    """PSNR against the frame's place in the walk."""
    figure, axes = pyplot().subplots(figsize=(7, 3.5), layout="constrained")
    for name, rows in by_method.items():
        length = min(len(row["drift"]) for row in rows)
        mean = np.mean([row["drift"][:length] for row in rows], axis=0)
        # The first frame was shown.
        axes.plot(np.arange(1, length), np.minimum(mean[1:], MOST_DB), label=name)
    axes.set(xlabel="frame of the walk", ylabel="PSNR, dB")
    axes.legend(fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    return save_plot(figure, path)


def _plot_chunks(path: Path, chunks: Chunks) -> Path:
    """PSNR against the chunk: all pixels, and visible and hidden ones where they are told apart."""
    measures = [name for name in BY_CHUNK if any(_any_finite(values[name]) for values in chunks.values())]
    figure, grid = pyplot().subplots(
        1, len(measures), figsize=(1 + 4 * len(measures), 3.8), layout="constrained", sharey=True, squeeze=False
    )
    for axes, name in zip(grid[0], measures, strict=True):
        for method, values in chunks.items():
            numbers = np.arange(1, len(values[name]) + 1)
            axes.plot(numbers, np.minimum(values[name], MOST_DB), label=method, marker="o", markersize=3)
        axes.set(xlabel="chunk", title=f"{BY_CHUNK[name]} pixels")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if name == "psnr_visible":
            # Where little is left of what was shown, a curve speaks for few pixels of few walks.
            shown, share = _shown(chunks), axes.twinx()
            share.bar(np.arange(1, len(shown) + 1), shown, color="grey", alpha=0.2)
            share.set(ylim=(0, 1), ylabel="share of the pixels (bars)")
    grid[0, 0].set_ylabel("PSNR, dB")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=8)
    return save_plot(figure, path)


def save_plot(figure: Any, path: Path) -> Path:
    """Write a figure of matplotlib and free it; gives the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot().close(figure)
    return path


def _sheets(folder: Path, methods: Sequence[str]) -> list[Path]:
    sheets = []
    for case in sorted(path for path in (folder / "pictures").glob("*") if path.is_dir()):
        # A run that goes on has not drawn every method for every case yet.
        drawn = [name for name in dict.fromkeys(["truth", *methods]) if (case / f"{name}.png").exists()]
        strips = [(name, [read_picture(case / f"{name}.png", "report")]) for name in drawn]
        if strips:
            sheets.append(folder / f"sheet-{case.name}.png")
            save_png(sheets[-1], contact_sheet(strips))
    return sheets


def _write_page(
    path: Path,
    settings: Mapping[str, Any],
    tables: Sequence[str],
    legend: Mapping[str, str],
    pictures: Sequence[Path],
    note: str,
) -> None:
    facts = ", ".join(f"{name} {value}" for name, value in settings.items())
    figures = "".join(map(_table, tables)) + table(legend.items())
    sections = [("Figures", figures), *((picture.stem, figure(picture, picture.stem)) for picture in pictures)]
    write_page(path, str(settings.get("protocol", "")), f"{facts}. {note}" if note else facts, "", sections)


def _table(markdown: str) -> str:
    """The HTML of a Markdown table."""
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines())
    return table(lines, head)
