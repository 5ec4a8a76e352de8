"""`mirage view`: drive an imagined camera through a saved memory or a running node, in the browser (extra view).

With --rerun, what a running node sees and imagines goes to Rerun instead (extra viz).
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from pathlib import Path

from mirage_ros.resources import optional_package
from mirage_ros.viewer.source import SavedMemory, Source
from mirage_ros.viewer.window import BrowserWindow


def opened(options: argparse.Namespace) -> Source:
    """The saved memory that was named, or a running node."""
    if options.memory is not None:
        weights = "" if options.weights is None else str(options.weights)
        return SavedMemory(
            options.memory, preset=options.preset, weights=weights, random_weights=options.random_weights
        )
    from mirage_ros.viewer.live import LiveNode

    return LiveNode(options.namespace, options.image, options.timeout)


def main() -> None:
    """Serve the window, or feed Rerun, until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("memory", nargs="?", type=Path, help="file of a saved memory; a running node without one")
    parser.add_argument("--preset", default="default", help="of the saved memory")
    parser.add_argument("--weights", type=Path, help="of the preset, where it brings none")
    parser.add_argument("--random-weights", action="store_true", help="run the preset untrained")
    parser.add_argument("--namespace", default="", help="of the running node mirage")
    parser.add_argument("--image", default="image", help="topic of the running robot's camera")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for the running node")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at; 0.0.0.0 opens it to the network")
    parser.add_argument("--port", type=int, default=8080, help="the next free one from there is taken")
    parser.add_argument("--rerun", action="store_true", help="show a running node in Rerun instead")
    parser.add_argument("--save", type=Path, help="with --rerun: write a .rrd file instead of opening a window")
    options = parser.parse_args()
    if options.rerun:
        from mirage_ros.viewer import rerun_log

        rerun_log.run(options.namespace, options.save)
        return
    optional_package("viser", "view")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with (
        contextlib.closing(opened(options)) as source,
        contextlib.closing(BrowserWindow(source, options.host, options.port)) as window,
    ):
        print(f"open {window.url} in a browser; Ctrl-C ends", flush=True)
        ended.wait()
