"""TUM's layout, with the optics and units of whoever recorded."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest

from mirage_ros.recordings.tum import tum_frames
from mirage_ros.training.data import cut
from mirage_ros.training.render import ClipSettings
from mirage_ros.training.shards import read_clips


def sequence(folder, size=(480, 640), units=5000, depth=None):
    """Two pictures of a wall 2 m ahead."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    depth = np.full(size, 2 * units, np.uint16) if depth is None else depth
    rows = {"rgb": ["# colour"], "depth": ["# depth"], "groundtruth": ["# poses"]}
    for index in range(2):
        cv2.imwrite(str(folder / f"rgb/{index}.png"), np.full((*size, 3), 99, np.uint8))
        cv2.imwrite(str(folder / f"depth/{index}.png"), depth)
        rows["rgb"].append(f"{index} rgb/{index}.png")
        rows["depth"].append(f"{index} depth/{index}.png")
        rows["groundtruth"].append(f"{index} 0 0 0 0 0 0 1")
    for name, lines in rows.items():
        (folder / f"{name}.txt").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    return folder


def optics(frame):
    k = frame.camera.intrinsics
    return [round(float(value), 3) for value in (k[0, 0], k[1, 1], k[0, 2] - 0.5, k[1, 2] - 0.5)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rgbd_dataset_freiburg1_desk", [517.3, 516.5, 318.6, 255.3]),
        ("rgbd_dataset_freiburg2_xyz", [520.9, 521.0, 325.1, 249.7]),
        ("fr3_office", [535.4, 539.2, 320.1, 247.6]),
    ],
)
def test_the_benchmarks_cameras_are_known_by_name(tmp_path, name, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = next(tum_frames(sequence(tmp_path / name)))
    assert optics(frame) == expected
    assert np.median(frame.depth) == pytest.approx(2)


def test_a_distorted_camera_of_the_benchmark_is_straightened(tmp_path):
    folder = sequence(tmp_path / "freiburg1_wall")
    columns, rows = np.meshgrid(np.arange(640.0), np.arange(480.0))
    k = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1]])
    d = np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])
    straight = cv2.undistortPoints(np.stack([columns, rows], axis=-1).reshape(-1, 1, 2), k, d).reshape(480, 640, 2)
    shades = np.clip(128 + 150 * np.concatenate([straight, straight[..., :1]], axis=-1), 0, 255).round()
    cv2.imwrite(str(folder / "rgb/0.png"), shades[..., ::-1])
    frame = next(tum_frames(folder))
    rays = 128 + 150 * frame.camera.rays()[..., :2].numpy()
    assert np.abs(frame.rgb[..., :2] - rays)[20:-20, 20:-20].max() < 2


def test_an_unknown_camera_of_the_usual_size_is_said(tmp_path):
    with pytest.warns(UserWarning, match="nothing in .* tells the camera; the benchmark's .525"):
        assert optics(next(tum_frames(sequence(tmp_path / "walk")))) == [525, 525, 319.5, 239.5]


def test_an_unknown_camera_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="tum: expected 640x480, got 320x240 of a camera that is not known; give its"):
        next(tum_frames(sequence(tmp_path / "freiburg1", (240, 320))))


def test_intrinsics_come_from_files(tmp_path):
    folder = sequence(tmp_path / "walk", (240, 320))
    (folder / "calibration.txt").write_text("300 301 159 119\n")
    assert optics(next(tum_frames(folder))) == [300, 301, 159, 119]
    np.savetxt(folder / "camera-intrinsics.txt", [[310, 0, 160], [0, 311, 120], [0, 0, 1]])
    assert optics(next(tum_frames(folder))) == [310, 311, 160, 120]
    np.savetxt(tmp_path / "K.txt", [[320, 0, 161], [0, 321, 121], [0, 0, 1]])
    assert optics(next(tum_frames(folder, tmp_path / "K.txt"))) == [320, 321, 161, 121]
    (folder / "camera-intrinsics.txt").unlink()
    (folder / "calibration.txt").write_text("300 301 159 119 0.1 0 0 0\n")
    with pytest.raises(ValueError, match=r"calibration.txt: expected the four numbers fx fy cx cy, got '300 301 159"):
        next(tum_frames(folder))


def test_units_are_told_or_doubted(tmp_path):
    folder = sequence(tmp_path / "freiburg3", units=1000)
    with pytest.warns(
        UserWarning, match=r"depth: half of it lies nearer than 0.40 m \(5000 units a metre.*depth-units"
    ):
        next(tum_frames(folder))
    assert next(tum_frames(folder, units=1000)).depth[9, 9] == pytest.approx(2)
    with pytest.raises(ValueError, match="depth_units: expected units a metre above 0, got 0"):
        next(tum_frames(folder, units=0))


@pytest.mark.parametrize("depth", [np.full((480, 640), 120, np.uint8), np.full((480, 640, 3), 9999, np.uint16)])
def test_other_depth_than_16_bits_of_one_channel_is_refused(tmp_path, depth):
    with pytest.raises(ValueError, match=r"tum: expected depth of 16 bits and one channel in .*depth.0.png, got"):
        next(tum_frames(sequence(tmp_path / "freiburg3", depth=depth)))


def test_clips_are_cut_with_the_optics_and_units_that_are_given(tmp_path):
    folder, settings = sequence(tmp_path / "walk", (240, 320), units=1000), ClipSettings(frames=2, height=24, width=32)
    np.savetxt(tmp_path / "K.txt", [[320, 0, 159.5], [0, 320, 119.5], [0, 0, 1]])
    given = {"camera": tmp_path / "K.txt", "depth_units": 1000.0}
    cut(tmp_path / "clips", folder, "tum", None, settings, 1, 1, **given)
    (clip,) = read_clips(tmp_path / "clips")
    assert clip.camera.intrinsics[0, 0].tolist() == [32, 0, 16]
    assert np.median(clip.depth) == pytest.approx(2)
    with pytest.raises(ValueError, match="camera, depth_units: expected with the format tum, got 'rgbd'"):
        cut(tmp_path / "clips", folder, "rgbd", None, settings, 1, 1, **given)


def test_lists_that_do_not_meet_are_said(tmp_path):
    folder = sequence(tmp_path / "freiburg3")
    (folder / "depth.txt").write_text("100.5 depth/0.png\n")
    with pytest.raises(ValueError, match="no picture with depth within .* begin at 0.000, 100.500, 0.000 s"):
        next(tum_frames(folder))
