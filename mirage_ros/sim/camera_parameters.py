"""Parameters of the node `sim_camera`; the launch file makes its arguments from them."""

from __future__ import annotations

from mirage_ros.ros.parameter_rows import Parameter
from mirage_ros.ros.parameters import RELIABILITIES
from mirage_ros.sim.scene import FAMILIES, MAX_MOVING, MAX_SEED

PARAMETERS = (
    Parameter("seed", 0, "Integer that the whole scene grows from.", 0, MAX_SEED),
    Parameter("family", "rooms", "Kind of scene.", choices=FAMILIES),
    Parameter("moving", -1, "Number of moving objects; -1 lets the seed decide.", -1, MAX_MOVING),
    Parameter("width", 192, "Image width, pixels.", 16, 4096),
    Parameter("height", 128, "Image height, pixels.", 16, 4096),
    Parameter("vertical_fov", 1.0, "Vertical field of view, radians.", 0.1, 2.5),
    Parameter("rate", 10.0, "Frames per second; fewer where drawing takes longer.", 0.1, 120.0),
    Parameter("motion", "path", "What the camera does before the first command.", choices=("path", "hold")),
    Parameter("path_length", 60, "Poses of the path that is walked back and forth, one a frame.", 2, 600),
    Parameter("command_timeout", 0.5, "A velocity command holds for this many seconds.", 0.01, 60.0),
    Parameter("depth_encoding", "32FC1", "Encoding of depth: metres or millimetres.", choices=("32FC1", "16UC1")),
    Parameter("reliability", "reliable", "Quality of service of image, depth and labels.", choices=RELIABILITIES),
    Parameter("publish_clock", False, "Publish /clock and stamp with simulated time, which starts at zero."),
    Parameter("world_frame", "map", "Frame that poses refer to."),
    Parameter("camera_frame", "camera_optical_frame", "Optical frame of the images."),
)
