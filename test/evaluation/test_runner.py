import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mirage_ros.evaluation import hidden_regions
from mirage_ros.evaluation.methods import METHODS, find_methods
from mirage_ros.evaluation.protocols.sim import sim_cases
from mirage_ros.evaluation.report import family_markdown, write_report
from mirage_ros.evaluation.runner import evaluate, is_complete
from mirage_ros.evaluation.scores import COLUMNS, summary

CHECKS = ("truth", "shuffled", "copy", "readout")


def run(world, protocol, folder, methods=CHECKS):
    return evaluate(world, protocol, find_methods(list(methods)), folder, {"seed": 0})


def of(rows, method, name="psnr"):
    return np.mean([row[name] for row in rows if row["method"] == method])


def test_a_perfect_answer_wins_and_a_shuffled_one_loses(world, walls, tmp_path):
    rows = run(world, walls, tmp_path)
    for name in ("psnr", "psnr_visible", "psnr_hidden", "ssim"):
        assert of(rows, "truth", name) > (0 if name == "ssim" else 5) + of(rows, "shuffled", name)
    assert of(rows, "truth", "ssim") == pytest.approx(1.0)
    assert of(rows, "truth", "depth_abs_rel") == 0
    assert of(rows, "truth", "translation") < of(rows, "shuffled", "translation")


def test_the_frame_that_is_shown_does_not_count(world, walls, tmp_path):
    """Copying it is perfect for it, and must not be rewarded."""
    rows = run(world, walls, tmp_path, ("copy",))
    assert of(rows, "copy") < 40


def test_a_second_run_does_nothing_twice_and_gives_the_same(world, walls, tmp_path):
    first = run(world, walls, tmp_path)
    calls = []
    spied = {name: lambda *a, name=name: calls.append(name) for name in CHECKS}
    again = evaluate(world, walls, spied, tmp_path, {"seed": 0})
    assert calls == []
    assert [row["psnr"] for row in again] == [row["psnr"] for row in first]


def test_a_run_that_was_killed_in_a_line_goes_on(world, walls, tmp_path):
    first = run(world, walls, tmp_path)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = run(world, walls, tmp_path)
    assert untimed(again) == untimed(first)
    assert [json.loads(line)["case"] for line in path.read_text().splitlines()] == [row["case"] for row in first]


def apart(monkeypatch, process, count=2):
    monkeypatch.setenv("RANK", str(process))
    monkeypatch.setenv("WORLD_SIZE", str(count))


def test_processes_share_the_cases_and_the_last_one_has_all_as_from_one(world, walls, tmp_path, monkeypatch):
    whole = run(world, walls, tmp_path / "whole")
    apart(monkeypatch, 1)
    mine = run(world, walls, tmp_path / "shared")
    assert [row["case"] for row in mine] == ["two"] * len(CHECKS)
    assert not is_complete(mine, walls, dict.fromkeys(CHECKS))
    # It is killed in a line, which the other process leaves alone: it may be about to be written.
    own = tmp_path / "shared" / "rows-1.jsonl"
    own.write_bytes(own.read_bytes()[:-40])
    apart(monkeypatch, 0)
    before = own.read_bytes()
    assert len(run(world, walls, tmp_path / "shared")) == 2 * len(CHECKS) - 1
    assert own.read_bytes() == before
    assert not (tmp_path / "shared" / "rows.jsonl").exists()
    apart(monkeypatch, 1)
    rows = run(world, walls, tmp_path / "shared")
    assert untimed(rows) == untimed(whole)
    written = [json.loads(line) for line in (tmp_path / "shared" / "rows.jsonl").read_text().splitlines()]
    assert untimed(written) == untimed(whole)
    # One process goes on from there, and does nothing.
    apart(monkeypatch, 0, 1)
    again = evaluate(world, walls, dict.fromkeys(CHECKS), tmp_path / "shared", {"seed": 0})
    assert untimed(again) == untimed(whole)


@pytest.mark.slow
def test_two_processes_that_share_a_folder_alone_write_the_report_of_one(tmp_path, run_apart):
    options = ("--random-weights", "--height", "32", "--width", "48", "--methods", "readout", "copy", "--threads", "1")
    arguments = ("sim", *options, "--limit", "3", "--sheets", "1", "--out")
    printed = run_apart("-m", "mirage_ros.evaluation", *arguments, str(tmp_path / "shared"))
    assert sum("report.html" in text for text in printed) >= 1
    command = [sys.executable, "-m", "mirage_ros.evaluation", *arguments, str(tmp_path / "one")]
    subprocess.run(command, check=True, timeout=300, cwd="/", stdout=subprocess.DEVNULL)
    one, shared = tmp_path / "one" / "sim", tmp_path / "shared" / "sim"
    rows = [[json.loads(line) for line in (each / "rows.jsonl").read_text().splitlines()] for each in (one, shared)]
    assert untimed(rows[0]) == untimed(rows[1])
    assert len(rows[0]) == 6
    names = [{path.relative_to(each) for path in each.rglob("*") if path.is_file()} for each in (one, shared)]
    assert names[1] - names[0] == {Path("rows-0.jsonl"), Path("rows-1.jsonl")}
    assert names[0] <= names[1]
    summaries = [json.loads((each / "summary.json").read_text())["methods"] for each in (one, shared)]
    for summary_of_one, summary_of_two in zip(summaries[0].values(), summaries[1].values(), strict=True):
        assert {k: v for k, v in summary_of_one.items() if k != "ms_per_frame"} == {
            k: v for k, v in summary_of_two.items() if k != "ms_per_frame"
        }


def untimed(rows):
    """As text: what cannot be measured on so small walks is NaN, which does not equal itself."""
    return json.dumps([{k: v for k, v in row.items() if k != "ms_per_frame"} for row in rows])


