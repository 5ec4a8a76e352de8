"""Parameters of the node `mirage`; launch file, configuration files and documentation follow this table."""

from __future__ import annotations

import math

from mirage_ros.ros.parameters import Parameter
from mirage_ros.ros.qos import RELIABILITIES

# Names of models.presets; importing them would cost the launch file seconds.
PRESETS = ("default", "wan2.2-ti2v-5b", "test")
DTYPES = ("auto", "float32", "float16", "bfloat16")
POSES_OF = ("optical", "body", "base")
MEBIBYTE = 1 << 20

# Networks of mirage_ros.perception.registry; it is not imported here, as launch files read this table.
ESTIMATORS = ("depth-anything", "map-anything", "unidepth")

PARAMETERS = (
    Parameter("preset", "default", "Which world model.", choices=PRESETS),
    Parameter("weights", "", "Folder or hub repository of the weights; empty for those that come with the preset."),
    Parameter("random_weights", False, "Run the preset untrained, to try out everything but the pictures."),
    Parameter("device", "auto", "Where the model runs: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."),
    Parameter("dtype", "auto", "Number type of the model; auto: float32 on a CPU, else bfloat16.", choices=DTYPES),
    Parameter("threads", 0, "CPU threads of the model; 0 leaves the choice to torch.", 0, 256),
    Parameter("autostart", True, "Configure and activate without being told to."),
    Parameter("world_frame", "map", "Frame that the memory lives in; poses without a frame_id are in it."),
    Parameter("imagined_frame", "imagined_camera_optical_frame", "frame_id of imagined frames and previews."),
    Parameter(
        "base_frame", "base_link", "The robot's base in TF; used for poses of the base when all extrinsics are zero."
    ),
    Parameter("pose_of", "optical", "What poses on pose, preview/pose and path describe.", choices=POSES_OF),
    Parameter("use_tf", True, "Use TF where tf2_ros is installed, for poses in other frames and of the base."),
    Parameter("extrinsics.x", 0.0, "Camera body in the base, metres forward.", -100.0, 100.0),
    Parameter("extrinsics.y", 0.0, "Camera body in the base, metres to the left.", -100.0, 100.0),
    Parameter("extrinsics.z", 0.0, "Camera body in the base, metres up.", -100.0, 100.0),
    Parameter("extrinsics.roll", 0.0, "Camera body in the base, radians about x.", -math.pi, math.pi),
    Parameter(
        "extrinsics.pitch", 0.0, "Camera body in the base, radians about y; positive looks down.", -math.pi, math.pi
    ),
    Parameter("extrinsics.yaw", 0.0, "Camera body in the base, radians about z.", -math.pi, math.pi),
    Parameter("observation.enabled", True, "Write camera frames to the memory as they come.", runtime=True),
    Parameter(
        "observation.rate", 2.0, "At most this many camera frames a second; 0 takes all.", 0.0, 1000.0, runtime=True
    ),
    Parameter(
        "observation.pose",
        "topic",
        "Where the pose of a camera frame comes from: camera_pose, TF, or the world "
        "frame's origin for single pictures.",
        choices=("topic", "tf", "origin"),
    ),
    Parameter(
        "observation.depth",
        "topic",
        "Depth of camera frames: measured, or estimated by observation.estimator.",
        choices=("topic", "estimated"),
    ),
    Parameter(
        "observation.estimator",
        "depth-anything",
        "Estimates the depth of camera frames; needs its package and weights, without which configure fails.",
        choices=ESTIMATORS,
    ),
    Parameter(
        "observation.estimator_weights",
        "",
        "Folder or hub repository of the estimator's weights; empty for the published ones.",
    ),
    Parameter(
        "observation.transport", "raw", "Subscribe to image, or to image/compressed.", choices=("raw", "compressed")
    ),
    Parameter("observation.rectified", False, "Camera frames are rectified: camera_info.p holds, whatever d says."),
    Parameter(
        "observation.undistort", False, "Rectify camera frames here, after k and d; else distorted ones are refused."
    ),
    Parameter("observation.queue", 10, "Stamps that wait for the other messages of their camera frame.", 1, 1000),
    Parameter(
        "observation.reliability",
        "best_effort",
        "Quality of service asked of the camera; best_effort hears both kinds of publisher.",
        choices=RELIABILITIES,
    ),
    Parameter(
        "observation.max_future", 5.0, "Camera frames stamped later than now by more seconds are refused.", 0.0, 1e9
    ),
    Parameter(
        "perception.depth",
        "auto",
        "Depth of imagined frames: the model's own, or what the memory shows; auto takes the first it can.",
        choices=("auto", "joint", "memory"),
    ),
    Parameter(
        "perception.filter", "none", "What keeps moving things out of the memory.", choices=("none", "geometric")
    ),
    Parameter("imagine.steps", 0, "Denoising steps of a chunk; 0 takes the preset's.", 0, 1000, runtime=True),
    Parameter(
        "imagine.seed", 0, "Seed of the noise for pose and path; -1 draws one each time.", -1, 2**31 - 1, runtime=True
    ),
    Parameter("imagine.remember", True, "Write what pose and path commands showed to the memory.", runtime=True),
    Parameter(
        "imagine.pause",
        0.3,
        "A pose stream pauses after this many seconds without a pose; what is there is then imagined.",
        0.01,
        60.0,
        runtime=True,
    ),
    Parameter(
        "imagine.max_frames", 512, "Frames of one path or goal, all candidates together.", 1, 100000, runtime=True
    ),
    Parameter("imagine.max_candidates", 64, "Candidate trajectories of one goal.", 1, 1000, runtime=True),
    Parameter(
        "imagine.max_distance",
        1000.0,
        "Metres from the world frame's origin; poses farther off are refused.",
        1.0,
        1e6,
        runtime=True,
    ),
    Parameter(
        "imagine.batch", 0, "Candidates that are denoised together; 0 lets the model decide.", 0, 1000, runtime=True
    ),
    Parameter("imagine.vertical_fov", 0.9, "Vertical field of view before the first camera frame, radians.", 0.1, 2.5),
    Parameter("imagine.prompt", "", "Text that conditions what is imagined, where the preset takes text."),
    Parameter(
        "output.reliability",
        "reliable",
        "Quality of service of images; reliable serves all subscribers.",
        choices=RELIABILITIES,
    ),
    Parameter(
        "output.depth_encoding", "32FC1", "Encoding of depth: metres or millimetres.", choices=("32FC1", "16UC1")
    ),
    Parameter("output.jpeg_quality", 90, "Of imagined/image/compressed.", 1, 100, runtime=True),
    Parameter("memory.max_bytes", 512 * MEBIBYTE, "Hard cap of the memory, bytes.", MEBIBYTE, 2**40),
    Parameter("memory.folder", "", "Folder of saved memories and clouds; empty for ~/.ros/mirage and the node's name."),
    Parameter(
        "memory.autosave",
        30.0,
        "Seconds between automatic saves while the memory changes; 0 for none.",
        0.0,
        86400.0,
        runtime=True,
    ),
    Parameter("memory.restore", True, "Load the automatic save on configure, if there is one."),
    Parameter(
        "memory.cloud_rate",
        1.0,
        "At most this many clouds a second, while somebody listens.",
        0.01,
        100.0,
        runtime=True,
    ),
    Parameter(
        "memory.cloud_points",
        200000,
        "Points of a published cloud; of more, every n-th is shown.",
        100,
        10**8,
        runtime=True,
    ),
    Parameter("queue.calls", 64, "Short requests that may wait.", 1, 10000),
    Parameter("queue.jobs", 8, "Paths and goals that may wait or run.", 1, 1000),
    Parameter("status.rate", 2.0, "Messages a second on memory/status.", 0.1, 100.0),
    Parameter(
        "status.silence",
        5.0,
        "Seconds without a message after which a topic is reported as silent.",
        0.1,
        3600.0,
        runtime=True,
    ),
)
