"""Weights by the public code's key names, against the same computation written out in those names."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mirage_ros.models.lora import has_lora, lora_parameters
from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError
from mirage_ros.models.presets import TEST
from mirage_ros.models.public_weights import OnesLatents, import_branch, import_lora, original_name
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_transformer

Build = Callable[..., MirageTransformer]
WIDTH, FFN, BLOCKS, CHANNELS = 32, 48, 3, 6
PUBLIC_INPUTS = ("latents", "ones")


def _original() -> ModuleType:
    specification = importlib.util.spec_from_file_location("original", Path(__file__).parent / "original.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


original = _original()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A synthetic checkpoint as the public trainer leaves it: backbone, vace.safetensors, lora.safetensors."""
    files = {name: tmp_path / f"{name}.safetensors" for name in ("backbone", "vace", "lora")}
    backbone = original.draw(original.backbone_shapes(WIDTH, FFN, BLOCKS, CHANNELS, text=16, freq=32), seed=1)
    save_file(backbone, files["backbone"])
    save_file(original.draw(original.branch_shapes(WIDTH, FFN, 2, 2 * CHANNELS), seed=2), files["vace"])
    save_file(original.draw(lora_shapes(rank=4), seed=3), files["lora"])
    return files


def lora_shapes(rank: int) -> dict[str, tuple[int, ...]]:
    """The public default: every linear layer of every block."""
    shapes: dict[str, tuple[int, ...]] = {}
    for block in range(BLOCKS):
        linear = {f"{kind}.{layer}": (WIDTH, WIDTH) for kind in ("self_attn", "cross_attn") for layer in "qkvo"}
        linear |= {"ffn.0": (FFN, WIDTH), "ffn.2": (WIDTH, FFN)}
        for name, (rows, columns) in linear.items():
            shapes[f"pipe.dit.blocks.{block}.{name}.lora_A.weight"] = (rank, columns)
            shapes[f"pipe.dit.blocks.{block}.{name}.lora_B.weight"] = (rows, rank)
    return shapes


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        "latents": torch.randn(1, CHANNELS, 5, 4, 6, generator=generator),
        # Two references and one preceding frame are clean, and so is the first target frame.
        "timesteps": torch.tensor([0.0, 0.0, 0.0, 731.25, 0.0]),
        "text": torch.randn(1, 5, 16, generator=generator),
        "memory": torch.randn(1, 2 * CHANNELS, 3, 4, 6, generator=generator),
    }


@torch.no_grad()
def flow_of(model: MirageTransformer) -> Tensor:
    given = inputs()
    context = model.embed_text(given["text"])
    return model(given["latents"], given["timesteps"][None], context, given["memory"], references=2)


def expected_flow(backbone: dict[str, Tensor], branch: dict[str, Tensor]) -> Tensor:
    given = inputs()
    return original.flow(
        backbone, branch, (0, 2), 2, given["latents"], given["timesteps"], given["text"], given["memory"], references=2
    )


def test_imported_weights_compute_what_they_compute_by_their_own_names(
    new_model: Build, files: dict[str, Path]
) -> None:
    model = new_model(inputs=PUBLIC_INPUTS)
    before = flow_of(model)
    backbone, branch = load_file(files["backbone"]), load_file(files["vace"])
    model.backbone.load_state_dict({name: backbone[original_name(name)] for name in model.backbone.state_dict()})
    import_branch(model, files["vace"])
    after = flow_of(model)
    expected = expected_flow(backbone, branch)
    assert (after - before).abs().max() > 0.1
    torch.testing.assert_close(after, expected, atol=2e-4 * expected.abs().max().item(), rtol=0)
    # The public code fuses LoRA at scale one, whatever the alpha of its training.
    for name, update in load_file(files["lora"]).items():
        if "lora_A" in name:
            module = name.removeprefix("pipe.dit.").removesuffix(".lora_A.weight")
            up = load_file(files["lora"])[name.replace("lora_A", "lora_B")]
            backbone[f"{module}.weight"] = backbone[f"{module}.weight"] + up @ update
    import_lora(model, files["lora"])
    fused = expected_flow(backbone, branch)
    assert (fused - expected).abs().max() > 0.1
    torch.testing.assert_close(flow_of(model), fused, atol=5e-4 * fused.abs().max().item(), rtol=0)
    assert len(lora_parameters(model)) == BLOCKS * 10 * 2


def test_wrapped_names_are_understood(new_model: Build, files: dict[str, Path], tmp_path: Path) -> None:
    wrapped = tmp_path / "wrapped.safetensors"
    save_file({f"module.pipe.vace.{name}": tensor for name, tensor in load_file(files["vace"]).items()}, wrapped)
    one, other = new_model(inputs=PUBLIC_INPUTS), new_model(inputs=PUBLIC_INPUTS)
    import_branch(one, files["vace"])
    import_branch(other, wrapped)
    assert torch.equal(flow_of(one), flow_of(other))
    peft = {
        name.replace("pipe.dit.", "base_model.model.").replace(".weight", ".default.weight"): tensor
        for name, tensor in load_file(files["lora"]).items()
    }
    save_file(peft, wrapped)
    import_lora(one, files["lora"])
    import_lora(other, wrapped)
    assert torch.equal(flow_of(one), flow_of(other))


