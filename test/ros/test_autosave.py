"""Automatic saves are not lost: not by a failure, not by a file that cannot be used, not by a second node."""

import os
from types import SimpleNamespace

import pytest

from mirage_ros.ros.autosave import Autosave
from mirage_ros.ros.parameters import MemoryParameters, MirageParameters
from mirage_ros.ros.work_queue import Worker


class Session:
    """A memory whose file holds how often it was written."""

    def __init__(self):
        self.snapshot = SimpleNamespace(changes=0)
        self.fails = False

    def save(self, path):
        if self.fails:
            raise OSError("No space left on device")
        path.write_text(str(self.snapshot.changes))

    def read(self, path):
        if not path.read_text().isdigit():
            raise ValueError(f"{path}: does not fit into max_bytes")
        return int(path.read_text())

    def load(self, memory):
        return memory


@pytest.fixture
def make(tmp_path):
    """Makes contexts of nodes that share a folder."""
    workers = []

    def context(period=0.001):
        logger = SimpleNamespace(warning=lambda text: None)
        workers.append(Worker())
        events = {}
        return SimpleNamespace(
            session=Session(),
            worker=workers[-1],
            parameters=MirageParameters(memory=MemoryParameters(folder=str(tmp_path), autosave=period)),
            health=SimpleNamespace(standing={}, events=events, event=events.__setitem__),
            node=SimpleNamespace(get_logger=lambda: logger),
        )

    yield context
    for worker in workers:
        worker.close()


def pumped(autosave, context):
    """After the next period, and the save that it may have begun."""
    autosave._time -= 1.0
    autosave.pump()
    context.worker.call(lambda: None).result(10)


def test_a_failed_save_is_tried_again_at_the_next_period(make):
    context = make()
    autosave = Autosave(context)
    context.session.snapshot.changes, context.session.fails = 1, True
    pumped(autosave, context)
    assert "No space left" in context.health.events["memory.autosave"]
    assert not autosave.path.exists()
    context.session.fails = False
    pumped(autosave, context)
    assert autosave.path.read_text() == "1"
    autosave.path.unlink()
    pumped(autosave, context)
    assert not autosave.path.exists(), "nothing changed"


def test_it_waits_for_its_period_and_saves_at_the_end_what_changed(make):
    context = make(period=1000.0)
    autosave = Autosave(context)
    context.session.snapshot.changes = 1
    autosave.pump()
    context.worker.call(lambda: None).result(10)
    assert not autosave.path.exists()
    autosave.close()
    assert autosave.path.read_text() == "1"


def test_every_file_that_cannot_be_used_is_kept(make):
    """A memory of another preset or cap is no rubbish."""
    for text in ("another preset", "another cap"):
        context = make()
        autosave = Autosave(context)
        autosave.path.write_text(text)
        assert "moved to" in autosave.restore()
        autosave.close()
    aside = [autosave.path.with_name(f"autosave-{number}.safetensors").read_text() for number in (1, 2)]
    assert aside == ["another preset", "another cap"]


def test_a_second_node_with_the_same_folder_says_so_and_neither_loads_nor_saves(make):
    first, second = make(), make()
    owner = Autosave(first)
    other = Autosave(second)
    assert not first.health.standing
    told = second.health.standing["memory.autosave"]
    assert str(other.path) in told
    assert f"process {os.getpid()} saves to it already" in told
    second.session.snapshot.changes = 7
    pumped(other, second)
    other.close()
    assert not other.path.exists()
    first.session.snapshot.changes = 3
    pumped(owner, first)
    assert other.path.read_text() == "3"
    assert other.restore() == ""
    owner.close()
    assert owner.path.read_text() == "3"
    third = make()
    assert Autosave(third).restore().startswith("3 elements restored")
    assert not third.health.standing
