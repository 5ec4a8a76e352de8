"""ROS messages <-> numpy arrays and torch cameras; the only place where ROS's conventions are translated."""

from mirage_ros.ros.conversions.cameras import camera_from_info, camera_to_info
from mirage_ros.ros.conversions.clouds import cloud_to_points, frame_to_cloud, points_to_cloud
from mirage_ros.ros.conversions.compressed import compressed_to_numpy, numpy_to_compressed
from mirage_ros.ros.conversions.grids import cells_to_grid, grid_to_cells
from mirage_ros.ros.conversions.images import (
    ENCODINGS,
    depth_from_metres,
    depth_to_metres,
    image_to_numpy,
    numpy_to_image,
)
from mirage_ros.ros.conversions.poses import (
    ns_from_stamp,
    path_to_poses,
    pose_from_msg,
    pose_from_stamped,
    pose_to_msg,
    pose_to_stamped,
    poses_to_path,
    stamp_from_ns,
)

__all__ = [
    "ENCODINGS",
    "camera_from_info",
    "camera_to_info",
    "cells_to_grid",
    "cloud_to_points",
    "compressed_to_numpy",
    "depth_from_metres",
    "depth_to_metres",
    "frame_to_cloud",
    "grid_to_cells",
    "image_to_numpy",
    "ns_from_stamp",
    "numpy_to_compressed",
    "numpy_to_image",
    "path_to_poses",
    "points_to_cloud",
    "pose_from_msg",
    "pose_from_stamped",
    "pose_to_msg",
    "pose_to_stamped",
    "poses_to_path",
    "stamp_from_ns",
]