def test_a_wrong_branch_is_refused_by_the_names_in_its_file(new_model: Build, files: dict[str, Path]) -> None:
    model = new_model(inputs=PUBLIC_INPUTS)
    before = flow_of(model)
    weights = load_file(files["vace"])
    weights["vace_blocks.2.after_proj.weight"] = weights.pop("vace_blocks.1.after_proj.weight")
    weights["vace_patch_embedding.weight"] = torch.zeros(WIDTH, 7, 1, 2, 2)
    save_file(weights, files["vace"])
    wrong = (
        "1 missing (vace_blocks.1.after_proj.weight); 1 unexpected (vace_blocks.2.after_proj.weight); "
        "1 misshapen (vace_patch_embedding.weight: got (32, 7, 1, 2, 2), expected (32, 12, 1, 2, 2))"
    )
    with pytest.raises(
        WeightsMismatchError, match=re.escape(f"{files['vace']}: weights do not fit the model: {wrong}")
    ):
        import_branch(model, files["vace"])
    assert torch.equal(flow_of(model), before)


def test_a_wrong_lora_is_refused_by_the_names_in_its_file(new_model: Build, files: dict[str, Path]) -> None:
    model = new_model(inputs=PUBLIC_INPUTS)
    weights = load_file(files["lora"])
    weights.pop("pipe.dit.blocks.1.self_attn.k.lora_B.weight")
    weights["pipe.dit.blocks.0.magic.lora_A.weight"] = torch.zeros(4, WIDTH)
    weights["pipe.dit.blocks.7.self_attn.q.lora_A.weight"] = torch.zeros(4, WIDTH)
    weights["pipe.dit.blocks.7.self_attn.q.lora_B.weight"] = torch.zeros(WIDTH, 4)
    save_file(weights, files["lora"])
    wrong = (
        "1 missing (blocks.1.self_attn.k.lora_B.weight); 3 unexpected (pipe.dit.blocks.0.magic.lora_A.weight, "
        "pipe.dit.blocks.7.self_attn.q.lora_A.weight, pipe.dit.blocks.7.self_attn.q.lora_B.weight)"
    )
    with pytest.raises(WeightsMismatchError, match=re.escape(wrong)):
        import_lora(model, files["lora"])
    assert not has_lora(model)
    # A layer that one block lacks altogether is missing as well.
    save_file({n: t for n, t in original.draw(lora_shapes(4), 3).items() if "blocks.2.ffn.0" not in n}, files["lora"])
    with pytest.raises(WeightsMismatchError, match=r"2 missing \(blocks.2.ffn.0.lora_A.weight, blocks.2.ffn.0.lora_B"):
        import_lora(model, files["lora"])
    # Two ranks in one file.
    mixed = original.draw(lora_shapes(4), 3)
    mixed["pipe.dit.blocks.0.ffn.0.lora_A.weight"] = torch.zeros(3, WIDTH)
    save_file(mixed, files["lora"])
    with pytest.raises(WeightsMismatchError, match=r"rank: got \[3, 4\], expected one for all layers"):
        import_lora(model, files["lora"])


def test_other_files_and_other_models_are_refused(new_model: Build, files: dict[str, Path], tmp_path: Path) -> None:
    model = new_model(inputs=PUBLIC_INPUTS)
    with pytest.raises(MissingWeightsError, match="expected a safetensors file, found none"):
        import_branch(model, tmp_path / "none.safetensors")
    torch.save({"vace_patch_embedding.bias": torch.zeros(3)}, tmp_path / "vace.pt")
    with pytest.raises(ValueError, match="pickled checkpoints are not opened"):
        import_branch(model, tmp_path / "vace.pt")
    with pytest.raises(WeightsMismatchError, match="missing"):
        import_branch(model, files["lora"])
    with pytest.raises(WeightsMismatchError, match="unexpected"):
        import_lora(model, files["vace"])
    with pytest.raises(ValueError, match=r"expected a branch with inputs \('latents', 'ones'\)"):
        import_branch(new_model(), files["vace"])


def test_load_transformer_takes_public_files(new_model: Build, files: dict[str, Path], tmp_path: Path) -> None:
    plain = new_model(inputs=PUBLIC_INPUTS)
    plain.backbone.save_pretrained(tmp_path / "model" / "transformer")
    model = load_transformer(tmp_path / "model", branch_file=files["vace"], lora_file=files["lora"])
    import_branch(plain, files["vace"])
    import_lora(plain, files["lora"])
    assert torch.equal(flow_of(model), flow_of(plain))


def test_every_name_of_a_backbone_has_one_original(new_model: Build) -> None:
    names = new_model().backbone.state_dict()
    assert len(names) > 80
    assert len({original_name(name) for name in names}) == len(names)
    with pytest.raises(KeyError):
        original_name("blocks.3.unknown.weight")


def test_the_constant_half_is_encoded_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = TEST.new_autoencoder()
    ones = OnesLatents(autoencoder)
    calls = []
    encode = autoencoder.encode
    monkeypatch.setattr(autoencoder, "encode", lambda frames: calls.append(frames.shape) or encode(frames))
    latents = ones(3, 2, 4)
    assert latents.shape == (3, 6, 2, 4)
    expected = encode(torch.ones(1, 9, 3, 16, 32))[0].transpose(0, 1)
    torch.testing.assert_close(latents, expected)
    assert ones(3, 2, 4) is latents
    assert ones(2, 2, 4).shape == (2, 6, 2, 4)
    assert calls == [(1, 9, 3, 16, 32), (1, 5, 3, 16, 32)]
