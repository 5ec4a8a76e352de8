"""The script that does what wants a GPU: each step once, whatever became of the others."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def script():
    path = Path(__file__).parents[1] / "tools" / "on_gpu.py"
    specification = importlib.util.spec_from_file_location("on_gpu", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_second_run_goes_on_where_the_first_stopped(script, tmp_path, monkeypatch):
    python, log = Path(sys.executable).name, tmp_path / "log"
    count = f"open({str(log)!r}, 'a').write('x')"
    fails_once = (
        f"import pathlib, sys; p = pathlib.Path({str(tmp_path / 'once')!r}); e = p.exists(); p.touch(); e or 1 / 0"
    )
    steps = [("good", count), ("later", fails_once), ("slow", "import time; time.sleep(60)")]
    commands = [(name, 1 if name == "slow" else 60, (python, "-c", code), ()) for name, code in steps]
    monkeypatch.setattr(script, "STEPS", commands)
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", str(tmp_path / "out")])
    assert script.main() == 1
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "| later | failed with 1" in summary
    assert "| slow | stopped after 1 s |" in summary
    assert "ZeroDivisionError" in (tmp_path / "out" / "later.txt").read_text()
    monkeypatch.setattr(script, "STEPS", commands[:2])
    assert script.main() == 0
    assert log.read_text() == "x"
    assert "| good | done before" in (tmp_path / "out" / "summary.md").read_text()


def test_steps_know_the_folder_and_may_set_the_environment(script, tmp_path, monkeypatch):
    code = "import os, sys; open(sys.argv[1] + '/found', 'w').write(os.environ['GRAPHS'])"
    command = ("GRAPHS=1=2", Path(sys.executable).name, "-c", code, "{out}")
    monkeypatch.setattr(script, "STEPS", [("one", 60, ("false",), command)])
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", str(tmp_path), "--rehearse"])
    assert script.main() == 0
    assert (tmp_path / "found").read_text() == "1=2"


def test_all_steps_together_keep_to_ten_minutes(script):
    assert sum(limit for _, limit, _, _ in script.STEPS) < 600
