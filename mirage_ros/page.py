"""One HTML page with everything inside: pictures, films and figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

_TYPES = {".png": "image/png", ".mp4": "video/mp4"}
_STYLE = """
body { background: #18181b; color: #e4e4e7; font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
figure { margin: 1rem 0; } img, video { max-width: 100%; image-rendering: pixelated; display: block; }
figcaption, .note { color: #a1a1aa; } .warning { color: #fbbf24; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { padding: .15rem 1.2rem .15rem 0; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #18181b; }
td:nth-child(2):last-child { text-align: left; white-space: normal; }
"""


def figure(path: Path, caption: str) -> str:
    """A picture or film, embedded."""
    kind = _TYPES[path.suffix]
    source = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    shown = (
        f'<video src="{source}" controls autoplay loop muted playsinline></video>'
        if kind.startswith("video")
        else f'<img src="{source}" alt="{html.escape(caption)}">'
    )
    return f"<figure>{shown}<figcaption>{html.escape(caption)}</figcaption></figure>"


def table(lines: Iterable[Iterable[object]], head: Iterable[object] = ()) -> str:
    """Lines of cells, the first of each aligned to the left, the others to the right."""
    marked = [("th", head), *(("td", line) for line in lines)]
    rows = ("".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in line) for tag, line in marked)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows if row) + "</table>"


def write_page(path: Path, title: str, lead: str, warning: str, sections: Sequence[tuple[str, str]]) -> None:
    """Write the page.

    Args:
        path: of the file.
        title, lead, warning: text; the warning may be empty.
        sections: heading and HTML of each.
    """
    warn = f'<p class="warning">{html.escape(warning)}</p>' if warning else ""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections)
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>{warn}{body}</html>\n"
    )
