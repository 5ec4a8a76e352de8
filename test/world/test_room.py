"""Rooms that are fitted to what was seen, and closed where nothing was."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.geometry import Camera
from mirage_ros.memory import IMAGINATION, SourceFrame
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.world.room import BEHIND, MAX_FRAMES, fit_room, room_of


def of_view(house, camera, seen=None):
    latents, _, depth = house.readout(camera, ~house.nothing() if seen is None else seen)
    return fit_room(latents, depth, camera)


def corner_view(house):
    """Shows two walls, floor and ceiling."""
    return house.camera_at((-1.5, -1.0, 1.3), (2.5, 2.0, 1.3))


@settings(max_examples=20, deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(-0.8, 0.8), st.floats(0.7, 1.6), st.floats(-math.pi, math.pi))
def test_what_was_seen_of_a_room_is_where_it_is(house, x: float, y: float, z: float, yaw: float) -> None:
    camera = house.camera_at((x, y, z), (x + math.cos(yaw), y + math.sin(yaw), z - 0.1))
    room = of_view(house, camera)
    seen = house.seen_walls(room)
    assert 1 <= len(seen) <= 6
    depth, colours = house.look(camera)
    points = camera.at(camera.cam2world - _moved(camera)).lift(depth).float()
    for normal, distance, look in zip(seen.normals, seen.distances, seen.looks, strict=True):
        cosines = torch.tensor([plane for plane, *_ in house.walls]) @ normal
        *_, colour = house.walls[int(cosines.argmax())]
        assert cosines.max() > 0.98
        assert abs(float(look) - colour) < 0.1
        off = (points @ normal - distance).abs() / depth
        assert off[colours == colour].median() < 0.02


def test_walls_that_nobody_saw_close_the_room(house) -> None:
    camera = corner_view(house)
    room = of_view(house, camera)
    guesses = room.normals[room.guessed]
    # Two walls were seen; the others are guessed opposite to them, upright.
    assert len(guesses) == 2
    assert torch.allclose(guesses[:, 2], torch.zeros(2), atol=0.03)
    walls = room.normals[(~room.guessed) & (room.normals[:, 2].abs() < 0.3)]
    assert torch.allclose((guesses @ walls.T).min(dim=1).values, -torch.ones(2), atol=0.03)
    # Behind the camera, which is the origin, and behind all that was seen.
    assert (room.distances[room.guessed] <= -BEHIND).all()
    depth, _ = house.look(camera)
    points = camera.at(camera.cam2world - _moved(camera)).lift(depth).reshape(-1, 3).float()
    behind = points @ guesses.T < room.distances[room.guessed] - 0.05
    assert behind.float().mean() < 0.04
    # They look like the walls that were seen, one of the two.
    assert set(room.looks[room.guessed].flatten().tolist()) <= {2.0, 4.0}


def _moved(camera: Camera) -> torch.Tensor:
    shift = torch.zeros(1, 4, 4, dtype=torch.float64)
    shift[:, :3, 3] = camera.cam2world[:, :3, 3]
    return shift


def test_guessed_walls_make_way_for_cameras_and_for_what_is_seen(house) -> None:
    room = of_view(house, corner_view(house))
    nowhere = torch.full((1, 3), torch.nan)
    still = room.around(torch.zeros(1, 3), nowhere)
    assert torch.equal(still.distances, room.distances)
    # The second of three cameras goes beyond a guess.
    beyond = torch.tensor([[0.0, 0, 0], [-3, -3, 0], [0, 0, 0]])
    moved = room.around(beyond, nowhere)
    assert torch.equal(moved.distances[~room.guessed], room.distances[~room.guessed])
    expected = (beyond[1] @ room.normals.T)[room.guessed] - BEHIND
    assert torch.allclose(moved.distances[room.guessed], expected)
    seen = room.around(torch.zeros(1, 3), beyond[1].expand(100, 3))
    assert torch.equal(seen.distances[~room.guessed], room.distances[~room.guessed])
    assert torch.allclose(seen.distances[room.guessed], expected + BEHIND)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_a_room_does_not_depend_on_the_axes_of_its_map(house, seed: int) -> None:
    """Maps need not have z upwards: the first camera of a recording often is the map."""
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    turn = turn * torch.sign(torch.linalg.det(turn))
    camera = corner_view(house)
    latents, _, depth = house.readout(camera, ~house.nothing())
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = turn, torch.tensor([10.0, -3.0, 5.0], dtype=torch.float64)
    here, there = fit_room(latents, depth, camera), fit_room(latents, depth, camera.at(pose @ camera.cam2world))
    assert torch.equal(here.guessed, there.guessed)
    assert torch.allclose(here.normals @ turn.T.float(), there.normals, atol=2e-2)
    assert torch.allclose(here.distances, there.distances, atol=5e-2)


def test_a_picture_on_a_wall_is_not_how_the_wall_looks(house) -> None:
    camera = house.camera_at((-1.0, 0, 1.3), (1, 0, 1.3))
    latents, _, depth = house.readout(camera, ~house.nothing())
    latents[:, :, 8:20, 10:25] = 40.0
    room = fit_room(latents, depth, camera)
    assert room.looks[0].item() == 2.0


def test_two_views_of_a_room_tell_of_all_its_walls(house) -> None:
    first, second = house.camera_at((1, 0.8, 1.3), (-2.5, -2, 1.3)), house.camera_at((-1, -0.8, 1.3), (2.5, 2, 1.3))
    camera = Camera(first.intrinsics, torch.cat([first.cam2world, second.cam2world]), first.height, first.width)
    latents, _, depth = house.readout(camera, (~house.nothing()).expand(2, -1, -1))
    room = fit_room(latents, depth, camera)
    assert not room.guessed.any()
    assert sorted(room.looks.flatten().round().tolist()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("depth", [math.nan, 0.0, -1.0, math.inf])
def test_nothing_known_is_no_room(house, depth: float) -> None:
    camera = corner_view(house)
    shape = (1, house.rows, house.columns)
    assert len(fit_room(torch.zeros(1, 3, *shape[1:]), torch.full(shape, depth), camera)) == 0


def test_no_view_is_no_room(house) -> None:
    camera = corner_view(house)
    assert len(fit_room(torch.zeros(0, 3, 4, 6), torch.zeros(0, 4, 6), camera[:0])) == 0


def remember(house, memory, camera, colour=0.0, **options):
    depth, look = house.look(camera)
    memory.write(look.unsqueeze(1) + colour, depth, camera, **options)


def test_the_room_of_a_memory_is_what_was_observed(house) -> None:
    camera, memory = corner_view(house), LatentMemory(1, dtype=torch.float32)
    assert len(room_of(memory, camera)) == 0
    remember(house, memory, camera)
    seen = room_of(memory, camera)
    expected = of_view(house, camera)
    assert torch.allclose(seen.normals, expected.normals, atol=0.02)
    assert torch.equal(seen.guessed, expected.guessed)
    # A wall in the middle of the room that was only imagined.
    other = house.camera_at((0, 1.5, 1.3), (0, -1, 1.3))
    memory.write(
        torch.zeros(1, 1, house.rows, house.columns),
        torch.ones(1, house.rows, house.columns),
        other,
        frame=SourceFrame(kind=IMAGINATION),
    )
    after = room_of(memory, camera)
    assert torch.equal(after.distances, seen.distances)


def test_a_memory_that_was_only_imagined_has_a_room_too(house) -> None:
    camera, memory = corner_view(house), LatentMemory(1, dtype=torch.float32)
    remember(house, memory, camera, frame=SourceFrame(kind=IMAGINATION))
    assert len(room_of(memory, camera)) == len(of_view(house, camera))


def test_of_many_frames_the_near_ones_count(house) -> None:
    """Two rooms of one memory, a hundred metres apart and of other colours."""
    memory = LatentMemory(1, dtype=torch.float32)
    camera = corner_view(house)
    there = camera.cam2world.clone()
    there[:, 0, 3] += 100
    for index in range(MAX_FRAMES):
        angle = index / MAX_FRAMES * 2 * math.pi
        view = house.camera_at((0.01 * index, 0, 1.3), (math.cos(angle), math.sin(angle), 1.2))
        remember(house, memory, view)
        away = view.cam2world.clone()
        away[:, 0, 3] += 100
        depth, look = house.look(view)
        memory.write(look.unsqueeze(1) + 10, depth, view.at(away))
    here, far = room_of(memory, camera), room_of(memory, camera.at(there))
    assert here.looks.max() < 7
    assert far.looks.min() > 10
    assert min(len(here), len(far)) >= 5


@pytest.mark.parametrize("step", [0.3, 0.1, 0.02])
def test_a_walk_tells_as_much_as_its_views(house, step: float) -> None:
    """Each frame adds little to the memory that others do not hold, or takes from them."""
    memory = LatentMemory(1, dtype=torch.float32)
    places = torch.arange(-2.0, 1.0, step)[:25].tolist()
    views = [house.camera_at((x, 0.1, 1.3), (x + 1, 0.15, 1.25)) for x in places]
    for view in views:
        remember(house, memory, view)
    last = views[-1]
    room = house.seen_walls(room_of(memory, last))
    full = house.seen_walls(of_view(house, last))
    assert len(room) >= len(full)
    for normal in full.normals:
        assert (room.normals @ normal).max() > 0.97


@pytest.mark.parametrize("place", [1.0, 1.8])
def test_what_was_seen_in_the_next_room_leaves_the_wall_between(house, place: float) -> None:
    """A memory of two rooms with a wall between them, from six places each."""
    memory = LatentMemory(1, dtype=torch.float32)
    for index in range(6):
        angle = index / 6 * 2 * math.pi
        for shift in (0.0, house.length):
            view = house.camera_at((0.05 * index, 0, 1.3), (math.cos(angle), math.sin(angle), 1.2))
            pose = view.cam2world.clone()
            pose[:, 0, 3] += shift
            depth, look = house.look(view)
            memory.write(look.unsqueeze(1), depth, view.at(pose))
    eye = (place, 0.0, 1.3)
    room = room_of(memory, house.camera_at(eye, (place + 1, 0, 1.3)))
    # Its near side, two and a half metres from the middle of the room.
    wall = (room.normals[:, 0] < -0.97).nonzero().flatten()
    origin = float(room.origin[0])
    assert any(abs(-float(room.distances[i]) + origin - house.length / 2) < 0.1 for i in wall)


@pytest.mark.parametrize("pitch", [0.0, 25.0, 45.0, -25.0])
def test_guessed_walls_are_upright_however_the_camera_looks(house, pitch: float) -> None:
    drop = math.tan(math.radians(pitch))
    camera = house.camera_at((-1.5, -1.0, 1.5), (-0.7, -0.4, 1.5 - drop))
    room = of_view(house, camera)
    assert room.guessed.any()
    assert (room.normals[room.guessed][:, 2].abs() < 0.1).all()
    assert torch.allclose(room.normals.norm(dim=1), torch.ones(len(room)), atol=1e-4)


def test_a_guessed_wall_looks_like_walls_where_mostly_floor_is_seen(house) -> None:
    camera = house.camera_at((-1.5, 0, 2.0), (1.2, 0, 0.0))
    _, colours = house.look(camera)
    assert (colours == 5).float().mean() > 0.5
    room = of_view(house, camera)
    assert room.guessed.any()
    assert set(room.looks[room.guessed].flatten().tolist()) <= {2.0, 3.0, 4.0}


def test_an_open_place_is_not_closed(house) -> None:
    camera = house.camera_at((0, 0, 1.2), (1, 0, 0.8))
    depth, colour = house.look(camera, walls=house.floor)
    room = fit_room(colour.unsqueeze(1), torch.where(depth < 20, depth, torch.nan), camera)
    assert len(room) == 1
    assert not room.guessed.any()
    assert room.reach < 26


def test_views_that_disagree_about_upwards_close_nothing(house) -> None:
    """Straight down, headed both ways."""
    down = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    pose[0, :3, :3], pose[1, :3, :3] = down, torch.diag(torch.tensor([-1.0, -1, 1], dtype=torch.float64)) @ down
    pose[:, 2, 3] = 1.3
    camera = Camera(corner_view(house).intrinsics, pose, house.rows, house.columns)
    latents, _, depth = house.readout(camera, (~house.nothing()).expand(2, -1, -1))
    room = fit_room(latents, depth, camera)
    assert torch.allclose(room.normals.norm(dim=1), torch.ones(len(room)), atol=1e-4)
    assert not room.guessed.any()


def test_caches_are_compared_on_equal_terms(house) -> None:
    """Pixel and view caches have the room of their first view."""
    camera = corner_view(house)
    expected = of_view(house, camera)
    depth, look = house.look(camera)
    pixels = RgbMemory(lambda images: images[:, :1, ::1, ::1] * 255, 1)
    colour = look.to(torch.uint8).unsqueeze(-1).expand(-1, -1, -1, 3).contiguous()
    views = ViewMemory(1, dtype=torch.float32)
    assert len(room_of(pixels, camera)) == len(room_of(views, camera)) == 0
    pixels.write(None, depth, camera, colour=colour)
    views.write(look.unsqueeze(1), depth, camera)
    other = house.camera_at((1, 1, 1.2), (-1, -1, 1.2))
    views.write(*(part.unsqueeze(1) if part is look else part for part in (look, depth)), other)
    for cache in (pixels, views, pixels.fork(), views.fork()):
        room = room_of(cache, other)
        assert torch.equal(room.guessed, expected.guessed)
        assert torch.allclose(room.normals, expected.normals, atol=0.03)
        assert torch.allclose(room.distances, expected.distances, atol=0.1)
