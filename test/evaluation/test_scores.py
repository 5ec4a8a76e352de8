import dataclasses

import numpy as np
import pytest

from mirage_ros.evaluation.cases import Case
from mirage_ros.evaluation.methods import Outcome, truth
from mirage_ros.evaluation.scores import BY_CHUNK, by_chunk, chunk_summary, score
from mirage_ros.recordings.clips import MOVING, SKY


def answer(case: Case) -> Outcome:
    """The truth, to be spoiled."""
    return Outcome(case.clip.rgb.copy(), case.clip.depth, 0.0, 0)


def test_a_chunk_is_judged_by_its_own_new_frames(case):
    spoiled = answer(case)
    spoiled.rgb[0] = 0
    spoiled.rgb[3:5] = 0
    chunks = by_chunk(case, spoiled, 2)
    # Frames 1 and 2, 3 and 4, and 5 alone; frame 0 was shown.
    assert [chunk["psnr"] == 100 for chunk in chunks] == [True, False, True]
    assert chunks[1]["psnr"] < 15


def test_visible_and_hidden_pixels_are_told_apart_in_every_chunk(case):
    spoiled = answer(case)
    spoiled.rgb[~case.visible] = 0
    chunks = by_chunk(case, spoiled, 2)
    assert all(chunk["psnr_visible"] == 100 and chunk["psnr_hidden"] < 15 for chunk in chunks)
    # The camera moves off what the first frame shows.
    shown = [chunk["shown"] for chunk in chunks]
    assert 1 > shown[0] > shown[1] > shown[2] > 0


def test_the_sky_counts_in_a_column_of_its_own(case):
    labels = case.clip.labels.copy()
    labels[:, :3], labels[:, 3:6] = SKY, MOVING
    told = Case(dataclasses.replace(case.clip, labels=labels))
    spoiled = answer(told)
    spoiled.rgb[:, 3:6] = 0
    assert score(told, spoiled)["psnr_sky"] == 100
    spoiled.rgb[:, :3] = 0
    scores = score(told, spoiled)
    assert scores["psnr"] == 100
    assert scores["psnr_sky"] < 25


def test_a_few_pixels_do_not_speak_for_a_chunk(world, case):
    """A lone visible pixel in a view that has moved on would weigh as much as a whole view of another walk."""
    depth = case.clip.depth.copy()
    depth[1:, :, :] = 9.0
    depth[1:, 0, :10] = case.clip.depth[1:, 0, :10]
    moved = dataclasses.replace(case, clip=dataclasses.replace(case.clip, depth=depth))
    (chunk,) = by_chunk(moved, truth(world, moved, 0), 5)
    assert 0 < chunk["shown"] < 0.01
    assert np.isnan(chunk["psnr_visible"])
    assert chunk["psnr"] == chunk["psnr_hidden"] == 100


def test_without_depth_only_the_whole_is_known(world, case):
    clip = dataclasses.replace(case.clip, depth=np.zeros_like(case.clip.depth))
    (chunk,) = by_chunk(Case(clip), truth(world, Case(clip), 0), 8)
    assert chunk["psnr"] == 100
    assert all(np.isnan(chunk[name]) for name in ("psnr_visible", "psnr_hidden", "shown"))


def test_chunks_are_averaged_over_the_walks_that_have_them():
    nan = float("nan")

    def row(*values):
        return {"chunks": [{**dict.fromkeys(BY_CHUNK, value), "shown": 0.5} for value in values]}

    assert chunk_summary([row(20, nan, 18), row(22, 24)])["psnr_hidden"] == [21, 24]
    found = chunk_summary([row(20, nan), row(22, nan)])
    assert found["psnr"][0] == 21
    assert np.isnan(found["psnr"][1])
    assert found["shown"] == [0.5, 0.5]


@pytest.mark.parametrize("rows", [[], [{"psnr": 20.0}]])
def test_rows_of_an_earlier_version_have_no_chunks(rows):
    assert chunk_summary(rows) == {"psnr": [], "psnr_visible": [], "psnr_hidden": [], "shown": []}
