"""Recorded walks give the same clips as the simulator."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from mirage_ros.images import fit
from mirage_ros.poses import invert
from mirage_ros.recordings.clips import clips_of
from mirage_ros.recordings.tum import tum_frames
from mirage_ros.recordings.walk_readers import nerfstudio_frames, realestate10k_frames, rgbd_frames
from mirage_ros.training.data import cut
from mirage_ros.training.render import ClipSettings
from mirage_ros.training.shards import read_shard, shard_paths


def write_rgbd(folder, clip):
    folder.mkdir()
    matrix = clip.camera.intrinsics.clone()
    matrix[:2, 2] -= 0.5
    np.savetxt(folder / "camera-intrinsics.txt", matrix.numpy())
    for i in range(len(clip)):
        cv2.imwrite(str(folder / f"frame-{i:06d}.color.png"), clip.rgb[i][..., ::-1])
        cv2.imwrite(str(folder / f"frame-{i:06d}.depth.png"), np.round(clip.depth[i] * 1000).astype(np.uint16))
        np.savetxt(folder / f"frame-{i:06d}.pose.txt", clip.camera.cam2world[i].numpy())


def write_tum(folder, clip):
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    lists = {"rgb": ["# colour"], "depth": ["# depth"], "groundtruth": ["# poses"]}
    for i in range(len(clip)):
        cv2.imwrite(str(folder / f"rgb/{i}.png"), clip.rgb[i][..., ::-1])
        cv2.imwrite(str(folder / f"depth/{i}.png"), np.round(clip.depth[i] * 5000).astype(np.uint16))
        lists["rgb"].append(f"{i * 0.1:.4f} rgb/{i}.png")
        lists["depth"].append(f"{i * 0.1 + 0.004:.4f} depth/{i}.png")
        x, y, z = clip.camera.cam2world[i, :3, 3].tolist()
        lists["groundtruth"].append(f"{i * 0.1:.4f} {x} {y} {z} 0 0 0 1")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_realestate(folder, clip):
    folder.mkdir()
    lines = ["https://example.org/walk"]
    height, width = clip.rgb.shape[1:3]
    for i in range(len(clip)):
        cv2.imwrite(str(folder / f"{(i + 1) * 33333}.png"), clip.rgb[i][..., ::-1])
        k = clip.camera.intrinsics
        shares = [k[0, 0] / width, k[1, 1] / height, k[0, 2] / width, k[1, 2] / height]
        world2cam = invert(clip.camera.cam2world[i])[:3].flatten()
        numbers = [float(v) for v in (*shares, 0, 0, *world2cam)]
        lines.append(" ".join([str((i + 1) * 33333), *(f"{v:.9f}" for v in numbers)]))
    cameras = folder / "walk.txt"
    cameras.write_text("\n".join(lines) + "\n")
    return cameras


def check(frames, clip, depth=True):
    frames = list(frames)
    assert len(frames) == len(clip) > 3
    for i, frame in enumerate(frames):
        assert np.array_equal(frame.rgb, clip.rgb[i])
        assert torch.allclose(frame.camera.cam2world, clip.camera.cam2world[i], atol=1e-4)
        assert torch.allclose(frame.camera.intrinsics, clip.camera.intrinsics, atol=1e-2)
        assert (frame.depth is not None) == depth
        assert not depth or np.abs(frame.depth - clip.depth[i]).max() < 0.001


def test_an_rgbd_folder(new_clip, tmp_path):
    clip = new_clip()
    write_rgbd(tmp_path / "walk", clip)
    check(rgbd_frames(tmp_path / "walk"), clip)


def test_a_tum_sequence_is_matched_by_time(new_clip, tmp_path):
    clip = new_clip()
    write_tum(tmp_path, clip)
    matrix = clip.camera.intrinsics.clone()
    matrix[:2, 2] -= 0.5
    np.savetxt(tmp_path / "K.txt", matrix.numpy())
    check(tum_frames(tmp_path, tmp_path / "K.txt"), clip)
    # Without depth near its time a frame is left out.
    lines = (tmp_path / "depth.txt").read_text().splitlines()
    (tmp_path / "depth.txt").write_text("\n".join(lines[:-1]) + "\n")
    assert len(list(tum_frames(tmp_path, tmp_path / "K.txt"))) == len(clip) - 1
    (tmp_path / "rgb.txt").write_text("half a line\n")
    with pytest.raises(ValueError, match=r"rgb\.txt:1"):
        list(tum_frames(tmp_path, tmp_path / "K.txt"))


def test_a_realestate10k_clip_has_no_depth(new_clip, tmp_path):
    clip = new_clip(moving=False)
    cameras = write_realestate(tmp_path / "frames", clip)
    check(realestate10k_frames(cameras, tmp_path / "frames"), clip, depth=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no picture"):
        list(realestate10k_frames(cameras, tmp_path / "empty"))


def write_nerfstudio(folder, clip):
    """Pictures out of order in the file, its camera twice their size, depth of half of it, as phones export."""
    folder.mkdir()
    k, (height, width) = clip.camera.intrinsics, clip.rgb.shape[1:3]
    fx, fy, cx, cy = (2 * float(k[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    frames = []
    for i in reversed(range(len(clip))):
        cv2.imwrite(str(folder / f"{9 + i}.png"), clip.rgb[i][..., ::-1])
        cv2.imwrite(str(folder / f"{9 + i}.depth.png"), np.round(clip.depth[i, ::2, ::2] * 1000).astype(np.uint16))
        pose = clip.camera.cam2world[i] @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
        files = {"file_path": f"{9 + i}.png", "depth_file_path": f"{9 + i}.depth.png"}
        frames.append({**files, "transform_matrix": pose.tolist()})
    size = {"w": 2 * width, "h": 2 * height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
    (folder / "transforms.json").write_text(json.dumps({**size, "frames": frames}))


def test_a_nerfstudio_recording(new_clip, tmp_path):
    clip = new_clip(moving=False)
    write_nerfstudio(tmp_path / "scan", clip)
    check(nerfstudio_frames(tmp_path / "scan"), clip)
    file = tmp_path / "scan" / "transforms.json"
    content = json.loads(file.read_text())
    # As phones write portraits: stored on their side.
    content["w"], content["h"] = content["h"], content["w"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="9.png: expected the shape of the camera, 96x64, .* got 32x48"):
        list(nerfstudio_frames(file))
    del content["frames"][0]["file_path"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"frames\[0\]: expected a file_path, got None"):
        list(nerfstudio_frames(file))


@pytest.mark.parametrize(
    "lens",
    [
        {"camera_model": "OPENCV", "k1": 0.3, "k2": 0.05, "p1": 0.002, "p2": -0.002},
        {"camera_model": "OPENCV_FISHEYE", "k1": 0.1},
        {"is_fisheye": True},
    ],
)
def test_a_distorted_nerfstudio_recording_is_straightened(new_clip, tmp_path, lens):
    """Ray directions painted as a picture, seen through a lens: straightened, they are those of the pinhole."""
    clip = new_clip(moving=False)
    write_nerfstudio(tmp_path / "scan", clip)
    k = clip.camera.intrinsics.double().numpy().copy()
    k[:2, 2] -= 0.5
    grid = np.stack(np.meshgrid(np.arange(48.0), np.arange(32.0)), axis=-1).reshape(-1, 1, 2)
    if "p1" in lens:
        straight = cv2.undistortPoints(grid, k, np.array([lens[name] for name in ("k1", "k2", "p1", "p2")]))
    else:
        straight = cv2.fisheye.undistortPoints(grid, k, np.array([lens.get("k1", 0), 0, 0, 0.0]))
    straight = straight.reshape(32, 48, 2)
    shades = np.clip(128 + 100 * np.concatenate([straight, straight[..., :1]], axis=-1), 0, 255).round()
    cv2.imwrite(str(tmp_path / "scan" / "9.png"), shades[..., ::-1])
    file = tmp_path / "scan" / "transforms.json"
    content = json.loads(file.read_text())
    content["frames"][-1].update(lens)
    file.write_text(json.dumps(content))
    frame = next(nerfstudio_frames(file))
    rays = 128 + 100 * (frame.camera.rays() @ frame.camera.cam2world[:3, :3])[..., :2].numpy()
    assert np.abs(frame.rgb[..., :2] - rays)[5:-5, 7:-7].max() < 3
    assert np.abs(shades[..., :2] - rays)[5:-5, 7:-7].max() > 4
    content["frames"][-1]["camera_model"] = "EQUIRECTANGULAR"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected a pinhole camera_model or OPENCV_FISHEYE, got 'EQUIRECTANGULAR'"):
        list(nerfstudio_frames(file))


def test_fitting_crops_in_the_middle_and_keeps_the_geometry(new_clip, tmp_path):
    clip = new_clip(moving=False)
    write_rgbd(tmp_path / "walk", clip)
    frame = next(rgbd_frames(tmp_path / "walk"))
    small = fit(frame, 16, 16)
    assert small.rgb.shape == (16, 16, 3)
    points = small.camera.lift(torch.from_numpy(small.depth))
    whole = frame.camera.lift(torch.from_numpy(frame.depth))[:, 8:40]
    middle = (whole[::2, ::2] + whole[1::2, 1::2]) / 2
    assert torch.allclose(points, middle, atol=1e-3)


def test_a_walk_becomes_shards_once(new_clip, tmp_path):
    clip = new_clip(frames=6)
    write_rgbd(tmp_path / "walk", clip)
    settings = ClipSettings(frames=3, height=32, width=48)
    for _ in range(2):
        manifest = cut(tmp_path / "shards", tmp_path / "walk", "rgbd", None, settings, 1, 1)
    assert len(manifest["shards"]) == 2
    assert json.loads((tmp_path / "shards" / "manifest.json").read_text()) == manifest
    first, second = (clip for path in shard_paths(tmp_path / "shards") for clip in read_shard(path))
    assert np.array_equal(np.concatenate([first.rgb, second.rgb]), clip.rgb)
    assert len(list(clips_of(rgbd_frames(tmp_path / "walk"), "walk", 2, 32, 48, skip=2))) == 1
    with pytest.raises(ValueError, match="fewer than 12"):
        cut(tmp_path / "other", tmp_path / "walk", "rgbd", None, ClipSettings(frames=12), 1, 1)
