"""Recorded RGB-D walks."""

import cv2
import numpy as np
import pytest
import torch

from mirage_ros.recordings.rgbd_folder import RgbdFolder
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A simulated walk in the layout of a recorded one, with the frames that were drawn."""
    folder = tmp_path_factory.mktemp("walk")
    scene = build_scene(1, moving=0)
    path = plan_path(scene, 3, 0).double()
    frames = []
    with Renderer(scene, 48, 64) as renderer:
        for index, pose in enumerate(path):
            frame = renderer.render(pose)
            frames.append(frame)
            cv2.imwrite(str(folder / f"frame-{index:06d}.color.png"), frame.rgb[..., ::-1])
            millimetres = np.rint(frame.depth * 1000).astype(np.uint16)
            millimetres[0, 0] = 65535
            cv2.imwrite(str(folder / f"frame-{index:06d}.depth.png"), millimetres)
            np.savetxt(folder / f"frame-{index:06d}.pose.txt", pose.numpy())
        intrinsics = renderer.camera(path[0]).intrinsics.numpy().copy()
    intrinsics[:2, 2] -= 0.5
    np.savetxt(folder / "camera-intrinsics.txt", intrinsics)
    return folder, frames, path


def test_a_walk_comes_back_as_it_was(walk):
    folder, frames, path = walk
    recording = RgbdFolder(folder)
    assert len(recording) == 3
    torch.testing.assert_close(recording.cam2world, path)
    for read, drawn, pose in zip(recording, frames, path, strict=True):
        np.testing.assert_array_equal(read.rgb, drawn.rgb)
        np.testing.assert_allclose(read.depth[1:], drawn.depth[1:], atol=0.00051)
        assert read.depth[0, 0] == 0
        torch.testing.assert_close(read.camera.cam2world, pose)
        assert read.camera.intrinsics[0, 2] == pytest.approx(32.0)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("frame-000001.pose.txt", None, FileNotFoundError, "frame-000001.pose.txt is missing"),
        ("camera-intrinsics.txt", None, FileNotFoundError, "camera-intrinsics.txt is missing"),
        ("camera-intrinsics.txt", "1 2\n3 4\n", ValueError, r"expected 3x3 numbers in .*, got \(2, 2\)"),
        ("camera-intrinsics.txt", "0 0 1\n0 1 1\n0 0 1\n", ValueError, "expected positive focal"),
        ("frame-000002.pose.txt", "0 0 0 0\n" * 4, ValueError, "frame-000002.pose.txt, line 1: pose: expected"),
        ("frame-000000.depth.png", "no image", ValueError, "frame-000000.depth.png: expected an image"),
        ("frame-000000.color.png", "no image", ValueError, "frame-000000.color.png: expected an image"),
    ],
)
def test_damaged_walks_are_refused_by_file(walk, tmp_path, name, content, error, message):
    for path in walk[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        list(RgbdFolder(tmp_path))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no frame"):
        RgbdFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        RgbdFolder(tmp_path / "none")
