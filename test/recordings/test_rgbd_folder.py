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
        (
            "frame-000000.depth.png",
            "no image",
            ValueError,
            "expected depth of 16 .*frame-000000.depth.png, got none",
        ),
        ("frame-000000.color.png", "no image", ValueError, "rgbd: expected a picture, got .*frame-000000.color.png"),
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


def copied(walk, folder):
    for path in walk[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_byte_order_mark_and_commas_mean_nothing(walk, tmp_path):
    folder = copied(walk, tmp_path)
    for path in folder.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b" ", b", "))
    torch.testing.assert_close(RgbdFolder(folder)[1].camera.intrinsics, RgbdFolder(walk[0])[1].camera.intrinsics)


def test_pixels_are_as_stored_whatever_exif_says(walk, tmp_path, turned_jpeg):
    folder = copied(walk, tmp_path)
    for path in folder.glob("*.color.png"):
        path.unlink()
        path.with_suffix(".jpg").write_bytes(turned_jpeg[0])
    np.testing.assert_array_equal(RgbdFolder(folder)[0].rgb, turned_jpeg[1])


def test_intrinsics_of_another_size_are_said(walk, tmp_path):
    folder = copied(walk, tmp_path)
    np.savetxt(folder / "camera-intrinsics.txt", [[500, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])
    with pytest.warns(UserWarning, match="camera-intrinsics.txt: the principal point .* far from .* 64x48"):
        RgbdFolder(folder)


def test_frames_come_by_number(walk, tmp_path):
    for index, name in enumerate(("9", "10", "100")):
        for suffix in ("color.png", "depth.png", "pose.txt"):
            (tmp_path / f"{name}.{suffix}").write_bytes((walk[0] / f"frame-{index:06d}.{suffix}").read_bytes())
    (tmp_path / "camera-intrinsics.txt").write_bytes((walk[0] / "camera-intrinsics.txt").read_bytes())
    torch.testing.assert_close(RgbdFolder(tmp_path).cam2world, walk[2])


def test_depth_of_a_camera_of_its_own_is_registered(walk, tmp_path):
    """A wall 2 m ahead, seen by a depth camera of another size, 20 cm to the left and 10 cm behind."""
    folder = copied(walk, tmp_path)
    depth = np.full((24, 32), 2100, np.uint16)
    # The wall ends at x = 0 of the colour camera: 0.2 m of the depth camera, 40 / 2.1 * 0.2 pixels from its middle.
    depth[:, 16 + round(40 / 2.1 * 0.2) :] = 0
    for path in folder.glob("*.depth.png"):
        cv2.imwrite(str(path), depth)
    np.savetxt(folder / "depth-intrinsics.txt", [[40, 0, 15.5], [0, 40, 11.5], [0, 0, 1]])
    with pytest.raises(FileNotFoundError, match="depth-to-color.txt is missing"):
        RgbdFolder(folder)
    move = np.eye(4)
    move[:3, 3] = (-0.2, 0, -0.1)
    np.savetxt(folder / "depth-to-color.txt", move)
    frame = RgbdFolder(folder)[0]
    middle = frame.depth[20:28]
    np.testing.assert_allclose(middle[:, 10:30], 2.0, atol=1e-3)
    assert (middle[:, 34:] == 0).all()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "frame-000001.pose.txt",
            "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n" * 2,
            "1.pose.txt: expected one pose, got 2",
        ),
        (
            "frame-000001.depth.png",
            np.full((48, 64), 9, np.uint8),
            "expected depth of 16 bits .* uint8",
        ),
        (
            "frame-000001.color.png",
            np.zeros((24, 32, 3), np.uint8),
            r"1.color.png: expected \(48, 64\) pixels",
        ),
    ],
)
def test_a_frame_unlike_the_others_is_refused(walk, tmp_path, name, change, message):
    folder = copied(walk, tmp_path)
    if isinstance(change, str):
        (folder / name).write_text(change)
    else:
        cv2.imwrite(str(folder / name), change)
    with pytest.raises(ValueError, match=message):
        list(RgbdFolder(folder))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no frame"):
        RgbdFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        RgbdFolder(tmp_path / "none")
