"""The list of parameters of the node `mirage`; launch file, configuration files and documentation are made from it.

Free of ROS, so that launch files read it at once; `parameter_declaration` declares such lists on a node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mirage_ros.ros.parameter_rows import ParameterGroup, row

# Names and limits of models.presets, models.schedule, world.options and perception.registry; importing those would cost
# a launch file seconds.
PRESETS = ("default", "wan2.2-ti2v-5b", "test")
MAX_STEPS, MAX_SEED = 50, 2**63 - 65
ESTIMATORS = ("depth-anything", "map-anything", "unidepth")
DTYPES = ("auto", "float32", "float16", "bfloat16")
POSES_OF = ("optical", "body", "base")
UNSEEN_OF = ("parameter", "mean", "sample")
RELIABILITIES = ("reliable", "best_effort")
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class ExtrinsicsParameters(ParameterGroup):
    """The camera body in the robot's base, axes as in URDF."""

    prefix = "extrinsics."
    x: float = row(0.0, "Camera body in the base, metres forward.", -100.0, 100.0)
    y: float = row(0.0, "Camera body in the base, metres to the left.", -100.0, 100.0)
    z: float = row(0.0, "Camera body in the base, metres up.", -100.0, 100.0)
    roll: float = row(0.0, "Camera body in the base, radians about x.", -math.pi, math.pi)
    pitch: float = row(0.0, "Camera body in the base, radians about y; positive looks down.", -math.pi, math.pi)
    yaw: float = row(0.0, "Camera body in the base, radians about z.", -math.pi, math.pi)


@dataclass(frozen=True)
class ObservationParameters(ParameterGroup):
    """Camera frames that are written to the memory."""

    prefix = "observation."
    enabled: bool = row(True, "Write camera frames to the memory as they come.", live=True)
    rate: float = row(2.0, "At most this many camera frames a second; 0 takes all.", 0.0, 1000.0, live=True)
    pose: str = row(
        "topic",
        "Where the pose of a camera frame comes from: camera_pose, TF, or the world "
        "frame's origin for single pictures.",
        choices=("topic", "tf", "origin"),
    )
    depth: str = row(
        "topic",
        "Depth of camera frames: measured, or estimated by observation.estimator.",
        choices=("topic", "estimated"),
    )
    estimator: str = row(
        "depth-anything",
        "Estimates the depth of camera frames; needs its package and weights, without which configure fails.",
        choices=ESTIMATORS,
    )
    estimator_weights: str = row(
        "", "Folder or hub repository of the estimator's weights; empty for the published ones."
    )
    transport: str = row("raw", "Subscribe to image, or to image/compressed.", choices=("raw", "compressed"))
    rectified: bool = row(False, "Camera frames are rectified: camera_info.p holds, whatever d says.")
    undistort: bool = row(False, "Rectify camera frames here, after k and d; else distorted ones are refused.")
    queue: int = row(10, "Stamps of each frame_id that wait for the other messages of their camera frame.", 1, 1000)
    slop: float = row(
        0.02,
        "Seconds by which the stamps of image, depth and camera_info may differ where no equal ones come.",
        0.0,
        10.0,
    )
    registered: bool = row(False, "Depth is registered to the image, whatever its frame_id and depth/camera_info say.")
    reliability: str = row(
        "best_effort",
        "Quality of service asked of the camera; best_effort hears both kinds of publisher.",
        choices=RELIABILITIES,
    )
    exposure: str = row(
        "kept",
        "Camera frames are kept as they are, or brought to the exposure and white balance of what the memory shows of "
        "them (fitted).",
        choices=("kept", "fitted"),
    )
    jump: float = row(
        0.1,
        "Metres at the camera, or radians, by which world_frame -> odom_frame may step at once; beyond, camera frames "
        "that came through TF move along. 0 lets them stay.",
        0.0,
        1e6,
        live=True,
    )
    max_gap: float = row(
        1.0, "Seconds between two poses on camera_pose that are interpolated; longer gaps are refused.", 0.001, 1e6
    )
    max_future: float = row(5.0, "Camera frames stamped later than now by more seconds are refused.", 0.0, 1e9)


