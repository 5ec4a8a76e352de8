"""Phases of training in order: what each trains, out of what, and for how long.

`default` makes all parts of the default preset: autoencoder, reader, reader on its own outputs, backbone, branch,
branch and LoRA, and at last backbone, branch and decoder together: its backbone is no treasure to be left as it is.
Presets with a published autoencoder have the last phases only. Every finished phase leaves its part in
FOLDER/model, in the layout that `models.weights_io` reads, so that a run can be stopped and resumed anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder, channels_last
from mirage_ros.models.lora import has_lora, merge_lora
from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.text import TextEncoder
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_part, load_transformer
from mirage_ros.training.autoencoder import AutoencoderSettings, AutoencoderTask, measure_statistics
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.latent_windows import LiveLatents, Windows
from mirage_ros.training.loop import train
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.reader import ReaderSettings, ReaderTask
from mirage_ros.training.stages import Stage, StageTask
from mirage_ros.training.task import LoopSettings

DONE, CACHE = "done.json", "cache.txt"


@dataclass(frozen=True)
class Recipe:
    """A run.

    Attributes:
        preset: what is trained.
        folder: of the run.
        data, held_out: folders of shards.
        loops: settings of each phase, by name; a phase without an entry is left out.
        autoencoder, reader, stages: settings of the tasks.
        source: folder with the parts that are not trained here: vae/, transformer/.
    """

    preset: Preset
    folder: Path
    data: Path
    held_out: Path
    loops: dict[str, LoopSettings]
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    reader: ReaderSettings = field(default_factory=ReaderSettings)
    stages: StageSettings = field(default_factory=StageSettings)
    source: Path | None = None

    @property
    def model(self) -> Path:
        """Where finished parts are."""
        return self.folder / "model"


# Names of the phases in order, and the stage of those that train the transformer.
STAGE_OF: dict[str, Stage] = {"backbone": "backbone", "branch": "branch", "lora": "lora", "joint": "all"}
PHASES = ("autoencoder", "reader", "reader-chains", *STAGE_OF)
# Phases that begin with a new network, and the part that they leave.
NEW_PARTS = {"autoencoder": "vae", "reader": "reader", "branch": "branch"}

# Wall-clock minutes of each phase on two CPU cores, and what differs from the loop's defaults.
DEFAULT_LOOPS: dict[str, LoopSettings] = {
    "autoencoder": LoopSettings(minutes=30, batch=8, learning_rate=1.2e-3),
    "reader": LoopSettings(minutes=10, batch=8, learning_rate=1.5e-3, betas=(0.9, 0.98)),
    "reader-chains": LoopSettings(minutes=60, batch=8, learning_rate=5e-4, betas=(0.9, 0.98), warmup=20),
    "backbone": LoopSettings(minutes=10, batch=4, learning_rate=1e-3, ema=0.99),
    "branch": LoopSettings(minutes=12, batch=4, learning_rate=1e-3, ema=0.99),
    "lora": LoopSettings(minutes=8, batch=4, learning_rate=7e-4, ema=0.99),
    "joint": LoopSettings(minutes=240, batch=4, learning_rate=7e-4, ema=0.998),
}


def run(recipe: Recipe, *, resume: bool = True) -> None:
    """Run all phases that are not done yet.

    Args:
        recipe: what and how.
        resume: go on from what the folder holds; otherwise every phase starts anew.

    Raises:
        ValueError: a phase that begins with a new network would write it over one that another run has trained; or the
            run was begun on another kind of cache.
    """
    for phase, part in NEW_PARTS.items():
        if resume and phase in recipe.loops and (recipe.model / part).is_dir() and not (recipe.folder / phase).is_dir():
            going_on = ", ".join(name for name in PHASES if name not in NEW_PARTS)
            raise ValueError(
                f"phase: expected some of {going_on} for weights that are trained already, got {phase!r}, which begins "
                f"with a new network, and {recipe.model / part} exists; --fresh replaces it"
            )
    _check_cache(recipe)
    clips, held_out = ClipCache(recipe.data), ClipCache(recipe.held_out)
    finished: dict[str, Callable[[LoopSettings, Path], dict[str, float]]] = {
        "autoencoder": lambda loop, folder: _train_autoencoder(recipe, clips, held_out, loop, folder, resume),
        "reader": lambda loop, folder: _train_reader(recipe, clips, held_out, loop, folder, resume, hops=1),
        "reader-chains": lambda loop, folder: _train_reader(recipe, clips, held_out, loop, folder, resume, hops=4),
        **{
            phase: (
                lambda loop, folder, phase=phase, stage=stage: _train_stage(  # type: ignore[misc]
                    recipe, stage, clips, held_out, loop, folder, resume
                )
            )
            for phase, stage in STAGE_OF.items()
        },
    }
    for phase in PHASES:
        if phase not in recipe.loops:
            continue
        folder = recipe.folder / phase
        if resume and (folder / DONE).is_file():
            if int(os.environ.get("RANK", "0")) == 0:
                print(f"{phase}: done before, see {folder}; --fresh trains it anew", flush=True)
            continue
        torch.manual_seed(recipe.loops[phase].seed)
        figures = finished[phase](recipe.loops[phase], folder)
        if int(os.environ.get("RANK", "0")) == 0:
            (folder / DONE).write_text(json.dumps(figures, indent=1))
            print(f"{phase}: {json.dumps({name: round(value, 3) for name, value in figures.items()})}", flush=True)


def _check_cache(recipe: Recipe) -> None:
    """Refuse to go on with something else than what the transformer was conditioned on, even anew from its weights."""
    note, cache = recipe.folder / CACHE, recipe.stages.cache
    # Runs from before there was a choice have none.
    begun = note.read_text().strip() if note.is_file() else "latent"
    known = note.is_file() or any((recipe.folder / phase).is_dir() for phase in STAGE_OF)
    if known and begun != cache:
        raise ValueError(f"cache: expected {begun} as in {recipe.folder}, got {cache}; take another folder")


def _train_autoencoder(
    recipe: Recipe, clips: ClipCache, held_out: ClipCache, loop: LoopSettings, folder: Path, resume: bool
) -> dict[str, float]:
    autoencoder = recipe.preset.new_autoencoder()
    if not isinstance(autoencoder, FrameAutoencoder):
        raise ValueError(f"preset: {recipe.preset.name!r} has a published autoencoder, which is not trained here")
    task = AutoencoderTask(autoencoder, clips, held_out, recipe.autoencoder)
    figures = train(task, folder, loop, resume=resume)
    autoencoder.eval()
    mean, deviation, log_mean, log_deviation = measure_statistics(autoencoder, clips)
    autoencoder.normalise_by(mean, deviation)
    autoencoder.save_pretrained(recipe.model / "vae")
    return figures | {"log_depth_mean": log_mean, "log_depth_std": log_deviation}


def load_autoencoder(recipe: Recipe) -> Autoencoder:
    """The finished autoencoder of a run, or of its source.

    Raises:
        FileNotFoundError: there is none.
    """
    from mirage_ros.models.weights_io import load_autoencoder as load

    folder = recipe.model if (recipe.model / "vae").is_dir() else recipe.source
    if folder is None or not (folder / "vae").is_dir():
        raise FileNotFoundError(f"vae: {recipe.model} has none; train the autoencoder first or give a source")
    autoencoder = load(folder).eval()
    return autoencoder


def windows(recipe: Recipe, clips: ClipCache, autoencoder: Autoencoder, name: str) -> Windows:
    """Latents of clips: computed once for autoencoders of single frames, else when asked for."""
    if isinstance(autoencoder, FrameAutoencoder):
        return LatentCache(clips, autoencoder, recipe.folder / "latents" / name)
    return LiveLatents(clips, autoencoder)


def _train_reader(
    recipe: Recipe,
    clips: ClipCache,
    held_out: ClipCache,
    loop: LoopSettings,
    folder: Path,
    resume: bool,
    hops: int,
) -> dict[str, float]:
    autoencoder, reader = load_autoencoder(recipe), recipe.preset.new_reader()
    if reader is None or not isinstance(autoencoder, FrameAutoencoder):
        raise ValueError(f"preset: {recipe.preset.name!r} has no reader to train")
    if hops > 1:
        reader = load_part(UnfoldReader, recipe.model, "reader")
        channels_last(reader)
    data, unseen = windows(recipe, clips, autoencoder, "train"), windows(recipe, held_out, autoencoder, "held-out")
    assert isinstance(data, LatentCache)
    assert isinstance(unseen, LatentCache)
    # On chains the decoder learns to draw what the reader reads.
    settings = replace(recipe.reader, hops=hops, decoder=hops > 1)
    task = ReaderTask(reader, autoencoder, data, unseen, recipe.preset, settings)
    figures = train(task, folder, loop, resume=resume)
    task.save(recipe.model)
    return figures


def load_reader(recipe: Recipe) -> UnfoldReader | None:
    """The finished reader of a run, or of its source; None where the preset has none.

    Raises:
        FileNotFoundError: there should be one.
    """
    if recipe.preset.reader is None:
        return None
    folder = recipe.model if (recipe.model / "reader").is_dir() else recipe.source
    if folder is None or not (folder / "reader").is_dir():
        raise FileNotFoundError(f"reader: {recipe.model} has none; train the reader first or give a source")
    reader = load_part(UnfoldReader, folder, "reader").eval()
    channels_last(reader)
    return reader


def stage_task(recipe: Recipe, stage: Stage, clips: ClipCache, held_out: ClipCache) -> StageTask:
    """The task of a stage, with the parts of the stages before."""
    autoencoder, reader = load_autoencoder(recipe), load_reader(recipe)
    data, unseen = windows(recipe, clips, autoencoder, "train"), windows(recipe, held_out, autoencoder, "held-out")
    model = starting_model(recipe, stage)
    prompts = None
    if recipe.preset.text:
        if recipe.source is None:
            raise FileNotFoundError(f"text_encoder: expected a source that has one for preset {recipe.preset.name!r}")
        prompts = Prompts(recipe.preset, TextEncoder.from_pretrained(recipe.source, tokens=recipe.preset.text_tokens))
    return StageTask(stage, model, recipe.preset, data, unseen, reader, autoencoder, recipe.stages, prompts)


def starting_model(recipe: Recipe, stage: Stage) -> MirageTransformer:
    """The transformer that a stage starts from, in float32: the weights of the stages before, or the source's.

    Raises:
        ValueError: there is a branch already, and it takes other inputs than the preset's.
    """
    preset = recipe.preset
    for folder in (recipe.model, recipe.source):
        if folder is None or not (folder / "transformer").is_dir():
            continue
        if (folder / "branch").is_dir() and stage in ("lora", "all"):
            model = load_transformer(folder)
            assert model.branch is not None
            inputs = tuple(model.branch.config["inputs"])
            if inputs != preset.branch_inputs:
                raise ValueError(f"inputs: expected {preset.branch_inputs} in {folder / 'branch'}, got {inputs}")
            if stage == "all":
                model = MirageTransformer(merged_backbone(model), model.branch)
            break
        backbone = load_part(WanTransformer3DModel, folder, "transformer")
        branch = MemoryBranch.for_backbone(
            backbone, preset.branch_layers, preset.branch_inputs, preset.latent_channels, preset.predicts_clean
        )
        branch.copy_blocks_from(backbone)
        model = MirageTransformer(backbone, branch)
        break
    else:
        model = MirageTransformer.from_preset(preset)
    return model.train()


def _train_stage(
    recipe: Recipe,
    stage: Stage,
    clips: ClipCache,
    held_out: ClipCache,
    loop: LoopSettings,
    folder: Path,
    resume: bool,
) -> dict[str, float]:
    task = stage_task(recipe, stage, clips, held_out)
    recipe.folder.mkdir(parents=True, exist_ok=True)
    (recipe.folder / CACHE).write_text(recipe.stages.cache + "\n")
    figures = train(task, folder, loop, resume=resume)
    task.save(recipe.model)
    if stage == "all":
        # It is in the backbone now.
        shutil.rmtree(recipe.model / "lora", ignore_errors=True)
    return figures


def merged_backbone(model: MirageTransformer) -> WanTransformer3DModel:
    """The backbone with LoRA in its weights and no trace of it in its names."""
    if not has_lora(model):
        return model.backbone
    merge_lora(model)
    plain = WanTransformer3DModel.from_config(model.backbone.config)
    weights = model.backbone.state_dict()
    plain.load_state_dict({name.replace(".base_layer.", "."): w for name, w in weights.items() if "lora_" not in name})
    return plain
