"""Work that is split over processes, of one machine or of several, that share nothing but a folder.

They are numbered by RANK and WORLD_SIZE, as torchrun does: it comes with torch, and runs on every machine that trains.
When one fails it stops the others; the same command goes on with what is left. A cluster's scheduler or a shell on each
machine that sets the two does as well. They never talk: each writes files of its own, and whoever finds all of them
there puts the one result together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def process_and_count() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are.

    Raises:
        ValueError: the environment says something else.
    """
    texts = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdecimal() for text in texts) or not int(texts[0]) < int(texts[1]):
        raise ValueError(f"RANK, WORLD_SIZE: expected a number from 0 and a greater one, got {texts[0]} and {texts[1]}")
    return int(texts[0]), int(texts[1])


def is_mine(index: int) -> bool:
    """Whether this process does the work of this number: they take turns."""
    process, count = process_and_count()
    return index % count == process


def mine_first(items: Sequence[Item]) -> list[Item]:
    """All of what every process needs in the end, beginning with this one's share.

    The others' comes after in reverse, where most is still to be done if they lag behind; what is there is skipped by
    whoever looks.
    """
    mine = [item for index, item in enumerate(items) if is_mine(index)]
    return [*mine, *reversed([item for index, item in enumerate(items) if not is_mine(index)])]


def refuse_several(what: str) -> None:
    """Refuse to do several times what cannot be split, with a ValueError."""
    _, count = process_and_count()
    if count > 1:
        raise ValueError(f"WORLD_SIZE: expected 1, {what} is not split over processes, got {count}")
