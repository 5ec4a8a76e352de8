"""What the pages name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
# `memory/files.py`, docs/node.md, config/fastdds.xml: at least one folder, and a suffix of something that we keep.
NAMED = re.compile(r"(?<![\w./-])((?:\w+/)+\w[\w.-]*\.(?:py|md|yaml|xml|json|c))\b")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
# Written by commands.
MADE = ("out/", "build/", "runs/", "data/", "walk/", "RUN/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_exist(page):
    text = page.read_text()
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    places = (ROOT, ROOT / "mirage_ros", page.parent)
    missing += [
        name
        for name in NAMED.findall(text)
        if not name.startswith(MADE) and not any((place / name).exists() for place in places)
    ]
    assert not missing, f"{page.name} names what is not there: {', '.join(sorted(set(missing)))}"
