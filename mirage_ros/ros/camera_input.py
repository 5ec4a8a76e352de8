"""Camera frames from topics: image, optics and depth with one stamp, and the pose that the camera had then."""

from __future__ import annotations

import copy
import time
from collections import deque
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.recordings.lenses import FISHEYES, Rectify, rectification
from mirage_ros.recordings.registration import register_depth, same_optics
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.conversions import (
    camera_from_info,
    compressed_to_numpy,
    depth_to_metres,
    image_to_numpy,
    ns_from_stamp,
)
from mirage_ros.ros.parameters import ObservationParameters
from mirage_ros.ros.pose_buffer import CLOCK_RESET
from mirage_ros.ros.stamp_synchroniser import StampSynchroniser, keep_newest

# Share by which the shape of a depth image may differ from its image's; a pixel more or less is rounding.
SHAPE_TOLERANCE = 0.02
# Metres; a median of measured depth outside of these is more likely one of another unit.
NEAREST_MEDIAN, FARTHEST_MEDIAN = 0.025, 100.0


class CameraInput:
    """Brings the messages of a camera frame together and converts them.

    Attributes:
        topics: that make a frame.
        completed: frames that became complete.
        doubts: what looked wrong in the last frame, though it was taken.
    """

    def __init__(self, wanted: ObservationParameters) -> None:
        """Set up: whether a depth image belongs to a frame, rectification, and how much waits."""
        self._wanted = wanted
        self.topics = ("image", "camera_info", "depth") if wanted.depth == "topic" else ("image", "camera_info")
        self._synchroniser = StampSynchroniser(self.topics, wanted.queue, wanted.slop)
        self._waiting: deque[tuple[dict[str, Any], float]] = deque()
        self._depth_infos: dict[str, Any] = {}
        # By frame_id: of cameras that share a topic, one may have a clock of its own.
        self._newest: dict[str, int] = {}
        self.completed, self.doubts = 0, ""

    @property
    def dropped(self) -> int:
        """Frames that stayed incomplete."""
        return self._synchroniser.dropped

    def add(self, topic: str, message: Any) -> int | None:
        """Take a message of one of the camera's topics.

        Returns:
            The stamp to which the clock was set back, in case this message shows that it was: see `restart`.

        Raises:
            ValueError: its stamp is no time.
        """
        if topic == "depth/camera_info":
            self._depth_infos[message.header.frame_id] = message
            return None
        self._synchroniser.add(topic, message, time.monotonic())
        back = None
        if topic == "image":
            stamp, frame = ns_from_stamp(message.header.stamp), message.header.frame_id
            if stamp < self._newest.get(frame, stamp) - CLOCK_RESET:
                back = stamp
            self._newest[frame] = max(self._newest.get(frame, stamp), stamp) if back is None else stamp
            keep_newest(self._newest, frame)
        return back

    def restart(self, stamp: int, frame: str | None = None) -> None:
        """Let go of what is stamped later, nanoseconds: the clock was set back, of one frame_id's images or of all."""

        def stays(header: Any) -> bool:
            return ns_from_stamp(header.stamp) <= stamp or frame not in (None, header.frame_id)

        self._synchroniser.forget_after(stamp, frame)
        self._waiting = deque(entry for entry in self._waiting if stays(entry[0]["image"].header))
        for each in list(self._newest) if frame is None else [frame]:
            self._newest[each] = min(self._newest[each], stamp)

    def settle(self) -> None:
        """Look for complete frames. Of more than may wait, the oldest stay, so that what they wait for can come."""
        found = self._synchroniser.complete(time.monotonic())
        self.completed += len(found)
        self._waiting.extend(found[: max(self._wanted.queue - len(self._waiting), 0)])

    def waiting(self) -> tuple[Any, float] | None:
        """Header of the oldest complete frame, and when its image came, by the steady clock."""
        return (self._waiting[0][0]["image"].header, self._waiting[0][1]) if self._waiting else None

    def skip(self) -> None:
        """Let go of the oldest complete frame."""
        self._waiting.popleft()

    def depth_frames(self) -> tuple[str, str] | None:
        """Frame ids of the oldest complete frame's image and depth, if TF is to bring depth from one to the other."""
        messages = self._waiting[0][0]
        if "depth" not in messages or self._wanted.registered:
            return None
        image, depth = (messages[name].header.frame_id for name in ("image", "depth"))
        apart = depth.lstrip("/") not in ("", image.lstrip("/"))
        return (image, depth) if apart and depth in self._depth_infos else None

    def take(self, pose: Tensor, place: Tensor | None = None) -> RgbdFrame:
        """The oldest complete frame, seen from an optical pose (4, 4).

        Args:
            pose: of the image's frame in the world.
            place: (4, 4) pose of the depth's frame in the image's, needed where `depth_frames` names them.

        Raises:
            ValueError: a message is not usable, or they contradict each other; names the field. The frame is gone.
        """
        messages, _ = self._waiting.popleft()
        image, info = messages["image"], messages["camera_info"]
        # A copy: it goes to another thread, and the message's own buffer must not be written to.
        rgb = np.array(image_to_numpy(image, "rgb8")) if hasattr(image, "encoding") else compressed_to_numpy(image)
        depth = depth_to_metres(messages["depth"]) if "depth" in messages else None
        self.doubts = "" if depth is None else doubts_of_units(depth, messages["depth"].encoding)
        height, width = rgb.shape[:2]
        own = None if depth is None else self._own_camera(messages["depth"], image.header.frame_id, info, place)
        if depth is not None and own is None and depth.shape != (height, width):
            rows, columns = depth.shape
            if abs(columns / rows * height / width - 1) > max(SHAPE_TOLERANCE, 1 / min(rows, columns)):
                raise ValueError(
                    f"depth: expected the shape of the image, {width}x{height}, at any resolution, got {columns}x{rows}"
                )
            depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.float32)
        rectify = None
        if self._wanted.undistort and (np.any(info.d) or info.distortion_model in FISHEYES):
            camera, rectify = undistorted(info, pose)
        else:
            camera = camera_from_info(info, pose, self._wanted.rectified)
        if (height, width) != (camera.height, camera.width):
            raise ValueError(
                f"camera_info: expected {width}x{height} like the image, got {camera.width}x{camera.height}"
            )
        if rectify is not None:
            rgb = rectify(rgb, cv2.INTER_LINEAR)
            # Of depth the nearest pixel, so that surfaces do not mix.
            depth = rectify(depth, cv2.INTER_NEAREST) if depth is not None and own is None else depth
        if depth is not None and own is not None:
            depth = register_depth(depth, own, camera.at(torch.eye(4, dtype=torch.float64)))
        return RgbdFrame(rgb, depth, camera, ns_from_stamp(image.header.stamp))

    def _own_camera(self, depth: Any, image_frame: str, image_info: Any, place: Tensor | None) -> Camera | None:
        """The depth camera in the image's frame; None where depth is registered to the image already."""
        frame = depth.header.frame_id.lstrip("/") or image_frame.lstrip("/")
        apart = frame != image_frame.lstrip("/")
        info = self._depth_infos.get(depth.header.frame_id)
        if self._wanted.registered or (info is None and not apart):
            return None
        if info is None:
            raise ValueError(
                f"depth.header.frame_id: expected {image_frame!r} like the image, to which depth is registered, got "
                f"{depth.header.frame_id!r}; subscribe to aligned depth, or give depth/camera_info (and TF between "
                "the frames) to have it registered here, or set observation.registered if only its name differs"
            )
        if (info.width, info.height) != (depth.width, depth.height):
            raise ValueError(
                f"depth/camera_info: expected {depth.width}x{depth.height} like depth, got {info.width}x{info.height}"
            )
        if apart and place is None:
            raise ValueError(f"depth: no TF to bring {frame!r} to {image_frame!r}")
        if not apart or place is None:
            place = torch.eye(4, dtype=torch.float64)
        try:
            own = camera_from_info(info, place, self._wanted.rectified)
            if not apart:
                straight = copy.copy(image_info)
                straight.d = []
                if same_optics(own, camera_from_info(straight, place, self._wanted.rectified)):
                    return None
        except ValueError as error:
            raise ValueError(f"depth/{error}") from None
        return own


