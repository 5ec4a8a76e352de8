"""Putting a world model together from a preset and weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mirage_ros.machine import fast_dtype
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.lora import has_lora, merge_lora
from mirage_ros.models.network_files import MissingWeightsError, load_part
from mirage_ros.models.presets import Preset
from mirage_ros.models.presets import preset as find_preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.text import TextEncoder
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import has_part, load_autoencoder, load_transformer
from mirage_ros.resources import weights_directory
from mirage_ros.world.doubt import DepthDoubt
from mirage_ros.world.networks import Networks

Loaded = tuple[MirageTransformer, Autoencoder, UnfoldReader | None, TextEncoder | None]


def load_networks(
    source: str | Path | None = None,
    *,
    preset: str | Preset = "default",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    conventions: str | None = None,
    random_weights: bool = False,
    branch_file: str | Path | None = None,
    lora_file: str | Path | None = None,
    size: tuple[int, int] | None = None,
    offload: bool = False,
    compile_blocks: bool = False,
    keyframe_stride: int | None = None,
    seed: int = 0,
) -> Networks:
    """Load the networks of a world model.

    Args:
        source: folder or hub repository in diffusers' layout; by default the preset's own: weights/default of this
            package, or the hub repository that the preset names.
        preset: name, or a preset of one's own.
        device: where to work.
        dtype: of the networks; by default bfloat16 where the device multiplies it fast, see `machine.fast_dtype`. Wan's
            autoencoder keeps its own: its convolutions over time are slow in bfloat16 on a CPU. Geometry and the
            memory's positions are float32 and float64 whatever this is.
        keyframe_stride: every so many-th frame is imagined and those between are read; the preset's by default.
        conventions: 'paper', or 'public' for weights trained with the public Mirage code; the preset's own by default.
        random_weights: do not load anything: for tests and for measurements of time.
        branch_file, lora_file: safetensors trained with the public Mirage code.
        size: pixels (height, width) of a frame; the preset's by default.
        offload: keep only the network at work on the device.
        compile_blocks: run the transformer's blocks through torch.compile.
        seed: of random weights.

    Raises:
        MissingWeightsError: weights are not there; says what to do.
        WeightsMismatchError: weights do not fit the preset.
        ValueError: a preset, device or size is not usable.
    """
    chosen = find_preset(preset) if isinstance(preset, str) else preset
    if conventions is not None:
        chosen = chosen.with_conventions(conventions)
    where = _device(device)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype: expected a floating-point torch.dtype such as torch.bfloat16, got {dtype!r}")
    dtype = dtype or fast_dtype(where)
    if keyframe_stride is not None:
        if isinstance(keyframe_stride, bool) or not isinstance(keyframe_stride, int) or keyframe_stride < 1:
            raise ValueError(f"keyframe_stride: expected a whole number from 1, got {keyframe_stride!r}")
        chosen = replace(chosen, keyframe_stride=keyframe_stride)
    if random_weights:
        if source is not None:
            raise ValueError(f"source: expected none with random weights, got {source}")
        for name, file in (("branch_file", branch_file), ("lora_file", lora_file)):
            if file is not None:
                raise ValueError(f"{name}: expected none with random weights, got {file}")
        loaded, doubt = _random(chosen, dtype, seed), DepthDoubt()
    else:
        source = source or _own_source(chosen)
        loaded, doubt = _loaded(source, chosen, dtype, branch_file, lora_file), DepthDoubt.load(source)
    transformer, autoencoder, reader, text = loaded
    if has_lora(transformer):
        merge_lora(transformer)
    for network in (autoencoder, reader):
        if isinstance(network, FrameAutoencoder | UnfoldReader):
            network.cast(dtype)
    if compile_blocks:
        transformer.compile_blocks()
    return Networks(
        chosen, transformer, autoencoder, reader, text, device=where, size=size, offload=offload, doubt=doubt
    )


def _random(preset: Preset, dtype: torch.dtype, seed: int) -> Loaded:
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        return MirageTransformer.from_preset(preset, dtype), preset.new_autoencoder(), preset.new_reader(), None
    finally:
        torch.random.set_rng_state(state)


def _own_source(preset: Preset) -> str | Path:
    if preset.weights:
        return preset.weights
    folder = weights_directory() / preset.name
    if not folder.is_dir():
        raise MissingWeightsError(
            f"{folder}: preset {preset.name!r} has no weights in this installation. Give a folder with weights, train "
            "them (mirage train), or ask for random weights"
        )
    return folder


def _loaded(
    source: str | Path,
    preset: Preset,
    dtype: torch.dtype,
    branch_file: str | Path | None,
    lora_file: str | Path | None,
) -> Loaded:
    transformer = load_transformer(
        source,
        dtype=dtype,
        branch_file=branch_file,
        branch_layers=preset.branch_layers,
        lora_file=lora_file,
    )
    autoencoder = load_autoencoder(source, tile=preset.tile)
    reader = None
    if preset.reader is not None:
        reader = load_part(UnfoldReader, source, "reader")
    text = None
    if preset.text:
        text = TextEncoder.from_pretrained(source, tokens=preset.text_tokens)
    elif has_part(source, "text_encoder"):
        raise ValueError(f"{source}: holds a text encoder, but preset {preset.name!r} takes no text")
    return transformer, autoencoder, reader, text


def _device(device: torch.device | str) -> torch.device:
    try:
        where = torch.device(device)
    except RuntimeError:
        where = torch.device("meta")
    if where.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    if where.type == "cuda" and (where.index or 0) >= (count := torch.cuda.device_count()):
        usable = f"one of {count} CUDA devices" if count else "'cpu', no CUDA device is usable here"
        raise ValueError(f"device: expected {usable}, got {device!r}")
    return where
