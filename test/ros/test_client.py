"""The planner's facade against a running node: goals, cancelling, several clients, errors, the memory's services."""

import asyncio
import re
import runpy
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Header

from mirage_ros.client import MirageError
from mirage_ros.geometry import pinhole
from mirage_ros.ros.conversions import pose_to_stamped
from mirage_ros.trajectory import dolly, pan

EXAMPLES = Path(__file__).parents[2] / "examples"
START = torch.eye(4, dtype=torch.float64)


@pytest.fixture(scope="module")
def client(mirage):
    from mirage_ros.client import Mirage

    with Mirage(timeout=240.0) as client:
        yield client


@pytest.fixture
def planner(client):
    """A client of a node that has seen one camera frame: a textured wall at two metres."""
    client.reset()
    camera = pinhole(80, 120, vertical_fov=0.9, cam2world=START)
    rgb = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    assert "elements added" in client.observe(rgb, np.full((80, 120), 2.0, np.float32), camera)
    return client


def test_candidates_come_back_in_order_with_everything_about_them(planner):
    candidates = [dolly(START, 0.3, 9), pan(START, 1.2, 6)]
    feedback = []
    result = planner.imagine(candidates, labels=["ahead", "aside"], seed=7, on_feedback=feedback.append)
    ahead, aside = result.trajectories
    assert (ahead.label, aside.label, result.seed) == ("ahead", "aside", 7)
    for trajectory, poses in zip(result.trajectories, candidates, strict=True):
        assert len(trajectory) == len(poses) == len(trajectory.coverage)
        np.testing.assert_allclose(trajectory.poses, poses, atol=1e-6)
        assert trajectory.rgb.shape == (len(poses), 64, 96, 3)
        assert trajectory.depth.shape == trajectory.visible.shape == trajectory.rgb.shape[:3]
        assert (np.diff(trajectory.stamps) > 0).all()
        assert len(trajectory.camera) == len(poses)
    # Going ahead stays in view of what is known; turning aside leaves it.
    assert ahead.coverage[-1] > 0.9
    assert aside.coverage[-1] < ahead.coverage[-1]
    assert {message.stage for message in feedback} >= {"read", "denoise", "decode", "write"}
    done = [message.frames_done for message in feedback]
    assert done == sorted(done)
    assert done[-1] == feedback[-1].frames_total == 15


def test_candidates_leave_the_memory_alone_and_a_remembered_one_does_not(planner, mirage):
    memory = mirage.node.configured.context.session.memory
    before = len(memory)
    aside = pan(START, 0.9, 9)
    planner.imagine([aside, aside])
    planner.imagine([aside])
    assert len(memory) == before
    planner.imagine([aside], remember=True, frames=False)
    assert len(memory) > before
    imagined = sum(frame.elements for frame in memory.frames() if frame.kind == "imagination")
    assert planner.reset(keep_observations=True) == imagined
    assert all(frame.kind == "observation" for frame in memory.frames())


def test_the_status_is_never_older_than_what_was_just_done(planner):
    assert planner.status().elements > 0
    planner.imagine([pan(START, 0.9, 9)], remember=True, frames=False)
    assert planner.status().frames > planner.status().observed_frames == 1
    planner.reset()
    assert planner.status().elements == 0


