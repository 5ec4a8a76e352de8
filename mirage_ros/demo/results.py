"""What came of the demo: films, sheets, maps, cloud, figures, and the page that shows them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirage_ros.client import Imagination, Mirage
from mirage_ros.client.received import ReceivedFrame
from mirage_ros.demo.maps import Prospect, draw_maps, score_table
from mirage_ros.demo.pictures import captioned, cloud_view, draw_cloud, fitted
from mirage_ros.demo.recorder import Recorder
from mirage_ros.demo.robots import Robot
from mirage_ros.media import Pixels, colour_depth, contact_sheet, grey, save_png, spread
from mirage_ros.page import figure, table, write_page
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame
from mirage_ros.ros.conversions import cloud_to_points
from mirage_ros.video import write_video

COLUMNS = 6


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What came of it.

    Attributes:
        walk: camera frames that went into the memory.
        truth, previews, imagined: views along the path.
        doubt: (H, W) metres, how sure the depth of each of them is.
        candidates: result of the action.
        prospect: maps, and what the candidates are worth.
        timings: figures by name.
    """

    walk: list[RgbdFrame]
    truth: list[RgbdFrame]
    previews: list[ImaginedFrame]
    imagined: list[ReceivedFrame]
    doubt: list[NDArray[np.float32]]
    candidates: Imagination
    prospect: Prospect
    timings: dict[str, float]


def draw(
    shown: DemoResult, robot: Robot, mirage: Mirage, recorder: Recorder, out: Path, rate: float, note: str
) -> None:
    """Write films, sheets, cloud, timings and page."""
    size = shown.imagined[0].rgb.shape[:2]
    far = max(float(frame.depth[np.isfinite(frame.depth)].max(initial=0.0)) for frame in shown.imagined) or 1.0
    lines: dict[str, list[Pixels]] = {
        "really there": [fitted(frame.rgb, *size) for frame in shown.truth],
        "preview: the memory alone": [preview.rgb for preview in shown.previews],
        "imagined": [frame.rgb for frame in shown.imagined],
        "white: remembered": [grey(frame.visible) for frame in shown.imagined],
        "imagined depth": [colour_depth(frame.depth, far) for frame in shown.imagined],
        "white: depth is half a guess": [
            grey(np.nan_to_num(2 * doubt / np.maximum(frame.depth, 0.1), posinf=1).clip(0, 1))
            for frame, doubt in zip(shown.imagined, shown.doubt, strict=True)
        ],
    }
    write_video(
        out / "side_by_side.mp4",
        (captioned(zip(lines, panels, strict=True)) for panels in zip(*lines.values(), strict=True)),
        rate,
    )
    walk = [fitted(frame.rgb, *size) for frame in spread(shown.walk, COLUMNS)]
    candidates = [
        (f"{each.label}: {each.coverage.mean():.0%} seen or invented before", spread(each.rgb, COLUMNS))
        for each in shown.candidates.trajectories
    ]
    sheet = [(caption, spread(panels, COLUMNS)) for caption, panels in lines.items()]
    sheets = {"contact_sheet": sheet, "walk": [("what the camera saw", walk)], "candidates": candidates}
    for name, rows in sheets.items():
        save_png(out / f"{name}.png", contact_sheet(rows))

    save_png(out / "maps.png", draw_maps(shown.prospect, robot.plan.walk))
    # memory.folder, below which the node writes, is the demo's.
    mirage.export_cloud("cloud.ply")
    mirage.save_memory("memory.safetensors")
    points, colours, _ = cloud_to_points(recorder.last["memory/points"])
    camera = cloud_view(points, robot.plan.walk)
    save_png(out / "cloud.png", draw_cloud(points, colours, camera, robot.plan.walk, 0.035))

    status = mirage.status()
    shown.timings["memory: elements"] = status.elements
    shown.timings["memory: KiB"] = status.bytes / 1024
    for stage in ("read", "denoise", "decode", "perceive", "write"):
        shown.timings[f"last chunk: {stage}, ms a frame"] = 1000 * getattr(status, f"{stage}_time")
    (out / "timings.json").write_text(json.dumps(shown.timings, indent=1) + "\n")
    figures = {name: f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for name, value in shown.timings.items()}
    write_page(
        out / "index.html",
        "mirage_ros: a robot imagines",
        "A camera process, the node mirage and a planner talked over ROS 2 topics, services and an action. The camera "
        f"looked at {len(shown.walk)} places. Everything else on this page came out of the node.",
        note,
        [
            ("What the camera saw", figure(out / "walk.png", "Frames that were written to the memory.")),
            (
                "A path, imagined",
                figure(out / "side_by_side.mp4", "Each frame of the path, in the order in which it was asked for.")
                + figure(out / "contact_sheet.png", "Some of them."),
            ),
            (
                "Three ways on",
                figure(
                    out / "candidates.png",
                    "One action goal, each candidate on its own fork of the memory. The share is how much of the views "
                    "the memory knew before: what a planner may use to tell the known from the guessed.",
                ),
            ),
            (
                "Maps and scores",
                figure(
                    out / "maps.png",
                    "From above. White and black: seen to be free or occupied; blue to red: imagined to be. "
                    "Orange: the camera's walk. Green, amber, violet: the three ways.",
                )
                + score_table(shown.prospect),
            ),
            (
                "The memory",
                figure(
                    out / "cloud.png", "The elements as the topic memory/points shows them; orange: the camera's walk."
                ),
            ),
            ("Figures", table(figures.items())),
        ],
    )
