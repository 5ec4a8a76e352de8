import numpy as np
import pytest
import torch

from mirage_ros.evaluation.ablations import NOISE, TokenMemory, memory_depth, noisy_depth, true_depth
from mirage_ros.evaluation.methods import GROUPS, METHODS, find_methods
from mirage_ros.perception.pipeline import DecodedFrames


def written(world, case, *, pixels):
    memory = TokenMemory(world, pixels=pixels)
    images = torch.from_numpy(case.clip.rgb[:1]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        latents = world.parts.encode(images[:, None])[:, :, 0]
    memory.write(latents, torch.from_numpy(case.clip.depth[:1]), case.clip.camera[:1])
    return memory, latents


@pytest.mark.parametrize("pixels", [False, True])
def test_what_was_written_is_read_back_from_the_same_view(world, case, pixels):
    memory, latents = written(world, case, pixels=pixels)
    readout = memory.read(case.clip.camera[:1].resized(*latents.shape[-2:]))
    assert readout.visible.mean() > 0.9
    seen = readout.visible.expand_as(latents) > 0
    likeness = torch.corrcoef(torch.stack([readout.latents[seen], latents[seen]]))[0, 1]
    # Whole tokens come back as they are but for the int8; enlarged ones are blends of their neighbours.
    assert likeness > (0.8 if pixels else 0.99)


def test_lifting_pixels_makes_an_element_of_each_and_costs_bytes(world, case):
    tokens, latents = written(world, case, pixels=False)
    pixels, _ = written(world, case, pixels=True)
    assert len(tokens) <= latents.shape[-1] * latents.shape[-2]
    assert len(pixels) > 8 * len(tokens)
    assert pixels.nbytes > tokens.nbytes


def test_a_fork_goes_its_own_way(world, case):
    memory, latents = written(world, case, pixels=False)
    before = len(memory)
    camera = case.clip.camera[5:6]
    memory.fork().write(latents, torch.from_numpy(case.clip.depth[5:6]) + 3, camera)
    assert len(memory) == before


def test_noise_of_depth_is_of_its_size_and_the_same_every_time(world, case):
    frames = DecodedFrames(torch.zeros(6, 3, 32, 48), case.clip.camera, first=0)
    true, noisy, again = (
        make(world, case).depth.estimate(frames, world.new_memory()).depth
        for make in (true_depth, noisy_depth, noisy_depth)
    )
    assert torch.equal(noisy, again)
    error = (noisy / true - 1).numpy()
    assert np.std(error) == pytest.approx(NOISE, rel=0.2)
    assert abs(error.mean()) < NOISE / 2


def test_depth_out_of_an_empty_memory_is_unknown(world, case):
    frames = DecodedFrames(torch.zeros(6, 3, 32, 48), case.clip.camera, first=0)
    depth = memory_depth(world, case).depth.estimate(frames, world.new_memory()).depth
    assert not (torch.isfinite(depth) & (depth > 0)).any()


@pytest.mark.parametrize("name", GROUPS["ablations"])
def test_every_ablation_answers_with_frames_of_the_walk(world, case, name):
    outcome = METHODS[name][0](world, case, 0)
    assert outcome.rgb.shape == case.clip.rgb.shape
    assert outcome.depth.shape == case.clip.depth.shape
    assert outcome.cache_bytes > 0


def test_without_the_filter_what_moves_is_remembered(world, case):
    """The box of the case is nearer than the wall, so the memory holds more where it is not left out."""
    answers = {name: METHODS[name][0](world, case, 0) for name in ("mirage", "no-filter")}
    assert not np.array_equal(answers["mirage"].rgb, answers["no-filter"].rgb)


def test_groups_name_methods_once():
    assert list(find_methods(["mirage", "compared", "ablations"])) == list(GROUPS["all"])
    with pytest.raises(ValueError, match=r"got 'pixel-liftng'; is 'pixel-lifting' meant\?"):
        find_methods(["pixel-liftng"])
    with pytest.raises(ValueError, match="got none"):
        find_methods([])
