"""Presets and conventions."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.models.branch_input import input_channels
from mirage_ros.models.conventions import CONVENTIONS
from mirage_ros.models.lora import add_lora
from mirage_ros.models.presets import PRESETS, WAN22, Preset, preset
from mirage_ros.models.text import no_text
from mirage_ros.models.transformer import MirageTransformer


def test_the_full_size_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = MirageTransformer.from_preset(WAN22.with_conventions("public"))
        lora = add_lora(model)
        autoencoder = WAN22.new_autoencoder()
    added = sum(parameter.numel() for parameter in lora)
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) - added == 4_999_787_712
    assert sum(parameter.numel() for parameter in model.branch.parameters()) == 2_607_077_376
    assert added == 47_185_920
    assert model.branch.in_channels == 96
    assert autoencoder.strides == (4, 16, 16)
    assert autoencoder.channels == 48
    assert autoencoder.latent_size(WAN22.height, WAN22.width) == (44, 80)
    assert autoencoder.latent_frames(WAN22.chunk_frames) == 9


@pytest.mark.parametrize("name", PRESETS)
def test_the_parts_of_a_preset_fit_together(name: str) -> None:
    chosen = preset(name)
    assert chosen.name == name
    with torch.device("meta"):
        model, autoencoder = MirageTransformer.from_preset(chosen), chosen.new_autoencoder()
        reader = chosen.new_reader()
    rows, columns = autoencoder.latent_size(chosen.height, chosen.width)
    _, patch_rows, patch_columns = model.backbone.config["patch_size"]
    assert rows % patch_rows == columns % patch_columns == 0
    assert autoencoder.latent_frames(chosen.chunk_frames) > 1
    assert autoencoder.channels == chosen.latent_channels
    assert model.in_channels == chosen.latent_channels + chosen.depth_channels
    assert model.branch.in_channels == input_channels(chosen.branch_inputs, chosen.latent_channels)
    assert (reader is not None) == (chosen.read_rule == "unfold")
    if reader is not None:
        assert reader.config["channels"] == autoencoder.channels
        assert reader.config["stride"] == autoencoder.strides[1]


@pytest.mark.parametrize("name", ["default", "test"])
@torch.no_grad()
def test_a_small_preset_denoises_a_chunk(name: str) -> None:
    chosen = preset(name)
    model = MirageTransformer.from_preset(chosen).eval()
    autoencoder = chosen.new_autoencoder()
    rows, columns = autoencoder.latent_size(chosen.height, chosen.width)
    frames = autoencoder.latent_frames(chosen.chunk_frames) + chosen.preceding + 1
    memory = torch.zeros(1, model.branch.in_channels, frames - 1, rows, columns)
    context = model.embed_text(no_text(1, chosen.text_dim, chosen.text_tokens))
    flow = model(
        torch.randn(1, model.in_channels, frames, rows, columns),
        torch.full((1, frames), 500.0),
        context,
        memory,
        references=1,
    )
    assert flow.shape == (1, model.in_channels, frames, rows, columns)
    assert torch.isfinite(flow).all()


def test_public_conventions_set_every_switch_at_once() -> None:
    paper, public = CONVENTIONS["paper"], CONVENTIONS["public"]
    assert all(getattr(paper, name) != getattr(public, name) for name in paper.__dataclass_fields__), (
        "a switch that does not differ is no switch"
    )
    changed: Preset = WAN22.with_conventions("public")
    assert changed.branch_inputs == ("latents", "ones")
    assert changed.read_rule == "strict"
    assert changed.conventions is public
    assert WAN22.with_conventions("paper") == WAN22
    assert changed.with_conventions("public") == changed
    # Its inputs and its read rule were replaced.
    with pytest.raises(ValueError, match="conventions: expected 'public' for a preset made for it, got 'paper'"):
        changed.with_conventions("paper")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"preset: expected one of default, wan2.2-ti2v-5b, test, got 'huge'"):
        preset("huge")
    with pytest.raises(ValueError, match="conventions: expected one of paper, public, got 'private'"):
        WAN22.with_conventions("private")
    with pytest.raises(ValueError, match="conventions: expected a preset with Wan's autoencoder"):
        preset("default").with_conventions("public")
