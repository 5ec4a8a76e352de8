"""Rooms that are fitted to what was seen, and closed where nothing was."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import Camera
from mirage_ros.memory import IMAGINATION, SourceFrame
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.rgb import RgbMemory
from mirage_ros.memory.view import ViewMemory
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


def test_guessed_walls_make_way_for_a_camera_and_seen_ones_do_not(house) -> None:
    camera = corner_view(house)
    room = of_view(house, camera)
    pose = camera.cam2world.clone()
    pose[:, :2, 3] -= 3.0
    moved = room.around(camera.at(pose))
    assert torch.equal(moved.distances[~room.guessed], room.distances[~room.guessed])
    eyes = (pose[:, :3, 3] - room.origin).float()
    assert torch.allclose(
        (eyes @ moved.normals.T)[0, room.guessed] - moved.distances[room.guessed], torch.tensor(BEHIND)
    )
    assert torch.equal(room.around(camera).distances, room.distances)


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


def test_a_memory_of_another_grid_has_no_room(house) -> None:
    camera, memory = corner_view(house), LatentMemory(1, dtype=torch.float32)
    remember(house, memory, camera)
    assert len(room_of(memory, camera.resized(house.rows * 2, house.columns * 2))) == 0


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
    pixels.clear()
    assert len(room_of(pixels, camera)) == 0
