"""What stands in the window's 3-D scene, and where browsers look from."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.media import Pixels
from mirage_ros.poses import pose_from_quaternion, quaternion_from_pose
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.viewer.drawing import letterboxed

# Frusta that are drawn of observed frames.
MOST_FRUSTA = 80
# Metres from the riding camera to the point that a drag turns it around: near enough to look around.
PIVOT = 0.05
# Share of the points below which the floor is looked for: some lie under it by mistake.
FLOOR = 0.02
ORANGE, BLUE, GREY = (236, 112, 64), (64, 128, 236), (150, 150, 150)
Colour = tuple[int, int, int]


def to_viser(pose: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quaternion (wxyz) and place of a (4, 4) pose."""
    return np.roll(quaternion_from_pose(pose).numpy(), 1), pose[:3, 3].numpy()


def from_viser(quaternion: NDArray[np.floating[Any]], place: NDArray[np.floating[Any]]) -> Tensor:
    """(4, 4) float64 pose of a quaternion (wxyz) and a place."""
    xyzw = torch.from_numpy(np.roll(np.asarray(quaternion, np.float64), -1))
    return pose_from_quaternion(torch.from_numpy(np.asarray(place, np.float64)), xyzw)


class SceneView:
    """Draws on a viser server. Whatever is drawn again under its name replaces what was there.

    Attributes:
        floor: height of the floor, metres, as far as the cloud shows it.
        gizmo: handle of the imagined camera for those who look on.
    """

    def __init__(self, server: Any) -> None:
        self._server, self._scene = server, server.scene
        self.floor = 0.0
        self._optics = (0.9, 1.5)
        self._world = self._scene.add_frame("/world", show_axes=False)
        self.gizmo = self._scene.add_transform_controls("/camera", scale=0.4)
        self.look_on(False)

    def look_on(self, beside: bool) -> None:
        """Show the world and the gizmo, or neither: those who ride see the picture alone."""
        self._world.visible = self.gizmo.visible = beside

    def cloud(self, points: NDArray[np.floating[Any]], colours: Pixels) -> None:
        """Draw (N, 3) points and their uint8 colours."""
        if len(points):
            self.floor = float(np.quantile(points[:, 2], FLOOR))
            # Coordinates travel in half precision: from the middle, they keep millimetres.
            middle = points.mean(axis=0)
            near = (points - middle).astype(np.float32)
            self._scene.add_point_cloud("/world/memory", near, colours, point_size=0.03, position=middle)

    def observed(self, poses: Tensor) -> None:
        """Draw the cameras (N, 4, 4) of observed frames, not more than a browser bears."""
        chosen = np.linspace(0, len(poses) - 1, min(len(poses), MOST_FRUSTA)).round().astype(int)
        with self._server.atomic():
            for number, index in enumerate(chosen):
                self._frustum(f"observed/{number}", poses[index], GREY, 0.1)

    def robot(self, rgb: Pixels, pose: Tensor) -> None:
        """Draw the robot's last frame where it was taken."""
        self._frustum("robot", pose, BLUE, 0.25, rgb)

    def imagined(self, frame: ImaginedFrame) -> None:
        """Draw an imagined frame where it is seen."""
        camera = frame.camera
        self._optics = (vertical_fov(frame), camera.width / camera.height)
        self._frustum("imagined", camera.cam2world.cpu(), ORANGE, 0.25, frame.rgb)

    def line(self, name: str, places: Tensor, colour: Colour = ORANGE) -> None:
        """Draw a line through places (N, 3)."""
        if len(places) > 1:
            segments = torch.stack([places[:-1], places[1:]], dim=1).numpy()
            self._scene.add_line_segments(f"/{name}", segments, colors=colour, thickness=0.02)

    def waypoints(self, start: Tensor, places: Sequence[Tensor]) -> None:
        """Draw waypoints (3,) on the floor, and the way to them from a start (3,)."""
        self._scene.remove_by_name("/waypoints")
        if places:
            ground = torch.stack([start, *places]).clone()
            ground[:, 2] = self.floor
            for number, place in enumerate(ground[1:]):
                self._scene.add_icosphere(f"/waypoints/{number}", radius=0.06, color=ORANGE, position=place.numpy())
            self.line("waypoints/line", ground)

    def remove(self, name: str) -> None:
        """Take something away, and what is under it."""
        self._scene.remove_by_name(f"/{name}")

    def on_floor(self, origin: Sequence[float], direction: Sequence[float]) -> Tensor | None:
        """(3,) where a ray meets the floor; None where it does not."""
        start, ray = (torch.tensor(each, dtype=torch.float64) for each in (origin, direction))
        if ray[2] > -1e-3 or start[2] <= self.floor:
            return None
        return start + ray * (self.floor - start[2]) / ray[2]

    # Browsers

    def clients(self) -> list[Any]:
        """Browsers that are connected."""
        return list(self._server.get_clients().values())

    def seat(self, client: Any, pose: Tensor) -> None:
        """A browser's view to a (4, 4) pose."""
        with client.atomic():
            client.camera.up_direction = (0.0, 0.0, 1.0)
            client.camera.position = pose[:3, 3].numpy()
            client.camera.look_at = (pose[:3, 3] + PIVOT * pose[:3, 2]).numpy()
            client.camera.fov = self._optics[0]

    def step_back(self, client: Any, pose: Tensor) -> None:
        """A browser's view to behind and above a (4, 4) pose."""
        here, ahead = pose[:3, 3], pose[:3, 2]
        with client.atomic():
            client.camera.position = (here - 2.0 * ahead + torch.tensor([0.0, 0.0, 1.5])).numpy()
            client.camera.look_at = (here + ahead).numpy()

    def background(self, client: Any, picture: Pixels | None) -> None:
        """A picture behind everything that a browser shows, or none."""
        boxed = None if picture is None else letterboxed(picture, client.camera.aspect)
        # It may have gone meanwhile.
        with contextlib.suppress(KeyError):
            client.scene.set_background_image(boxed, format="jpeg", jpeg_quality=85)

    def _frustum(self, name: str, pose: Tensor, colour: Colour, scale: float, rgb: Pixels | None = None) -> None:
        fov, aspect = self._optics
        quaternion, place = to_viser(pose.double())
        self._scene.add_camera_frustum(
            f"/world/{name}", fov, aspect, scale=scale, color=colour, image=rgb, wxyz=quaternion, position=place
        )


def vertical_fov(frame: ImaginedFrame) -> float:
    """Radians."""
    return float(2 * np.arctan(frame.camera.height / 2 / float(frame.camera.intrinsics[1, 1])))
