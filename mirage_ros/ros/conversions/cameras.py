"""sensor_msgs/CameraInfo <-> Camera."""

from __future__ import annotations

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.geometry import Camera, check_intrinsics, intrinsics_from_ros, intrinsics_to_ros
from mirage_ros.poses import check_pose
from mirage_ros.ros.conversions.checks import check_finite, check_message, check_size, header_or_empty


def camera_from_info(message: CameraInfo, cam2world: Tensor, rectified: bool = True) -> Camera:
    """Camera of a stream without distortion.

    A CameraInfo describes two streams, the driver's (`k` and `d`) and the rectified one (`p`), and does not say beside
    which of them it was published; the reader must. Both matrices have pixel centres at integers; the camera's are at
    +0.5. Region of interest and binning are applied, in this order.

    Args:
        message: of a pinhole camera.
        cam2world: (4, 4) pose of the optical frame.
        rectified: the images are rectified (image_proc's `image_rect`): `p` is used, whatever `d` is, and `k` where the
            publisher left `p` empty. False for a driver's own images: `k` is used. Where `k` is used, `d` must be zero.

    Returns:
        The camera in float64, on the pose's device. The fourth column of `p`, a stereo pair's baseline, is left to
        the pose.

    Raises:
        TypeError: not a CameraInfo.
        ValueError: uncalibrated (zeros), distorted where it must not be, or contradicting itself; names the field.
    """
    check_message(message, CameraInfo, "camera_info")
    check_pose(cam2world, name="cam2world")
    check_size(message, "camera_info")
    k, p, d = np.array(message.k), np.array(message.p), np.array(message.d, dtype=np.float64)
    for field, values in (("k", k), ("p", p), ("d", d)):
        check_finite(values.tolist(), f"camera_info.{field}")
    if rectified and p[0] != 0:
        field, matrix = "camera_info.p", p.reshape(3, 4)[:, :3]
    elif k[0] == 0:
        raise ValueError("camera_info.k: expected a calibrated camera, got focal length 0")
    elif d.any():
        raise ValueError(
            f"camera_info.d: expected zeros, got {d.tolist()}; rectify the images first (image_proc) and read p"
        )
    else:
        field, matrix = "camera_info.k", k.reshape(3, 3)
    intrinsics = torch.from_numpy(np.array(matrix)).to(cam2world.device)
    check_intrinsics(intrinsics, name=field)
    camera = Camera(intrinsics_from_ros(intrinsics), cam2world.double(), message.height, message.width)
    roi = message.roi
    # All zeros means the full image (CameraInfo.msg).
    if roi.x_offset or roi.y_offset or roi.height or roi.width:
        inside = roi.x_offset + roi.width <= camera.width and roi.y_offset + roi.height <= camera.height
        if not (inside and roi.height and roi.width):
            raise ValueError(
                f"camera_info.roi: expected a window inside {camera.width}x{camera.height}, "
                f"got {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset})"
            )
        camera = camera.cropped(roi.y_offset, roi.x_offset, roi.height, roi.width)
    across, down = max(message.binning_x, 1), max(message.binning_y, 1)
    if camera.width % across or camera.height % down:
        raise ValueError(
            f"camera_info.binning: expected divisors of {camera.width}x{camera.height}, got {across} and {down}"
        )
    return camera.resized(camera.height // down, camera.width // across)


def camera_to_info(camera: Camera, header: Header | None = None) -> CameraInfo:
    """CameraInfo of one camera: no distortion, k = p, pixel centres at integers.

    Raises:
        TypeError: not a Camera, or the header is no Header.
        ValueError: a batch of cameras.
    """
    if not isinstance(camera, Camera):
        raise TypeError(f"camera: expected a Camera, got {type(camera).__name__}")
    if camera.batch_shape:
        raise ValueError(f"camera: expected a single one, got a batch {tuple(camera.batch_shape)}")
    matrix = intrinsics_to_ros(camera.intrinsics.double()).cpu().numpy()
    return CameraInfo(
        header=header_or_empty(header),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.pad(matrix, ((0, 0), (0, 1))).ravel(),
    )
