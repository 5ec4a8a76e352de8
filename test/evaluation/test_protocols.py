import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mirage_ros.evaluation.__main__ import SIMULATED, main
from mirage_ros.evaluation.protocols.recorded import re10k_cases, rgbd_cases
from mirage_ros.evaluation.protocols.sim import frozen_lists, sim_cases
from mirage_ros.models.presets import preset
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.scene import build_scene
from mirage_ros.sim.splits import SEEDS
from mirage_ros.world.results import plan_chunks


def test_frozen_scenes_are_held_out_and_of_two_families():
    for name, content in frozen_lists().items():
        assert all(entry["seed"] in SEEDS["held-out"] for entry in content["cases"])
        families = {"flats", "warehouses"} if name == "unfamiliar" else {"rooms", "halls"}
        assert {entry["family"] for entry in content["cases"]} == families
    seeds = [entry["seed"] for content in frozen_lists().values() for entry in content["cases"]]
    assert len(set(seeds)) == len(seeds)


def test_a_case_is_the_same_every_time():
    first, second = (next(iter(sim_cases("sim", 32, 48, limit=1))) for _ in range(2))
    np.testing.assert_array_equal(first.clip.rgb, second.clip.rgb)
    assert len(first.clip) == 25
    assert 0 not in first.scored


def test_a_closed_loop_ends_where_it_began_and_scores_the_return():
    case = next(iter(sim_cases("closed-loop", 32, 48, limit=1)))
    assert len(case.clip) == 41
    assert case.scored[-1] == 40
    assert min(case.scored) > 20
    np.testing.assert_allclose(case.clip.camera.cam2world[0], case.clip.camera.cam2world[40])
    assert case.visible[40].mean() > 0.9 * case.static[40].mean()


def test_a_long_walk_has_ten_chunks_moves_on_and_comes_back(long_walk):
    case = long_walk
    assert len(plan_chunks(len(case.clip), preset("default").chunk_frames)) == 10
    assert case.scored == tuple(range(1, 81))
    shown = case.visible.reshape(81, -1).mean(1)
    assert shown[:17].min() > 0.7
    assert shown[44:60].max() < 0.1
    assert shown[-1] > 0.6


def test_long_walks_fit_their_scenes_and_some_have_moving_things():
    entries = frozen_lists()["drift"]["cases"]
    assert sum(entry["moving"] > 0 for entry in entries) >= 2
    for entry in entries:
        scene = build_scene(entry["seed"], entry["family"], entry["moving"])
        poses = plan_path(scene, 81, entry["path"], style=entry["style"], step=entry["step"])
        assert (poses[1:, :3, 3] - poses[:-1, :3, 3]).norm(dim=1).sum() > 3.5


def test_walks_of_unfamiliar_places_fit_their_scenes():
    entries = frozen_lists()["unfamiliar"]["cases"]
    assert [entry["family"] for entry in entries].count("flats") == 8 == len(entries) - 8
    for entry in entries:
        scene = build_scene(entry["seed"], entry["family"], entry["moving"])
        assert len(plan_path(scene, 25, entry["path"], style=entry["style"], step=entry["step"])) == 25


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
    (case,) = re10k_cases(tmp_path, 32, 48)
    assert case.clip.rgb[:, 0, 0, 0].tolist() == [0, 8, 16]
    np.testing.assert_allclose(case.clip.camera.cam2world[:, 0, 3], [0, 0.08, 0.16])
    # 0.6 of 128 pixels; the middle 108 of 128 columns become 48.
    assert case.clip.camera.intrinsics[0, 0, 0].item() == pytest.approx(0.6 * 128 * 48 / 108)


def test_re10k_says_which_frames_are_missing(tmp_path):
    write_re10k(tmp_path, 20)
    (tmp_path / "frames" / "clip" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"re10k: expected 20 frames for clip.txt, got 19"):
        list(re10k_cases(tmp_path, 32, 48))
    with pytest.raises(FileNotFoundError, match="re10k: .* holds no NAME.txt"):
        re10k_cases(tmp_path / "frames", 32, 48)


def test_a_short_walk_gives_cases_of_nine_frames(tmp_path):
    np.savetxt(tmp_path / "camera-intrinsics.txt", [[40, 0, 23.5], [0, 40, 15.5], [0, 0, 1]])
    for index in range(12):
        cv2.imwrite(str(tmp_path / f"{index}.color.png"), np.full((32, 48, 3), index, np.uint8))
        cv2.imwrite(str(tmp_path / f"{index}.depth.png"), np.full((32, 48), 2000, np.uint16))
        np.savetxt(tmp_path / f"{index}.pose.txt", np.eye(4))
    (case,) = rgbd_cases(tmp_path, 32, 48)
    assert case.clip.rgb[:, 0, 0, 0].tolist() == list(range(9))
    for index in range(8, 12):
        (tmp_path / f"{index}.color.png").unlink()
    with pytest.raises(ValueError, match="rgbd: expected at least 9 frames in .*, got 8"):
        rgbd_cases(tmp_path, 32, 48)


def test_a_real_walk_gives_cases_of_seventeen_frames():
    folder = os.environ.get("MIRAGE_RGBD_WALK")
    if not folder:
        pytest.skip("MIRAGE_RGBD_WALK names no recorded walk")
    case = next(iter(rgbd_cases(folder, 32, 48)))
    assert len(case.clip) == 17
    assert case.visible[1].mean() > 0.3


@pytest.mark.slow
def test_default_runs_the_walks_of_the_simulator_one_after_the_other(tmp_path, monkeypatch, capsys):
    # The minute preset's frames are drawn in a quarter of the time.
    options = ["--preset", "test", "--random-weights", "--methods", "copy", "--limit", "1", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["eval", "default", *options])
    main()
    assert [path.name for path in sorted(tmp_path.iterdir())] == sorted(SIMULATED)
    assert all((tmp_path / name / "report.html").is_file() for name in SIMULATED)
    assert capsys.readouterr().out.count("report.html") == len(SIMULATED)