@dataclass(frozen=True)
class StandingParameters(ParameterGroup):
    """The camera that a click on the ground means."""

    prefix = "standing."
    height: float = row(1.2, "Height of the camera that standing/pose means, metres.", -100.0, 100.0, live=True)
    pitch: float = row(0.0, "Its pitch, radians; positive looks down.", -1.57, 1.57, live=True)


@dataclass(frozen=True)
class PerceptionParameters(ParameterGroup):
    """What is found out about imagined frames."""

    prefix = "perception."
    depth: str = row(
        "auto",
        "Depth of imagined frames: the model's own, or what the memory shows; auto takes the first it can.",
        choices=("auto", "joint", "memory"),
    )
    filter: str = row("none", "What keeps moving things out of the memory.", choices=("none", "geometric"))


@dataclass(frozen=True)
class ImagineParameters(ParameterGroup):
    """How commands and goals are imagined, and what they may ask for."""

    prefix = "imagine."
    steps: int = row(0, "Denoising steps of a chunk; 0 takes the preset's.", 0, MAX_STEPS, live=True)
    unseen: str = row(
        "sample",
        "What is imagined where nothing was seen: one of what may be there, or its mean, which errs least and looks "
        "like fog. Weights without exemplars have the mean alone.",
        choices=UNSEEN_OF[1:],
        live=True,
    )
    seed: int = row(0, "Seed of the noise for pose and path; -1 draws one each time.", -1, MAX_SEED, live=True)
    remember: bool = row(True, "Write what pose and path commands showed to the memory.", live=True)
    pause: float = row(
        0.3,
        "A pose stream pauses after this many seconds without a pose; what is there is then imagined.",
        0.01,
        60.0,
        live=True,
    )
    max_frames: int = row(
        512, "Poses of one path, goal or request to score views, all candidates together.", 1, 100000, live=True
    )
    max_candidates: int = row(64, "Candidate trajectories of one goal.", 1, 1000, live=True)
    max_distance: float = row(
        1000.0, "Metres from the world frame's origin; poses farther off are refused.", 1.0, 1e7, live=True
    )
    samples: int = row(
        1,
        "Draws of each trajectory, made as one batch: the first is shown; imagined/uncertainty is their spread, or "
        "what was measured of the weights where that is more.",
        1,
        64,
        live=True,
    )
    batch: int = row(0, "Candidates that are denoised together; 0 lets the model decide.", 0, 1000, live=True)
    vertical_fov: float = row(0.9, "Vertical field of view before the first camera frame, radians.", 0.1, 2.5)
    prompt: str = row("", "Text that conditions what is imagined, where the preset takes text.")


@dataclass(frozen=True)
class OutputParameters(ParameterGroup):
    """How images are published."""

    prefix = "output."
    reliability: str = row(
        "reliable", "Quality of service of images; reliable serves all subscribers.", choices=RELIABILITIES
    )
    depth_encoding: str = row("32FC1", "Encoding of depth: metres or millimetres.", choices=("32FC1", "16UC1"))
    jpeg_quality: int = row(90, "Of imagined/image/compressed.", 1, 100, live=True)


@dataclass(frozen=True)
class MemoryParameters(ParameterGroup):
    """The memory, its files and its cloud."""

    prefix = "memory."
    max_bytes: int = row(512 * MEBIBYTE, "Hard cap of the memory, bytes.", MEBIBYTE, 2**40)
    folder: str = row("", "Folder of saved memories and clouds; empty for ~/.ros/mirage and the node's name.")
    autosave: float = row(
        30.0, "Seconds between automatic saves while the memory changes; 0 for none.", 0.0, 86400.0, live=True
    )
    restore: bool = row(True, "Load the automatic save on configure, if there is one.")
    cloud_rate: float = row(1.0, "At most this many clouds a second, while somebody listens.", 0.01, 100.0, live=True)
    cloud_points: int = row(200000, "Points of a published cloud; of more, every n-th is shown.", 100, 10**8, live=True)


