"""Scores of views and the examples that use them, through the facade and over DDS."""

import math
import re
import runpy
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mirage_ros.msg import ViewScore
from mirage_ros.srv import ScoreViews
from std_msgs.msg import Header

from mirage_ros.client import MirageError
from mirage_ros.client.link import wait_for
from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.conversions import numpy_to_image, poses_to_path
from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameters import MemoryParameters, MirageParameters
from mirage_ros.ros.view_scoring import ViewScoring
from mirage_ros.ros.waiting import Patience
from mirage_ros.ros.work_queue import Worker
from mirage_ros.trajectory import dolly

EXAMPLES = Path(__file__).parents[2] / "examples"
FIELDS = ("coverage", "new_area", "information_gain", "clearance", "collision")
upright = runpy.run_path(str(EXAMPLES / "next_best_view.py"))["upright"]
# Metres to the wall that the camera sees.
WALL = 3.0


@pytest.fixture(scope="module")
def planner(mirage):
    """A client of a node that has seen one camera frame: a textured wall along x."""
    from mirage_ros.client import Mirage

    with Mirage(timeout=240.0) as client:
        camera = pinhole(80, 120, vertical_fov=0.9).to(dtype=torch.float64).at(upright(0, 0, 0))
        rgb = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
        client.observe(rgb, np.full((80, 120), WALL, np.float32), camera)
        client.picture = rgb
        yield client


def test_views_of_the_known_the_unknown_and_through_the_wall(planner):
    seen, behind, through = planner.score_views(
        [
            upright(0, 0, 0),
            upright(0, 0, math.pi),
            torch.stack([upright(0, 0, 0), upright(4, 0, 0)]),
        ],
        radius=0.2,
    )
    assert seen.coverage > 0.8
    assert behind.coverage == 0
    assert seen.new_area < 0.3 * behind.new_area
    assert behind.information_gain == pytest.approx(behind.new_area, rel=1e-3)
    assert seen.clearance == pytest.approx(WALL, abs=0.15)
    assert through.clearance == 0
    assert seen.collision < 0.05 < 0.9 < through.collision
    assert math.isnan(seen.similarity)


def test_off_the_map_nothing_is_called_clear_and_the_example_goes_elsewhere(planner):
    value = runpy.run_path(str(EXAMPLES / "next_best_view.py"))["value"]
    for imagine in (False, True):
        near, far = planner.score_views([upright(0, 0, math.pi), upright(30, 0, 0)], radius=0.2, imagine=imagine)
        assert np.isnan([getattr(far, name) for name in FIELDS[1:]]).all()
        assert far.coverage == 0
        assert np.isfinite([getattr(near, name) for name in FIELDS]).all()
        assert value(far) < value(near)


def test_many_at_once_are_scored_as_one_by_one(planner):
    views = [upright(0.1 * index, 0.05 * index, 0.3 * index) for index in range(20)]
    together = planner.score_views(views, radius=0.1)
    for view, score in zip(views, together, strict=True):
        (alone,) = planner.score_views([view], radius=0.1)
        for name in FIELDS:
            assert getattr(score, name) == pytest.approx(getattr(alone, name), rel=1e-4, abs=1e-6), name


def test_the_view_that_shows_the_goal_is_most_like_it(planner):
    views = [upright(0, 0, yaw) for yaw in (0.0, 0.4, 0.8, math.pi)]
    scores = planner.score_views(views, goal=planner.picture)
    assert max(scores, key=lambda score: score.similarity) is scores[0]
    assert scores[0].similarity > 0.5
    assert scores[-1].similarity == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((80, 120), ""),
        ((90, 120), "of 120x90 the middle 120x80 is compared"),
        ((128, 128), "of 128x128 the middle 128x85 is compared"),
        ((256, 256), "of 256x256 the middle 256x171 is compared"),
    ],
)
def test_a_goal_of_another_shape_is_cut_and_that_is_said(planner, mirage, size, told):
    picture = cv2.resize(planner.picture, size[::-1])
    path, goal = poses_to_path(upright(0, 0, 0)[None], Header(frame_id="map"), [1]), numpy_to_image(picture, "rgb8")
    answer = mirage.call("score_views", paths=[path], goal=goal)
    assert answer.success
    assert told in answer.message
    assert bool(answer.message) == bool(told)


def test_a_goal_of_which_most_would_be_lost_is_refused(planner):
    with pytest.raises(MirageError, match="goal: expected about the shape .* 96x64, got 80x120, of which 56% would be"):
        planner.score_views([upright(0, 0, 0)], goal=np.zeros((120, 80, 3), np.uint8))


def test_imagined_scores_say_something_of_places_never_seen_and_change_nothing(planner, mirage):
    session = mirage.node.configured.context.session
    before, changes = session.snapshot.changes, (session.occupancy.changes, session.occupancy.guesses)
    views = [torch.stack([upright(0, 0, 0.5 * index + 0.05 * step) for step in range(4)]) for index in range(3)]
    scores = planner.score_views(views, imagine=True, goal=planner.picture)
    readout = planner.score_views(views)
    assert (session.snapshot.changes, (session.occupancy.changes, session.occupancy.guesses)) == (before, changes)
    assert len(scores) == 3
    for imagined, known in zip(scores, readout, strict=True):
        assert np.isfinite([getattr(imagined, name) for name in (*FIELDS, "similarity")]).all()
        # What is imagined is less of a surprise.
        assert imagined.information_gain <= known.information_gain + 1e-6


