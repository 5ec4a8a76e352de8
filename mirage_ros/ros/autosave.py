"""Keeping the memory across restarts: automatic saves, and loading the last one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from mirage_ros.ros.model_session import Engine
from mirage_ros.ros.work_queue import BusyError, Worker

AUTOSAVE = "autosave.safetensors"


class Keeper:
    """Saves one engine's memory to one file while it changes."""

    def __init__(self, engine: Engine, worker: Worker, folder: Path, failed: Callable[[str], None]) -> None:
        """Set up.

        Args:
            engine, worker: that save.
            folder: of the file.
            failed: told the reason when a save fails.
        """
        self._engine, self._worker, self._failed = engine, worker, failed
        self.path = folder / AUTOSAVE
        self._changes, self._time = engine.snapshot.changes, time.monotonic()

    def restore(self) -> str:
        """Load the last automatic save, if there is one; what happened, in words, or nothing."""
        if not self.path.exists():
            return ""
        try:
            count = self._worker.call(lambda: self._engine.load(self.path)).result()
        except (ValueError, OSError) as error:
            # The next automatic save would overwrite it.
            aside = self.path.with_suffix(".unreadable")
            os.replace(self.path, aside)
            return f"{error}; moved to {aside}, starting empty"
        self._changes = self._engine.snapshot.changes
        return f"{count} elements restored from {self.path}"

    def due(self, period: float) -> bool:
        """Whether the memory changed and the period in seconds has passed since the last save; 0 is never."""
        return bool(period) and self._changed() and time.monotonic() - self._time >= period

    def save(self) -> Future[Any]:
        """Save in the worker's thread."""
        self._changes, self._time = self._engine.snapshot.changes, time.monotonic()
        future = self._worker.call(lambda: self._engine.save(self.path), slot="autosave")

        def done(finished: Future[Any]) -> None:
            if not finished.cancelled() and finished.exception() is not None:
                self._failed(f"failed: {finished.exception()}")

        future.add_done_callback(done)
        return future

    def finish(self) -> None:
        """Save what changed, and wait for it."""
        if self._changed():
            try:
                self.save().exception()
            except (BusyError, CancelledError) as error:
                self._failed(f"failed: {error}")

    def _changed(self) -> bool:
        return self._engine.snapshot.changes != self._changes
