"""Latents back on their frames' grids, and splatting finer features."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory import LatentMemory, WriteRules, splat
from mirage_ros.memory.depth_patches import resample_depth
from mirage_ros.memory.frame_grids import splat_in_order

GRID = (22, 40)


def test_a_frame_s_grid_is_put_together_again(room, walk):
    camera = walk(3, turn=0.3, length=1.0)
    latents, depth = room.colour(camera.resized(*GRID)), room.depth(camera)
    memory = LatentMemory(6, dtype=torch.float32, patch=2)
    memory.write(latents, depth, camera)
    grids = memory.frame_grids()
    present = grids.present.bool()
    assert present[0].float().mean() > 0.7
    assert 0 < present[1:].sum() < present[0].sum()
    assert torch.equal(grids.latents, torch.where(present, latents, 0.0))
    assert (grids.index >= 0).sum() == len(memory)
    assert torch.equal(memory.elements().features[grids.index[0][present[0, 0]]], latents[0, :, present[0, 0]].T)
    truth = room.depth(camera.resized(*GRID))
    known = present[:, 0] & (memory.elements().confidence[grids.index] >= 2)
    assert ((grids.depth / truth - 1).abs()[known] < 0.03).float().mean() > 0.97
    fine, fine_truth = grids.fine_depth(2), room.depth(camera.resized(44, 80))
    known = fine.isfinite()
    assert ((fine / fine_truth - 1).abs()[known] < 0.03).float().mean() > 0.93
    assert known.sum() > 3.8 * len(memory)
    # Patches that are coarser are repeated; where neither divides the other the element's own depth stands in.
    assert torch.equal(
        grids.fine_depth(4).nan_to_num(), fine.repeat_interleave(2, 1).repeat_interleave(2, 2).nan_to_num()
    )
    assert torch.equal(grids.fine_depth(3)[:, 1::3, 2::3].nan_to_num(), grids.depth.nan_to_num())
    assert grids.ids.tolist() == [0, 1, 2]
    assert memory.frame_grids([2, 0]).ids.tolist() == [2, 0]
    assert torch.equal(memory.frame_grids([2]).latents[0], grids.latents[2])


def test_depth_is_resampled_without_mixing():
    depth = torch.arange(24.0).reshape(4, 6)
    assert torch.equal(resample_depth(depth, 2, 1), depth[1::2, 1::2])
    assert torch.equal(resample_depth(depth, 2, 2), depth)
    assert torch.equal(resample_depth(resample_depth(depth, 2, 4), 4, 2), depth)
    assert torch.equal(resample_depth(torch.arange(16.0).reshape(4, 4), 4, 1), torch.tensor([[10.0]]))
    with pytest.raises(ValueError, match="wanted: expected a multiple or a divisor of 2 samples, got 3"):
        resample_depth(depth, 2, 3)


def test_grids_follow_a_loop_closure(room, walk):
    camera = walk(1)
    memory = LatentMemory(6, patch=1)
    memory.write(room.colour(camera.resized(*GRID)), room.depth(camera), camera)
    before = memory.frame_grids()
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([30.0, 2.0, 1.0])
    memory.repose({0: pose})
    after = memory.frame_grids()
    assert torch.allclose(after.camera.cam2world[0].float(), pose)
    known = before.depth.isfinite()
    assert torch.allclose(after.depth[known], before.depth[known], atol=1e-4)


def test_an_unknown_or_empty_choice_of_frames_is_refused(room, walk):
    memory = LatentMemory(6)
    with pytest.raises(ValueError, match="frames: expected at least one"):
        memory.frame_grids()
    camera = walk(1)
    memory.write(room.colour(camera.resized(*GRID)), room.depth(camera), camera)
    with pytest.raises(ValueError, match="got 7"):
        memory.frame_grids([7])
    memory.write(torch.zeros(1, 6, 11, 20), room.depth(camera), camera.at(camera.cam2world @ _turned()))
    with pytest.raises(ValueError, match="expected frames of one latent grid"):
        memory.frame_grids()


def _turned():
    pose = torch.eye(4)
    pose[0, 0] = pose[2, 2] = -1
    return pose


@pytest.mark.parametrize("batch", [(), (2,)])
def test_splatted_pixels_land_where_they_are_seen(room, walk, batch):
    source, target = walk(2, length=0.4, turn=0.1).resized(44, 80), walk(3, length=0.3, turn=0.08).resized(44, 80)
    colour, depth = room.colour(source), room.depth(source)
    if batch:
        source, target = (Camera(c.intrinsics, c.cam2world.expand(2, -1, 4, 4), 44, 80) for c in (source, target))
        colour, depth = colour.expand(2, -1, -1, -1, -1), depth.expand(2, -1, -1, -1)
    readout = splat(colour, depth, source, target)
    assert readout.latents.shape == (*batch, 3, 6, 44, 80)
    truth = room.colour(walk(3, length=0.3, turn=0.08).resized(44, 80))
    seen = readout.visible.bool()
    assert seen.float().mean() > 0.95
    error = (readout.latents - truth).abs().mean(dim=-3, keepdim=True)[seen]
    assert error.median() < 0.1
    assert readout.offset.abs().max() <= 2
    assert readout.log_scale[seen].abs().median() < 0.2


def test_invalid_pixels_are_not_splatted_and_gradients_reach_the_others():
    camera = pinhole(8, 10, focal=8.0).at(torch.eye(4)[None])
    depth = torch.full((1, 8, 10), 2.0)
    depth[0, 0] = torch.nan
    depth[0, 1] = 0
    features = torch.ones(1, 3, 8, 10, requires_grad=True)
    readout = splat(features, depth, camera, camera)
    assert (readout.visible[0, 0, :2] == 0).all()
    assert (readout.visible[0, 0, 2:] == 1).all()
    readout.latents.sum().backward()
    assert (features.grad[0, :, 2:] == 1).all()
    assert (features.grad[0, :, :2] == 0).all()


def test_splat_checks_its_arguments():
    camera = pinhole(8, 10, focal=8.0).at(torch.eye(4)[None])
    with pytest.raises(ValueError, match="features: expected"):
        splat(torch.zeros(1, 3, 8, 9), torch.ones(1, 8, 10), camera, camera)
    with pytest.raises(ValueError, match="sources: expected a batch"):
        splat(torch.zeros(2, 3, 8, 10), torch.ones(2, 8, 10), camera, camera)


def test_context_gives_unfolding_networks_neighbours(room, walk):
    camera = walk(5, length=1.0)
    alone = []
    for context in (0, 2):
        memory = LatentMemory(6, rules=WriteRules(context=context))
        memory.write(room.colour(camera.resized(*GRID)), room.depth(camera), camera)
        present = memory.frame_grids().present[1:]
        neighbours = torch.nn.functional.avg_pool2d(present, 3, stride=1, padding=1)[present.bool()]
        alone.append(float(neighbours.mean()))
    assert alone[1] > alone[0] + 0.05


def test_the_first_frames_of_an_ordered_splat_are_never_hidden():
    camera = pinhole(8, 12, focal=8.0).at(torch.eye(4).repeat(2, 1, 1))
    features = torch.stack([torch.zeros(1, 8, 12), torch.ones(1, 8, 12)])
    depth = torch.stack([torch.full((8, 12), 3.0), torch.full((8, 12), 1.0)])
    depth[0, :, 6:] = torch.nan
    nearest = splat(features, depth, camera, camera[:1])
    ordered = splat_in_order(features, depth, camera, camera[:1], 1)
    assert torch.equal(nearest.latents[0, 0], torch.ones(8, 12))
    assert torch.equal(ordered.latents[0, 0, :, :6], torch.zeros(8, 6))
    assert torch.equal(ordered.latents[0, 0, :, 7:], torch.ones(8, 5))
    assert torch.allclose(ordered.depth[0, 0, :, :6], torch.tensor(3.0))
    assert ordered.visible.all()
    for first in (0, 2):
        assert torch.equal(splat_in_order(features, depth, camera, camera[:1], first).latents, nearest.latents)
