import json
import sys

import av
import cv2
import numpy as np
import pytest

from mirage_ros import imagine
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.world.model import WorldModel

COUNT, HEIGHT, WIDTH = 5, 48, 64


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A recorded walk in the layout of 7-Scenes: a textured wall, the camera slides to the right."""
    folder = tmp_path_factory.mktemp("walk")
    np.savetxt(folder / "camera-intrinsics.txt", [[60, 0, WIDTH / 2 - 0.5], [0, 60, HEIGHT / 2 - 0.5], [0, 0, 1]])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for index in range(COUNT):
        x = (columns - WIDTH / 2) / 60 * 2 + 0.05 * index
        grey = (np.sin(x * 9) * np.cos(rows / 5) * 100 + 128).astype(np.uint8)
        name = folder / f"frame-{index:06d}"
        cv2.imwrite(f"{name}.color.png", np.stack([grey, 255 - grey, grey // 2], axis=-1))
        cv2.imwrite(f"{name}.depth.png", np.full((HEIGHT, WIDTH), 2000, np.uint16))
        pose = np.eye(4)
        pose[0, 3] = 0.05 * index
        np.savetxt(f"{name}.pose.txt", pose)
    return folder


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["mirage imagine", "--preset", "test", "--random-weights", *map(str, arguments)])
    imagine.main()


def test_a_recorded_walk_leaves_film_frames_memory_and_scores(walk, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(monkeypatch, "--rgbd", walk, "--out", out)
    for part in ("frames", "depth", "visibility"):
        assert len(list((out / part).glob("*.png"))) == COUNT
    depth = cv2.imread(str(out / "depth" / "000004.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert np.median(depth) == 2000
    with av.open(str(out / "imagined.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == COUNT
    report = json.loads((out / "report.json").read_text())
    assert report["frames"] == COUNT
    assert 0 < report["imagined"]["psnr_visible"] < 60
    assert report["first_frame_copied"]["psnr"] > 5
    assert set(report["seconds_per_frame"]) == {"read", "denoise", "decode", "perceive", "write"}
    memory = LatentMemory.load(out / "memory.safetensors")
    assert len(memory) == report["elements"] > 0
    assert (out / "contact_sheet.png").stat().st_size > 1000
    # What a loaded memory shows is not the first frame alone.
    run(monkeypatch, "--rgbd", walk, "--out", tmp_path / "again", "--memory", out / "memory.safetensors")
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    assert ("first_frame_readout" in report, "memory_readout" in report) == (True, False)
    assert ("first_frame_readout" in again, "memory_readout" in again) == (False, True)


def test_an_estimator_takes_weights_from_a_folder(walk, tmp_path, monkeypatch, depth_anything_folder):
    names = ("--depth-estimator", "depth-anything", "--dynamic-filter", "none")
    weights = depth_anything_folder("metric")
    run(monkeypatch, "--rgbd", walk, "--out", tmp_path / "out", *names, "--depth-weights", weights)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["frames"] == COUNT
    with pytest.raises((RuntimeError, OSError), match="nowhere"):
        run(monkeypatch, "--rgbd", walk, "--out", tmp_path / "no", *names, "--depth-weights", tmp_path / "nowhere")


def test_a_second_run_into_the_same_folder_leaves_nothing_of_the_first(walk, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(monkeypatch, "--rgbd", walk, "--out", out)
    run(monkeypatch, "--rgbd", walk, "--out", out, "--frames", 1)
    for part in ("frames", "depth", "visibility"):
        assert [path.name for path in (out / part).iterdir()] == ["000000.png"]
    # One frame leaves nothing to compare; JSON has no NaN.
    report = json.loads((out / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert report["imagined"]["psnr"] is None


def test_an_interrupted_run_keeps_what_is_finished(walk, tmp_path, monkeypatch):
    whole = WorldModel.imagine

    def stopped(*arguments, **options):
        yield next(whole(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(WorldModel, "imagine", stopped)
    with pytest.raises(SystemExit, match="interrupted"):
        run(monkeypatch, "--rgbd", walk, "--out", tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["interrupted"]
    assert report["frames"] == len(list((tmp_path / "frames").iterdir()))
    assert len(LatentMemory.load(tmp_path / "memory.safetensors")) == report["elements"]


def test_one_image_and_a_trajectory_file(walk, tmp_path, monkeypatch):
    path = tmp_path / "path.txt"
    path.write_text("".join(f"{index} {0.05 * index} 0 0 0 0 0 1\n" for index in range(5)))
    run(
        monkeypatch,
        *("--image", walk / "frame-000000.color.png", "--depth", walk / "frame-000000.depth.png"),
        *("--camera", walk / "camera-intrinsics.txt", "--trajectory", path, "--out", tmp_path / "out"),
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"] == 5
    assert "imagined" not in report


def test_of_a_trajectory_file_the_poses_alone_are_taken(walk, tmp_path, monkeypatch):
    """Its lens is not that of the picture, whose intrinsics are given."""
    matrices = [[[1, 0, 0, 0.05 * index], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]] for index in range(5)]
    content = {"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "frames": [{"transform_matrix": each} for each in matrices]}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    run(
        monkeypatch,
        *("--image", walk / "frame-000000.color.png", "--depth", walk / "frame-000000.depth.png"),
        *("--camera", walk / "camera-intrinsics.txt", "--trajectory", tmp_path / "transforms.json"),
        *("--out", tmp_path / "out"),
    )
    assert json.loads((tmp_path / "out" / "report.json").read_text())["frames"] == 5


def test_intrinsics_of_another_size_are_said(walk, tmp_path, monkeypatch):
    np.savetxt(tmp_path / "K.txt", [[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    (tmp_path / "path.txt").write_text("0 0 0 0 0 0 0 1\n")
    with pytest.warns(UserWarning, match=r"camera: the principal point \(320.0, 240.0\) lies far from .* of 64x48"):
        run(
            monkeypatch,
            *("--image", walk / "frame-000000.color.png", "--depth", walk / "frame-000000.depth.png"),
            *("--camera", tmp_path / "K.txt", "--trajectory", tmp_path / "path.txt", "--out", tmp_path / "out"),
        )
    # A warning: what was asked for is done all the same.
    assert json.loads((tmp_path / "out" / "report.json").read_text())["frames"] == 1


def test_wrong_options_are_named(walk, tmp_path, monkeypatch):
    out = ("--out", tmp_path / "out")
    image = ("--image", walk / "frame-000000.color.png")
    earlier = tmp_path / "out" / "frames" / "000000.png"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of before")
    for arguments, message in (
        ((*out,), "image: expected with the others"),
        ((*out, *image), "depth: expected with the others"),
        ((*out, *image, "--rgbd", walk), "rgbd: expected alone, got image too"),
        ((*out, "--rgbd", walk, "--frames", 0), "frames: expected at least 1"),
        ((*out, "--rgbd", walk, "--every", 0), "every: expected at least 1"),
        ((*out, "--rgbd", walk, "--dynamic-filter", "best"), "dynamic_filter: expected one of"),
        ((*out, "--rgbd", walk, "--steps", 99), "steps: expected"),
        ((*out, "--rgbd", walk, "--prompt", "a kitchen"), "prompt: expected none"),
    ):
        with pytest.raises(ValueError, match=message):
            run(monkeypatch, *arguments)
        # What an earlier run left is as it was.
        assert earlier.read_text() == "of before"
    with pytest.raises(FileNotFoundError, match="rgbd: .* is not a folder"):
        run(monkeypatch, *out, "--rgbd", tmp_path / "nowhere")


def test_an_empty_folder_is_refused_before_weights_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mirage_ros.imagine_inputs.ImagineOptions.load", lambda *_, **__: pytest.fail("weights"))
    with pytest.raises(FileNotFoundError, match="rgbd: .* holds no frame"):
        run(monkeypatch, "--rgbd", tmp_path, "--out", tmp_path / "out")


def test_missing_weights_say_what_to_do(walk, tmp_path, monkeypatch):
    arguments = ["mirage imagine", "--rgbd", walk, "--out", tmp_path / "out", "--weights", tmp_path / "nowhere"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="hf download"):
        imagine.main()
    assert not (tmp_path / "out").exists()
