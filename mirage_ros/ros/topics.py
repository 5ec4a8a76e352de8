"""Topics, services and the action of the node `mirage`: names, types, quality of service, meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import OccupancyGrid, Path
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

from mirage_ros.action import Imagine
from mirage_ros.msg import MemoryStatus
from mirage_ros.ros.parameters import RELIABILITIES
from mirage_ros.srv import ExportCloud, LoadMemory, Repose, Reset, SaveMemory, ScoreViews, SetPrompt

# How messages of a topic are delivered: as observation.reliability or output.reliability says, reliably, or reliably
# with the last one kept for those who come late.
CAMERA, OUTPUT, RELIABLE, LATCHED = "camera", "output", "reliable", "latched"
# Characters of a prompt.
MAX_PROMPT = 4000


def image_qos(reliability: str = "reliable") -> QoSProfile:
    """Quality of service for images and what travels with them.

    Reliable by default although sensors often are not: RViz and most subscribers ask for reliable, and a reliable
    publisher serves both kinds while a best-effort one is silently ignored by reliable subscribers.

    Raises:
        ValueError: an unknown reliability.
    """
    if reliability not in RELIABILITIES:
        raise ValueError(f"reliability: expected one of {', '.join(RELIABILITIES)}, got {reliability!r}")
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=policy)


def check_prompt_length(prompt: str) -> None:
    """Refuse texts that no encoder takes, with a ValueError."""
    if len(prompt) > MAX_PROMPT:
        raise ValueError(f"prompt: expected at most {MAX_PROMPT} characters, got {len(prompt)}")


@dataclass(frozen=True)
class Topic:
    """One topic of the node.

    Attributes:
        name: relative to the node's namespace.
        kind: message class.
        delivery: one of CAMERA, OUTPUT, RELIABLE, LATCHED.
        description: one sentence.
    """

    name: str
    kind: Any
    delivery: str
    description: str

    def qos(self, camera: str = "best_effort", output: str = "reliable") -> QoSProfile:
        """Its quality of service under the reliabilities of the node's parameters."""
        profile = image_qos({CAMERA: camera, OUTPUT: output}.get(self.delivery, "reliable"))
        if self.delivery == LATCHED:
            profile.depth, profile.durability = 1, DurabilityPolicy.TRANSIENT_LOCAL
        return profile


INPUTS = (
    Topic("image", Image, CAMERA, "Camera frames; with observation.transport compressed, image/compressed instead."),
    Topic("image/compressed", CompressedImage, CAMERA, "Camera frames as JPEG or PNG, with that transport only."),
    Topic("camera_info", CameraInfo, CAMERA, "Their optics; one that is sent once, or seldom, holds on."),
    Topic(
        "depth",
        Image,
        CAMERA,
        "Their depth, registered to the image by its source or, with depth/camera_info, here; REP-118: +inf is too far "
        "to measure, NaN (in millimetres 0) unknown.",
    ),
    Topic(
        "depth/camera_info",
        CameraInfo,
        CAMERA,
        "Optics of a depth camera of its own; TF knows the place of its frame_id.",
    ),
    Topic("camera_pose", PoseStamped, CAMERA, "Pose of the camera's optical frame, interpolated to the image's stamp."),
    Topic("pose", PoseStamped, RELIABLE, "Streamed pose command: preview at once, frames a chunk at a time."),
    Topic("preview/pose", PoseStamped, RELIABLE, "Asks for a preview and nothing else."),
    Topic(
        "standing/pose",
        PoseStamped,
        RELIABLE,
        "A place on the ground and a heading (RViz: 2D Goal Pose): pose for a camera that stands there.",
    ),
    Topic(
        "standing/preview",
        PoseWithCovarianceStamped,
        RELIABLE,
        "The same (RViz: 2D Pose Estimate) as preview/pose.",
    ),
    Topic("path", Path, RELIABLE, "A whole trajectory to imagine; stamps that do not increase are replaced."),
    Topic(
        "repose/frames",
        Path,
        RELIABLE,
        "New optical poses of camera frames, named by their stamps, as after a loop closure; others are left out.",
    ),
    Topic("prompt", String, RELIABLE, "Text that conditions what is imagined from the next chunk on."),
)

