"""Who does which part of the work."""

from __future__ import annotations

import pytest

from mirage_ros.processes import is_mine, mine_first, process_and_count, refuse_several


def number(monkeypatch, rank: str, count: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", count)


def test_one_process_does_everything_in_order():
    assert process_and_count() == (0, 1)
    assert mine_first("abc") == ["a", "b", "c"]
    refuse_several("this")


def test_all_work_is_somebodys_and_nobody_waits_for_another(monkeypatch):
    owners = []
    for rank in range(3):
        number(monkeypatch, str(rank), "3")
        owners.append({index for index in range(8) if is_mine(index)})
        assert sorted(mine_first(range(8))) == list(range(8))
        assert set(mine_first(range(8))[: len(owners[-1])]) == owners[-1]
    assert sorted(index for owned in owners for index in owned) == list(range(8))
    assert mine_first(range(8)) == [2, 5, 7, 6, 4, 3, 1, 0]
    with pytest.raises(ValueError, match="WORLD_SIZE: expected 1, this is not split over processes, got 3"):
        refuse_several("this")


@pytest.mark.parametrize(("rank", "count"), [("2", "2"), ("-1", "2"), ("0", "0"), ("one", "2")])
def test_numbers_that_cannot_be_are_refused(monkeypatch, rank, count):
    number(monkeypatch, rank, count)
    with pytest.raises(ValueError, match="RANK, WORLD_SIZE: expected a number from 0 and a greater one"):
        process_and_count()
