"""Recorded walks in rosbag2 bags, MCAP or SQLite, read through `rosbags`: no ROS installation is needed."""

from __future__ import annotations

import re
from bisect import bisect
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.recordings.bag_messages import colour_of, depth_of, is_depth, lens_of, pose_of, stamp_of
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.trajectory import interpolate

PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
POSES = (
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
    ODOMETRY,
)
ROLES = ("image", "depth", "camera_info", "pose")
# Nanoseconds by which depth and picture of a frame may differ.
APART = 30_000_000
# Topics of pictures that are rectified already, as image_proc and camera drivers name them: image_rect,
# image_rect_color, image_rect_raw, left/rectified/image. CameraInfo does not say beside which stream it lies.
RECTIFIED = re.compile(r"(?:^|[/_])rect(?:ified)?(?:[/_]|$)")


@dataclass(eq=False)
class Edge:
    """A frame's place in its parent over time.

    Attributes:
        parent: name of the parent frame.
        still: it does not change.
        poses: (4, 4) child to parent by nanoseconds.
    """

    parent: str
    still: bool
    poses: dict[int, Tensor]

    def at(self, stamp: int) -> Tensor | None:
        """The pose at a time; None outside of what was recorded."""
        if self.still:
            return self.poses[max(self.poses)]
        if stamp in self.poses:
            return self.poses[stamp]
        times = sorted(self.poses)
        after = bisect(times, stamp)
        if not 0 < after < len(times):
            return None
        near = times[after - 1 : after + 1]
        knots, query = torch.tensor(near).double() - near[0], torch.tensor([stamp - near[0]]).double()
        return interpolate(torch.stack([self.poses[time] for time in near]), knots, query)[0]


