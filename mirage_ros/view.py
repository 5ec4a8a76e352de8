"""`mirage view`: what a running node sees and imagines, live in Rerun, for those without RViz (extra viz)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mirage_ros.ros.dds_profile import use_default_profile

use_default_profile()

import numpy as np  # noqa: E402  (the DDS profile must be chosen before rclpy loads)
import rclpy  # noqa: E402
import torch  # noqa: E402
from rclpy.executors import ExternalShutdownException  # noqa: E402
from rclpy.node import Node  # noqa: E402

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


def import_rerun() -> Any:
    """Rerun's SDK.

    Raises:
        RuntimeError: it is not installed; names the extra.
    """
    try:
        import rerun
    except ImportError as error:
        raise RuntimeError("rerun-sdk is not installed: pip install 'mirage_ros[viz]'") from error
    return rerun


class Viewer(Node):
    """Logs the node's topics to Rerun, with the stamps of the messages as time."""

    def __init__(self, rerun: Any, namespace: str = "", **arguments: Any) -> None:
        """Subscribe.

        Args:
            rerun: the initialised SDK.
            namespace: of the node `mirage`.
            arguments: of the rclpy node.
        """
        super().__init__("mirage_view", namespace=namespace, **arguments)
        self._rerun = rerun
        self.shown: dict[str, int] = {}
        rerun.log(WORLD, rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        for name, show in {
            "image": self._image("camera"),
            "imagined/image": self._image(f"{CAMERA}/image"),
            "preview/image": self._image("preview"),
            "imagined/visibility": self._visibility,
            "imagined/depth": self._depth,
            "imagined/camera_info": self._camera_info,
            "imagined/pose": self._pose,
            "imagined/path": self._path,
            "memory/points": self._points,
            "memory/status": self._status,
        }.items():
            row = topic(name)
            self.create_subscription(
                row.kind,
                row.name,
                lambda message, name=name, show=show: self._receive(name, show, message),
                row.qos(camera="best_effort", output="best_effort"),
            )

    def _receive(self, name: str, show: Any, message: Any) -> None:
        try:
            stamp = ns_from_stamp(message.header.stamp)
            self._rerun.set_time("stamp", timestamp=np.datetime64(stamp, "ns"))
            show(message)
        except ValueError as error:
            self.get_logger().warning(f"{name}: {error}; not shown", throttle_duration_sec=2.0)
            return
        self.shown[name] = self.shown.get(name, 0) + 1

    def _image(self, entity: str) -> Any:
        return lambda message: self._rerun.log(entity, self._rerun.Image(image_to_numpy(message, "rgb8")))

    def _visibility(self, message: Any) -> None:
        share = (np.clip(image_to_numpy(message), 0, 1) * 255).astype(np.uint8)
        self._rerun.log("visibility", self._rerun.Image(share, color_model="L"))

    def _depth(self, message: Any) -> None:
        metres = np.nan_to_num(depth_to_metres(message), posinf=0.0)
        self._rerun.log(f"{CAMERA}/depth", self._rerun.DepthImage(metres, meter=1.0))

    def _camera_info(self, message: Any) -> None:
        # Rerun puts pixel centres at +0.5, as this package does.
        camera = camera_from_info(message, torch.eye(4, dtype=torch.float64))
        self._rerun.log(
            CAMERA,
            self._rerun.Pinhole(
                image_from_camera=camera.intrinsics.numpy(),
                resolution=[camera.width, camera.height],
                camera_xyz=self._rerun.ViewCoordinates.RDF,
            ),
        )

    def _pose(self, message: Any) -> None:
        pose, _, _ = pose_from_stamped(message)
        place, rotation = pose[:3, 3].numpy(), pose[:3, :3].numpy()
        self._rerun.log(CAMERA, self._rerun.Transform3D(translation=place, mat3x3=rotation))

    def _path(self, message: Any) -> None:
        poses, _, _ = path_to_poses(message)
        self._rerun.log(f"{WORLD}/path", self._rerun.LineStrips3D([poses[:, :3, 3].numpy()], colors=[[236, 112, 64]]))

    def _points(self, message: Any) -> None:
        points, colours, _ = cloud_to_points(message)
        self._rerun.log(f"{WORLD}/memory", self._rerun.Points3D(points, colors=colours, radii=0.02))

    def _status(self, message: Any) -> None:
        self._rerun.log("memory/elements", self._rerun.Scalars(float(message.elements)))
        self._rerun.log("memory/mebibytes", self._rerun.Scalars(message.bytes / 2**20))


def main() -> None:
    """Open the viewer, or record to a file, until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="", help="of the node mirage")
    parser.add_argument("--save", type=Path, help="write a .rrd file instead of opening a window")
    options = parser.parse_args()
    rerun = import_rerun()
    rerun.init("mirage", spawn=options.save is None)
    if options.save is not None:
        rerun.save(options.save)
    rclpy.init(args=sys.argv[:1])
    viewer = Viewer(rerun, options.namespace)
    try:
        rclpy.spin(viewer)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        viewer.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
