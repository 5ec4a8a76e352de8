"""Keeping the memory across restarts: automatic saves, and loading the last one."""

from __future__ import annotations

import fcntl
import os
import time
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import IO, Any

from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.work_queue import BusyError

AUTOSAVE = "autosave.safetensors"
LOCK = "autosave.lock"
# The name under which this module's troubles appear in /diagnostics.
TOPIC = "memory.autosave"


def memory_folder(context: NodeContext) -> Path:
    """Where memories and clouds are saved: memory.folder, or one of the node's own."""
    chosen = context.parameters.memory.folder
    if chosen:
        return Path(chosen).expanduser().resolve()
    name = context.node.get_fully_qualified_name().strip("/").replace("/", "-")
    return Path(os.environ.get("ROS_HOME", "~/.ros")).expanduser().resolve() / "mirage" / name


class Autosave:
    """Saves the memory to one file while it changes, unless another node saves to the same file."""

    def __init__(self, context: NodeContext) -> None:
        """Claim the file."""
        self._context = context
        self.path = memory_folder(context) / AUTOSAVE
        # Writes that are in the file, and when the last save began.
        self._saved, self._time = context.session.snapshot.changes, time.monotonic()
        self._saving: Future[Any] | None = None
        self._lock = self._claim()

    def _claim(self) -> IO[str] | None:
        """The locked lock file; None, and a standing warning, where it cannot be had."""
        path = self.path.with_name(LOCK)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("a+")
            try:
                # Goes with the process, whatever ends it.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip()
                lock.close()
                raise OSError(f"process {owner or 'unknown'} saves to it already ({path})") from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        except OSError as error:
            reason = f"{self.path}: {error}; this node neither loads nor saves there; give it its own memory.folder"
            self._context.health.standing[TOPIC] = reason
            self._context.node.get_logger().warning(f"{TOPIC}: {reason}")
            return None
        self._context.health.standing.pop(TOPIC, None)
        return lock

    def restore(self) -> str:
        """Load the last automatic save, if there is one; what happened, in words, or nothing."""
        # What another node is about to change is not this one's.
        if self._lock is None or not self.path.exists():
            return ""
        session = self._context.session
        try:
            count = self._context.worker.call(lambda: session.load(session.read(self.path))).result()
        except (ValueError, OSError) as error:
            # The next automatic save would overwrite it: it is damaged, or of another preset or cap.
            aside = self._free_name()
            os.rename(self.path, aside)
            return f"{error}; moved to {aside}, starting empty"
        self._saved = session.snapshot.changes
        return f"{count} elements restored from {self.path}"

    def _free_name(self) -> Path:
        number = 1
        while (path := self.path.with_name(f"autosave-{number}.safetensors")).exists():
            number += 1
        return path

    def pump(self) -> None:
        """Save, if the memory changed and memory.autosave seconds have passed since the last try."""
        period = self._context.parameters.memory.autosave
        if period and self._changed() and time.monotonic() - self._time >= period:
            self._save()

    def close(self) -> None:
        """Save what changed, wait for it, and let go of the file."""
        try:
            if self._saving is not None:
                self._saving.exception()
            if self._context.parameters.memory.autosave > 0 and self._changed():
                self._save().exception()
        except (BusyError, CancelledError) as error:
            self._failed(error)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _changed(self) -> bool:
        return self._lock is not None and self._context.session.snapshot.changes != self._saved

    def _save(self) -> Future[Any]:
        """In the worker's thread, once at a time. After a failure the memory still counts as changed."""
        if self._saving is not None and not self._saving.done():
            return self._saving
        session, self._time = self._context.session, time.monotonic()

        def work() -> None:
            changes = session.snapshot.changes
            session.save(self.path)
            self._saved = changes

        def done(finished: Future[Any]) -> None:
            error = None if finished.cancelled() else finished.exception()
            if error is not None:
                self._failed(error)

        self._saving = self._context.worker.call(work)
        self._saving.add_done_callback(done)
        return self._saving

    def _failed(self, error: BaseException) -> None:
        self._context.health.event(TOPIC, f"failed: {error}")