def test_scores_that_nobody_is_left_to_hear_are_given_up(new_node, monkeypatch):
    from mirage_ros.client import Mirage

    node, asked, begun, chunks, errors = new_node("alone").start(), [], [], [], []
    context = node.node.configured.context
    rollout, worker = context.session.rollout, context.worker

    def wait_until_alone():
        wait_for(lambda: not node.node.count_clients("/alone/score_views"), time.monotonic() + 120)

    def counted(worker, request, on_chunk, *more):
        def on_counted(chunk):
            chunks.append(chunk)
            wait_until_alone()
            on_chunk(chunk)

        def begin(job):
            begun.append(job)
            return work(job)

        work = rollout(worker, request, on_counted, *more)
        asked.append(request)
        return begin

    monkeypatch.setattr(context.session, "rollout", counted)
    node.observe()
    paths = [dolly(upright(0, 0, 0), 0.5, 65)] * 7

    def ask(client):
        try:
            client.score_views(paths, imagine=True)
        except MirageError as error:
            errors.append(str(error))

    def ask_and_close(client, condition):
        asking = threading.Thread(target=ask, args=[client], daemon=True)
        asking.start()
        node.spin_until(condition)
        client.close()
        asking.join(60)

    ask_and_close(Mirage("alone", timeout=240.0), lambda: chunks)
    node.spin_until(lambda: worker.backlog == 0)
    # Eight each.
    assert 0 < len(chunks) < 7 * 8
    # One that waits for its turn is not begun.
    client, gate = Mirage("alone", timeout=240.0), threading.Event()
    worker.call(gate.wait)
    ask_and_close(client, lambda: len(asked) == 2)
    wait_until_alone()
    gate.set()
    node.spin_until(lambda: worker.backlog == 0)
    assert len(begun) == 1
    assert errors == ["the client was closed before the answer came"] * 2


def test_the_costmap_example(planner, tmp_path, capsys):
    example = runpy.run_path(str(EXAMPLES / "costmap.py"))
    out = tmp_path / "costmap.png"
    example["main"](["--timeout", "240", "--out", str(out)])
    numbers = re.findall(r"([\d.]+) (?:square metres seen|more imagined)", capsys.readouterr().out)
    seen, guessed = map(float, numbers)
    assert seen > 2
    assert guessed > 0
    picture = 255 - cv2.imread(str(out))[::-1, :, 0].astype(int)
    half = len(picture) // 2
    assert picture[half, half + 40] == 0
    assert 254 in picture[half, half + 57 : half + 64]
    assert picture[0, 0] == 255


def test_the_next_best_view_example(planner, capsys):
    runpy.run_path(str(EXAMPLES / "next_best_view.py"))["main"](["--timeout", "240"])
    told = r"look from \((-?[\d.]+), (-?[\d.]+)\): ([\d.]+) square metres of news, (\d+)% risk"
    x, y, area, risk = map(float, re.search(told, capsys.readouterr().out).groups())
    assert math.hypot(x, y) <= 2
    assert area > 0.5
    assert risk <= 30


def test_scores_let_other_work_pass_and_without_a_map_nothing_is_imagined():
    memory, threads = MemoryParameters(max_bytes=4 << 20), torch.get_num_threads()
    parameters = MirageParameters(preset="test", random_weights=True, device="cpu", memory=memory, threads=1)
    node = SimpleNamespace(count_clients=lambda name: 1, resolve_service_name=str)
    session, worker = ModelSession(parameters), Worker(max_jobs=2)
    context = SimpleNamespace(node=node, parameters=parameters, session=session, worker=worker)
    frames = SimpleNamespace(optical=lambda poses, *_: poses)
    active = SimpleNamespace(frames=frames, patience=Patience(lambda: 1.0))
    paths = [poses_to_path(upright(0, 0, yaw)[None], Header(frame_id="map"), [1]) for yaw in (0.0, 1.0, 2.0)]
    try:
        blind = ViewScoring(context, active, ScoreViews.Request(paths=paths, imagine=True, seed=-1))
        blind.place().result(0)
        with pytest.raises(ValueError, match="memory: expected at least one observation"):
            blind.score()
        assert context.worker.backlog == 0
        camera = pinhole(80, 120, vertical_fov=0.9).to(dtype=torch.float64).at(upright(0, 0, 0))
        rgb = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
        context.session.observe(RgbdFrame(rgb, np.full((80, 120), WALL, np.float32), camera, 1))
        scoring = ViewScoring(context, active, ScoreViews.Request(paths=paths, seed=-1))
        scoring.place().result(0)
        order = []

        def step():
            order.append("other")
            if not scores.done():
                context.worker.call(step)

        start = threading.Event()
        context.worker.call(start.wait)
        scores = scoring.score()
        context.worker.call(step)
        start.set()
        assert [type(score) for score in scores.result(60)] == [ViewScore] * 3
        # At least once for each path.
        assert len(order) >= 3
    finally:
        context.worker.close()
        torch.set_num_threads(threads)