def test_results_under_other_settings_are_not_mixed(world, walls, tmp_path):
    run(world, walls, tmp_path, ("copy",))
    with pytest.raises(ValueError, match=r"out: expected a new folder .* seed \(0, not 1\)"):
        evaluate(world, walls, find_methods(["copy"]), tmp_path, {"seed": 1})


def test_the_report_has_a_table_pictures_and_one_page(world, walls, tmp_path):
    rows = run(world, walls, tmp_path)
    table = write_report(tmp_path, rows, {"seed": 0}, {name: METHODS[name][1] for name in CHECKS})
    lines = table.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:-3]] == list(CHECKS)
    assert "PSNR dB" in lines[0]
    # Two short walks hide too little for a distribution, and the table says so.
    assert "hidden FD" not in lines[0]
    assert "hidden AUC" not in lines[0]
    assert "hidden FD is left out: it takes 1000 patches" in lines[-2]
    assert "hidden AUC is left out: it takes 100 windows" in lines[-1]
    page = (tmp_path / "report.html").read_text()
    # Drift and a sheet of each walk; one chunk needs no table of chunks.
    assert page.count("data:image/png;base64,") == 3
    assert not (tmp_path / "chunks.md").exists()
    assert 'src="http' not in page
    assert json.loads((tmp_path / "summary.json").read_text())["methods"]["truth"]["psnr"][0] == 100.0


def test_methods_are_told_family_by_family():
    rows = [
        {"method": method, "case": f"{family}-{seed}-dolly", "psnr": psnr + seed, "hidden_distance": 1.0}
        for method, family, psnr in (("copy", "rooms", 10.0), ("copy", "flats", 20.0), ("truth", "flats", 90.0))
        for seed in (1, 3)
    ]
    head, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in family_markdown(rows).splitlines())
    assert head == ["method", "PSNR dB"]
    assert lines == [["copy, rooms", "12.00"], ["copy, flats", "22.00"], ["truth, flats", "92.00"]]


def test_sheets_are_of_cases_chosen_by_the_seed(world, walls, tmp_path):
    found = {}
    for seed in range(8):
        folder = tmp_path / str(seed)
        rows = evaluate(world, walls, find_methods(["copy"]), folder, {"seed": seed}, seed=seed, sheets=1)
        write_report(folder, rows, {"seed": seed}, {})
        found[seed] = [path.name for path in folder.glob("sheet-*.png")]
    assert all(len(names) == 1 for names in found.values())
    assert {names[0] for names in found.values()} == {"sheet-one.png", "sheet-two.png"}
    again = tmp_path / "again"
    write_report(again, evaluate(world, walls, find_methods(["copy"]), again, {}, seed=3, sheets=1), {}, {})
    assert [path.name for path in again.glob("sheet-*.png")] == found[3]


def test_a_long_walk_is_reported_chunk_by_chunk(world, long_walks, tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_regions, "LEAST_PATCHES", 30)
    methods = ("truth", "copy", "readout")
    rows = run(world, long_walks, tmp_path, methods)
    write_report(tmp_path, rows, {"seed": 0}, {})
    head, _, *lines = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (tmp_path / "chunks.md").read_text().splitlines()
    )
    assert head[2:] == [str(number) for number in range(1, 11)]
    assert [line[:2] for line in lines[:3]] == [[name, "all"] for name in methods]
    assert lines[0][2:] == ["100.00"] * 10
    # Copying the first frame is best where the walk still is near it, or again.
    assert float(lines[1][2]) > float(lines[1][7])
    assert lines[-1][:2] == ["share of pixels", "visible"]
    first, middle, last = (float(lines[-1][column].strip("%")) for column in (2, 8, 11))
    assert middle < last < first
    summaries = json.loads((tmp_path / "summary.json").read_text())
    distances = [summaries["methods"][name]["hidden_distance"][0] for name in methods]
    # What was never seen looks like itself, and neither copies nor streaks do.
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert min(distances[1:]) > 0.1
    figures = summaries["chunks"]["copy"]
    assert [f"{value:.2f}" for value in figures["psnr"]] == lines[1][2:]
    page = (tmp_path / "report.html").read_text()
    # All, chunk by chunk, and what the methods are.
    assert page.count("<table>") == 3
    assert page.count("data:image/png;base64,") == 3
    # Three panels side by side with three curves of different colours.
    plot = cv2.imread(str(tmp_path / "chunks.png"))
    assert plot.shape[1] > 2 * plot.shape[0]
    colours = {tuple(colour) for colour in plot.reshape(-1, 3)[::3] if np.ptp(colour) > 100}
    assert len(colours) >= 3


def test_intervals_hold_the_mean_and_narrow_with_more_cases():
    generator = np.random.default_rng(0)

    def rows(count):
        return [dict.fromkeys(COLUMNS, value) for value in generator.normal(20, 2, count)]

    few, many = summary(rows(5))["psnr"], summary(rows(200))["psnr"]
    for mean, low, high in (few, many):
        assert low <= mean <= high
    assert many[2] - many[1] < few[2] - few[1]


def test_a_folder_with_other_things_is_left_alone(world, walls, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="out: expected an empty folder .* holds other files"):
        run(world, walls, tmp_path)
    with pytest.raises(ValueError, match="out: expected a folder, got the file"):
        run(world, walls, tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_same_seed_gives_the_same_figures(world, tmp_path):
    protocol = sim_cases("sim", world.height, world.width, 2)
    runs = [run(world, protocol, tmp_path / name, ("mirage", "none")) for name in ("a", "b")]
    first, second = ([{k: v for k, v in row.items() if k != "ms_per_frame"} for row in rows] for rows in runs)
    assert json.dumps(first) == json.dumps(second)
