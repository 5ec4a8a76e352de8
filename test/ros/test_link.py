"""Requests of a client that end without an answer."""

import threading

import numpy as np
import pytest

from mirage_ros.geometry import pinhole


def test_a_request_without_an_answer_leaves_nothing_behind(mirage):
    from mirage_ros.client import Mirage

    gate, camera = threading.Event(), pinhole(80, 120, vertical_fov=0.9)
    with Mirage(timeout=240.0) as client:
        link, old = client._link, client.status()
        # Who knows whether the node does it yet: what it said before does not count any more.
        with pytest.raises(TimeoutError, match="load_memory: no answer within 0 s"):
            link.ask("load_memory", 0.0, path="missing")
        assert client.status() is not old
        mirage.node.configured.context.worker.call(gate.wait)
        try:
            with pytest.raises(TimeoutError, match="the node did not take the camera frame"):
                client.observe(np.zeros((80, 120, 3), np.uint8), None, camera, timeout=2.0)
        finally:
            gate.set()
        assert not link._answers
    with pytest.raises(Exception, match="destr|invalid"):
        client.reset()
    assert not link._answers
