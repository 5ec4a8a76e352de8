"""The examples that move a robot: it sees more with every move, and comes nearer to its goal."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS = ["--timeout", "240", "--moves", "3"]


def run(node, capsys, name, *arguments):
    """What an example says beside a node that remembers nothing."""
    node.call("reset", keep_observations=False)
    runpy.run_path(str(EXAMPLES / name))["main"]([*ARGUMENTS, "--namespace", node.namespace, *arguments])
    return capsys.readouterr().out


@pytest.mark.sim
@pytest.mark.slow
def test_the_explorer_sees_more_of_the_room_and_the_goal_finder_comes_nearer(new_node, capsys):
    # Only the shipped weights know what a view shows.
    node = new_node("robot", preset="default", random_weights=False).start()
    said = run(node, capsys, "explorer.py", "--imagine")
    known = [float(area) for area in re.findall(r"after \d moves ([\d.]+) square metres are known", said)]
    assert len(known) > 1, said
    assert known[-1] > 1.2 * known[0] > 2, said
    for arguments in ((), ("--imagine",)):
        said = run(node, capsys, "goal_finder.py", *arguments)
        away = [float(metres) for metres in re.findall(r"after \d moves the goal is ([\d.]+) m away", said)]
        assert len(away) > 1, said
        assert min(away) < 0.6 * away[0], said
