import json
import sys

import cv2
import pytest

from mirage_ros.bench import rollout
from mirage_ros.world.results import STAGES


def measured(times, bytes_per_chunk):
    return {
        "milliseconds": [dict.fromkeys(STAGES, time / len(STAGES)) for time in times],
        "cache_bytes": [(index + 1) * bytes_per_chunk for index in range(len(times))],
        "coverage": [0.5] * len(times),
        "peak_bytes": 1,
    }


def test_the_first_chunk_warms_up_and_does_not_count():
    summary = rollout.summarise(measured([1000, 10, 10, 10, 10], 2048), 5)
    assert summary["all"] == pytest.approx(10)
    assert summary["growth"] == pytest.approx(1)
    assert summary["kib_per_chunk"] == 2


def test_a_rollout_that_slows_down_shows_growth_and_its_beginning_does_not():
    content = measured([10, *[10] * 10, *[30] * 10], 1024)
    assert rollout.summarise(content, 21)["growth"] == pytest.approx(3)
    assert rollout.summarise(content, 6)["growth"] == pytest.approx(1)
    assert rollout.summarise(content, 6)["kib"] == 6


def test_ratios_are_to_the_first_cache():
    lines = rollout.tables({"latent": measured([10] * 3, 1024), "rgb": measured([20] * 3, 8192)}, 3).splitlines()
    head = [cell.strip() for cell in lines[0].split("|")]
    latent, rgb = ([cell.strip() for cell in line.split("|")] for line in lines[2:])
    assert (latent[head.index("time ratio")], rgb[head.index("time ratio")]) == ("1.00", "2.00")
    assert rgb[head.index("bytes ratio")] == "8.0"
    assert rgb[head.index("read")] == "4.0 (20%)"


@pytest.mark.slow
def test_the_command_measures_all_caches_and_draws_them(tmp_path, monkeypatch, capsys):
    figures, plot, sheet = tmp_path / "new" / "rollout.json", tmp_path / "rollout.png", tmp_path / "too" / "sheet.png"
    options = ["--random-weights", "--chunks", "1", "2", "--height", "32", "--width", "48", "--threads", "1"]
    monkeypatch.setattr(
        sys, "argv", ["rollout", *options, "--json", str(figures), "--plot", str(plot), "--sheet", str(sheet)]
    )
    rollout.main()
    content = json.loads(figures.read_text())
    assert list(content["chunks"]) == ["latent", "rgb", "view"]
    for kind, chunks in content["chunks"].items():
        assert len(chunks["milliseconds"]) == len(chunks["cache_bytes"]) == 2
        assert chunks["cache_bytes"][-1] > 0
        assert content["summary"]["2"][kind]["all"] > 0
    assert cv2.imread(str(plot)) is not None
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert height >= 3 * 32
    assert width >= 6 * 48
    assert capsys.readouterr().out.count("| conditioned on |") == 2


def test_a_sheet_of_another_kind_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rollout", "--weights", "missing", "--sheet", str(tmp_path / "sheet.jpg")])
    with pytest.raises(ValueError, match="^sheet: expected a .png file"):
        rollout.main()


@pytest.mark.parametrize("options", [["--chunks", "0"], ["--caches", "rgb", "rgb"]])
def test_lengths_and_caches_are_checked_before_anything_is_loaded(options, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rollout", "--weights", "missing", *options])
    with pytest.raises(ValueError, match=f"^{options[0][2:]}: expected one or more"):
        rollout.main()