OUTPUTS = (
    Topic("imagined/image", Image, OUTPUT, "Imagined frames, rgb8."),
    Topic("imagined/image/compressed", CompressedImage, OUTPUT, "The same as JPEG, while somebody listens."),
    Topic("imagined/camera_info", CameraInfo, OUTPUT, "Their optics."),
    Topic(
        "imagined/depth",
        Image,
        OUTPUT,
        "Their depth along the optical axis; REP-118: +inf is too far to tell, such as in the sky.",
    ),
    Topic(
        "imagined/visibility",
        Image,
        OUTPUT,
        "32FC1: 0 where a pixel was invented, 1 where it was remembered: observed, or imagined and remembered before.",
    ),
    Topic(
        "imagined/uncertainty",
        Image,
        OUTPUT,
        "32FC1, metres: standard deviation of imagined/depth; +inf where that is, NaN where there is none.",
    ),
    Topic(
        "imagined/points",
        PointCloud2,
        OUTPUT,
        "Their points in the world frame: x y z rgb visibility doubt (metres). For marking, not for clearing.",
    ),
    Topic(
        "imagined/occupancy",
        OccupancyGrid,
        LATCHED,
        "Probability of occupied, 0 to 100, where nothing was observed; -1 elsewhere. In the world frame.",
    ),
    Topic(
        "imagined/speed_mask",
        OccupancyGrid,
        LATCHED,
        "For nav2's speed filter: occupancy.unseen_speed per cent where nothing was observed; 0, no limit, elsewhere.",
    ),
    Topic("imagined/pose", PoseStamped, OUTPUT, "Pose of their optical frame in the world frame."),
    Topic("imagined/path", Path, LATCHED, "Poses of the newest rollout in the world frame."),
    Topic("preview/image", Image, OUTPUT, "What the memory knows of a view, decoded without diffusion, rgb8."),
    Topic("preview/visibility", Image, OUTPUT, "32FC1: 1 where the preview knows anything, 0 elsewhere."),
    Topic("preview/camera_info", CameraInfo, OUTPUT, "Optics of the preview."),
    Topic("memory/points", PointCloud2, LATCHED, "The memory: x y z rgb confidence, in the world frame."),
    Topic(
        "memory/frames",
        Path,
        LATCHED,
        "Optical poses and stamps of the camera frames in the memory, in the order of writing; repose takes them.",
    ),
    Topic(
        "memory/occupancy",
        OccupancyGrid,
        LATCHED,
        "What was observed: 0 free, 100 occupied, -1 unknown. In the world frame, whose z axis is up.",
    ),
    Topic("memory/status", MemoryStatus, LATCHED, "Elements, bytes, backlog and timings."),
    Topic("/diagnostics", DiagnosticArray, RELIABLE, "What is wrong and what to do: once a second, in every state."),
)

SERVICES: tuple[tuple[str, Any, str], ...] = (
    ("reset", Reset, "Forget everything, or what was imagined only."),
    ("repose", Repose, "Move source frames by id or stamp, as after a loop closure; what came from them moves along."),
    ("save_memory", SaveMemory, "Write the memory to a file below memory.folder."),
    ("load_memory", LoadMemory, "Replace the memory by a file's."),
    ("export_cloud", ExportCloud, "Write the memory as a PLY cloud."),
    (
        "score_views",
        ScoreViews,
        "Say what views or paths are worth, from the readout or after imagining them.",
    ),
    ("set_prompt", SetPrompt, "Set the text; says whether the preset takes one."),
    ("observe", Trigger, "Write the next camera frame, whatever observation.enabled and observation.rate say."),
)

ACTIONS: tuple[tuple[str, Any, str], ...] = (
    ("imagine", Imagine, "Imagine candidate trajectories, each on its own fork of the memory."),
)


def topic(name: str) -> Topic:
    """The row of this name; a KeyError if the node has no such topic."""
    return {row.name: row for row in (*INPUTS, *OUTPUTS)}[name]
