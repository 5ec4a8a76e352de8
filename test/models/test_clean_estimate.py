"""Transformers that estimate clean latents, as a correction of the readout where there is one."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.models.branch_input import fill_smoothly, group_channels
from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.presets import DEFAULT
from mirage_ros.models.schedule import clean_estimate
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_transformer, save_transformer

INPUTS = ("visible", "latents")


def clean_model(new_model) -> MirageTransformer:
    backbone = new_model().backbone
    branch = MemoryBranch.for_backbone(backbone, (0, 2), INPUTS, 6, clean=True)
    return MirageTransformer(backbone, branch).eval()


@torch.no_grad()
def test_untrained_it_gives_the_readout_where_there_is_one(new_model, clip) -> None:
    model, inputs = clean_model(new_model), clip(frames=4, references=1)
    inputs["memory"][:, 0] = (inputs["memory"][:, 0] > 0).float()
    context = model.embed_text(inputs["text"])
    flow = model(inputs["latents"], inputs["timesteps"], context, inputs["memory"], references=1)
    sigmas = (inputs["timesteps"] / 1000)[:, None, :, None, None]
    clean = clean_estimate(inputs["latents"], flow, sigmas)[:, :, 1:]
    seen = (inputs["memory"][:, :1] > 0).expand_as(clean)
    assert torch.allclose(clean[seen], inputs["memory"][:, 1:][seen], atol=1e-5)
    # Holes are filled from around.
    shown = inputs["memory"][:, 1:]
    assert clean[~seen].abs().max() <= shown[seen].abs().max()
    assert clean[~seen].std() > 0


@torch.no_grad()
def test_without_a_memory_it_is_the_backbones_own_estimate(new_model, clip) -> None:
    model, inputs = clean_model(new_model), clip()
    context = model.embed_text(inputs["text"])
    flow = model(inputs["latents"], inputs["timesteps"], context)
    own = model.backbone(inputs["latents"], inputs["timesteps"].repeat_interleave(6, dim=1), inputs["text"]).sample
    clean = clean_estimate(inputs["latents"], flow, (inputs["timesteps"] / 1000)[:, None, :, None, None])
    assert torch.allclose(clean, own, atol=1e-4)


@torch.no_grad()
def test_a_frame_of_which_nothing_is_seen_begins_with_the_mean_of_the_others(new_model) -> None:
    branch = clean_model(new_model).branch
    memory = torch.zeros(2, 7, 3, 4, 6)
    memory[0, 0, 0, :, :3] = 1
    memory[0, 1:, 0, :, :3] = torch.arange(6.0)[:, None, None]
    clean = branch.clean_estimate(torch.zeros(2, 6, 3, 4, 6), memory)
    assert torch.allclose(clean[0], torch.arange(6.0)[:, None, None, None].expand(6, 3, 4, 6), atol=1e-5)
    assert not clean[1].any()


@torch.no_grad()
def test_a_layout_is_trusted_by_half_before_training_and_as_learned_after(new_model) -> None:
    backbone = new_model().backbone
    branch = MemoryBranch.for_backbone(backbone, (0, 2), (*INPUTS, "layout"), 6, clean=True)
    assert branch.correction.out_features == 4 * 7
    memory = torch.zeros(1, 13, 3, 4, 6)
    memory[:, 0, :, :, :3] = 1
    memory[:, 1:7, :, :, :3] = 2.0
    memory[:, 7:] = torch.where(memory[:, :1] > 0, 2.0, 6.0)
    output = torch.zeros(1, 7, 3, 4, 6)
    seen = (memory[:, :1] > 0).expand(1, 6, 3, 4, 6)
    for trust, expected in ((0.0, 4.0), (20.0, 6.0), (-20.0, 2.0)):
        output[:, 6] = trust
        clean = branch.clean_estimate(output, memory)
        assert torch.allclose(clean[~seen], torch.tensor(expected), atol=1e-4)
        assert torch.allclose(clean[seen], torch.tensor(2.0), atol=1e-4)


def test_smooth_filling_keeps_what_is_seen_and_stays_in_its_range() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(3, 2, 7, 11, generator=generator) + 1
    seen = (torch.rand(3, 1, 7, 11, generator=generator) < 0.3).float()
    seen[2] = 0
    filled = fill_smoothly(values, seen)
    mask = seen.expand_as(values) > 0
    assert torch.equal(filled[mask], values[mask])
    assert filled[:2].min() >= 1
    assert filled[:2].max() <= 2
    assert not filled[2].any()


@torch.no_grad()
@pytest.mark.parametrize("form", ["batch", "frames", "tokens"])
def test_every_form_of_timesteps_means_the_same(new_model, clip, form: str) -> None:
    model, inputs = clean_model(new_model), clip()
    context = model.embed_text(inputs["text"])
    steps = {
        "batch": torch.full((2,), 400.0),
        "frames": torch.full((2, 3), 400.0),
        "tokens": torch.full((2, 18), 400.0),
    }
    expected = model(inputs["latents"], steps["frames"], context, inputs["memory"])
    assert torch.allclose(model(inputs["latents"], steps[form], context, inputs["memory"]), expected, atol=1e-4)


def test_the_correction_is_learned_and_saved(new_model, clip, tmp_path) -> None:
    model, inputs = clean_model(new_model), clip()
    inputs["memory"][:, 0] = 1
    model(inputs["latents"], inputs["timesteps"], model.embed_text(inputs["text"]), inputs["memory"]).sum().backward()
    assert model.branch.correction.weight.grad.abs().sum() > 0
    # With a memory the backbone's own estimate is not used.
    assert not model.backbone.proj_out.weight.grad.any()
    torch.nn.init.normal_(model.branch.correction.weight)
    save_transformer(model, tmp_path)
    loaded = load_transformer(tmp_path)
    assert torch.equal(loaded.branch.correction.weight, model.branch.correction.weight)


def test_the_default_preset_corrects_latents_and_depth() -> None:
    inputs = DEFAULT.branch_inputs
    # latents 0-7, visible 8, offset 9-10, log scale 11, depth 12-15.
    assert group_channels(inputs, ("visible", "latents", "depth"), 8) == [8, *range(8), 12, 13, 14, 15]
    # fill 16-23, rays 24-29, layout 30-37, its depth 38-41.
    assert group_channels(inputs, ("layout", "layout_depth"), 8) == list(range(30, 42))
    assert group_channels(("latents", "visible", "layout"), ("layout", "layout_depth"), 8) is None


@pytest.mark.parametrize(
    ("inputs", "channels", "message"),
    [
        (("latents", "ones"), 6, "inputs: expected visible, latents for"),
        (("visible",), 6, "inputs: expected visible, latents for"),
        (INPUTS, 10, "inputs: expected visible, latents, depth for"),
        (INPUTS, 7, "clean_channels: expected those of a latent, 6, with or without the 4 of depth, got 7"),
    ],
)
def test_inputs_without_the_readout_are_refused(inputs: tuple[str, ...], channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryBranch(inputs=inputs, latent_channels=6, ffn_dim=8, num_attention_heads=1, clean_channels=channels)
