"""Which topics of a bag hold a camera's pictures, their depth, their cameras and its poses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from mirage_ros.recordings.bag_messages import is_depth

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
# What the topics of a bag can be: the types, and what they hold.
ROLES = {
    "image": (PICTURES, "with colours"),
    "depth": (PICTURES, "with depth"),
    "camera_info": ((CAMERA,), "of the image"),
    "depth_camera_info": ((CAMERA,), "of the depth"),
    "pose": (POSES, "or transforms on /tf that move the camera"),
}
# Topics of pictures that are rectified already, as image_proc and camera drivers name them: image_rect,
# image_rect_color, image_rect_raw, left/rectified/image. CameraInfo does not say beside which stream it lies.
RECTIFIED = re.compile(r"(?:^|[/_])(?:rect(?:ified)?|undistorted)(?:[/_]|$)")


def first(reader: AnyReader, connection: Connection) -> Any:
    """The first message of a topic."""
    return next(messages(reader, [connection]))[1]


def messages(reader: AnyReader, connections: list[Connection]) -> Iterator[tuple[Connection, Any]]:
    """Messages of topics in the bag's order, each with its topic; none of no topics."""
    # An empty list would mean every topic.
    for connection, _, data in reader.messages(connections) if connections else ():
        yield connection, reader.deserialize(data, connection.msgtype)


def of_role(reader: AnyReader, role: str) -> list[Connection]:
    """Topics of a role's types that hold something."""
    return [one for one in reader.connections if one.msgtype in ROLES[role][0] and one.msgcount]


def picture_topics(reader: AnyReader, topics: Mapping[str, str]) -> tuple[Connection, Connection | None]:
    """The topics of colour and of depth; None where the bag has no depth.

    Raises:
        ValueError: there is no colour, or one of the two is ambiguous.
    """
    found: dict[bool, list[Connection]] = {True: [], False: []}
    for connection in of_role(reader, "image"):
        found[is_depth(first(reader, connection))].append(connection)
    colour = choose(reader, "image", found[False], topics)
    return colour, choose(reader, "depth", found[True], topics) if found[True] or "depth" in topics else None


def beside(reader: AnyReader, topics: Mapping[str, str], role: str, pictures: Connection) -> Connection | None:
    """The CameraInfo that is named, else the one beside pictures, if there is any."""
    cameras = of_role(reader, role)
    if role in topics:
        return choose(reader, role, cameras, topics)
    # By custom it lies beside the picture (image_transport): camera/image_raw, camera/image_raw/compressed.
    beside = [pictures.topic.rsplit("/", above)[0] + "/camera_info" for above in (1, 2)]
    return next((one for name in beside for one in cameras if one.topic == name), None)


def choose(reader: AnyReader, role: str, found: list[Connection], topics: Mapping[str, str]) -> Connection:
    """The topic of a role that is named, else the only one that was found.

    Raises:
        ValueError: there is none, or one of several; says what it would be and what the bag holds.
    """
    names = sorted({one.topic for one in found})
    types, what = ROLES[role]
    wanted = f"{' or '.join(name.replace('/msg/', '/') for name in types)} {what}"
    if role in topics:
        name = topics[role]
        found = [one for one in found if one.topic == name]
        if not found:
            others = [one for one in reader.connections if one.topic == name]
            kind = "not in the bag" if not others else f"{others[0].msgtype} with {others[0].msgcount} messages"
            raise ValueError(f"{role}: expected a topic of {wanted}, one of {names}, got {name!r}, which is {kind}")
    elif len(names) > 1:
        raise ValueError(f"{role}: expected the name of one of {names}, as the bag has several (--topic {role}=NAME)")
    if not found:
        held = ", ".join(sorted({f"{one.topic} ({one.msgtype})" for one in reader.connections if one.msgcount}))
        raise ValueError(f"{role}: expected a topic of {wanted}, got none in the bag, which holds {held or 'nothing'}")
    return found[0]
