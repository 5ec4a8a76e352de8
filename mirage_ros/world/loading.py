"""Putting a world model together from a preset and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from mirage_ros.machine import fast_dtype
from mirage_ros.models.checkpoints import Checkpoint
from mirage_ros.models.exemplars import Exemplars
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.lora import has_lora, merge_lora
from mirage_ros.models.network_files import MissingWeightsError, load_part
from mirage_ros.models.presets import Preset
from mirage_ros.models.presets import preset as find_preset
from mirage_ros.models.quantised import Quantisation
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.schedule import ScheduleConfig
from mirage_ros.models.text import TextEncoder
from mirage_ros.models.text_features import text_of
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import check_source, has_part, load_autoencoder, load_transformer
from mirage_ros.resources import weights_directory
from mirage_ros.world.doubt import DepthDoubt
from mirage_ros.world.networks import Networks

Drawn = TypeVar("Drawn")


def load_networks(
    source: str | Path | None = None,
    *,
    preset: str | Preset = "default",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    autoencoder_dtype: torch.dtype | None = None,
    tile: int | None = None,
    conventions: str | None = None,
    random_weights: bool = False,
    transformer_file: str | Path | None = None,
    branch_file: str | Path | None = None,
    lora_file: str | Path | None = None,
    distilled_lora: str | Path | None = None,
    text_features: str | Path | None = None,
    schedule: ScheduleConfig | None = None,
    quantised: Quantisation | None = None,
    size: tuple[int, int] | None = None,
    offload: bool = False,
    compile_blocks: bool = False,
    keyframe_stride: int | None = None,
    prompts: Sequence[str] = (),
    seed: int = 0,
) -> Networks:
    """Load the networks of a world model.

    Args:
        source: folder or hub repository in diffusers' layout; by default the preset's own: weights/default of this
            package, or the hub repository that the preset names.
        preset: name, or a preset of one's own.
        device: where to work.
        dtype: of the networks; by default bfloat16 where the device multiplies it fast, see `machine.fast_dtype`.
            Geometry and the memory's positions are float32 and float64 whatever this is.
        autoencoder_dtype: of the autoencoder alone. Wan's own code keeps it in float32, which takes twice the memory
            and time.
        tile: pixels of a tile of Wan's autoencoder, which saves memory and takes longer; the preset's by default.
        keyframe_stride: every so many-th frame is imagined and those between are read; the preset's by default.
        conventions: 'paper', or 'public' for weights trained with the public Mirage code; the preset's own by default.
        random_weights: do not load anything: for tests and for measurements of time.
        transformer_file: the backbone in place of the source's: Wan's own files, one in ComfyUI's names, in float8, or
            GGUF; see `models.checkpoints`.
        branch_file, lora_file: safetensors trained with the public Mirage code.
        distilled_lora: safetensors of a few-step distillation, added to the backbone; see `models.fused_lora`. Give the
            schedule that it was made for as well.
        text_features: prompts that were encoded before, in place of the text encoder; see `models.text_features`.
        schedule: solver, steps and shift; by default those that the weights were distilled for (schedule.json beside
            them), else the preset's. `schedule.FEW_STEPS` goes with `distilled_lora`.
        quantised: 'int8' keeps the transformer's matrices in one byte a weight, through torchao.
        size: pixels (height, width) of a frame; the preset's by default.
        offload: keep only the network at work on the device; where that is the CPU, the transformer is dropped while
            frames are decoded, and loaded again for the next chunk.
        prompts: that will be asked for, encoded before the transformer is loaded; a later one brings the text encoder
            back beside it.
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
    dtype = _floating("dtype", dtype) or fast_dtype(where)
    if keyframe_stride is not None:
        if isinstance(keyframe_stride, bool) or not isinstance(keyframe_stride, int) or keyframe_stride < 1:
            raise ValueError(f"keyframe_stride: expected a whole number from 1, got {keyframe_stride!r}")
        chosen = replace(chosen, keyframe_stride=keyframe_stride)
    if tile is not None:
        if chosen.autoencoder_kind != "wan":
            raise ValueError(f"tile: expected none, the autoencoder of preset {chosen.name!r} has no tiles, got {tile}")
        chosen = replace(chosen, tile=tile)
    own_dtype = _floating("autoencoder_dtype", autoencoder_dtype) or dtype
    text: TextEncoder | None = None
    if random_weights:
        if source is not None:
            raise ValueError(f"source: expected none with random weights, got {source}")
        files = {"transformer_file": transformer_file, "branch_file": branch_file, "lora_file": lora_file}
        for name, file in {**files, "distilled_lora": distilled_lora, "text_features": text_features}.items():
            if file is not None:
                raise ValueError(f"{name}: expected none with random weights, got {file}")

        def transformer_anew() -> MirageTransformer:
            # Where it will work: a processor takes a minute to draw the full-size one.
            with where if where.type == "cuda" and not offload and quantised is None else nullcontext():
                return _drawn(seed, lambda: MirageTransformer.from_preset(chosen, dtype, quantised))

        autoencoder, reader = _drawn(seed, lambda: (chosen.new_autoencoder(own_dtype), chosen.new_reader()))
        exemplars, doubt = None, DepthDoubt()
    else:
        where_from = source or _own_source(chosen)
        doubt, schedule = DepthDoubt.load(where_from), schedule or ScheduleConfig.load(where_from)
        # What can be wrong is said before gigabytes are read, and before the text encoder has done its work.
        check_source(
            where_from,
            chosen.backbone,
            chosen.latent_channels,
            transformer=transformer_file is None,
            branch=branch_file is None,
        )
        for file in (transformer_file, branch_file, lora_file, distilled_lora):
            if file is not None:
                Checkpoint.open(file)
        text = _text(where_from, chosen, where, prompts, text_features)

        def transformer_anew() -> MirageTransformer:
            model = load_transformer(
                where_from,
                dtype=dtype,
                transformer_file=transformer_file,
                backbone_config=chosen.backbone,
                branch_file=branch_file,
                branch_layers=chosen.branch_layers,
                lora_file=lora_file,
                distilled_lora=distilled_lora,
                quantised=quantised,
            )
            if quantised is None and has_lora(model):
                merge_lora(model)
            return model

        autoencoder = load_autoencoder(where_from, own_dtype, tile=chosen.tile)
        reader = None if chosen.reader is None else load_part(UnfoldReader, where_from, "reader")
        # Weights of a run that has not come to them imagine with the transformer alone.
        exemplars = load_part(Exemplars, where_from, "exemplars") if has_part(where_from, "exemplars") else None
    for network in (autoencoder, reader):
        if isinstance(network, FrameAutoencoder | UnfoldReader):
            network.cast(own_dtype if network is autoencoder else dtype)
    if schedule is not None:
        chosen = replace(chosen, schedule=schedule)
    transformer = transformer_anew()
    if compile_blocks:
        transformer.compile_blocks()
    return Networks(
        chosen,
        transformer,
        autoencoder,
        reader,
        text,
        exemplars,
        device=where,
        size=size,
        offload=offload,
        transformer_anew=transformer_anew,
        doubt=doubt,
    )


def _floating(name: str, dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"{name}: expected a floating-point torch.dtype such as torch.bfloat16, got {dtype!r}")
    return dtype


def _drawn(seed: int, draw: Callable[[], Drawn]) -> Drawn:
    """What a function draws from a seed, the same again and again; the caller's own random numbers go on."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        return draw()
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


def _text(
    source: str | Path,
    preset: Preset,
    device: torch.device,
    prompts: Sequence[str],
    file: str | Path | None,
) -> TextEncoder | None:
    """The text encoder with these prompts and the empty one encoded, and freed again.

    Before anything else is loaded: beside the transformer, its 11 GB at full size are too much for most machines.
    """
    if not preset.text:
        if file is not None:
            raise ValueError(f"text_features: expected none, preset {preset.name!r} takes no text, got {file}")
        if has_part(source, "text_encoder"):
            raise ValueError(f"{source}: holds a text encoder, but preset {preset.name!r} takes no text")
        return None
    text = text_of(source, preset, file).to(device)
    text.encode([*prompts, ""])
    text.release()
    return text


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