def rosbag_frames(folder: str | Path, topics: Mapping[str, str] | None = None) -> Iterator[RgbdFrame]:
    """Frames of a bag that have a pose, and depth if the bag has any.

    Poses come from the transforms that lead from the picture's frame to a root and change over time, else from odometry
    with the transforms below it, else from a topic of poses, which are taken for those of the camera's optical frame
    (REP 103). Distorted pictures are rectified by their CameraInfo, those of topics that are called rectified are
    taken as they are; depth must be registered to the picture.

    Args:
        folder: of the bag.
        topics: names for 'image', 'depth', 'camera_info' and 'pose'; where one is not given, the bag's only topic of
            that kind.

    Raises:
        FileNotFoundError: there is no such bag.
        ValueError: the bag is damaged, or a topic is missing, ambiguous or not usable.
    """
    topics = dict(topics or {})
    if set(topics) - set(ROLES):
        raise ValueError(f"topics: expected names for {', '.join(ROLES)}, got {sorted(set(topics) - set(ROLES))}")
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"rosbag: {folder} is missing")
    try:
        # Old bags say the names of their types only.
        with AnyReader([folder], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            yield from _frames(reader, topics)
    except (AnyReaderError, FileNotFoundError) as error:
        raise ValueError(f"rosbag: {folder} is no usable bag: {error}") from error


def _frames(reader: AnyReader, topics: dict[str, str]) -> Iterator[RgbdFrame]:
    colour, depth = _picture_topics(reader, topics)
    optical = str(next(_messages(reader, [colour]))[1].header.frame_id)
    info = next(_messages(reader, [_camera_topic(reader, topics, colour)]))[1]
    intrinsics, rectify = lens_of(info, rectified=RECTIFIED.search(colour.topic) is not None)
    edges = _poses(reader, topics, optical)
    for message, beside in _pairs(reader, colour, depth):
        stamp = stamp_of(message.header)
        pose = _camera_pose(edges, optical, stamp)
        if pose is None:
            continue
        rgb, metres = colour_of(message), None if beside is None else depth_of(beside)
        if metres is not None and metres.shape != rgb.shape[:2]:
            raise ValueError(f"depth: expected {rgb.shape[:2]} pixels, registered to the picture, got {metres.shape}")
        if rectify is not None:
            rgb = rectify(rgb, cv2.INTER_LINEAR)
            if metres is not None and depth is not None and not RECTIFIED.search(depth.topic):
                metres = rectify(metres, cv2.INTER_NEAREST)
        yield RgbdFrame(rgb, metres, Camera(intrinsics.float(), pose.float(), *rgb.shape[:2]), stamp)


def _messages(reader: AnyReader, connections: list[Connection]) -> Iterator[tuple[Connection, Any]]:
    # An empty list would mean every topic.
    for connection, _, data in reader.messages(connections) if connections else ():
        yield connection, reader.deserialize(data, connection.msgtype)


def _picture_topics(reader: AnyReader, topics: Mapping[str, str]) -> tuple[Connection, Connection | None]:
    found: dict[bool, list[Connection]] = {True: [], False: []}
    for connection in reader.connections:
        if connection.msgtype in PICTURES and connection.msgcount:
            found[is_depth(next(_messages(reader, [connection]))[1])].append(connection)
    colour = _choose("image", found[False], topics)
    return colour, _choose("depth", found[True], topics) if found[True] or "depth" in topics else None


def _camera_topic(reader: AnyReader, topics: Mapping[str, str], colour: Connection) -> Connection:
    cameras = [one for one in reader.connections if one.msgtype == CAMERA and one.msgcount]
    # By custom it lies beside the picture (image_transport): camera/image_raw, camera/image_raw/compressed.
    for above in (1, 2):
        beside = colour.topic.rsplit("/", above)[0] + "/camera_info"
        near = [one for one in cameras if one.topic == beside]
        if "camera_info" not in topics and near:
            return near[0]
    return _choose("camera_info", cameras, topics)


def _choose(role: str, found: list[Connection], topics: Mapping[str, str]) -> Connection:
    names = sorted({one.topic for one in found})
    if role in topics:
        found = [one for one in found if one.topic == topics[role]]
        if not found:
            raise ValueError(f"{role}: expected one of {names}, got {topics[role]!r}")
    elif len(names) > 1:
        raise ValueError(f"{role}: expected the name of one of {names}, as the bag has several")
    if not found:
        raise ValueError(f"{role}: expected a topic of that kind in the bag, got none")
    return found[0]


def _poses(reader: AnyReader, topics: Mapping[str, str], optical: str) -> dict[str, Edge]:
    """Edges by child frame, out of which the camera's pose follows."""
    edges: dict[str, Edge] = {}
    for connection, message in _messages(reader, [one for one in reader.connections if one.msgtype == TRANSFORMS]):
        still = connection.topic.endswith("tf_static")
        for transform in message.transforms:
            _add(edges, transform, str(transform.child_frame_id), still)
    if "pose" not in topics and _moves(edges, optical):
        return edges
    found = [one for one in reader.connections if one.msgtype in POSES and one.msgcount]
    if "pose" not in topics and any(one.msgtype == ODOMETRY for one in found):
        found = [one for one in found if one.msgtype == ODOMETRY]
    chosen = _choose("pose", found, topics)
    child = optical
    own: dict[str, Edge] = {}
    for connection, message in _messages(reader, [chosen]):
        if connection.msgtype == ODOMETRY:
            child = str(message.child_frame_id)
        _add(own, message, child, still=False)
    edges.update(own)
    if not _moves(edges, optical):
        raise ValueError(f"pose: expected transforms from {optical!r} to {child!r}, whose pose {chosen.topic} gives")
    return edges


def _add(edges: dict[str, Edge], message: Any, child: str, still: bool) -> None:
    """Note a pose; of several at one time the first."""
    edge = edges.setdefault(child, Edge(str(message.header.frame_id), still, {}))
    edge.poses.setdefault(stamp_of(message.header), pose_of(message))


def _chain(edges: Mapping[str, Edge], frame: str) -> list[Edge]:
    """Edges from a frame up to its root."""
    chain: list[Edge] = []
    while frame in edges:
        if len(chain) > len(edges):
            raise ValueError(f"tf: expected a tree, got a circle through {frame!r}")
        chain.append(edges[frame])
        frame = edges[frame].parent
    return chain


def _moves(edges: Mapping[str, Edge], frame: str) -> bool:
    return any(not edge.still for edge in _chain(edges, frame))


def _camera_pose(edges: Mapping[str, Edge], optical: str, stamp: int) -> Tensor | None:
    pose = torch.eye(4, dtype=torch.float64)
    for edge in _chain(edges, optical):
        step = edge.at(stamp)
        if step is None:
            return None
        pose = step @ pose
    return pose


def _pairs(reader: AnyReader, colour: Connection, depth: Connection | None) -> Iterator[tuple[Any, Any]]:
    """Pictures with the depth nearest in time; those without any are left out where the bag has depth."""
    if depth is None:
        for _, message in _messages(reader, [colour]):
            yield message, None
        return
    pictures: deque[Any] = deque()
    depths: deque[tuple[int, Any]] = deque()

    def matched(message: Any) -> Iterator[tuple[Any, Any]]:
        stamp = stamp_of(message.header)
        while depths and depths[0][0] < stamp - APART:
            depths.popleft()
        best = min(depths, key=lambda entry: abs(entry[0] - stamp), default=None)
        if best is not None and abs(best[0] - stamp) <= APART:
            yield message, best[1]

    for connection, message in _messages(reader, [colour, depth]):
        if connection.topic == colour.topic:
            pictures.append(message)
        else:
            depths.append((stamp_of(message.header), message))
        # A picture waits until no nearer depth can come.
        while pictures and depths and depths[-1][0] >= stamp_of(pictures[0].header) + APART:
            yield from matched(pictures.popleft())
    for message in pictures:
        yield from matched(message)
