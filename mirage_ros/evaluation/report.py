"""Results as a Markdown table, plots, contact sheets and one HTML page."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mirage_ros.evaluation.hidden_regions import LEAST_PATCHES, hidden_distance
from mirage_ros.evaluation.scores import BY_CHUNK, COLUMNS, chunk_summary, summary
from mirage_ros.media import contact_sheet, save_png

Rows = Sequence[Mapping[str, Any]]
CHUNKS = "chunks.md"
# A perfect answer must not squeeze the others' curves together.
MOST_DB = 60.0


def write_report(folder: Path, rows: Rows, settings: Mapping[str, Any], descriptions: Mapping[str, str]) -> str:
    """Write summary.json, table.md, drift.png, sheet-CASE.png and report.html; gives the table.

    Walks of several chunks get chunks.md and chunks.png too, and their figures into summary.json.

    Args:
        folder: where pictures of the run are already.
        rows: of all methods.
        settings: shown above the table.
        descriptions: of the methods.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    summaries = {name: summary([row for row in rows if row["method"] == name]) for name in methods}
    for name, values in summaries.items():
        values["hidden_distance"] = (hidden_distance(folder, name), math.nan, math.nan)
    chunks = {name: chunk_summary([row for row in rows if row["method"] == name]) for name in methods}
    chunks = {name: values for name, values in chunks.items() if len(values["psnr"]) > 1}
    figures = _strict({"settings": dict(settings), "methods": summaries, "chunks": chunks})
    (folder / "summary.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    tables = [markdown(summaries)]
    note = ""
    if not any(math.isfinite(values["hidden_distance"][0]) for values in summaries.values()):
        note = f"{COLUMNS['hidden_distance'][0]} is left out: it takes {LEAST_PATCHES} patches of hidden places.\n"
    (folder / "table.md").write_text(f"{tables[0]}\n{note}" if note else tables[0])
    pictures = [_plot_drift(folder, rows, methods)]
    if chunks:
        tables.append(chunk_markdown(chunks))
        (folder / CHUNKS).write_text(tables[1])
        pictures.append(_plot_chunks(folder, chunks))
    pictures += _sheets(folder, methods)
    (folder / "report.html").write_text(_page(settings, tables, summaries, descriptions, pictures, note))
    return f"{tables[0]}\n{note}" if note else tables[0]


def _strict(value: Any) -> Any:
    """The same with null for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _strict(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown(summaries: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """The table: means, with half the width of their 95 % intervals; columns that nobody has are left out."""
    shown = [name for name in COLUMNS if any(math.isfinite(values[name][0]) for values in summaries.values())]
    lines = ["| method | " + " | ".join(COLUMNS[name][0] for name in shown) + " |", "|" + "---|" * (len(shown) + 1)]
    for method, values in summaries.items():
        lines.append(f"| {method} | " + " | ".join(_cell(name, values[name]) for name in shown) + " |")
    return "\n".join(lines) + "\n"


def chunk_markdown(chunks: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """PSNR in dB of every chunk: all pixels, visible and hidden ones, as far as known; then the share of the visible.

    Args:
        chunks: by method, what `chunk_summary` gives.
    """
    count = max(len(values["psnr"]) for values in chunks.values())
    numbers = [str(number) for number in range(1, count + 1)]
    lines = ["| method | pixels | " + " | ".join(numbers) + " |", "|" + "---|" * (count + 2)]
    for name, pixels in BY_CHUNK.items():
        for method, values in chunks.items():
            if any(map(math.isfinite, values[name])):
                cells = _cells(values[name], COLUMNS[name][1], count)
                lines.append(f"| {method} | {pixels} | " + " | ".join(cells) + " |")
    shown = _shown(chunks)
    if any(map(math.isfinite, shown)):
        lines.append("| share of pixels | visible | " + " | ".join(_cells(shown, ".0%", count)) + " |")
    return "\n".join(lines) + "\n"


def _shown(chunks: Mapping[str, Mapping[str, Sequence[float]]]) -> Sequence[float]:
    """The visible share is the same for all methods; the one with the most chunks stands for them."""
    return max((values["shown"] for values in chunks.values()), key=len)


def _cells(values: Sequence[float], form: str, count: int) -> list[str]:
    cells = [format(value, form) if math.isfinite(value) else "-" for value in values]
    return cells + ["-"] * (count - len(cells))


def _cell(name: str, value: tuple[float, float, float]) -> str:
    mean, low, high = value
    if not math.isfinite(mean):
        return "-"
    text = format(mean, COLUMNS[name][1])
    if name in ("psnr", "psnr_sky", "psnr_visible", "psnr_hidden") and math.isfinite(low):
        text += f" ±{(high - low) / 2:.2f}"
    return text


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise RuntimeError("report: matplotlib is not installed; pip install 'mirage_ros[eval]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _plot_drift(folder: Path, rows: Rows, methods: Sequence[str]) -> Path:
    """PSNR against the frame's place in the walk."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    for name in methods:
        curves = [row["drift"] for row in rows if row["method"] == name]
        length = min(len(curve) for curve in curves)
        mean = np.mean([curve[:length] for curve in curves], axis=0)
        # The first frame was shown.
        axes.plot(np.arange(1, length), np.minimum(mean[1:], MOST_DB), label=name)
    axes.set_xlabel("frame of the walk")
    axes.set_ylabel("PSNR, dB")
    axes.legend(fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    path = folder / "drift.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _plot_chunks(folder: Path, chunks: Mapping[str, Mapping[str, Sequence[float]]]) -> Path:
    """PSNR against the chunk: all pixels, and visible and hidden ones where they are told apart."""
    pyplot = _pyplot()
    measures = [
        name for name in BY_CHUNK if any(math.isfinite(value) for values in chunks.values() for value in values[name])
    ]
    figure, grid = pyplot.subplots(
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
            shown = _shown(chunks)
            share = axes.twinx()
            share.bar(np.arange(1, len(shown) + 1), shown, color="grey", alpha=0.2)
            share.set(ylim=(0, 1), ylabel="share of the pixels (bars)")
    grid[0, 0].set_ylabel("PSNR, dB")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=8)
    path = folder / "chunks.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _sheets(folder: Path, methods: Sequence[str]) -> list[Path]:
    sheets = []
    for case in sorted(path for path in (folder / "pictures").glob("*") if path.is_dir()):
        strips = []
        for name in dict.fromkeys(["truth", *methods]):
            # A run that goes on has not drawn every method for every case yet.
            picture = cv2.imread(str(case / f"{name}.png")) if (case / f"{name}.png").exists() else None
            if picture is not None:
                strips.append((name, [np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8)]))
        if strips:
            sheets.append(folder / f"sheet-{case.name}.png")
            save_png(sheets[-1], contact_sheet(strips))
    return sheets


def _page(
    settings: Mapping[str, Any],
    tables: Sequence[str],
    summaries: Mapping[str, Mapping[str, tuple[float, float, float]]],
    descriptions: Mapping[str, str],
    pictures: Sequence[Path],
    note: str,
) -> str:
    facts = ", ".join(f"{html.escape(name)} {html.escape(str(value))}" for name, value in settings.items())
    legend = "".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(descriptions.get(name, ''))}</li>" for name in summaries
    )
    images = "".join(_picture(path) for path in pictures)
    remark = f"<p>{html.escape(note)}</p>" if note else ""
    return (
        "<!doctype html><meta charset=utf-8><title>Evaluation</title>"
        "<style>body{font:15px system-ui;margin:2em;max-width:1300px}table{border-collapse:collapse;font-size:12px}"
        "td,th{padding:.25em .7em;border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child"
        "{text-align:left}img{max-width:100%}</style>"
        f"<h1>{html.escape(str(settings.get('protocol', '')))}</h1><p>{facts}</p>"
        f"{_table(tables[0])}{remark}<ul>{legend}</ul>{''.join(map(_table, tables[1:]))}{images}"
    )


def _table(markdown: str) -> str:
    """The HTML of a Markdown table."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in cells[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells[2:])
    return f"<table><tr>{head}</tr>{body}</table>"


def _picture(path: Path) -> str:
    """A heading and the picture itself, so that the page is one file."""
    name, content = html.escape(path.stem), base64.b64encode(path.read_bytes()).decode()
    return f'<h3>{name}</h3><img alt="{name}" src="data:image/png;base64,{content}">'
