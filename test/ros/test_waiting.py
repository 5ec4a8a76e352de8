"""Futures of the worker as the node's coroutines wait for them."""

import gc
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from mirage_ros.ros.waiting import OpenRequests
from mirage_ros.world.results import Cancelled


@pytest.mark.parametrize("end", ["error", "cancelled"])
def test_an_error_that_nobody_awaits_any_more_is_not_printed(capsys, end):
    """As when an interrupt has shut ROS down, and the worker then gives up what it did."""
    work, requests = Future(), OpenRequests(SimpleNamespace(executor=None), lambda: None)
    waiting = requests.awaitable(work)
    if end == "error":
        work.set_exception(Cancelled("scores of 6 paths was cancelled"))
    else:
        work.cancel()
    # Who does await it still gets it.
    with pytest.raises(StopIteration) as returned:
        next(iter_of(waiting))
    assert isinstance(returned.value.value, Cancelled)
    unheard = OpenRequests(SimpleNamespace(executor=None), lambda: None).awaitable(failed())
    del unheard
    gc.collect()
    assert "never retrieved" not in capsys.readouterr().err


def failed():
    work = Future()
    work.set_exception(Cancelled("scores of 6 paths was cancelled"))
    return work


def iter_of(waiting):
    async def awaiting():
        try:
            await waiting
        except Cancelled as error:
            return error

    return awaiting().__await__()
