import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mirage_ros.evaluation.protocols.recorded import Re10kProtocol, RgbdProtocol
from mirage_ros.evaluation.protocols.sim import SimProtocol, frozen_lists
from mirage_ros.training.splits import SEEDS


def test_frozen_scenes_are_held_out_and_of_both_families():
    for content in frozen_lists().values():
        assert all(entry["seed"] in SEEDS["held-out"] for entry in content["cases"])
        assert {entry["family"] for entry in content["cases"]} == {"rooms", "halls"}
    sim, loop = ({entry["seed"] for entry in frozen_lists()[name]["cases"]} for name in ("sim", "closed-loop"))
    assert not sim & loop


def test_a_case_is_the_same_every_time():
    first, second = (next(SimProtocol("sim", 32, 48, limit=1).cases()) for _ in range(2))
    np.testing.assert_array_equal(first.clip.rgb, second.clip.rgb)
    assert len(first.clip) == 25
    assert 0 not in first.scored


def test_a_closed_loop_ends_where_it_began_and_scores_the_return():
    case = next(SimProtocol("closed-loop", 32, 48, limit=1).cases())
    assert len(case.clip) == 41
    assert case.scored[-1] == 40
    assert min(case.scored) > 20
    np.testing.assert_allclose(case.clip.camera.cam2world[0], case.clip.camera.cam2world[40])
    assert case.visible()[40].mean() > 0.9 * case.static()[40].mean()


def write_re10k(folder: Path, count: int) -> None:
    (folder / "cameras").mkdir(parents=True)
    (folder / "frames" / "clip").mkdir(parents=True)
    lines = ["https://example.org/video"]
    for index in range(count):
        numbers = [index * 33366, 0.6, 0.9, 0.5, 0.5, 0, 0, 1, 0, 0, -0.01 * index, 0, 1, 0, 0, 0, 0, 1, 0]
        lines.append(" ".join(map(str, numbers)))
        picture = np.full((72, 128, 3), index, np.uint8)
        cv2.imwrite(str(folder / "frames" / "clip" / f"{index * 33366}.png"), picture)
    (folder / "cameras" / "clip.txt").write_text("\n".join(lines) + "\n")


def test_re10k_takes_every_eighth_frame_with_its_own_camera(tmp_path):
    write_re10k(tmp_path, 20)
    (case,) = Re10kProtocol(tmp_path, 32, 48).cases()
    assert case.clip.rgb[:, 0, 0, 0].tolist() == [0, 8, 16]
    np.testing.assert_allclose(case.clip.camera.cam2world[:, 0, 3], [0, 0.08, 0.16])
    # 0.6 of 128 pixels; the middle 108 of 128 columns become 48.
    assert case.clip.camera.intrinsics[0, 0, 0].item() == pytest.approx(0.6 * 128 * 48 / 108)


def test_re10k_says_which_frames_are_missing(tmp_path):
    write_re10k(tmp_path, 20)
    (tmp_path / "frames" / "clip" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"re10k: expected 20 frames for clip.txt, got 19"):
        list(Re10kProtocol(tmp_path, 32, 48).cases())
    with pytest.raises(FileNotFoundError, match="re10k: .* holds no NAME.txt"):
        Re10kProtocol(tmp_path / "frames", 32, 48)


def test_a_real_walk_gives_cases_of_seventeen_frames():
    folder = os.environ.get("MIRAGE_RGBD_WALK")
    if not folder:
        pytest.skip("MIRAGE_RGBD_WALK names no recorded walk")
    protocol = RgbdProtocol(folder, 32, 48)
    case = next(protocol.cases())
    assert len(case.clip) == 17
    assert case.visible()[1].mean() > 0.3
