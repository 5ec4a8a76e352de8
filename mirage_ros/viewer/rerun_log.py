"""What a running node sees and imagines, live in Rerun or as its log (extra viz)."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from mirage_ros.ros.dds import use_default_profile

use_default_profile()

import numpy as np  # noqa: E402  (the DDS profile must be chosen before rclpy loads)
import rclpy  # noqa: E402
import torch  # noqa: E402
from rclpy.executors import ExternalShutdownException  # noqa: E402
from rclpy.node import Node  # noqa: E402

from mirage_ros.resources import optional_package  # noqa: E402
from mirage_ros.ros.conversions import (  # noqa: E402
    camera_from_info,
    cloud_to_points,
    depth_to_metres,
    image_to_numpy,
    ns_from_stamp,
    path_to_poses,
    pose_from_stamped,
)
from mirage_ros.ros.topics import topic  # noqa: E402

# Where things are in the viewer's tree.
WORLD, CAMERA = "world", "world/imagined"
PICTURES = {"image": "camera", "imagined/image": f"{CAMERA}/image", "preview/image": "preview"}
TOPICS = (
    *PICTURES,
    *(f"imagined/{part}" for part in ("visibility", "depth", "camera_info", "pose", "path")),
    *("memory/points", "memory/status"),
)


def logged(rerun: Any, name: str, message: Any) -> list[tuple[str, Any]]:
    """What a message of one of TOPICS is in Rerun: entities and archetypes.

    Raises:
        ValueError: the message contradicts itself.
    """
    if name in PICTURES:
        return [(PICTURES[name], rerun.Image(image_to_numpy(message, "rgb8")))]
    if name == "imagined/visibility":
        share = (np.clip(image_to_numpy(message), 0, 1) * 255).astype(np.uint8)
        return [("visibility", rerun.Image(share, color_model="L"))]
    if name == "imagined/depth":
        metres = np.nan_to_num(depth_to_metres(message), posinf=0.0)
        return [(f"{CAMERA}/depth", rerun.DepthImage(metres, meter=1.0))]
    if name == "imagined/camera_info":
        # Rerun puts pixel centres at +0.5, as this package does.
        camera = camera_from_info(message, torch.eye(4, dtype=torch.float64))
        optics = rerun.Pinhole(
            image_from_camera=camera.intrinsics.numpy(),
            resolution=[camera.width, camera.height],
            camera_xyz=rerun.ViewCoordinates.RDF,
        )
        return [(CAMERA, optics)]
    if name == "imagined/pose":
        pose = pose_from_stamped(message)[0].numpy()
        return [(CAMERA, rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))]
    if name == "imagined/path":
        places = path_to_poses(message)[0][:, :3, 3].numpy()
        return [(f"{WORLD}/path", rerun.LineStrips3D([places], colors=[[236, 112, 64]]))]
    if name == "memory/points":
        points, colours, _ = cloud_to_points(message)
        return [(f"{WORLD}/memory", rerun.Points3D(points, colors=colours, radii=0.02))]
    size = {"elements": float(message.elements), "mebibytes": message.bytes / 2**20}
    return [(f"memory/{unit}", rerun.Scalars(value)) for unit, value in size.items()]


class RerunLog(Node):
    """Logs the topics of the node `mirage` in a namespace to Rerun, with the stamps of the messages as time."""

    def __init__(self, rerun: Any, namespace: str = "", **arguments: Any) -> None:
        """Subscribe; `rerun` is the initialised SDK, the arguments are those of rclpy's node."""
        super().__init__("mirage_view", namespace=namespace, **arguments)
        self._rerun = rerun
        self.shown: dict[str, int] = {}
        rerun.log(WORLD, rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        for row in map(topic, TOPICS):
            receive = functools.partial(self._receive, row.name)
            self.create_subscription(row.kind, row.name, receive, row.qos(camera="best_effort", output="best_effort"))

    def _receive(self, name: str, message: Any) -> None:
        try:
            stamp = ns_from_stamp(message.header.stamp)
            entities = logged(self._rerun, name, message)
        except ValueError as error:
            self.get_logger().warning(f"{name}: {error}; not shown", throttle_duration_sec=2.0)
            return
        self._rerun.set_time("stamp", timestamp=np.datetime64(stamp, "ns"))
        for entity, archetype in entities:
            self._rerun.log(entity, archetype)
        self.shown[name] = self.shown.get(name, 0) + 1


def run(namespace: str, save: Path | None) -> None:
    """Open Rerun, or record to a file, until interrupted."""
    rerun = optional_package("rerun", "viz")
    rerun.init("mirage", spawn=save is None)
    if save is not None:
        rerun.save(save)
    rclpy.init(args=sys.argv[:1])
    viewer = RerunLog(rerun, namespace)
    try:
        rclpy.spin(viewer)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        viewer.destroy_node()
        rclpy.try_shutdown()
