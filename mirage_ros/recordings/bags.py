"""Recorded walks in rosbag2 bags, MCAP or SQLite, read through `rosbags`: no ROS installation is needed."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from mirage_ros.geometry import Camera
from mirage_ros.images import depth_like, doubt_of_depth
from mirage_ros.recordings.bag_messages import colour_of, depth_of, frame_of, stamp_of
from mirage_ros.recordings.bag_topics import (
    ODOMETRY,
    RECTIFIED,
    ROLES,
    TRANSFORMS,
    beside,
    choose,
    first,
    messages,
    of_role,
    picture_topics,
)
from mirage_ros.recordings.lenses import Rectify, lens_of
from mirage_ros.recordings.registration import register_depth
from mirage_ros.recordings.transform_tree import TransformTree
from mirage_ros.rgbd import RgbdFrame

# Nanoseconds by which depth and picture of a frame may differ.
APART = 30_000_000
# Share by which the intrinsics of two streams of one camera may differ.
SAME = 1e-3

# Depth in the pixels of the (straightened) colour picture, of a message with depth.
Fitted = Callable[[Any], NDArray[np.float32]]


def rosbag_frames(folder: str | Path, topics: Mapping[str, str] | None = None) -> Iterator[RgbdFrame]:
    """Frames of a bag that have a pose, and depth if the bag has any.

    Poses come from the transforms that lead from the picture's frame to a root and change over time, else from odometry
    with the transforms below it, else from a topic of poses, which are taken for those of the camera's optical frame
    (REP 103). Distorted pictures are rectified by their CameraInfo, those of topics that are called rectified are
    taken as they are. Depth in the picture's frame and with its intrinsics is registered to it; other depth is
    registered here, by the CameraInfo beside it and the transform between the two frames.

    Args:
        folder: of the bag.
        topics: names by role, see ROLES; where one is not given, the one beside the pictures, or the bag's only topic
            of that kind.

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
    if folder.is_file() and folder.suffix != ".bag":
        raise ValueError(f"rosbag: expected the folder of a bag, which holds its metadata.yaml, got the file {folder}")
    try:
        # Old bags say the names of their types only.
        with AnyReader([folder], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            yield from _frames(reader, topics)
    except (AnyReaderError, FileNotFoundError) as error:
        raise ValueError(f"rosbag: {folder} is no usable bag: {error}") from error


def _frames(reader: AnyReader, topics: dict[str, str]) -> Iterator[RgbdFrame]:
    colour, depth = picture_topics(reader, topics)
    shown = first(reader, colour)
    optical, size = frame_of(shown.header), colour_of(shown).shape[:2]
    info = beside(reader, topics, "camera_info", colour)
    if info is None:
        info = choose(reader, "camera_info", of_role(reader, "camera_info"), topics)
    camera, rectify = lens_of(first(reader, info), RECTIFIED.search(colour.topic) is not None, *size)
    transforms = _transforms(reader)
    tree = _poses(reader, topics, optical, transforms)
    fitted = None if depth is None else _registration(reader, topics, depth, info, camera, rectify, optical, transforms)
    count, paired, given, last = 0, 0, 0, -1
    for message, sensed in _pairs(reader, colour, depth):
        count += 1
        stamp = stamp_of(message.header)
        if stamp == last == 0:
            raise ValueError(f"image: expected stamps that advance in {colour.topic}, got 0 again and again")
        if (depth is not None and sensed is None) or stamp <= last:
            continue
        paired, last = paired + 1, stamp
        pose = tree.pose(optical, stamp)
        if pose is None:
            continue
        rgb = colour_of(message)
        if rgb.shape[:2] != size:
            raise ValueError(f"image: expected {size} pixels as in the first picture, got {rgb.shape[:2]}")
        metres = None if fitted is None else fitted(sensed)
        if metres is not None and not given and (doubt := doubt_of_depth(torch.from_numpy(metres))) is not None:
            warnings.warn(f"depth: {doubt}", stacklevel=2)
        given += 1
        rgb = rgb if rectify is None else rectify(rgb, cv2.INTER_LINEAR)
        yield RgbdFrame(rgb, metres, camera.at(pose).to(dtype=torch.float32), stamp)
    if not given:
        raise ValueError(
            f"rosbag: expected pictures with a pose, got {count} pictures in {colour.topic}, {paired} of them "
            + ("" if depth is None else f"with depth of {depth.topic} within {APART / 1e6:.0f} ms, ")
            + f"none with a pose of {optical!r} at its time"
        )


def _registration(
    reader: AnyReader,
    topics: Mapping[str, str],
    depth: Connection,
    colour_info: Connection,
    camera: Camera,
    rectify: Rectify | None,
    optical: str,
    transforms: TransformTree,
) -> Fitted:
    """How depth comes to the pixels of the picture."""
    shown, rectified = first(reader, depth), RECTIFIED.search(depth.topic) is not None
    frame = frame_of(shown.header) or optical
    info = beside(reader, topics, "depth_camera_info", depth)
    own: Camera | None = None
    straighten: Rectify | None = None
    if info is None or info.topic == colour_info.topic:
        if frame != optical:
            raise ValueError(
                f"depth: expected in the frame of the picture, {optical!r}, or with a camera_info of its own beside it "
                f"(or the topic depth_camera_info) to register it, got {depth.topic} in the frame {frame!r}"
            )
    else:
        own, straighten = lens_of(first(reader, info), rectified, *depth_of(shown).shape)
        alike = own.resized(camera.height, camera.width).intrinsics
        if frame == optical and torch.allclose(alike, camera.intrinsics, rtol=SAME, atol=SAME):
            own = None

    def as_registered(message: Any) -> NDArray[np.float32]:
        metres = depth_like(camera, depth_of(message))
        return metres if rectify is None or rectified else rectify(metres, cv2.INTER_NEAREST)

    def register(message: Any, sensor: Camera) -> NDArray[np.float32]:
        metres = depth_of(message)
        if straighten is not None:
            metres = straighten(metres, cv2.INTER_NEAREST)
        move = transforms.between(optical, frame, stamp_of(message.header))
        if move is None:
            raise ValueError(
                f"depth: expected a transform between {frame!r}, the frame of {depth.topic}, and the picture's "
                f"{optical!r} to register it, got none"
            )
        return register_depth(metres, sensor.at(move), camera)

    return as_registered if own is None else partial(register, sensor=own)


def _transforms(reader: AnyReader) -> TransformTree:
    tree = TransformTree()
    for connection, message in messages(reader, [one for one in reader.connections if one.msgtype == TRANSFORMS]):
        still = connection.topic.endswith("tf_static")
        for transform in message.transforms:
            tree.add(transform, str(transform.child_frame_id).lstrip("/"), still)
    return tree


def _poses(reader: AnyReader, topics: Mapping[str, str], optical: str, transforms: TransformTree) -> TransformTree:
    """The tree out of which the camera's pose follows."""
    if "pose" not in topics and transforms.moves(optical):
        return transforms
    found = of_role(reader, "pose")
    if "pose" not in topics and any(one.msgtype == ODOMETRY for one in found):
        found = [one for one in found if one.msgtype == ODOMETRY]
    if not found and transforms.edges and "pose" not in topics:
        frames = ", ".join(sorted(f"{edge.parents[0]} to {child}" for child, edge in transforms.edges.items()))
        raise ValueError(
            f"pose: expected transforms that lead from {optical!r}, the frame of the pictures, to a root and move, "
            f"or a topic of poses, got transforms from {frames}"
        )
    chosen = choose(reader, "pose", found, topics)
    child, own = optical, TransformTree()
    for connection, message in messages(reader, [chosen]):
        if connection.msgtype == ODOMETRY:
            child = str(message.child_frame_id).lstrip("/")
            if not child:
                raise ValueError(f"pose: expected a child_frame_id in {chosen.topic}, got none")
        own.add(message, child, still=False)
    tree = TransformTree({**transforms.edges, **own.edges})
    if not tree.moves(optical):
        raise ValueError(f"pose: expected transforms from {optical!r} to {child!r}, whose pose {chosen.topic} gives")
    return tree


def _pairs(reader: AnyReader, colour: Connection, depth: Connection | None) -> Iterator[tuple[Any, Any]]:
    """Pictures with the depth nearest in time, or None where there is none near."""
    if depth is None:
        for _, message in messages(reader, [colour]):
            yield message, None
        return
    pictures: deque[Any] = deque()
    depths: deque[tuple[int, Any]] = deque()

    def matched(message: Any) -> Iterator[tuple[Any, Any]]:
        stamp = stamp_of(message.header)
        while depths and depths[0][0] < stamp - APART:
            depths.popleft()
        best = min(depths, key=lambda entry: abs(entry[0] - stamp), default=None)
        yield message, None if best is None or abs(best[0] - stamp) > APART else best[1]

    for connection, message in messages(reader, [colour, depth]):
        if connection.topic == colour.topic:
            pictures.append(message)
        else:
            depths.append((stamp_of(message.header), message))
        # A picture waits until no nearer depth can come.
        while pictures and depths and depths[-1][0] >= stamp_of(pictures[0].header) + APART:
            yield from matched(pictures.popleft())
    for message in pictures:
        yield from matched(message)