@dataclass(frozen=True)
class OccupancyParameters(ParameterGroup):
    """The grids of what is free and what is occupied."""

    prefix = "occupancy."
    resolution: float = row(0.05, "Side of a cell, metres.", 0.01, 1.0)
    extent: float = row(20.0, "Side of the square around the camera, metres; it goes along in steps.", 1.0, 200.0)
    min_height: float = row(0.1, "What is lower in the world frame, metres, is in nobody's way.", -1000.0, 1000.0)
    max_height: float = row(1.5, "Nor is what is higher.", -1000.0, 1000.0)
    unseen_speed: int = row(
        40, "Speed where nothing was observed, per cent of the full one, on imagined/speed_mask.", 1, 100, live=True
    )
    rate: float = row(2.0, "At most this many grids a second, while somebody listens.", 0.01, 100.0, live=True)


@dataclass(frozen=True)
class QueueParameters(ParameterGroup):
    """Bounds of the work queue."""

    prefix = "queue."
    calls: int = row(64, "Short requests that may wait.", 1, 10000)
    jobs: int = row(8, "Paths and goals that may wait or run.", 1, 1000)


@dataclass(frozen=True)
class StatusParameters(ParameterGroup):
    """What the node tells about itself."""

    prefix = "status."
    rate: float = row(2.0, "Messages a second on memory/status, besides those after each change.", 0.1, 100.0)
    silence: float = row(
        5.0, "Seconds without a message after which a topic is reported as silent.", 0.1, 3600.0, live=True
    )


@dataclass(frozen=True)
class MirageParameters(ParameterGroup):
    """All parameters of the node, checked."""

    preset: str = row("default", "Which world model.", choices=PRESETS)
    weights: str = row("", "Folder or hub repository of the weights; empty for those that come with the preset.")
    random_weights: bool = row(False, "Run the preset untrained, to try out everything but the pictures.")
    device: str = row("auto", "Where the model runs: auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    dtype: str = row(
        "auto",
        "Number type of the networks; auto: what the device multiplies fast.",
        choices=DTYPES,
    )
    threads: int = row(0, "CPU threads of the model; 0 measures at start how many are worth it.", 0, 256)
    autostart: bool = row(True, "Configure and activate without being told to.")
    world_frame: str = row("map", "Frame that the memory lives in; poses without a frame_id are in it.")
    imagined_frame: str = row("imagined_camera_optical_frame", "frame_id of imagined frames and previews.")
    base_frame: str = row(
        "base_link", "The robot's base in TF; used for poses of the base when all extrinsics are zero."
    )
    odom_frame: str = row("odom", "Frame of odometry; what corrects its drift moves it in the world frame (REP-105).")
    pose_of: str = row("optical", "What poses on pose, preview/pose and path describe.", choices=POSES_OF)
    use_tf: bool = row(True, "Use TF where tf2_ros is installed, for poses in other frames and of the base.")
    tf_tolerance: float = row(
        1.0, "Seconds from its arrival that a message waits for its transform or pose.", 0.0, 60.0, live=True
    )
    tf_broadcast: bool = row(True, "Broadcast the imagined camera's pose on /tf, where tf2_msgs is installed.")
    extrinsics: ExtrinsicsParameters = field(default_factory=ExtrinsicsParameters)
    standing: StandingParameters = field(default_factory=StandingParameters)
    observation: ObservationParameters = field(default_factory=ObservationParameters)
    perception: PerceptionParameters = field(default_factory=PerceptionParameters)
    imagine: ImagineParameters = field(default_factory=ImagineParameters)
    output: OutputParameters = field(default_factory=OutputParameters)
    memory: MemoryParameters = field(default_factory=MemoryParameters)
    occupancy: OccupancyParameters = field(default_factory=OccupancyParameters)
    queue: QueueParameters = field(default_factory=QueueParameters)
    status: StatusParameters = field(default_factory=StatusParameters)


PARAMETERS = MirageParameters.rows()
