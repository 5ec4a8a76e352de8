import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.world.history import History, PastFrame


def frame(x: float, depth: float = 2.0) -> PastFrame:
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = x
    return PastFrame(torch.zeros(3, 8, 12), torch.full((8, 12), depth), pinhole(8, 12, focal=10.0, cam2world=pose))


def wall(x: float) -> torch.Tensor:
    """What a camera at x sees of a wall two metres away."""
    past = frame(x)
    return past.camera.lift(past.depth).reshape(-1, 3)


def test_the_frame_that_saw_most_comes_first_and_the_blind_one_not_at_all():
    history = History()
    far, half, same = frame(30.0), frame(1.0), frame(0.05)
    for past in (far, half, same):
        history.add(past)
    assert history.references(wall(0.0), 4)[0] is same
    assert far not in history.references(wall(0.0), 4)


def test_the_second_reference_is_the_one_that_adds_most():
    history = History()
    middle, nearly_same, left = frame(0.0), frame(0.05), frame(-1.2)
    for past in (middle, nearly_same, left):
        history.add(past)
    points = torch.cat([wall(0.0), wall(-1.2)])
    assert set(map(id, history.references(points, 2))) == {id(left), id(middle)} or set(
        map(id, history.references(points, 2))
    ) == {id(left), id(nearly_same)}


def test_a_frame_that_saw_something_in_front_does_not_count():
    history = History()
    history.add(frame(0.0, depth=1.0))
    assert history.references(wall(0.0), 2) == []


def test_excluded_frames_and_empty_readouts_give_none():
    history = History()
    past = frame(0.0)
    history.add(past)
    assert history.references(wall(0.0), 2, exclude=[past]) == []
    assert history.references(torch.full((9, 3), torch.nan), 2) == []


def test_the_oldest_go_and_forks_go_their_own_way():
    history = History(limit=2)
    first, second, third = frame(0.0), frame(0.1), frame(0.2)
    history.add(first)
    history.add(second)
    fork = history.fork()
    fork.add(third)
    assert len(fork) == 2
    assert first not in fork.references(wall(0.0), 2)
    assert first in history.references(wall(0.0), 2)


def test_a_limit_must_be_a_number_of_frames():
    with pytest.raises(ValueError, match="limit: expected"):
        History(-1)
