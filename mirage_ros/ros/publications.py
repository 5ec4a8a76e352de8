"""What the node publishes: imagined frames, previews, paths and the cloud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nav_msgs.msg import Path
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.cloud import Cloud
from mirage_ros.memory.provenance import OBSERVATION, FrameRecord
from mirage_ros.occupancy.grid import OccupancyMap
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions import (
    camera_to_info,
    cells_to_grid,
    depth_from_metres,
    frame_to_cloud,
    numpy_to_compressed,
    numpy_to_image,
    points_to_cloud,
    pose_to_stamped,
    poses_to_path,
    stamp_from_ns,
)
from mirage_ros.ros.imagined_transform import ImaginedTransform
from mirage_ros.ros.topics import LATCHED, OUTPUTS, Topic
from mirage_ros.world.results import ImaginedChunk

# Topics whose last message late listeners get.
KEPT = frozenset(row.name for row in OUTPUTS if row.delivery == LATCHED)


class Outputs:
    """The publishers of an active node. Publishing is safe from any thread."""

    def __init__(self, context: NodeContext) -> None:
        """Open the topics."""
        self._node, self._context = context.node, context
        reliability = context.parameters.output.reliability
        self._last: dict[str, Any] = {}
        self._publishers: dict[str, Publisher[Any]] = {
            row.name: context.node.create_publisher(
                row.kind, row.name, row.qos(output=reliability), event_callbacks=self._events(row)
            )
            for row in OUTPUTS
            if not row.name.startswith("/")
        }
        self._tf = ImaginedTransform(context.node, context.parameters)

    def _events(self, row: Topic) -> PublisherEventCallbacks | None:
        """The last message of a kept topic again for whoever comes late, also if it did not ask for kept ones."""
        if row.delivery != LATCHED:
            return None
        return PublisherEventCallbacks(
            matched=lambda change: self._repeat(row.name) if change.total_count_change > 0 else None,
        )

    def _repeat(self, topic: str) -> None:
        if topic not in self._last:
            return
        known = self._node.get_subscriptions_info_by_topic(self._node.resolve_topic_name(topic))
        kept = [each for each in known if each.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL]
        # The graph may not know the newest one yet.
        if len(kept) < max(len(known), self._publishers[topic].get_subscription_count()):
            self.publish(topic, self._last[topic])

    def close(self) -> None:
        """Take the topics away."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
        self._last.clear()
        self._tf.close()

    def wanted(self, topic: str) -> bool:
        """Whether somebody listens; nobody does once ROS was shut down."""
        try:
            return self._publishers[topic].get_subscription_count() > 0
        except Exception:
            if self._node.context.ok():
                raise
            return False

    def publish(self, topic: str, message: Any) -> None:
        """Publish a message on one of the topics.

        An interrupt shuts ROS down under a running job: what it would still say has no one to hear it.
        """
        if topic in KEPT:
            self._last[topic] = message
        try:
            self._publishers[topic].publish(message)
        except Exception:
            if self._node.context.ok():
                raise

    def frames(self, chunk: ImaginedChunk, stamps: Sequence[int], start: int = 0, stop: int | None = None) -> None:
        """Publish the frames of a chunk, each with one stamp and one frame_id on all topics.

        Args:
            chunk: what was imagined.
            stamps: nanoseconds of the chunk's frames.
            start, stop: those to publish.
        """
        output = self._context.parameters.output
        for index in range(len(chunk))[start:stop]:
            camera, header = chunk.camera[index], self.header(stamps[index])
            self._tf.send(camera.cam2world, header)
            self._image("imagined", header, chunk.rgb[index], chunk.visible[index], camera)
            if self.wanted("imagined/depth"):
                depth = depth_from_metres(chunk.depth[index], output.depth_encoding, header)
                self.publish("imagined/depth", depth)
            if self.wanted("imagined/image/compressed"):
                jpeg = numpy_to_compressed(chunk.rgb[index], header, output.jpeg_quality)
                self.publish("imagined/image/compressed", jpeg)
            if chunk.uncertainty is not None and self.wanted("imagined/uncertainty"):
                uncertainty = numpy_to_image(chunk.uncertainty[index], "32FC1", header)
                self.publish("imagined/uncertainty", uncertainty)
            if self.wanted("imagined/points"):
                self.publish("imagined/points", frame_to_cloud(chunk[index], self.world_header(stamps[index])))
            pose = pose_to_stamped(camera.cam2world.double().cpu(), self.world_header(stamps[index]))
            self.publish("imagined/pose", pose)

    def preview(self, preview: ImaginedFrame, stamp: int) -> None:
        """Publish the first view of a preview."""
        self._tf.send(preview.camera[0].cam2world, self.header(stamp))
        self._image("preview", self.header(stamp), preview.rgb[0], preview.visible[0], preview.camera[0])

    def path(self, poses: Tensor, stamps: Sequence[int]) -> None:
        """Publish a path of (T, 4, 4) optical poses in the world frame."""
        self.publish("imagined/path", self.path_message(poses, stamps))

    def path_message(self, poses: Tensor, stamps: Sequence[int]) -> Path:
        """A path of (T, 4, 4) optical poses in the world frame."""
        return poses_to_path(poses.double().cpu(), self.world_header(stamps[0]), stamps)

    def cloud(self, cloud: Cloud, stamp: int) -> None:
        """Publish the memory."""
        points, colours, confidence = (value.numpy() for value in (cloud.points, cloud.colours, cloud.confidence))
        self.publish("memory/points", points_to_cloud(points, colours, confidence, self.world_header(stamp)))

    def memory_frames(self, records: Sequence[FrameRecord], stamp: int) -> None:
        """Publish where the camera frames in the memory were taken, and when."""
        observed = [record for record in records if record.kind == OBSERVATION]
        message = Path(header=self.world_header(stamp))
        for record in observed:
            pose = record.camera.cam2world.double().cpu()
            message.poses.append(pose_to_stamped(pose, self.world_header(record.stamp)))
        self.publish("memory/frames", message)

    def occupancy(self, topic: str, cells: NDArray[np.int8], grid: OccupancyMap, stamp: int) -> None:
        """Publish the cells (rows, columns) of a map on one of its topics, once it has a place."""
        if grid.placed:
            corner = (*grid.corner.tolist(), 0.0)
            self.publish(topic, cells_to_grid(cells, grid.shape.resolution, corner, self.world_header(stamp)))

    def header(self, stamp: int) -> Header:
        """Header of what is seen at a moment in nanoseconds."""
        return Header(stamp=stamp_from_ns(stamp), frame_id=self._context.parameters.imagined_frame)

    def world_header(self, stamp: int) -> Header:
        """Header of poses and places at a moment in nanoseconds."""
        return Header(stamp=stamp_from_ns(stamp), frame_id=self._context.parameters.world_frame)

    def _image(
        self, group: str, header: Header, rgb: NDArray[np.uint8], visible: NDArray[np.float32], camera: Camera
    ) -> None:
        self.publish(f"{group}/camera_info", camera_to_info(camera, header))
        if self.wanted(f"{group}/visibility"):
            self.publish(f"{group}/visibility", numpy_to_image(visible.astype(np.float32), "32FC1", header))
        self.publish(f"{group}/image", numpy_to_image(rgb, "rgb8", header))
