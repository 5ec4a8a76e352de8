"""The panel of the window: pictures, switches and buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from mirage_ros.media import Pixels
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.viewer.drawing import VIEWS, enlarged, view

MANY = 10**6
HELP = """**W A S D** move, **Q E** sink and rise, dragging and the arrows look around. At once comes what the memory
knows of the view; where it rests, the rest is imagined. Without *ride*, drag the camera by its handles."""
_EMPTY = np.full((128, 192, 3), 40, np.uint8)


class Actions(Protocol):
    """What the user can do."""

    def ride(self) -> None:
        """Ride the imagined camera or look on, as the controls say."""

    def set_options(self) -> None:
        """Take over the other switches."""

    def stop(self) -> None:
        """End what is being imagined."""

    def drop_waypoints(self, count: int) -> None:
        """Take back the last waypoints."""

    def imagine_path(self) -> None:
        """Imagine the drawn path."""

    def keep_candidate(self) -> None:
        """Keep the drawn path for a comparison, and begin a new one."""

    def compare(self) -> None:
        """Imagine the candidates, or three ways on from here, and show them side by side."""

    def drop_candidates(self) -> None:
        """Forget the candidates."""

    def seek(self, index: int) -> None:
        """Show a frame of the last path."""


class Controls:
    """The panel; reading its attributes says what the user has chosen."""

    def __init__(self, gui: Any, actions: Actions) -> None:
        """Build it on viser's panel."""
        self._gui = gui
        self._says = gui.add_markdown("")
        tabs = gui.add_tab_group()
        with tabs.add_tab("Drive"):
            self._ride = gui.add_checkbox("ride", True, hint="Look through the imagined camera, or at it from outside.")
            self._ride.on_update(lambda _: actions.ride())
            self._shown = gui.add_dropdown("picture", VIEWS)
            self._shown.on_update(lambda _: actions.set_options())
            self._kind = gui.add_markdown("")
            self._picture = gui.add_image(_EMPTY)
            self._others = gui.add_image(np.concatenate([_EMPTY, _EMPTY], axis=1), label="invented: orange; depth")
            self._rest = gui.add_checkbox("imagine at rest", True)
            self._remember = gui.add_checkbox("remember", False, hint="What is imagined stays in the memory.")
            for box in (self._rest, self._remember):
                box.on_update(lambda _: actions.set_options())
            self._button("Stop", actions.stop)
            gui.add_markdown(HELP)
        with tabs.add_tab("Path"):
            self._draw = gui.add_checkbox("draw", False, hint="Clicks on the floor set waypoints.")
            self._button("Undo", lambda: actions.drop_waypoints(1))
            self._button("Clear", lambda: actions.drop_waypoints(MANY))
            self._button("Imagine path", actions.imagine_path)
            self._slider = gui.add_slider("frame", 0, 1, 1, 0, disabled=True)
            self._slider.on_update(lambda _: actions.seek(int(self._slider.value)))
            self._button("Keep as candidate", actions.keep_candidate)
            self._button("Compare", actions.compare)
            self._button("Drop candidates", actions.drop_candidates)
        with tabs.add_tab("Robot"):
            self._robot = gui.add_image(_EMPTY, label="its last frame")

    def _button(self, label: str, act: Callable[[], None]) -> None:
        self._gui.add_button(label).on_click(lambda _: act())

    @property
    def riding(self) -> bool:
        """Whether the browser's view is the imagined camera's."""
        return bool(self._ride.value)

    @property
    def shown(self) -> str:
        """Which of `VIEWS` riders see."""
        return str(self._shown.value)

    @property
    def resting(self) -> bool:
        """Whether views are imagined where the camera rests."""
        return bool(self._rest.value)

    @property
    def remembering(self) -> bool:
        """Whether what is imagined stays in the memory."""
        return bool(self._remember.value)

    @property
    def drawing(self) -> bool:
        """Whether clicks set waypoints."""
        return bool(self._draw.value)

    def say(self, text: str) -> None:
        """A line for the user."""
        self._says.content = text

    def picture(self, frame: ImaginedFrame, kind: str) -> None:
        """Show a frame, and what it is."""
        self._kind.content = f"**{kind}**: {frame.coverage:.0%} of the view was known"
        self._picture.image = enlarged(frame.rgb)
        self._others.image = np.concatenate([view(frame, name) for name in VIEWS[1:]], axis=1)

    def robot(self, rgb: Pixels) -> None:
        """Show the robot's last frame."""
        self._robot.image = rgb

    def film(self, count: int) -> None:
        """There are so many frames to look at."""
        self._slider.max, self._slider.value = max(count - 1, 1), count - 1
        self._slider.disabled = False

    def comparison(self, text: str, sheet: Pixels) -> None:
        """Show candidates side by side."""
        with self._gui.add_modal("Candidates") as modal:
            self._gui.add_markdown(text)
            self._gui.add_image(sheet)
            self._button("Close", modal.close)
