"""The command: what it says of wrong calls, and which errors keep their trace."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mirage_ros import cli


@pytest.fixture
def command(monkeypatch):
    """Makes `mirage broken` raise an error, and runs it."""

    def run(error: Exception) -> None:
        def main() -> None:
            raise error

        module = ModuleType("broken_command")
        module.main = main
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "broken", (module.__name__, "fails"))
        monkeypatch.setattr(sys, "argv", ["mirage", "broken"])
        cli.main()

    return run


def test_every_command_is_listed_and_a_wrong_one_names_them(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mirage"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in cli.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["mirage", "imagin"])
    with pytest.raises(SystemExit, match=r"mirage: unknown command 'imagin', expected one of imagine, doctor, .*view"):
        cli.main()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("steps: expected at least 1, got 0"),
        FileNotFoundError("weights: /nowhere is missing"),
        ImportError("quantised: needs torchao: pip install 'mirage_ros[quantised]'"),
    ],
)
def test_what_a_user_gave_or_lacks_is_said_in_one_line(command, error):
    with pytest.raises(SystemExit) as ended:
        command(error)
    assert ended.value.code == f"mirage broken: {error}"


@pytest.mark.parametrize("error", [KeyError("camera"), ModuleNotFoundError("No module named 'mirage_ros.wrold'")])
def test_a_fault_of_ours_keeps_its_trace(command, error):
    with pytest.raises(type(error)):
        command(error)
