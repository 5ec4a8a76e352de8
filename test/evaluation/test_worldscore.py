"""Against a stand-in of WorldScore's helper and folders, written from the facts of its format."""

import json
import sys
import types

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mirage_ros.evaluation import worldscore
from mirage_ros.evaluation.__main__ import main
from mirage_ros.evaluation.worldscore import (
    cameras_from_worldscore,
    cameras_to_worldscore,
    imagine_sample,
    write_sample,
)
from mirage_ros.perception.pipeline import DepthEstimate, NoFilter, Perception
from mirage_ros.poses import invert
from mirage_ros.world.model import WorldModel


class FlatDepth:
    """Everything is two metres away."""

    def estimate(self, frames, memory):
        return DepthEstimate(torch.full((len(frames.rgb), *frames.rgb.shape[-2:]), 2.0), frames.camera)


PERCEPTION = Perception(FlatDepth(), NoFilter())


def path(count: int) -> np.ndarray:
    """Cameras that push in and move right, Blender's axes: forward is -z."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 0, 3] = np.linspace(0, 0.2, count)
    matrices[:, 2, 3] = np.linspace(0, -0.3, count)
    return matrices


def picture(height=64, width=64):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1).astype(np.uint8)


def test_blender_axes_become_optical_ones():
    camera = cameras_from_worldscore(path(5), 512, 512)
    last = camera[4]
    # Ahead and to the right in the world of the first camera: a point there lies on the axis of the last one.
    point = torch.tensor([[0.2, 0.0, -2.3]], dtype=torch.float64)
    pixel, depth = last.project(point)
    torch.testing.assert_close(pixel, torch.tensor([[256.0, 256.0]], dtype=torch.float64))
    assert depth.item() == pytest.approx(2.0)
    # Up in the world is up in the picture: smaller y.
    above, _ = last.project(torch.tensor([[0.2, 0.5, -2.3]], dtype=torch.float64))
    assert above[0, 1] < 256


def test_cameras_survive_the_way_there_and_back():
    camera = cameras_from_worldscore(path(4), 512, 512)
    np.testing.assert_allclose(cameras_to_worldscore(camera), path(4))


def test_intrinsics_scale_with_the_image():
    camera = cameras_from_worldscore(path(2), 512, 768, 500).resized(128, 192)
    assert camera.intrinsics[0, 0].item() == pytest.approx(125)
    assert camera.intrinsics[0, 2].item() == pytest.approx(96)


def test_lengths_that_a_video_model_does_not_take_are_filled_up():
    video = WorldModel.from_pretrained(preset="test", random_weights=True, size=(32, 48))
    frames = imagine_sample(video, PERCEPTION, picture(), cameras_from_worldscore(path(7), 64, 64))
    assert len(frames) == 7


@pytest.mark.parametrize("split", ["static", "dynamic"])
def test_samples_are_written_in_its_layout(tmp_path, split):
    frames = np.stack([picture()] * 3)
    camera = cameras_from_worldscore(path(3), 64, 64)
    write_sample(tmp_path, split, {"image": "images/a.png", "prompt_list": ["a room"]}, frames, camera)
    data = json.loads((tmp_path / "image_data.json").read_text())
    assert data["visual_movement"] == split
    assert data["total_frames"] == 3
    assert ("anchor_frame_idx" in data) == (split == "static")
    cameras = json.loads((tmp_path / "camera_data.json").read_text())
    np.testing.assert_allclose(cameras["cameras_interp"], path(3))
    assert cameras["focal_length"] == 500
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "frames" / "002.png"))[..., ::-1], picture())
    assert (tmp_path / "videos" / "output.mp4").stat().st_size > 0


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="cameras: expected"):
        cameras_from_worldscore(np.zeros((2, 4, 4)), 64, 64)
    with pytest.raises(ValueError, match="focal_length: expected positive"):
        cameras_from_worldscore(path(2), 64, 64, 0)


def write_worldscore_samples(folder, **cameras):
    """Two samples of three cameras, their pictures beside them."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / f"{name}.png"), picture()[..., ::-1])
        (folder / name / "image_data.json").write_text(json.dumps({"image": f"{name}.png", "prompt_list": ["a room"]}))
        content = {"focal_length": 400, "cameras_interp": path(3).tolist(), **cameras}
        (folder / name / "camera_data.json").write_text(json.dumps(content))


@pytest.fixture
def command(monkeypatch):
    """Run `mirage eval worldscore` with options; everything is two metres away."""
    monkeypatch.setattr("mirage_ros.evaluation.worldscore.make_perception", lambda *parts, **options: PERCEPTION)

    def run(*options):
        monkeypatch.setattr("sys.argv", ["eval", "worldscore", "--random-weights", "--preset", "test", *options])
        main()

    return run


def test_the_command_imagines_a_folder_of_samples_into_its_layout(tmp_path, command):
    write_worldscore_samples(tmp_path / "given")
    command(str(tmp_path / "given"), "--out", str(tmp_path / "out"), "--split", "dynamic")
    for name in ("a", "b"):
        made = tmp_path / "out" / name
        assert len(list((made / "frames").glob("*.png"))) == 3
        description = json.loads((made / "image_data.json").read_text())
        assert description["image"] == f"{name}.png"
        assert description["visual_movement"] == "dynamic"
        cameras = json.loads((made / "camera_data.json").read_text())
        assert cameras["focal_length"] == 400
        np.testing.assert_allclose(cameras["cameras_interp"], path(3))


def test_the_command_says_what_is_missing(tmp_path, command):
    with pytest.raises(FileNotFoundError, match="folder: expected samples with image_data.json"):
        command(str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "image_data.json").write_text(json.dumps({"prompt_list": []}))
    (tmp_path / "a" / "camera_data.json").write_text("{}")
    with pytest.raises(ValueError, match="image: expected in .*a/image_data.json, got prompt_list"):
        command(str(tmp_path))


def spy(function, cameras):
    """The same function, which notes its cameras."""
    return lambda *arguments: (cameras.append(arguments[3]), function(*arguments))[1]


def test_without_a_folder_the_package_worldscore_is_asked(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "worldscore", None)
    with pytest.raises(RuntimeError, match="folder: expected samples, or the package worldscore"):
        command()

    seen = []

    class Runner:
        """Does what WorldScore's helper does."""

        focal_length = 500

        def adapt(self, sample):
            handed_over = invert(torch.from_numpy(path(7)))
            return Image.fromarray(picture()), ["a room"], handed_over, handed_over

        def save(self, all_interpframes):
            seen.append([frame.size for frame in all_interpframes])

    package = types.ModuleType("worldscore.benchmark.helpers")
    package.GetHelpers = lambda model, split: (["one", "two"], Runner())
    for name in ("worldscore", "worldscore.benchmark", "worldscore.benchmark.helpers"):
        monkeypatch.setitem(sys.modules, name, package)
    cameras = []
    monkeypatch.setattr(worldscore, "imagine_sample", spy(worldscore.imagine_sample, cameras))
    command()
    # As many frames as cameras, at the size of the image; and the cameras are turned round.
    assert seen == [[(64, 64)] * 7] * 2
    np.testing.assert_allclose(cameras_to_worldscore(cameras[0]), path(7), atol=1e-12)
