"""The imagined camera as somebody moves it: a preview at once, imagined frames once it rests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future

from torch import Tensor

from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.viewer.source import Source, Task
from mirage_ros.world.results import Cancelled

# Seconds without movement after which the view is imagined.
REST = 0.4


class Driver:
    """Asks a source for what the camera sees, the newest pose first.

    Attributes:
        rest: whether the view is imagined when the camera rests.
        remember: whether what is imagined stays in the memory.
    """

    def __init__(self, source: Source, show: Callable[[ImaginedFrame, str], None], say: Callable[[str], None]) -> None:
        """Start the thread that asks; previews are shown with what they are, and what goes wrong is said."""
        self._source, self._show, self._say = source, show, say
        self.rest, self.remember = True, False
        self._pose: Tensor | None = None
        self._moved, self._new = 0.0, False
        # Paths go on while the camera moves, a view where it was does not.
        self._task: Task | None = None
        self._glance: Task | None = None
        self._asked, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="mirage view driver", daemon=True)
        self._thread.start()

    def move(self, pose: Tensor) -> None:
        """The camera is at a (4, 4) optical pose."""
        with self._asked:
            self._pose, self._moved, self._new = pose, time.monotonic(), True
            self._asked.notify_all()

    def imagine(
        self, paths: Sequence[Tensor], labels: Sequence[str], done: Callable[[list[ImaginedFrame]], None]
    ) -> None:
        """Imagine paths in place of those under way; `done` gets the frames of each."""
        self.stop()
        self._task = self._start(paths, labels, done)

    def _start(
        self, paths: Sequence[Tensor], labels: Sequence[str], done: Callable[[list[ImaginedFrame]], None]
    ) -> Task | None:
        try:
            task = self._source.imagine(paths, labels, self.remember and len(paths) == 1)
        except (ValueError, RuntimeError) as error:
            self._say(str(error))
            return None

        def finished(future: Future[list[ImaginedFrame]]) -> None:
            try:
                frames = future.result()
            except (Cancelled, CancelledError):
                return
            except Exception as error:
                self._say(f"{type(error).__name__}: {error}")
            else:
                done(frames)

        task.future.add_done_callback(finished)
        return task

    def stop(self) -> None:
        """End what is being imagined."""
        for task in (self._task, self._glance):
            if task is not None and not task.future.done():
                task.cancel()

    def close(self) -> None:
        """End the thread."""
        with self._asked:
            self._closing = True
            self._asked.notify_all()
        self.stop()
        self._thread.join(10.0)

    def _run(self) -> None:
        rested: Tensor | None = None
        while not self._closing:
            with self._asked:
                self._asked.wait_for(lambda: self._closing or self._new, REST / 2)
                pose, resting = self._pose, time.monotonic() - self._moved >= REST
                new, self._new = self._new, False
            if self._closing or pose is None:
                continue
            if new:
                if self._glance is not None:
                    self._glance.cancel()
                try:
                    self._show(self._source.preview(pose), "preview")
                except Exception as error:
                    self._say(f"{type(error).__name__}: {error}")
            elif resting and self.rest and pose is not rested and (self._task is None or self._task.future.done()):
                rested = pose
                self._glance = self._start([pose[None]], ["here"], lambda frames: None)
