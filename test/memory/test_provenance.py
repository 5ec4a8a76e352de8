"""Source frames: ids, re-posing, forgetting, age."""

from __future__ import annotations

import math

import pytest
import torch

from mirage_ros.geometry import Camera
from mirage_ros.memory import IMAGINATION, LatentMemory, SourceFrame
from mirage_ros.memory.provenance import ROW, FrameTable

GRID = (22, 40)


@pytest.fixture
def memory(room, walk):
    """Three frames with stamps, the last one imagined."""
    camera = walk(3)
    frames = [SourceFrame(id=10 * i, stamp=i * 10**9) for i in (1, 2)] + [
        SourceFrame(stamp=3 * 10**9, kind=IMAGINATION)
    ]
    memory = LatentMemory(6, dtype=torch.float32)
    memory.write(room.colour(camera.resized(*GRID)), room.depth(camera), camera, frame=frames)
    return memory


def test_frames_are_listed_with_what_came_from_them(memory, walk):
    records = memory.frames()
    assert [record.id for record in records] == [10, 20, 21]
    assert [record.kind for record in records] == ["observation", "observation", "imagination"]
    assert sum(record.elements for record in records) == len(memory)
    assert torch.allclose(records[1].camera.cam2world.float(), walk(3).cam2world[1])
    assert (records[0].camera.height, records[0].camera.width) == GRID
    assert set(memory.elements().source.tolist()) == {10, 20, 21}


def test_a_loop_closure_moves_what_its_frames_saw(memory, walk):
    before = memory.elements()
    change = torch.eye(4, dtype=torch.float64)
    change[:2, :2] = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    change[:3, 3] = torch.tensor([0.5, -2.0, 0.1])
    records = {record.id: record for record in memory.frames()}
    poses = {frame: change @ records[frame].camera.cam2world for frame in (10, 21)}
    moved = memory.repose(poses)
    after = memory.elements()
    chosen = (before.source == 10) | (before.source == 21)
    assert moved == int(chosen.sum())
    expected = before.positions @ change[:3, :3].T + change[:3, 3]
    assert torch.allclose(after.positions[chosen], expected[chosen], atol=1e-5)
    assert torch.equal(after.positions[~chosen], before.positions[~chosen])
    # From the moved camera frame 10 looks as before.
    camera = records[10].camera
    again = memory.read(Camera(camera.intrinsics, poses[10], *GRID))
    assert (again.source == 10).float().mean() > 0.8
    assert torch.allclose(memory.frames()[0].camera.cam2world, poses[10])
    memory.repose({frame: records[frame].camera.cam2world for frame in (10, 21)})
    assert torch.allclose(memory.elements().positions, before.positions, atol=1e-5)


def test_nothing_moves_if_one_pose_is_wrong(memory):
    before = memory.elements().positions
    good = torch.eye(4)
    with pytest.raises(ValueError, match="expected the id of a source frame of this memory, got 99"):
        memory.repose({10: good, 99: good})
    with pytest.raises(ValueError, match=r"poses\[20\]: expected a rotation"):
        memory.repose({10: good, 20: good * 2 - torch.diag(torch.tensor([0.0, 0, 0, 1]))})
    assert torch.equal(memory.elements().positions, before)


def test_forgotten_frames_leave_nothing(memory, walk):
    count = len(memory)
    held = {record.id: record.elements for record in memory.frames()}
    assert memory.forget([10]) == held[10]
    assert len(memory) == count - held[10]
    assert [record.id for record in memory.frames()] == [20, 21]
    assert not (memory.read(walk(3).resized(*GRID)).source == 10).any()
    with pytest.raises(ValueError, match="got 10"):
        memory.forget([10])


def test_an_id_is_used_once(memory, room, walk):
    camera = walk(2)
    arguments = (room.colour(camera.resized(*GRID)), room.depth(camera), camera)
    count = len(memory)
    with pytest.raises(ValueError, match="frame: expected ids that are unique"):
        memory.write(*arguments, frame=[SourceFrame(id=5), SourceFrame(id=20)])
    with pytest.raises(ValueError, match="frame: expected ids that are unique"):
        memory.write(*arguments, frame=[SourceFrame(id=5), SourceFrame(id=5)])
    assert len(memory) == count


@pytest.mark.parametrize("arguments", [{"id": -1}, {"id": 1.5}, {"id": True}, {"stamp": 2**63}, {"kind": "dream"}])
def test_a_source_frame_is_checked(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SourceFrame(**arguments)


def test_slots_are_used_again_and_the_order_of_writing_is_kept(walk):
    table = FrameTable(10 * (2 * ROW.itemsize + 8))
    camera = walk(1)[0]
    slots = [table.add(SourceFrame(), camera, []) for _ in range(10)]
    assert table.is_full()
    table.release(torch.tensor(slots[:3]).numpy(), [])
    assert not table.is_full()
    assert table.add(SourceFrame(id=77), camera, []) == slots[0]
    assert table.slots()[-1] == slots[0]
    assert table.ids(torch.device("cpu"))[slots[0]] == 77
    assert table.nbytes <= table.max_bytes


def test_a_memory_with_a_full_frame_table_goes_on(room, walk):
    memory = LatentMemory(6, max_bytes=40_000)
    camera = walk(1, height=44, width=80)
    for chunk in range(12):
        place = camera.at(camera.cam2world.clone())
        place.cam2world[:, 0, 3] += 100.0 * chunk
        memory.write(torch.zeros(1, 6, 5, 8), room.depth(camera), place)
        assert memory.nbytes <= 40_000
    assert 1 <= len(memory.frames()) <= memory._table.limit
    assert memory.frames()[-1].id == max(record.id for record in memory.frames())


def test_the_largest_id_may_be_used_and_others_follow(room, walk):
    camera = walk(3)
    memory = LatentMemory(6)
    frames = [SourceFrame(id=2**63 - 1), SourceFrame(), SourceFrame()]
    memory.write(room.latents(camera), room.depth(camera), camera, frame=frames)
    assert [record.id for record in memory.frames()] == [2**63 - 1, 0, 1]


def test_a_pose_out_of_the_world_is_refused(memory):
    before = memory.elements().positions
    far = torch.eye(4, dtype=torch.float64)
    far[0, 3] = 1e13
    with pytest.raises(ValueError, match=r"poses\[10\]: expected within 1e\+12 m of the origin"):
        memory.repose({10: far})
    assert torch.equal(memory.elements().positions, before)
