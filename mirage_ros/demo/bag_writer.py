"""Recording rclpy messages to a rosbag2 bag (MCAP) without a ROS distribution."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.writer import Connection
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mirage_ros.resources import PACKAGE, share_directory


class BagWriter(AbstractContextManager["BagWriter"]):
    """A bag folder that any rosbag2 player reads; messages are stored bit for bit as DDS carries them."""

    def __init__(self, folder: Path) -> None:
        """Start a bag in a folder; an existing bag there is replaced.

        Raises:
            FileExistsError: the folder exists and holds something else.
        """
        if folder.exists():
            # A bag whose writer was killed has no metadata.yaml.
            others = [path.name for path in folder.iterdir() if path.suffix != ".mcap" and path.name != "metadata.yaml"]
            if others:
                raise FileExistsError(f"bag: {folder} exists and is not just a bag; it holds {sorted(others)}")
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The messages of ROS 2 Kilted and of this package.
        self._types = get_typestore(Stores.ROS2_KILTED)
        for path in (share_directory() / "msg").glob("*.msg"):
            self._types.register(get_types_from_msg(path.read_text(), f"{PACKAGE}/msg/{path.stem}"))
        # The newest layout of metadata.yaml that rosbags writes.
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def write(self, topic: str, message: Any, stamp: int) -> None:
        """Append one rclpy message that was received at `stamp` nanoseconds."""
        if topic not in self._connections:
            package, _, _ = type(message).__module__.partition(".")
            name = f"{package}/msg/{type(message).__name__}"
            self._connections[topic] = self._writer.add_connection(topic, name, typestore=self._types)
        self._writer.write(self._connections[topic], stamp, serialize_message(message))

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()

    def __exit__(self, *_: object) -> None:
        self.close()
