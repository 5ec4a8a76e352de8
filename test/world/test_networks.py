"""Networks at work: constants computed once, prompts, offloading and compiling."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.models.presets import TEST
from mirage_ros.models.public_weights import OnesLatents
from mirage_ros.models.schedule import FEW_STEPS
from mirage_ros.models.text import TextEncoder
from mirage_ros.models.weights_io import save_transformer
from mirage_ros.world import loading
from mirage_ros.world.loading import load_networks
from mirage_ros.world.model import WorldModel
from mirage_ros.world.networks import KEPT_PROMPTS

SIZE = (32, 48)


def frames(world, scene, count=5):
    memory = world.new_memory()
    world.observe(memory, scene.frame())
    chunks = world.imagine(memory, scene.camera[:count], steps=2, perception=scene.perception)
    return np.concatenate([chunk.rgb for chunk in chunks]).astype(int)


def test_the_constant_half_of_the_public_input_is_that_of_a_whole_video_and_encoded_once(monkeypatch):
    networks = WorldModel.from_pretrained(preset="test", random_weights=True, size=SIZE, conventions="public").networks
    lengths = []
    encode = networks.autoencoder.encode
    monkeypatch.setattr(networks.autoencoder, "encode", lambda video: lengths.append(video.shape[1]) or encode(video))
    inputs = tuple(networks.transformer.branch.config["inputs"])
    ones = networks.ones(inputs, 4)
    assert ones.shape == (4, 6, 4, 6)
    assert networks.ones(inputs, 4) is ones
    assert lengths == [13]
    # A causal encoder's first frames do not depend on how many follow; they differ from one another.
    shorter = OnesLatents(networks.autoencoder)(3, 4, 6)
    torch.testing.assert_close(ones[:3], shorter, atol=1e-5, rtol=1e-4)
    assert (ones[0] - ones[1]).abs().max() > 1e-3
    assert networks.ones(("latents", "visible"), 4) is None


def test_offloaded_networks_come_to_the_device_one_after_the_other_and_go_again(walk, monkeypatch):
    scene = walk(5)
    world = WorldModel.from_pretrained(preset="default", random_weights=True, size=SIZE, offload=True)
    # As on a GPU, where nothing is dropped.
    world.networks._transformer_anew = None
    moves = []
    for name in ("transformer", "autoencoder"):
        network = getattr(world.networks, name)

        def to(where, name=name, original=network.to):
            moves.append(name)
            return original(where)

        monkeypatch.setattr(network, "to", to)
    assert frames(world, scene).shape == (5, *SIZE, 3)
    assert set(moves) == {"transformer", "autoencoder"}
    # There and back, never two at once.
    assert moves[::2] == moves[1::2]


def test_on_a_cpu_the_transformer_is_gone_while_frames_are_decoded_and_comes_back_the_same(walk, monkeypatch):
    scene = walk(17)
    plain, world = (
        WorldModel.from_pretrained(preset="test", random_weights=True, size=SIZE, offload=offload)
        for offload in (False, True)
    )
    networks, seen = world.networks, []
    decode = networks.autoencoder.decode
    monkeypatch.setattr(
        networks.autoencoder, "decode", lambda latents: seen.append(networks.transformer.device.type) or decode(latents)
    )
    # Two chunks: it was loaded again for the second.
    assert np.array_equal(frames(world, scene, 17), frames(plain, scene, 17))
    assert set(seen) == {"meta"}


def test_the_autoencoder_has_a_type_and_tiles_of_its_own():
    networks = load_networks(
        preset="test", random_weights=True, dtype=torch.bfloat16, autoencoder_dtype=torch.float32, tile=32
    )
    assert networks.transformer.dtype == torch.bfloat16
    assert networks.autoencoder.vae.dtype == torch.float32
    assert networks.autoencoder.vae.use_tiling
    assert (
        load_networks(preset="test", random_weights=True, dtype=torch.bfloat16).autoencoder.vae.dtype == torch.bfloat16
    )


def test_few_steps_take_the_place_of_the_presets_schedule(walk):
    world = WorldModel.from_pretrained(preset="test", random_weights=True, size=SIZE, schedule=FEW_STEPS)
    scene, memory, steps = walk(5), world.new_memory(), []
    world.observe(memory, scene.frame())
    chunks = world.imagine(
        memory, scene.camera[:5], perception=scene.perception, on_progress=lambda progress: steps.append(progress)
    )
    assert all(np.isfinite(chunk.depth).all() for chunk in chunks)
    assert max(progress.step for progress in steps) == steps[0].steps == 4


def test_the_text_encoder_is_gone_before_the_transformer_is_read(text_folder, tmp_path, monkeypatch):
    preset = replace(TEST, text=True, text_tokens=6)
    plain = load_networks(preset=preset, random_weights=True, dtype=torch.float32)
    save_transformer(plain.transformer, tmp_path)
    plain.autoencoder.save_pretrained(tmp_path / "vae")
    for part in ("tokenizer", "text_encoder"):
        (tmp_path / part).symlink_to(text_folder / part)
    order = []
    for name in ("load_transformer", "check_source"):
        original = getattr(loading, name)
        monkeypatch.setattr(
            loading,
            name,
            lambda *given, name=name, original=original, **more: order.append(name) or original(*given, **more),
        )
    release = TextEncoder.release
    monkeypatch.setattr(TextEncoder, "release", lambda encoder: order.append("release") or release(encoder))
    networks = load_networks(tmp_path, preset=preset, prompts=["a red room"])
    assert order == ["check_source", "release", "load_transformer"]
    # Known already, so that the encoder does not come back.
    monkeypatch.setattr(networks.text, "_load", None)
    assert not torch.equal(networks.context("a red room"), networks.context(""))


def test_the_reader_works_with_every_read_and_stays_on_the_device():
    networks = WorldModel.from_pretrained(preset="default", random_weights=True, size=SIZE, offload=True).networks
    with torch.device("meta"):
        reader = networks.preset.new_reader()
    again = type(networks)(
        networks.preset, networks.transformer, networks.autoencoder, reader, device="meta", offload=True
    )
    assert {parameter.device.type for parameter in again.transformer.parameters()} == {"cpu"}
    assert {parameter.device.type for parameter in again.reader.parameters()} == {"meta"}


def test_compiled_blocks_give_the_same_frames(walk):
    torch._dynamo.reset()
    scene = walk(5)
    # The decoder rounds finely, so that differences are the blocks'.
    options = {"preset": "test", "random_weights": True, "size": SIZE, "autoencoder_dtype": torch.float32}
    plain = WorldModel.from_pretrained(**options)
    compiled = WorldModel.from_pretrained(**options, compile_blocks=True)
    torch._dynamo.utils.counters.clear()
    # Fused operations round otherwise.
    assert np.abs(frames(plain, scene) - frames(compiled, scene)).max() <= 2
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    # Blocks of one kind share a graph: three in the backbone, two in the branch.
    assert 1 <= counters["stats"]["unique_graphs"] <= 2


def test_each_prompt_is_encoded_once_and_the_encoder_freed(text_folder, monkeypatch):
    preset = replace(TEST, text=True, text_tokens=6)
    networks = WorldModel.from_pretrained(preset=preset, random_weights=True, size=SIZE).networks
    with pytest.raises(ValueError, match="prompt: expected none, the text encoder was not loaded"):
        networks.context("a red room")
    networks.text = TextEncoder.from_pretrained(text_folder, dtype=torch.float32, tokens=6)
    one = networks.context("a red room")
    assert networks.text._encoder is None
    assert networks.context("a red room") is one
    other = networks.context("a chair")
    assert not torch.equal(other, one)
    # It was loaded again for the second, as good as new.
    again = TextEncoder.from_pretrained(text_folder, dtype=torch.float32, tokens=6).encode(["a chair"])
    torch.testing.assert_close(networks.transformer.embed_text(again), other)
    for index in range(KEPT_PROMPTS):
        networks.context("a " * (index % 4) + "red " * (index // 4) + "room")
    assert len(networks._contexts) <= KEPT_PROMPTS
    with pytest.raises(ValueError, match="prompt: expected text"):
        networks.check_prompt(None)


@pytest.mark.parametrize("name", ["transformer_file", "branch_file", "lora_file", "distilled_lora", "text_features"])
def test_random_weights_take_no_files(name):
    with pytest.raises(ValueError, match=f"{name}: expected none with random weights"):
        load_networks(preset="test", random_weights=True, **{name: "weights.safetensors"})


def test_a_preset_keeps_its_own_conventions_unless_others_are_asked_for():
    given = TEST.with_conventions("public")
    assert load_networks(preset=given, random_weights=True).preset == given
    assert load_networks(preset=TEST, random_weights=True, conventions="public").preset == given
