"""The window in the browser: the memory, the robot, and an imagined camera that is driven with mouse and keys."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.media import Pixels
from mirage_ros.resources import optional_package
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.trajectory import dolly, pan, through
from mirage_ros.viewer.controls import Controls
from mirage_ros.viewer.drawing import compared, view
from mirage_ros.viewer.driver import Driver
from mirage_ros.viewer.scene_view import BLUE, SceneView, from_viser, to_viser
from mirage_ros.viewer.source import Source

# Metres between the frames of a drawn path, and how many it has at most.
STEP, MOST_FRAMES = 0.1, 121
# Frames of a candidate where none was drawn.
WAY = 9
COLOURS = (BLUE, (40, 170, 90), (170, 70, 200), (200, 150, 30))


class BrowserWindow:
    """Shows a source to every browser that comes; they share one imagined camera.

    Attributes:
        url: to open.
    """

    def __init__(self, source: Source, host: str = "127.0.0.1", port: int = 8080) -> None:
        """Serve at an address, and at a port or the next free one.

        Raises:
            RuntimeError: viser is not installed.
        """
        viser = optional_package("viser", "view")
        self._server = viser.ViserServer(host=host, port=port, label="mirage", verbose=False)
        self.url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{self._server.get_port()}"
        # Sharing would open a tunnel through a server of somebody else.
        self._server.gui.configure_theme(show_share_button=False, control_width="large")
        self._pose, self._placed = torch.eye(4, dtype=torch.float64), False
        self._waypoints: list[Tensor] = []
        self._candidates: list[tuple[str, Tensor]] = []
        self._film: list[ImaginedFrame] = []
        self._frame: ImaginedFrame | None = None
        # Previews and imagined frames come from threads of their own.
        self._showing = threading.RLock()
        self._view = SceneView(self._server)
        self._controls = Controls(self._server.gui, self)
        self._driver = Driver(source, self.show, self.say)
        self._view.gizmo.on_update(lambda _: self._move(from_viser(self._view.gizmo.wxyz, self._view.gizmo.position)))
        self._server.scene.on_click()(self._clicked)
        source.start(self)
        self._server.on_client_connect(self._connected)

    def close(self) -> None:
        """End."""
        self._driver.close()
        self._server.stop()

    # What the source tells

    def cloud(self, points: NDArray[np.floating[Any]], colours: Pixels) -> None:
        """See `Listener`."""
        self._view.cloud(points, colours)

    def observed(self, poses: Tensor) -> None:
        """See `Listener`."""
        self._view.observed(poses)
        if not self._placed:
            self._placed = True
            self._move(poses[-1].double())
            self.ride()

    def robot(self, rgb: Pixels, pose: Tensor | None) -> None:
        """See `Listener`."""
        self._controls.robot(rgb)
        if pose is not None:
            self._view.robot(rgb, pose)

    def imagined(self, frame: ImaginedFrame) -> None:
        """See `Listener`."""
        self.show(frame, "imagined")

    def path(self, poses: Tensor) -> None:
        """See `Listener`."""
        self._view.line("world/path", poses[:, :3, 3])

    # What is shown

    def show(self, frame: ImaginedFrame, kind: str) -> None:
        """Show a single frame, and what it is: 'preview' or 'imagined'."""
        with self._showing:
            self._frame = frame
            self._controls.picture(frame, kind)
            self._view.imagined(frame)
            self._draw_picture()

    def say(self, text: str) -> None:
        """A line for the user."""
        self._controls.say(text)

    # What the user does

    def ride(self) -> None:
        """See `Actions`."""
        riding, scene = self._controls.riding, self._view
        scene.look_on(not riding)
        scene.gizmo.wxyz, scene.gizmo.position = to_viser(self._pose)
        for client in scene.clients():
            (scene.seat if riding else scene.step_back)(client, self._pose)
        self._draw_picture()

    def set_options(self) -> None:
        """See `Actions`."""
        self._driver.rest, self._driver.remember = self._controls.resting, self._controls.remembering
        self._draw_picture()

    def stop(self) -> None:
        """See `Actions`."""
        self._driver.stop()
        self.say("stopped")

    def drop_waypoints(self, count: int) -> None:
        """See `Actions`."""
        self._waypoints = self._waypoints[: max(0, len(self._waypoints) - count)]
        self._view.waypoints(self._pose[:3, 3], self._waypoints)

    def imagine_path(self) -> None:
        """See `Actions`."""
        path = self._drawn()
        if path is not None:
            self.path(path)
            self.say(f"imagining {len(path)} frames")
            self._driver.imagine([path], ["drawn"], self._keep_film)

    def keep_candidate(self) -> None:
        """See `Actions`."""
        path, count = self._drawn(), len(self._candidates)
        if path is not None:
            label = f"{count + 1}"
            self._candidates.append((label, path))
            self._view.line(f"candidates/{label}", path[:, :3, 3], COLOURS[count % len(COLOURS)])
            self.drop_waypoints(len(self._waypoints))
            self.say(f"candidate {label}: {len(path)} poses")

    def compare(self) -> None:
        """See `Actions`."""
        here = self._pose
        ways = [("ahead", dolly(here, 0.8, WAY)), ("left", pan(here, -0.8, WAY)), ("right", pan(here, 0.8, WAY))]
        labels, paths = zip(*(self._candidates or ways), strict=True)

        def done(results: list[ImaginedFrame]) -> None:
            self._controls.comparison(*compared(labels, results))
            self.say(f"{len(labels)} candidates compared")

        self.say(f"imagining {len(labels)} candidates")
        self._driver.imagine(paths, labels, done)

    def drop_candidates(self) -> None:
        """See `Actions`."""
        self._candidates.clear()
        self._view.remove("candidates")

    def seek(self, index: int) -> None:
        """See `Actions`."""
        if index < len(self._film):
            self.show(self._film[index], "imagined")

    def _drawn(self) -> Tensor | None:
        """(T, 4, 4) from the imagined camera through the waypoints; None, and a word to the user, without any."""
        if not self._waypoints:
            self.say("Tick *draw* and click on the floor first.")
            return None
        try:
            return through(self._pose, torch.stack(self._waypoints), STEP, MOST_FRAMES)
        except ValueError as error:
            self.say(str(error))
            return None

    def _keep_film(self, results: list[ImaginedFrame]) -> None:
        self._film = list(results[0])
        self._controls.film(len(self._film))
        self.say(f"{len(self._film)} frames, {1 - results[0].visible.mean():.0%} of them invented")

    def _move(self, pose: Tensor) -> None:
        self._pose = pose
        self._driver.move(pose)

    def _clicked(self, event: Any) -> None:
        if not self._controls.drawing:
            return
        place = self._view.on_floor(event.ray_origin, event.ray_direction)
        if place is None:
            self.say("That is not the floor: click below the horizon.")
            return
        # Where the camera would be that goes there at its height.
        self._waypoints.append(torch.stack([place[0], place[1], self._pose[2, 3]]))
        self._view.waypoints(self._pose[:3, 3], self._waypoints)
        self.say(f"{len(self._waypoints)} waypoints")

    def _connected(self, client: Any) -> None:
        def follow(camera: Any) -> None:
            if self._controls.riding and self._placed:
                pose = from_viser(camera.wxyz, camera.position)
                # What was put there comes back, rounded.
                if not torch.allclose(pose, self._pose, atol=1e-4):
                    self._move(pose)

        if self._placed:
            (self._view.seat if self._controls.riding else self._view.step_back)(client, self._pose)
        client.camera.on_update(follow)
        self._draw_picture()

    def _draw_picture(self) -> None:
        """The picture behind everything, for those who ride."""
        with self._showing:
            picture = None
            if self._controls.riding and self._frame is not None:
                picture = view(self._frame, self._controls.shown)
            for client in self._view.clients():
                self._view.background(client, picture)