def test_the_same_seed_gives_the_same_frames(planner):
    path = [dolly(START, 0.3, 5)]
    first, second, other = (planner.imagine(path, seed=seed).trajectories[0].rgb for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_cancelling_stops_within_a_step_and_gives_what_was_finished(planner, mirage):
    from mirage_ros.client import ImaginationCancelled

    before = len(mirage.node.configured.context.session.memory)
    goal = planner.start([dolly(START, 0.5, 65)] * 4)
    time.sleep(0.5)
    steps = []
    goal.cancel()
    engine = mirage.node.configured.context.session
    while not goal.done():
        steps.append(engine.snapshot.stage)
        time.sleep(0.001)
    with pytest.raises(ImaginationCancelled) as cancelled:
        goal.result(0)
    # At most the stage that was under way when the request came, and the one before the worker looked.
    assert len([1 for a, b in pairwise(steps) if a != b]) <= 3
    assert sum(map(len, cancelled.value.partial.trajectories)) < 4 * 65
    assert len(mirage.node.configured.context.session.memory) == before
    assert len(planner.imagine([dolly(START, 0.1, 3)]).trajectories[0]) == 3


def test_a_time_limit_cancels_the_goal(planner, mirage):
    with pytest.raises(TimeoutError, match=r"no result within 0\.2 s"):
        planner.imagine([dolly(START, 0.5, 65)], timeout=0.2)
    mirage.spin_until(lambda: mirage.node.configured.context.worker.backlog == 0)


def test_closing_a_client_ends_those_who_wait_for_a_result(planner):
    """Also of a goal that the node never answered: nobody waits for ever."""
    from mirage_ros.client import Mirage

    other = Mirage(timeout=240.0)
    goal, errors = other.start([dolly(START, 0.5, 65)]), []

    def wait():
        try:
            goal.result(None)
        except MirageError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    other.close()
    waiter.join(30)
    assert not waiter.is_alive()
    assert len(errors) == 1


def test_several_clients_take_turns(planner):
    from mirage_ros.client import Mirage

    order = []
    with Mirage(timeout=240.0) as other:
        long = planner.start([dolly(START, 0.5, 65)], on_feedback=lambda f: order.append("long"))
        while not order:
            time.sleep(0.01)
        short = other.start([dolly(START, 0.1, 5)], on_feedback=lambda f: order.append("short"))
        assert len(short.result(240).trajectories[0]) == 5
        assert not long.done()
        long.cancel()


def test_asyncio(planner):
    async def both():
        return await asyncio.gather(
            planner.imagine_async([dolly(START, 0.1, 3)], labels=["a"]),
            planner.imagine_async([dolly(START, 0.1, 5)], labels=["b"]),
        )

    results = asyncio.run(both())
    assert [len(result.trajectories[0]) for result in results] == [3, 5]

    async def impatient():
        task = asyncio.create_task(planner.imagine_async([dolly(START, 0.5, 65)]))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(impatient())
    assert len(planner.imagine([dolly(START, 0.1, 3)]).trajectories[0]) == 3


@pytest.mark.parametrize(
    ("candidates", "options", "reason"),
    [
        ([], {}, r"candidates: expected 1 to 64 \(imagine.max_candidates\), got 0"),
        ([dolly(START, 1.0, 600)], {}, r"at most 512 poses in all \(imagine.max_frames\), got 600"),
        ([dolly(START, 1.0, 5)] * 2, {"remember": True}, "remember: expected a single candidate"),
        ([dolly(START, 1e5, 5)], {}, "within 1000 m of the world frame's origin"),
        ([dolly(START, 1.0, 5)], {"frame_id": "odom"}, "expected 'map' or empty, got 'odom'"),
        ([dolly(START, 1.0, 5)], {"prompt": "a cat"}, "prompt: expected none, preset 'test' takes no text"),
        ([dolly(START, 1.0, 5)], {"steps": 51}, "steps: expected at most 50, got 51"),
    ],
)
def test_goals_beyond_the_limits_are_refused_with_the_reason(planner, candidates, options, reason):
    from mirage_ros.client import MirageError

    with pytest.raises(MirageError, match=reason):
        planner.imagine(candidates, **options)


def test_bad_arguments_are_refused_before_anything_is_sent(planner):
    with pytest.raises(ValueError, match="pose_of: expected one of optical, body, base, got 'feet'"):
        planner.start([dolly(START, 1.0, 5)], pose_of="feet")
    with pytest.raises(ValueError, match="unseen: expected one of parameter, mean, sample, got 'fog'"):
        planner.start([dolly(START, 1.0, 5)], unseen="fog")
    for name, value in {"seed": -2, "steps": -1, "prompt": None, "remember": "no", "frame_id": 3}.items():
        with pytest.raises(ValueError, match=f"{name}: expected .*, got "):
            planner.start([dolly(START, 1.0, 5)], **{name: value})
    with pytest.raises(ValueError, match="steps: expected a whole number from 0 to 65535, got 70000"):
        planner.start([dolly(START, 1.0, 5)], steps=70000)
    with pytest.raises(ValueError, match="radius: expected a number, got '1'"):
        planner.score_views([dolly(START, 1.0, 5)], radius="1")
    for paths, shape in ((START, r"\(4,\)"), ([START[:3]], r"\(3, 4\)"), ([START.new_zeros(8, 4)], r"\(8, 4\)")):
        with pytest.raises(ValueError, match=rf"^paths\[0\]: expected \(4, 4\) or \(T, 4, 4\) poses, got {shape}$"):
            planner.score_views(paths)
    with pytest.raises(ValueError, match="labels: expected 1"):
        planner.start([dolly(START, 1.0, 5)], labels=["a", "b"])


def test_previews_show_what_is_known(planner):
    ahead, aside = planner.preview(START), planner.preview(pan(START, 1.0, 2)[1])
    assert ahead.rgb.shape == (64, 96, 3)
    assert ahead.coverage > 0.9 > aside.coverage
    torch.testing.assert_close(ahead.camera.cam2world, START)


def test_the_memory_is_saved_exported_and_loaded(planner, mirage):
    elements = len(mirage.node.configured.context.session.memory)
    saved = planner.save_memory("kept/wall")
    assert saved == str(mirage.folder / "kept" / "wall.safetensors")
    cloud = planner.export_cloud("wall.ply", min_confidence=0.4)
    with open(cloud, "rb") as file:
        assert f"element vertex {elements}".encode() in file.read(200)
    planner.reset()
    assert len(mirage.node.configured.context.session.memory) == 0
    assert planner.load_memory("kept/wall") == elements
    assert planner.preview(START).coverage > 0.9


def test_damaged_and_foreign_files_leave_the_memory_as_it_was(planner, mirage):
    from mirage_ros.client import MirageError

    before = len(mirage.node.configured.context.session.memory)
    (mirage.folder / "broken.safetensors").write_bytes(b"no memory at all")
    for path, reason in (("broken", "not a memory file"), ("missing", "No such file")):
        with pytest.raises(MirageError, match=reason):
            planner.load_memory(path)
    assert len(mirage.node.configured.context.session.memory) == before


@pytest.mark.parametrize("path", ["/etc/passwd", "../out", "a/../../out", "", "~/x", "x.pkl", "a\nb", "link/x"])
def test_files_stay_in_the_folder(planner, mirage, path, tmp_path):
    from mirage_ros.client import MirageError

    link = mirage.folder / "link"
    if not link.exists():
        link.symlink_to(tmp_path)
    for ask in (planner.save_memory, planner.load_memory, planner.export_cloud):
        with pytest.raises(MirageError, match="path: expected"):
            ask(path)
    assert not list(tmp_path.iterdir())


def test_without_a_node_it_says_what_to_check(graph):
    from mirage_ros.client import Mirage

    with pytest.raises(TimeoutError, match="no node offers /nowhere/imagine"):
        Mirage("nowhere", timeout=0.5)


def test_the_planner_of_the_documentation_runs(planner, capsys):
    main = runpy.run_path(str(EXAMPLES / "planner.py"))["main"]
    main([])
    assert re.match(r"take [+-]\d+: \d+% would be new", capsys.readouterr().out)


def test_the_planner_starts_where_the_camera_is(planner, capsys):
    example = runpy.run_path(str(EXAMPLES / "planner.py"))
    with pytest.raises(TimeoutError, match="camera_pose: nothing came on /odometry/camera within 0.2 s"):
        example["camera_pose"](planner, "/odometry/camera", 0.2)
    node = planner._link.node
    publisher = node.create_publisher(PoseStamped, "/odometry/camera", 10)
    # It looks straight at the wall, too near for any way.
    header, pose = Header(frame_id="map"), dolly(START, 1.75, 2)[-1]
    timer = node.create_timer(0.05, lambda: publisher.publish(pose_to_stamped(pose, header)))
    try:
        here, frame_id = example["camera_pose"](planner, "/odometry/camera", 60.0)
        assert torch.allclose(here, pose)
        assert frame_id == "map"
        example["main"](["--camera-pose", "/odometry/camera"])
        near = capsys.readouterr().out
        header.frame_id = "nowhere"
        with pytest.raises(MirageError, match="nowhere"):
            example["main"](["--camera-pose", "/odometry/camera"])
    finally:
        node.destroy_timer(timer)
        node.destroy_publisher(publisher)
    example["main"]([])
    assert near != capsys.readouterr().out