def doubts_of_units(depth: NDArray[np.float32], encoding: str) -> str:
    """What is odd about (H, W) metres: millimetres that are called metres, or metres that are called millimetres."""
    known = depth[np.isfinite(depth) & (depth > 0)]
    middle = float(np.median(known)) if known.size else 1.0
    if encoding == "32FC1" and middle > FARTHEST_MEDIAN:
        return f"half of it is beyond {middle:.0f} m; 32FC1 is metres (REP-118): are these millimetres?"
    if encoding != "32FC1" and middle < NEAREST_MEDIAN:
        return f"half of it is nearer than {middle * 1000:.0f} millimetres, the unit of {encoding}: are these metres?"
    return ""


def undistorted(info: Any, pose: Tensor) -> tuple[Camera, Rectify | None]:
    """The pinhole camera with a driver's k, and what makes the driver's pictures those of it.

    Raises:
        ValueError: a distortion that is not known, or unusable numbers.
    """
    coefficients = np.array(info.d, dtype=np.float64)
    if not np.isfinite(coefficients).all():
        raise ValueError(f"camera_info.d: expected finite numbers, got {coefficients.tolist()}")
    straight = copy.copy(info)
    straight.d = []
    camera = camera_from_info(straight, pose, rectified=False)
    if (camera.height, camera.width) != (info.height, info.width):
        raise ValueError("camera_info.roi: expected the whole image without binning to undistort it")
    return camera, rectification("camera_info.d", info.distortion_model, coefficients, camera)
