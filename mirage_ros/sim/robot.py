"""A camera that moves through a scene without going through things."""

from __future__ import annotations

import math

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from mirage_ros.poses import body_to_optical, check_pose, optical_to_body
from mirage_ros.sim.paths import collides
from mirage_ros.sim.scene import Scene
from mirage_ros.trajectory import check_trajectory

# Half the width of a small mobile robot, metres.
RADIUS = 0.15
# Checked on the way of one motion: a hundred metres.
MAX_STEPS = 1334
# The camera may look this far up or down, radians; beyond it a yaw about the vertical would no longer steer the view.
MAX_PITCH = math.radians(80)

Vector = tuple[float, float, float]


class CameraRobot:
    """Pose of the simulated camera and the ways to move it.

    Attributes:
        pose: (4, 4) float64 cam2world, optical axes, metres.
        collided: the last motion was refused because something was in the way.
    """

    def __init__(self, scene: Scene, start: Tensor) -> None:
        check_pose(start, name="start")
        self._scene = scene
        self.pose = start.double()
        self.collided = False
        self._path: Tensor | None = None
        self._index = 0

    def drive(self, linear: Vector, angular: Vector, duration: float) -> bool:
        """Move with a body twist, as geometry_msgs/Twist means it.

        Args:
            linear: metres per second along body x (forward), y (left), z (up), level with the floor.
            angular: radians per second; y pitches (positive looks down), z yaws (positive turns left), x is ignored:
                the camera stays upright.
            duration: seconds.

        Returns:
            Whether the camera moved; it still turns when something blocks its way.

        Raises:
            ValueError: a number is not finite, or the way is too long for one motion.
        """
        if not all(map(math.isfinite, (*linear, *angular, duration))):
            raise ValueError(f"twist: expected finite numbers, got linear={linear}, angular={angular}, {duration} s")
        self._path = None
        body = optical_to_body(self.pose)
        yaw, pitch, _ = Rotation.from_matrix(body[:3, :3].numpy()).as_euler("ZYX")
        heading = Rotation.from_euler("z", yaw).as_matrix()
        way = torch.from_numpy(heading) @ torch.tensor(linear, dtype=torch.float64) * duration
        pitch = min(max(pitch + angular[1] * duration, -MAX_PITCH), MAX_PITCH)
        turned = Rotation.from_euler("ZYX", [yaw + angular[2] * duration, pitch, 0]).as_matrix()
        steps = 1 + int(way.norm().item() / (RADIUS / 2))
        if steps > MAX_STEPS:
            raise ValueError(
                f"twist: expected at most {MAX_STEPS * RADIUS / 2:g} m at once, got {linear} for {duration} s"
            )
        # All of the way, or a fast robot would pass through thin things.
        places = body[:3, 3] + torch.linspace(0, 1, steps + 1).double()[1:, None] * way
        self.collided = any(linear) and collides(self._scene, places, RADIUS)
        if not self.collided:
            body[:3, 3] += way
        body[:3, :3] = torch.from_numpy(turned)
        self.pose = body_to_optical(body)
        return not self.collided

    def jump(self, pose: Tensor) -> bool:
        """Go to a pose (4, 4) at once and say so, unless that place is occupied.

        Raises:
            ValueError: the pose is not a rigid transform.
        """
        check_pose(pose, name="pose")
        self.collided = collides(self._scene, pose[:3, 3].double(), RADIUS)
        if not self.collided:
            self.pose, self._path = pose.double(), None
        return not self.collided

    def follow(self, path: Tensor) -> None:
        """From the next `step` on, go through the poses (T, 4, 4), then back and forth along them."""
        check_trajectory(path, name="path")
        self._path, self._index = path.double(), 0

    def step(self) -> None:
        """Go to the next pose of the path, if one is being followed."""
        if self._path is not None:
            turn = self._index % max(2 * len(self._path) - 2, 1)
            self.pose = self._path[min(turn, 2 * len(self._path) - 2 - turn)]
            self._index += 1
