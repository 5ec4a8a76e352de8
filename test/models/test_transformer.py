"""The world model's transformer: equality with diffusers, context frames, hints, gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.presets import TEST, preset
from mirage_ros.models.transformer import MirageTransformer

Build = Callable[..., MirageTransformer]
Draw = Callable[..., dict[str, Tensor]]
# Tokens of one frame of 4x6 cells with patches of 2x2.
TOKENS = 6


def diffusers_flow(model: MirageTransformer, clip: dict[str, Tensor], timesteps: Tensor) -> Tensor:
    return model.backbone(clip["latents"], timesteps, clip["text"], return_dict=False)[0]


@pytest.mark.parametrize(
    "shape", [{}, {"num_attention_heads": 4, "attention_head_dim": 32}, {"attention_head_dim": 12}]
)
@torch.no_grad()
def test_equals_diffusers_with_zero_hints(new_model: Build, clip: Draw, shape: dict[str, int]) -> None:
    model, inputs = new_model(**shape), clip()
    context = model.embed_text(inputs["text"])
    one_for_all = inputs["timesteps"][:, 0]
    assert torch.equal(
        model(inputs["latents"], one_for_all, context, inputs["memory"]), diffusers_flow(model, inputs, one_for_all)
    )
    for_each_token = inputs["timesteps"].repeat_interleave(TOKENS, dim=1)
    expected = diffusers_flow(model, inputs, for_each_token)
    assert torch.equal(model(inputs["latents"], for_each_token, context, inputs["memory"]), expected)
    assert torch.equal(model(inputs["latents"], for_each_token, context), expected)
    # One embedding for each frame is a smaller matrix product, which rounds in another way in the last place.
    for_each_frame = model(inputs["latents"], inputs["timesteps"], context, inputs["memory"])
    torch.testing.assert_close(for_each_frame, expected, atol=2e-6, rtol=0)


@torch.no_grad()
def test_a_single_context_token_takes_the_short_way_to_the_same_result(new_model: Build, clip: Draw) -> None:
    model, inputs = new_model(), clip()
    inputs["text"] = inputs["text"][:, :1]
    got = model(inputs["latents"], inputs["timesteps"][:, 0], model.embed_text(inputs["text"]))
    # Matrices of other sizes round differently; the largest difference seen is 7e-7.
    torch.testing.assert_close(got, diffusers_flow(model, inputs, inputs["timesteps"][:, 0]), atol=5e-6, rtol=0)


@torch.no_grad()
def test_hints_change_target_and_preceding_frames_but_not_the_tokens_of_references(
    new_model: Build, clip: Draw
) -> None:
    # With one block there is no attention after the hint, so that references feel it nowhere.
    model = new_model(layers=(0,), num_layers=1)
    inputs = clip(frames=5, references=2)
    arguments = (inputs["latents"], inputs["timesteps"], model.embed_text(inputs["text"]), inputs["memory"])
    before = model(*arguments, references=2)
    torch.manual_seed(0)
    for parameter in model.branch.proj_out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    after = model(*arguments, references=2)
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    changed = (before != after).float().mean(dim=(0, 1, 3, 4))
    assert (changed[2:] > 0.99).all()


@torch.no_grad()
def test_each_batch_element_stands_alone(new_model: Build, clip: Draw) -> None:
    model, inputs = new_model(hints=True), clip(frames=4, references=1)
    together = model(
        inputs["latents"], inputs["timesteps"], model.embed_text(inputs["text"]), inputs["memory"], references=1
    )
    for index in range(2):
        one = {name: value[index : index + 1] for name, value in inputs.items()}
        alone = model(one["latents"], one["timesteps"], model.embed_text(one["text"]), one["memory"], references=1)
        torch.testing.assert_close(alone, together[index : index + 1], atol=2e-6, rtol=0)


def test_the_gradient_reaches_the_branch_once_its_projections_are_not_zero(new_model: Build, clip: Draw) -> None:
    inputs = clip()
    for hints in (False, True):
        model = new_model(hints=hints)
        flow = model(inputs["latents"], inputs["timesteps"], model.embed_text(inputs["text"]), inputs["memory"])
        flow.square().mean().backward()
        embedding = model.branch.patch_embedding.weight.grad
        assert bool(embedding.abs().sum() > 0) == hints
        assert all(bool(projection.weight.grad.abs().sum() > 0) for projection in model.branch.proj_out)


def test_gradient_checkpointing_changes_no_gradient(new_model: Build, clip: Draw) -> None:
    inputs = clip(frames=4, references=1)
    gradients = []
    for enabled in (False, True):
        model = new_model(hints=True)
        model.set_gradient_checkpointing(enabled)
        context = model.embed_text(inputs["text"])
        model(
            inputs["latents"], inputs["timesteps"], context, inputs["memory"], references=1
        ).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 100
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-7, rtol=1e-5)


@torch.no_grad()
def test_bf16_keeps_norms_and_tables_in_float32_and_stays_close(new_model: Build, clip: Draw) -> None:
    model, inputs = new_model(hints=True), clip()
    arguments = (inputs["latents"], inputs["timesteps"], inputs["text"], inputs["memory"])
    exact = model(arguments[0], arguments[1], model.embed_text(arguments[2]), arguments[3])
    model.cast(torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.backbone.blocks[0].scale_shift_table.dtype == torch.float32
    assert model.branch.blocks[0].norm2.weight.dtype == torch.float32
    close = model(arguments[0], arguments[1], model.embed_text(arguments[2]), arguments[3])
    assert close.dtype == torch.float32
    assert (close - exact).abs().max() < 0.05 * exact.abs().max()


@torch.no_grad()
def test_forward_never_reads_a_value_back(new_model: Build, clip: Draw) -> None:
    """Under fake tensors any read of a value raises, as a GPU would have to wait for it."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, inputs = new_model(hints=True), clip(frames=4, references=1)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = {name: mode.from_tensor(value) for name, value in inputs.items()}
        flow = model(fake["latents"], fake["timesteps"], model.embed_text(fake["text"]), fake["memory"], references=1)
    assert flow.shape == inputs["latents"].shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(2, 5, 3, 4, 6)}, r"latents: expected \(B, 6, F, h, w\)"),
        ({"latents": torch.zeros(2, 6, 3, 5, 6)}, "latents: expected a height and width in multiples of 2 and 2"),
        ({"timesteps": torch.zeros(2, 4)}, r"timesteps: expected \(2,\) or \(2, 3\), got \(2, 4\)"),
        ({"memory": torch.zeros(2, 7, 2, 4, 6)}, r"memory: expected \(2, 7, 3, 4, 6\), got \(2, 7, 2, 4, 6\)"),
        ({"context": torch.zeros(2, 5, 16)}, r"context: expected \(2, L, 32\) from embed_text"),
        ({"references": 4}, "references: expected between 0 and the 3 frames, got 4"),
    ],
)
def test_wrong_shapes_are_refused_by_name(new_model: Build, clip: Draw, change: dict, message: str) -> None:
    model, inputs = new_model(), clip()
    arguments = {
        "latents": inputs["latents"],
        "timesteps": inputs["timesteps"],
        "context": model.embed_text(inputs["text"]),
        "memory": inputs["memory"],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        model(**arguments)


def test_parts_that_do_not_fit_are_refused(new_model: Build) -> None:
    backbone = new_model().backbone
    with pytest.raises(ValueError, match="branch: expected layers below the backbone's 3, got"):
        MirageTransformer(backbone, MemoryBranch.for_backbone(backbone, (0, 3), ("latents",), 6))
    other = new_model(attention_head_dim=12).branch
    with pytest.raises(ValueError, match="branch: expected attention_head_dim 16 like the backbone, got 12"):
        MirageTransformer(backbone, other)
    with pytest.raises(ValueError, match="layers: expected ascending"):
        MemoryBranch.for_backbone(backbone, (2, 0), ("latents",), 6)
    image_model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        ffn_dim=8,
        text_dim=8,
        image_dim=8,
        added_kv_proj_dim=24,
    )
    with pytest.raises(ValueError, match="without image embeddings"):
        MirageTransformer(image_model)


def test_a_preset_starts_its_branch_from_the_backbone() -> None:
    model = MirageTransformer.from_preset(TEST)
    for block, layer in zip(model.branch.blocks, TEST.branch_layers, strict=True):
        assert torch.equal(block.attn1.to_q.weight, model.backbone.blocks[layer].attn1.to_q.weight)
    assert model.in_channels == preset("test").latent_channels
