import numpy as np

from mirage_ros.evaluation.baselines.wall_lines import BEFORE, BEHIND, ON, continue_walls


def seen_room():
    """A camera at (50, 50) that saw a piece of a wall along row 120, and free space up to it."""
    known = np.full((200, 200), -1, np.int8)
    known[60:120, 40:80] = 0
    known[120, 40:80] = 100
    return known


def test_a_wall_goes_on_where_nobody_saw_it():
    said = continue_walls(seen_room(), (50.0, 50.0))
    assert said[120, 150] == said[120, 5] == ON
    assert said[140, 150] == said[190, 60] == BEHIND
    assert said[100, 150] == said[10, 10] == BEFORE


def test_a_long_table_is_no_wall():
    known = seen_room()
    known[90, 45:75] = 100
    known[121:180, 40:80] = known[120, 40:80] = 0
    assert (continue_walls(known, (50.0, 50.0)) == BEFORE).all()


def test_without_anything_seen_there_are_no_walls():
    assert (continue_walls(np.full((60, 60), -1, np.int8), (30.0, 30.0)) == BEFORE).all()
