from dataclasses import replace

import pytest
import torch

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.geometry import Camera
from mirage_ros.memory import IMAGINATION, SourceFrame
from mirage_ros.models.branch_input import input_channels
from mirage_ros.world.reading import Reading, branch_input, read_views


def observed(world, scene, count=1):
    memory = world.new_memory()
    for index in range(count):
        world.observe(memory, scene.frame(index * 4))
    return memory


def test_an_untrained_reader_gives_back_what_was_written(frame_world, walk):
    scene = walk(9)
    memory = observed(frame_world, scene)
    reading = read_views(memory, scene.camera[:1].resized(8, 12), frame_world.preset, frame_world.networks.unfolder)
    image = torch.from_numpy(scene.rgb[0]).permute(2, 0, 1).float()[None, None] / 255
    latents = frame_world.networks.encode(image)[0, :, 0]
    seen = reading.visible[0, 0] > 0
    assert seen.float().mean() > 0.8
    scale = latents.abs().amax()
    assert (reading.latents[0] - latents)[:, seen].abs().max() < 0.02 * scale


def test_depth_of_a_reading_is_that_of_the_scene_at_both_resolutions(frame_world, walk):
    scene = walk(9)
    memory = observed(frame_world, scene)
    reading = read_views(memory, scene.camera[4:5].resized(8, 12), frame_world.preset, frame_world.networks.unfolder)
    for depth, step in ((reading.depth[0], 4), (reading.fine_depth[0], 2)):
        truth = scene.depth[4][step // 2 :: step, step // 2 :: step]
        error = (depth / truth - 1).abs()
        assert error[error.isfinite()].median() < 0.01


@pytest.mark.parametrize("column", [20, 21, 22, 23])
@pytest.mark.parametrize("moved", [-3, -1, 0, 2])
def test_a_bar_before_the_sky_is_remembered_in_its_place(frame_world, walk, column, moved):
    scene = walk(1)
    memory = frame_world.new_memory()
    depth = torch.full_like(scene.depth[0], torch.nan)
    # One pixel wide, in any place of its cell.
    depth[:, column] = 1.5
    frame_world.observe(memory, scene.frame(depth=depth))
    pose = torch.eye(4, dtype=torch.float64)[None].clone()
    pose[:, 0, 3] = -moved * 1.5 / scene.camera.intrinsics.reshape(-1, 3, 3)[0, 0, 0]
    view = scene.camera[:1].at(pose).resized(8, 12)
    reading = read_views(memory, view, frame_world.preset, frame_world.networks.unfolder)
    shown = reading.visible[0, 0] > 0
    # A pixel on the border of two bins may be in either of them.
    places = [column + 0.5 + moved + nudge for nudge in (-0.51, 0.51)]
    cells, bins = ({int(place // size) for place in places} for size in (4, 2))
    for row in range(8):
        assert set(shown[row].nonzero().flatten().tolist()) <= cells
        assert shown[row].any()
        fine = reading.fine_depth[0, 2 * row].isfinite().nonzero().flatten().tolist()
        assert set(fine) <= bins
        assert fine
    known = reading.fine_depth[reading.fine_depth.isfinite()]
    assert torch.allclose(known, torch.full_like(known, 1.5), rtol=1e-2)


def test_a_cell_shown_for_the_smaller_part_is_not_kept(frame_world, walk):
    scene = walk(1)
    view = scene.camera[:1].resized(8, 12)
    for rows, sharp in ((1, False), (4, True)):
        memory, depth = frame_world.new_memory(), torch.full_like(scene.depth[0], torch.nan)
        # Of each cell a pixel or a column of them: one fine bin of four, or two.
        for row in range(rows):
            depth[row::4, 20] = 1.5
        depth[1::4, 20] = 1.5
        frame_world.observe(memory, scene.frame(depth=depth))
        reading = read_views(memory, view, frame_world.preset, frame_world.networks.unfolder)
        assert (reading.visible[0, 0, :, 5] == 1).all()
        assert (reading.sharp[0, 0, :, 5] == sharp).all()


def test_a_guess_does_not_stand_before_what_was_observed(frame_world, walk):
    scene = walk(9)
    memory = observed(frame_world, scene)
    view = scene.camera[:2].resized(8, 12)
    before = read_views(memory, view, frame_world.preset, frame_world.networks.unfolder)
    guess = SourceFrame(kind=IMAGINATION)
    colour = torch.from_numpy(scene.rgb[1:2])
    memory.write(torch.ones(1, 8, 8, 12), scene.depth[1:2] / 2, scene.camera[1:2], frame=guess, colour=colour)
    readings = [
        read_views(memory, view, replace(frame_world.preset, observed_first=first), frame_world.networks.unfolder)
        for first in (True, False)
    ]
    seen = before.visible[0, 0] > 0
    assert (readings[0].depth / before.depth - 1)[0, seen].abs().max() < 1e-3
    fine = before.fine_depth[0].isfinite()
    assert (readings[0].fine_depth / before.fine_depth - 1)[0, fine].abs().max() < 1e-3
    assert (readings[1].depth / before.depth)[0, seen].median() < 0.6


def test_an_empty_memory_shows_nothing(frame_world, walk):
    reading = read_views(frame_world.new_memory(), walk(3).camera.resized(8, 12), frame_world.preset, None)
    assert not reading.visible.any()
    assert not reading.latents.any()
    assert reading.points().isnan().all()


def test_other_caches_are_read_by_their_own_rule(frame_world, walk):
    scene = walk(3)
    cache = RgbMemory(lambda images: frame_world.networks.encode(images[:, None])[:, :, 0], 4)
    cache.write(None, scene.depth[:1], scene.camera[:1], colour=torch.from_numpy(scene.rgb[:1]))
    reading = read_views(cache, scene.camera.resized(8, 12), frame_world.preset, frame_world.networks.unfolder)
    assert reading.latents.shape == (3, 8, 8, 12)
    assert reading.coverage()[0] > 0.9


def test_the_branch_gets_every_group_of_the_preset(frame_world, walk):
    scene = walk(9)
    memory = observed(frame_world, scene)
    preset = frame_world.preset
    reading = read_views(memory, scene.camera[:3].resized(8, 12), preset, frame_world.networks.unfolder, with_room=True)
    tensor = branch_input(preset.branch_inputs, reading, reading.camera.cam2world[0], preset)
    assert tensor.shape == (input_channels(preset.branch_inputs, preset.latent_channels), 3, 8, 12)
    assert tensor.isfinite().all()


def test_a_layout_needs_a_room(frame_world, walk):
    scene = walk(9)
    reading = read_views(observed(frame_world, scene), scene.camera[:3].resized(8, 12), frame_world.preset, None)
    with pytest.raises(ValueError, match="room: expected"):
        branch_input(frame_world.preset.branch_inputs, reading, reading.camera.cam2world[0], frame_world.preset)


def test_readings_join_and_split(frame_world, walk):
    scene = walk(9)
    memory = observed(frame_world, scene)
    reading = read_views(memory, scene.camera[:3].resized(8, 12), frame_world.preset, frame_world.networks.unfolder)
    joined = Reading.joined([reading[0], reading[1:]])
    for name in ("latents", "visible", "depth", "fine_depth"):
        torch.testing.assert_close(getattr(joined, name), getattr(reading, name), equal_nan=True)
    assert torch.equal(joined.camera.cam2world, reading.camera.cam2world)


def test_a_batch_of_readings_has_the_layouts_of_each(frame_world, walk):
    scene = walk(9)
    preset = frame_world.preset
    readings = [
        read_views(observed(frame_world, scene, count), scene.camera[4:6].resized(8, 12), preset, None, with_room=True)
        for count in (1, 2)
    ]
    names = [name for name in Reading.__dataclass_fields__ if name not in ("camera", "observed", "room")]
    camera = readings[0].camera
    both = Camera(
        torch.stack([reading.camera.intrinsics.expand(2, 3, 3) for reading in readings]),
        torch.stack([reading.camera.cam2world for reading in readings]),
        camera.height,
        camera.width,
    )
    batch = Reading(
        **{name: torch.stack([getattr(r, name) for r in readings]) for name in names},
        camera=both,
        room=tuple(r.room for r in readings),
    )
    inputs = ("latents", "visible", "layout", "layout_depth")
    anchor = torch.eye(4, dtype=torch.float64)
    stacked = branch_input(inputs, batch, anchor.expand(2, 4, 4), preset)
    for index, reading in enumerate(readings):
        alone = branch_input(inputs, reading, anchor, preset)
        assert torch.equal(stacked[index], alone)
        channels = reading.latents.shape[1]
        seen = reading.visible[:, 0] > 0
        # What is seen stays as it is, and everything has a depth.
        layout = alone[channels + 1 : 2 * channels + 1]
        assert torch.equal(layout[:, seen], reading.latents.transpose(0, 1)[:, seen])
        assert torch.isfinite(alone).all()
