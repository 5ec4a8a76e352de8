"""Frames of other exposure read in one with what the memory holds; others are left as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.images import as_tensor
from mirage_ros.memory.provenance import IMAGINATION, OBSERVATION, SourceFrame
from mirage_ros.world.exposure import fitted_gain


def cells(world, scene, index: int):
    return scene.camera[index].resized(*world.networks.latent_size)


def image_of(frame) -> torch.Tensor:
    return as_tensor(frame.rgb).permute(2, 0, 1).float() / 255


def exposed(frame, gain):
    return replace(frame, rgb=np.clip(frame.rgb * np.array(gain), 0, 255).astype(np.uint8))


@pytest.fixture
def seen(frame_world, walk):
    scene = walk(6)
    memory = frame_world.new_memory()
    frame_world.observe(memory, scene.frame(0))
    return frame_world, scene, memory


@pytest.mark.parametrize("gain", [(0.7, 0.7, 0.7), (0.8, 0.6, 0.75)])
def test_the_gain_of_each_channel_is_found(seen, gain):
    world, scene, memory = seen
    frame = exposed(scene.frame(1), gain)
    # Depth comes at a resolution of its own.
    coarse = torch.nn.functional.interpolate(scene.depth[1:2, None], size=(43, 65), mode="nearest")[0, 0]
    for depth in (scene.depth[1], coarse):
        found = fitted_gain(memory, image_of(frame), depth, cells(world, scene, 1))
        assert torch.allclose(found * torch.tensor(gain), torch.ones(3), atol=0.06)


def test_the_same_exposure_is_left_alone(seen):
    world, scene, memory = seen
    found = fitted_gain(memory, image_of(scene.frame(0)), scene.depth[0], cells(world, scene, 0))
    assert torch.equal(found, torch.ones(3))


def test_another_place_and_another_surface_tell_no_gain(seen):
    world, scene, memory = seen
    frame = exposed(scene.frame(2), (0.5, 0.5, 0.5))
    away = cells(world, scene, 2)
    turned = away.cam2world.clone()
    turned[:3, :3] = turned[:3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=turned.dtype))
    for camera, depth in ((away.at(turned), scene.depth[2]), (away, scene.depth[2] * 1.3)):
        assert torch.equal(fitted_gain(memory, image_of(frame), depth, camera), torch.ones(3))


def test_pictures_that_do_not_agree_on_a_gain_are_left_alone(seen):
    world, scene, memory = seen
    blocks = np.random.default_rng(1).integers(12, 240, (8, 12, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    frame = replace(scene.frame(1), rgb=blocks)
    assert torch.equal(fitted_gain(memory, image_of(frame), scene.depth[1], cells(world, scene, 1)), torch.ones(3))


def test_a_memory_of_frames_of_other_exposure_has_one(seen):
    world, scene, _ = seen
    view = scene.camera[5:6].resized(*world.networks.latent_size)

    def colours(gains: list[float], *, fit: bool) -> torch.Tensor:
        memory = world.new_memory()
        for index, gain in enumerate(gains):
            world.observe(memory, exposed(scene.frame(index), (gain,) * 3), fit_exposure=fit)
        index = memory.read(view).index[0, 0]
        assert (index >= 0).float().mean() > 0.9
        return memory.cloud().colours[index.clamp(min=0)].float()

    drift = [1 - 0.08 * index for index in range(6)]
    steady = colours([1.0] * 6, fit=False)
    plain, fitted = ((colours(drift, fit=fit) - steady).abs().mean() for fit in (False, True))
    assert fitted < 0.5 * plain


def test_neither_inventions_nor_what_moves_tells_a_gain(frame_world, walk):
    scene = walk(6)
    darker = exposed(scene.frame(0), (0.6, 0.6, 0.6))
    colour = torch.from_numpy(darker.rgb)[None]
    latents = frame_world.networks.encode((colour.float() / 255).permute(0, 3, 1, 2)[None])[0].transpose(0, 1)
    camera = scene.camera[:1]
    for kind, gain in ((IMAGINATION, 1.0), (OBSERVATION, 0.6)):
        memory = frame_world.new_memory()
        memory.write(latents, scene.depth[:1], camera, frame=[SourceFrame(kind=kind)], colour=colour)
        view = (memory, image_of(scene.frame(0)), scene.depth[0], cells(frame_world, scene, 0))
        assert torch.allclose(fitted_gain(*view), torch.full((3,), gain), atol=0.02)
        assert torch.equal(fitted_gain(*view, torch.zeros(scene.depth[0].shape, dtype=torch.bool)), torch.ones(3))
