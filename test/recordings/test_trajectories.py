"""Trajectory files: the four formats, their conventions, and refusals by line."""

import json

import pytest
import torch

from mirage_ros.poses import invert, pose_from_quaternion, quaternion_from_pose
from mirage_ros.recordings.trajectories import read_trajectory


def poses(count=4):
    generator = torch.Generator().manual_seed(1)
    return pose_from_quaternion(
        torch.randn(count, 3, generator=generator, dtype=torch.float64),
        torch.randn(count, 4, generator=generator, dtype=torch.float64),
    )


def text(rows):
    return "\n".join(" ".join(f"{float(value):.12g}" for value in row) for row in rows) + "\n"


def as_matrices(flat):
    return text(poses().reshape(-1, 16) if flat else poses().reshape(-1, 4))


def as_tum():
    rows = torch.cat([torch.arange(4.0).reshape(-1, 1) + 0.5, poses()[:, :3, 3], quaternion_from_pose(poses())], dim=1)
    return "# timestamp tx ty tz qx qy qz qw\n\n" + text(rows)


def as_realestate10k():
    world2cam = invert(poses())[:, :3].reshape(-1, 12)
    intrinsics = torch.tensor([[0.5, 0.9, 0.5, 0.5, 0, 0]], dtype=torch.float64).expand(4, 6)
    rows = torch.cat([torch.arange(4.0).reshape(-1, 1) * 1e6, intrinsics, world2cam], dim=1)
    return "https://www.youtube.com/watch?v=abc\n" + text(rows)


def as_nerfstudio(**changes):
    # Their cameras look along -z with y up.
    opengl = poses() @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    content = {"fl_x": 500, "fl_y": 510, "cx": 320, "cy": 240, "w": 640, "h": 480, "camera_model": "OPENCV"}
    content["frames"] = [{"file_path": "a.png", "transform_matrix": matrix.tolist()} for matrix in opengl]
    return json.dumps({**content, **changes})


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("poses.txt", as_matrices(False)),
        ("poses.txt", as_matrices(True)),
        ("poses.tum", as_tum()),
        ("clip.txt", as_realestate10k()),
        ("transforms.json", as_nerfstudio()),
    ],
    ids=["rows", "flat", "tum", "realestate10k", "nerfstudio"],
)
def test_every_format_gives_the_same_poses(write, name, content):
    trajectory = read_trajectory(write(name, content))
    torch.testing.assert_close(trajectory.cam2world, poses(), atol=1e-9, rtol=0)


def test_stamps_are_seconds(write):
    assert read_trajectory(write("a.txt", as_tum())).stamps.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert read_trajectory(write("a.txt", as_realestate10k())).stamps.tolist() == [0, 1, 2, 3]
    assert read_trajectory(write("a.txt", as_matrices(True))).stamps is None


def test_cameras_scale_with_the_image(write):
    relative = read_trajectory(write("a.txt", as_realestate10k()))
    camera = relative.camera(360, 640)
    assert camera.intrinsics[0].tolist() == [[320, 0, 320], [0, 324, 180], [0, 0, 1]]
    with pytest.raises(ValueError, match="height, width: expected pixels"):
        relative.camera()
    absolute = read_trajectory(write("t.json", as_nerfstudio()))
    assert absolute.camera().intrinsics[0, 0, 0] == 500
    assert absolute.camera(240, 320).intrinsics[0, 0, 0] == 250
    with pytest.raises(ValueError, match="trajectory: expected intrinsics"):
        read_trajectory(write("a.txt", as_tum())).camera(4, 4)


def test_a_frames_own_intrinsics_win(write):
    content = json.loads(as_nerfstudio())
    content["frames"][1]["fl_x"] = 700
    trajectory = read_trajectory(write("t.json", json.dumps(content)))
    assert trajectory.intrinsics[:, 0, 0].tolist() == [500, 700, 500, 500]


