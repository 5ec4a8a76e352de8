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

from mirage_ros.evaluation.scores import COLUMNS, summary
from mirage_ros.media import contact_sheet, save_png

Rows = Sequence[Mapping[str, Any]]


def write_report(folder: Path, rows: Rows, settings: Mapping[str, Any], descriptions: Mapping[str, str]) -> str:
    """Write summary.json, table.md, drift.png, sheet-CASE.png and report.html; gives the table.

    Args:
        folder: where pictures of the run are already.
        rows: of all methods.
        settings: shown above the table.
        descriptions: of the methods.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    summaries = {name: summary([row for row in rows if row["method"] == name]) for name in methods}
    (folder / "summary.json").write_text(
        json.dumps({"settings": dict(settings), "methods": summaries}, indent=2) + "\n"
    )
    table = markdown(summaries)
    (folder / "table.md").write_text(table)
    pictures = [_plot_drift(folder, rows, methods), *_sheets(folder, methods)]
    (folder / "report.html").write_text(_page(settings, table, summaries, descriptions, pictures))
    return table


def markdown(summaries: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """The table: means, with half the width of their 95 % intervals; columns that nobody has are left out."""
    shown = [name for name in COLUMNS if any(math.isfinite(values[name][0]) for values in summaries.values())]
    lines = ["| method | " + " | ".join(COLUMNS[name][0] for name in shown) + " |", "|" + "---|" * (len(shown) + 1)]
    for method, values in summaries.items():
        lines.append(f"| {method} | " + " | ".join(_cell(name, values[name]) for name in shown) + " |")
    return "\n".join(lines) + "\n"


def _cell(name: str, value: tuple[float, float, float]) -> str:
    mean, low, high = value
    if not math.isfinite(mean):
        return "-"
    text = format(mean, COLUMNS[name][1])
    if name in ("psnr", "psnr_visible", "psnr_hidden") and math.isfinite(low):
        text += f" ±{(high - low) / 2:.2f}"
    return text


def _plot_drift(folder: Path, rows: Rows, methods: Sequence[str]) -> Path:
    """PSNR against the frame's place in the walk."""
    try:
        import matplotlib
    except ImportError as error:
        raise RuntimeError("report: matplotlib is not installed; pip install 'mirage_ros[eval]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    for name in methods:
        curves = [row["drift"] for row in rows if row["method"] == name]
        length = min(len(curve) for curve in curves)
        mean = np.mean([curve[:length] for curve in curves], axis=0)
        # The first frame was shown.
        axes.plot(np.arange(1, length), np.minimum(mean[1:], 60), label=name)
    axes.set_xlabel("frame of the walk")
    axes.set_ylabel("PSNR, dB")
    axes.legend(fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    path = folder / "drift.png"
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
    table: str,
    summaries: Mapping[str, Mapping[str, tuple[float, float, float]]],
    descriptions: Mapping[str, str],
    pictures: Sequence[Path],
) -> str:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in cells[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells[2:])
    facts = ", ".join(f"{html.escape(name)} {html.escape(str(value))}" for name, value in settings.items())
    legend = "".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(descriptions.get(name, ''))}</li>" for name in summaries
    )
    images = "".join(_picture(path) for path in pictures)
    return (
        "<!doctype html><meta charset=utf-8><title>Evaluation</title>"
        "<style>body{font:15px system-ui;margin:2em;max-width:1300px}table{border-collapse:collapse;font-size:12px}"
        "td,th{padding:.25em .7em;border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child"
        "{text-align:left}img{max-width:100%}</style>"
        f"<h1>{html.escape(str(settings.get('protocol', '')))}</h1><p>{facts}</p>"
        f"<table><tr>{head}</tr>{body}</table><ul>{legend}</ul>{images}"
    )


def _picture(path: Path) -> str:
    """A heading and the picture itself, so that the page is one file."""
    name, content = html.escape(path.stem), base64.b64encode(path.read_bytes()).decode()
    return f'<h3>{name}</h3><img alt="{name}" src="data:image/png;base64,{content}">'
