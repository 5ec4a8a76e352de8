import json
import sys

import pytest

from mirage_ros.bench import conditioning
from mirage_ros.models.presets import TEST


def costs():
    return conditioning.Costs(
        read=[9.0, 0.1, 0.1],
        drawn=[9.0, 0.9, 0.9],
        views=[9.0, 0.2, 0.2],
        bytes={"latent": [100, 100, 100], "rgb": [500, 1000, 2000], "view": [100, 200, 300]},
    )


def test_drawing_is_for_every_frame_and_encoding_is_added():
    # Nine frames in three latent frames.
    rows = conditioning.table(costs(), {"first": 1.0, "video": 7.3}, TEST, 4).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[1] for row in cells] == ["0.100", "10.000", "3.900", "0.200"]
    assert [row[3] for row in cells] == ["1.0", "100.0", "39.0", "2.0"]
    assert cells[1][5] == "5.0, 20.0"


def test_steps_put_the_denoising_back():
    text = conditioning.steps_table(costs(), {"first": 1.0, "video": 7.3}, TEST, 4, 2.0)
    assert "| 20 | 40.1 | 50.0 | 1.25 |" in text
    assert "| 1 | 2.1 | 12.0 | 5.71 |" in text


@pytest.mark.slow
def test_the_command_measures_three_caches(tmp_path, monkeypatch, capsys):
    figures = tmp_path / "new" / "figures.json"
    options = ["--preset", "test", "--chunks", "2", "--threads", "1", "--step-seconds", "1", "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", ["conditioning", *options])
    conditioning.main()
    content = json.loads(figures.read_text())
    assert len(content["read"]) == len(content["drawn"]) == len(content["views"]) == 2
    assert all(values[-1] > 0 for values in content["bytes"].values())
    assert content["encoder"]["video"] >= content["encoder"]["first"] > 0
    assert capsys.readouterr().out.count("| conditioned on |") == 1