def broken_line(content, line, replacement):
    lines = content.splitlines()
    lines[line - 1] = replacement
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "expected at least one pose, got none"),
        ("a.txt", "1 2 3\n", "line 1: expected 4 or 16 .* got 3"),
        ("a.txt", broken_line(as_matrices(False), 6, "1 2 x 4"), "line 6: expected numbers, got 'x'"),
        ("a.txt", broken_line(as_matrices(False), 6, "1 2 3"), "line 6: expected 4 numbers like the first line, got 3"),
        ("a.txt", broken_line(as_matrices(False), 5, "1 2 nan 4"), "line 5: expected finite numbers"),
        ("a.txt", broken_line(as_matrices(False), 5, "9 9 9 9"), "line 5: pose: expected a rotation"),
        ("a.txt", as_matrices(False) + "1 0 0 0\n", "line 17: expected 4 rows for each pose, got 17"),
        ("a.tum", broken_line(as_tum(), 4, "1.5 0 0 0 0 0 0 0"), "line 4: expected a quaternion of unit length"),
        ("a.tum", broken_line(as_tum(), 4, "0.1 0 0 0 0 0 0 1"), "line 4: expected a later timestamp than 0.5"),
        ("a.tum", broken_line(as_tum(), 4, "1.5 0 0 0"), "line 4: expected timestamp tx ty tz qx qy qz qw, got 4"),
        ("t.json", "{", "line 1: expected JSON"),
        ("t.json", "[]", "expected a list 'frames'"),
        ("t.json", as_nerfstudio(frames=[]), "expected a list 'frames'"),
        ("t.json", as_nerfstudio(frames=[3]), r"frames\[0\]: expected an object, got 3"),
        ("t.json", as_nerfstudio(frames=[{"transform_matrix": [1]}]), r"frames\[0\].transform_matrix: expected 4x4"),
        ("t.json", as_nerfstudio(fl_x=None), r"frames\[0\]: expected a number fl_x, got None"),
        ("t.json", as_nerfstudio(fl_x=-1), r"frames\[0\]: intrinsics: expected positive focal"),
        ("t.json", as_nerfstudio(k1=0.1), r"expected no distortion, got \[0.1, 0.0"),
        ("t.json", as_nerfstudio(camera_model="OPENCV_FISHEYE"), "expected a pinhole camera_model"),
    ],
)
def test_refusals_name_file_and_line(write, name, content, message):
    path = write(name, content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_trajectory(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        {"k1": -0.3},
        {"camera_model": "OPENCV_FISHEYE"},
        {"camera_model": "EQUIRECTANGULAR"},
        {"is_fisheye": True},
        {"distortion_params": [0.1, 0, 0, 0, 0, 0]},
        {"w": 480, "h": 640},
        {"w": None},
    ],
)
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_lens_is_refused_wherever_it_is_told_and_harms_no_poses(write, change, everywhere):
    content = json.loads(as_nerfstudio())
    (content if everywhere and "h" not in change else content["frames"][2]).update(change)
    path = write("t.json", json.dumps(content))
    with pytest.raises(ValueError, match=r"frames\[[02]\]: expected"):
        read_trajectory(path)
    torch.testing.assert_close(read_trajectory(path, optics=False).cam2world, poses(), atol=1e-9, rtol=0)


def test_optics_by_frame_are_those_of_the_first_frames_size(write):
    content = json.loads(as_nerfstudio())
    for index, frame in enumerate(content["frames"]):
        frame.update({name: content[name] / (1 + index) for name in ("fl_x", "fl_y", "cx", "cy", "w", "h")})
    for name in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        del content[name]
    camera = read_trajectory(write("t.json", json.dumps(content))).camera()
    assert (camera.height, camera.width) == (480, 640)
    assert camera.intrinsics[:, 0, 0].tolist() == pytest.approx([500] * 4)
    assert camera.intrinsics[:, 1, 2].tolist() == pytest.approx([240] * 4)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.tum", as_tum()), ("a.txt", as_matrices(True)), ("a.txt", as_realestate10k()), ("t.json", as_nerfstudio())],
)
def test_a_byte_order_mark_means_nothing(tmp_path, name, content):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    torch.testing.assert_close(read_trajectory(tmp_path / name).cam2world, poses(), atol=1e-9, rtol=0)


def test_distorted_realestate10k_is_refused(write):
    lines = as_realestate10k().splitlines()
    words = lines[2].split()
    words[5] = "0.01"
    path = write("a.txt", broken_line(as_realestate10k(), 3, " ".join(words)))
    with pytest.raises(ValueError, match="line 3: expected no distortion"):
        read_trajectory(path)
    assert len(read_trajectory(path, optics=False)) == 4


def test_other_refusals(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="trajectory: .* is not a file"):
        read_trajectory(tmp_path / "none.txt")
    with pytest.raises(
        ValueError, match="format: expected one of matrices, tum, nerfstudio, realestate10k, got 'kitti'"
    ):
        read_trajectory(write("a.txt", as_tum()), "kitti")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="expected text"):
        read_trajectory(tmp_path / "b.txt")
