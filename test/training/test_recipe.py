"""All phases in order at a minute size, resuming between them, and the weights that come out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import load_file

from mirage_ros.models.network_files import load_part
from mirage_ros.models.presets import DEFAULT, TEST
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_autoencoder, load_transformer
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.export import export
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.measure import measure
from mirage_ros.training.recipe import LOOPS, Recipe, latents_of, load_reader, phases_of, run
from mirage_ros.training.shards import write_shard
from mirage_ros.training.task import LoopSettings

LOOP = LoopSettings(steps=2, batch=2, precision="no")


@pytest.fixture
def recipe(new_clip, tiny_preset, tmp_path) -> Recipe:
    for name, seed in (("train", 0), ("held-out", 5)):
        (tmp_path / name).mkdir()
        clips = [new_clip(f"{name}-{i}", seed=seed + i) for i in range(2)]
        write_shard(tmp_path / name / "00000.tar", clips)
    return Recipe(
        preset=tiny_preset,
        folder=tmp_path / "run",
        data=tmp_path / "train",
        held_out=tmp_path / "held-out",
        loops={phase: LOOP for phase in phases_of(tiny_preset) if phase in LOOPS},
        crop=(16, 24),
        stages=StageSettings(chunks=(3,), sources=(2,)),
        exemplars=3,
    )


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first.float() - second.float()).abs().max())


def test_the_phases_make_weights_that_load(recipe, tmp_path, capsys, monkeypatch):
    # Something moves in all of these few clips.
    monkeypatch.setattr("mirage_ros.training.exemplars.MOVING", 1.0)
    early = replace(recipe, loops={name: recipe.loops[name] for name in LOOPS[:3]}, exemplars=0)
    run(early)
    assert "backbone" not in capsys.readouterr().out
    vae = recipe.model / "vae" / "diffusion_pytorch_model.safetensors"
    trained = load_file(vae)
    run(recipe)
    # The joint phase trains the decoder; what latents mean stays.
    changed = {
        name.partition(".")[0] for name, value in load_file(vae).items() if not torch.equal(value, trained[name])
    }
    assert changed == {"decoder"}
    printed = [line.partition(":") for line in capsys.readouterr().out.splitlines()]
    # Nothing is skipped without a word.
    skipped = [phase for phase, _, what in printed if "done before" in what]
    assert skipped == ["autoencoder", "reader", "reader-chains"]
    assert [phase for phase, _, what in printed if "done before" not in what] == [
        "backbone",
        "branch",
        "lora",
        "joint",
        "exemplars",
    ]

    sizes = export(recipe.model, tmp_path / "weights")
    configs = list((tmp_path / "weights").rglob("config.json"))
    assert len(configs) == len(sizes)
    assert not any(str(tmp_path) in config.read_text() for config in configs)
    assert list(sizes) == ["vae", "reader", "transformer", "branch", "exemplars"]
    whole, shipped = load_transformer(recipe.model).eval(), load_transformer(tmp_path / "weights").eval()
    assert not (tmp_path / "weights" / "lora").exists()
    inputs = torch.randn(1, 12, 3, 8, 12), torch.full((1, 3), 500.0)
    memory = torch.randn(1, whole.branch.in_channels, 3, 8, 12)
    with torch.no_grad():
        flows = [m(*inputs, m.embed_text(torch.zeros(1, 1, 8)), memory) for m in (whole, shipped)]
    assert torch.allclose(flows[0], flows[1], atol=2e-2)
    # Halfway to itself is itself; a share of nothing is the earlier model.
    backbone, branch = load_part(WanTransformer3DModel, tmp_path / "weights", "transformer"), shipped.branch
    for part, kept in (("transformer", backbone), ("branch", branch)):
        with torch.no_grad():
            next(kept.parameters()).add_(1)
        kept.save_pretrained(tmp_path / "earlier" / part)
    export(recipe.model, tmp_path / "mixed", tmp_path / "earlier", share=0.25)
    mixed = load_transformer(tmp_path / "mixed")
    for new, old in ((mixed.backbone, backbone), (mixed.branch, branch)):
        first, *others = (difference(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
        assert first == pytest.approx(0.25, abs=2e-3)
        assert max(others) < 2e-3
    with pytest.raises(ValueError, match="share"):
        export(recipe.model, tmp_path / "mixed", tmp_path / "earlier", share=2)
    # Half a model is refused rather than left out.
    for half, named in (("transformer", "model"), ("branch", "transformer")):
        shutil.copytree(recipe.model / half, tmp_path / f"only-{half}" / half)
        with pytest.raises(FileNotFoundError, match=f"{named}: "):
            export(tmp_path / f"only-{half}", tmp_path / "none")
    assert not (tmp_path / "none").exists()

    autoencoder = load_autoencoder(tmp_path / "weights")
    assert np.std(autoencoder.config["latents_std"]) > 0
    load_part(UnfoldReader, tmp_path / "weights", "reader")

    figures, rows = measure(tmp_path / "weights", None, recipe.held_out, 1, [1, 2], recipe.preset)
    assert list(figures) == ["autoencoder", "reader", "hops", "recall", "imagined, 1 steps", "imagined, 2 steps"]
    assert figures["imagined, 2 steps"]["visible"] > 0
    assert len(figures["hops"]["rgb"]) == 2
    assert set(figures["recall"]) == {"latent", "rgb", "bound", "latent_kib", "rgb_kib"}
    assert len(rows) == 3


@pytest.mark.parametrize(("phase", "part"), [("autoencoder", "vae"), ("reader", "reader"), ("branch", "branch")])
def test_trained_weights_are_not_replaced_by_new_networks(recipe, phase, part):
    weights = recipe.model / part / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"trained elsewhere")
    with pytest.raises(ValueError, match=f"phase: expected some of reader-chains, .* got '{phase}'"):
        run(replace(recipe, loops={phase: recipe.loops[phase]}))
    assert weights.read_bytes() == b"trained elsewhere"
    assert not (recipe.folder / phase).exists()


@pytest.mark.parametrize("conventions", ["paper", "public"])
def test_a_model_shaped_like_the_full_size_one_trains_by_the_same_stages(new_clip, text_folder, tmp_path, conventions):
    """Time compression, causal autoencoder, flow prediction, no depth channels, prompts."""
    torch.manual_seed(0)
    source = tmp_path / "source"
    shutil.copytree(text_folder, source)
    MirageTransformer.from_preset(TEST).backbone.save_pretrained(source / "transformer")
    TEST.new_autoencoder().save_pretrained(source / "vae")
    for name in ("train", "held-out"):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "00000.tar", [replace(new_clip(f"{name}-0", 14), prompt="a red room")])
    recipe = Recipe(
        preset=replace(TEST, height=32, width=48, text=True, text_tokens=6).with_conventions(conventions),
        folder=tmp_path / "run",
        data=tmp_path / "train",
        held_out=tmp_path / "held-out",
        loops={"branch": replace(LOOP, batch=1), "lora": replace(LOOP, batch=1, accumulate=2)},
        stages=StageSettings(chunks=(2,), sources=(2,)),
        source=source,
    )
    run(recipe)
    model = load_transformer(recipe.model)
    assert tuple(model.branch.config["inputs"]) == recipe.preset.branch_inputs
    assert any(bool(parameter.any()) for parameter in model.branch.proj_out.parameters())
    assert (recipe.model / "lora").is_dir()


def test_windows_of_a_causal_autoencoder_are_encoded_whole(new_clips, tmp_path):
    clips = new_clips(1, 9)
    autoencoder = TEST.new_autoencoder().eval()
    recipe = Recipe(TEST, tmp_path, Path(), Path(), {})
    data = latents_of(recipe, clips, autoencoder, "train")
    assert not isinstance(data, LatentCache)
    assert data.window(0, np.arange(9)).shape == (3, 6, 4, 6)
    assert data.latents(0, np.arange(2)).shape == (2, 6, 4, 6)
    assert data.depth(0, np.arange(2), keep=True).shape == (2, 8, 12)


def test_a_run_without_a_reader_takes_that_of_its_source(tmp_path):
    recipe = Recipe(DEFAULT, tmp_path / "run", tmp_path, tmp_path, {})
    with pytest.raises(FileNotFoundError, match=r"reader: .*run/model has none; .* give a source"):
        load_reader(recipe)
    shipped = Path(__file__).parents[2] / "weights" / "default"
    assert load_reader(replace(recipe, source=shipped)) is not None
    with pytest.raises(FileNotFoundError, match="reader:"):
        load_reader(replace(recipe, source=tmp_path))
