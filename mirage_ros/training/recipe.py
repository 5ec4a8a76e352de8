"""Phases of training in order: what each trains, out of what, and for how long.

`default` makes all parts of the default preset: autoencoder, reader, reader on its own outputs, backbone, branch,
branch and LoRA, and at last backbone, branch and decoder together: its backbone is no treasure to be left as it is.
Presets with a published autoencoder have branch and LoRA, and `distil` beside. Every finished phase leaves its part in
FOLDER/model, in the layout that `models.weights_io` reads, so that a run can be stopped and resumed anywhere; what is
distilled goes to FOLDER/distilled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder, channels_last
from mirage_ros.models.lora import has_lora, merge_lora
from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.network_files import load_part, save_part
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.text_features import text_of
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_autoencoder, load_transformer
from mirage_ros.processes import process_and_count
from mirage_ros.training.autoencoder import CROP, AutoencoderTask
from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.exemplars import gather
from mirage_ros.training.keyframe_means import KeyframeMeans
from mirage_ros.training.latent_cache import ClipLatents, LatentCache, fingerprint
from mirage_ros.training.loop import train
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.reader import ReaderTask
from mirage_ros.training.stages import Stage, StageTask
from mirage_ros.training.task import LoopSettings, TrainingTask

DONE = "done.json"


@dataclass(frozen=True)
class Recipe:
    """A run.

    Attributes:
        preset: what is trained.
        folder: of the run.
        data, held_out: folders of shards.
        loops: settings of each phase, by name; a phase without an entry is left out.
        crop: rows and columns of what the autoencoder is trained on.
        stages: settings of the stages of the transformer.
        source: folder with the parts that are not trained here: vae/, transformer/.
        exemplars: how many are chosen when all else is done; none by default.
    """

    preset: Preset
    folder: Path
    data: Path
    held_out: Path
    loops: dict[str, LoopSettings]
    crop: tuple[int, int] = CROP
    stages: StageSettings = field(default_factory=StageSettings)
    source: Path | None = None
    exemplars: int = 0

    def __post_init__(self) -> None:
        if self.exemplars < 0:
            raise ValueError(f"exemplars: expected a number from 0, got {self.exemplars}")

    @property
    def model(self) -> Path:
        """Where finished parts are."""
        return self.folder / "model"


# Names of the phases in order, and the stage of those that train the transformer.
STAGE_OF: dict[str, Stage] = {
    "backbone": "backbone",
    "branch": "branch",
    "lora": "lora",
    "joint": "all",
    "distil": "distil",
}
LOOPS = ("autoencoder", "reader", "reader-chains", *STAGE_OF)
# The last one chooses and trains nothing.
EXEMPLARS = "exemplars"
PHASES = (*LOOPS, EXEMPLARS)
# Of the default preset: what makes its weights 60 MB.
DEFAULT_EXEMPLARS = 1440
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
    "distil": LoopSettings(minutes=60, batch=1, learning_rate=1e-4, ema=0.99),
}


def phases_of(preset: Preset) -> tuple[str, ...]:
    """The phases of a preset in order."""
    if preset.autoencoder_kind != "frame":
        return ("branch", "lora", "distil")
    return tuple(phase for phase in PHASES if phase != "distil")


def run(recipe: Recipe, *, resume: bool = True) -> None:
    """Run all phases that are not done yet.

    Args:
        recipe: what and how.
        resume: go on from what the folder holds; otherwise every phase starts anew.

    Raises:
        ValueError: a phase that begins with a new network would write it over one that another run has trained.
    """
    for phase, part in NEW_PARTS.items():
        if resume and phase in recipe.loops and (recipe.model / part).is_dir() and not (recipe.folder / phase).is_dir():
            going_on = ", ".join(name for name in PHASES if name not in NEW_PARTS)
            raise ValueError(
                f"phase: expected some of {going_on} for weights that are trained already, got {phase!r}, which begins "
                f"with a new network, and {recipe.model / part} exists; --fresh replaces it"
            )
    clips, held_out = ClipCache(recipe.data), ClipCache(recipe.held_out)
    first = process_and_count()[0] == 0
    for phase in LOOPS:
        if phase not in recipe.loops:
            continue
        folder, loop = recipe.folder / phase, recipe.loops[phase]
        if resume and (folder / DONE).is_file():
            if first:
                print(f"{phase}: done before, see {folder}; --fresh trains it anew", flush=True)
            continue
        torch.manual_seed(loop.seed)
        task = new_task(recipe, phase, clips, held_out)
        figures = train(task, folder, loop, resume=resume)
        if first:
            # Its teacher stays as it is.
            figures |= task.finish(recipe.folder / "distilled" if phase == "distil" else recipe.model)
            (folder / DONE).write_text(json.dumps(figures, indent=1))
            print(f"{phase}: {json.dumps({name: round(value, 3) for name, value in figures.items()})}", flush=True)
        if dist.is_initialized():
            # The next phase begins with what the first process has written.
            dist.barrier()
    if recipe.exemplars and first:
        _choose_exemplars(recipe, clips, resume=resume)


def new_task(recipe: Recipe, phase: str, clips: ClipCache, held_out: ClipCache) -> TrainingTask:
    """The task of a phase, with the parts of the phases before.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: the preset has no such part to train.
    """
    preset = recipe.preset
    if phase == "autoencoder":
        fresh = preset.new_autoencoder()
        if not isinstance(fresh, FrameAutoencoder):
            raise ValueError(f"preset: {preset.name!r} has a published autoencoder, which is not trained here")
        return AutoencoderTask(fresh, clips, held_out, recipe.crop)
    autoencoder = load_autoencoder(_folder_of(recipe, "vae")).eval()
    data, unseen = (
        latents_of(recipe, clips, autoencoder, "train"),
        latents_of(recipe, held_out, autoencoder, "held-out"),
    )
    if phase in STAGE_OF:
        stage, reader, prompts = STAGE_OF[phase], load_reader(recipe), None
        model = starting_model(recipe, stage)
        if preset.text:
            if recipe.source is None:
                raise FileNotFoundError(f"text_encoder: expected a source that has one for preset {preset.name!r}")
            prompts = Prompts(preset, text_of(recipe.source, preset))
        return StageTask(stage, model, preset, data, unseen, reader, autoencoder, recipe.stages, prompts)
    # On chains the decoder learns to draw what the reader reads.
    chains = phase == "reader-chains"
    reader = load_reader(recipe) if chains else preset.new_reader()
    if reader is None or not isinstance(data, LatentCache) or not isinstance(unseen, LatentCache):
        raise ValueError(f"preset: {preset.name!r} has no reader to train")
    assert isinstance(autoencoder, FrameAutoencoder)
    return ReaderTask(reader.train(), autoencoder, data, unseen, preset, hops=4 if chains else 1, decoder=chains)


def _choose_exemplars(recipe: Recipe, clips: ClipCache, *, resume: bool) -> None:
    """Write exemplars/, out of keyframes whose means the finished transformer estimates, once for each clip.

    Raises:
        ValueError: the preset does not estimate means.
        FileNotFoundError: a part is missing.
    """
    preset, done = recipe.preset, recipe.folder / EXEMPLARS / DONE
    autoencoder = load_autoencoder(_folder_of(recipe, "vae")).eval()
    if not preset.predicts_clean or not isinstance(autoencoder, FrameAutoencoder):
        raise ValueError(f"preset: {preset.name!r} has no exemplars, as its transformer draws by itself")
    for part in ("transformer", "branch"):
        _folder_of(recipe, part)
    model = starting_model(recipe, "all").eval().requires_grad_(False)
    reader = load_reader(recipe)
    # Of other networks the estimates are others, and so is what they match.
    networks = "-".join(
        fingerprint(part, leave_out="decoder.")[:8] for part in (model, reader, autoencoder) if part is not None
    )
    if resume and done.is_file() and json.loads(done.read_text())["networks"] == networks:
        print(f"{EXEMPLARS}: done before, see {done.parent}; --fresh chooses them anew", flush=True)
        return
    chunks = ChunkModel(model, preset, reader, autoencoder, Prompts(preset))
    data = KeyframeMeans(latents_of(recipe, clips, autoencoder, "train"), chunks, recipe.folder / "means")
    exemplars = gather(data, recipe.exemplars)
    recipe.model.mkdir(parents=True, exist_ok=True)
    save_part(exemplars, recipe.model / EXEMPLARS)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps({"networks": networks, "keyframes": len(data), "chosen": len(exemplars)}))
    print(f"{EXEMPLARS}: {len(exemplars)} of {len(data)} keyframes", flush=True)


def latents_of(recipe: Recipe, clips: ClipCache, autoencoder: Autoencoder, name: str) -> ClipLatents:
    """Latents of clips: computed once for autoencoders of single frames, else when asked for."""
    if isinstance(autoencoder, FrameAutoencoder):
        return LatentCache(clips, autoencoder, recipe.folder / "latents" / name)
    return ClipLatents(clips, autoencoder)


def load_reader(recipe: Recipe) -> UnfoldReader | None:
    """The finished reader of a run, or of its source; None where the preset has none.

    Raises:
        FileNotFoundError: there should be one.
    """
    if recipe.preset.reader is None:
        return None
    reader = load_part(UnfoldReader, _folder_of(recipe, "reader"), "reader").eval()
    channels_last(reader)
    return reader


def _folder_of(recipe: Recipe, part: str) -> Path:
    """The run's own folder of parts, or its source's, whichever has the part."""
    for folder in (recipe.model, recipe.source):
        if folder is not None and (folder / part).is_dir():
            return folder
    name = "autoencoder" if part == "vae" else part
    raise FileNotFoundError(f"{part}: {recipe.model} has none; train the {name} first or give a source")


def starting_model(recipe: Recipe, stage: Stage) -> MirageTransformer:
    """The transformer that a stage starts from, in float32: the weights of the stages before, or the source's.

    Raises:
        FileNotFoundError: there is nothing to distil.
        ValueError: there is a branch already, and it takes other inputs than the preset's.
    """
    preset = recipe.preset
    for folder in (recipe.model, recipe.source):
        if folder is None or not (folder / "transformer").is_dir():
            continue
        if stage == "distil" and not (folder / "branch").is_dir():
            raise FileNotFoundError(f"branch: {folder} has none to distil; train the branch first or give a source")
        if not (folder / "branch").is_dir() or stage not in ("lora", "all", "distil"):
            backbone = load_part(WanTransformer3DModel, folder, "transformer")
            branch = MemoryBranch.for_backbone(
                backbone, preset.branch_layers, preset.branch_inputs, preset.latent_channels, preset.predicts_clean
            )
            branch.copy_blocks_from(backbone)
            return MirageTransformer(backbone, branch).train()
        model = load_transformer(folder)
        assert model.branch is not None
        inputs = tuple(model.branch.config["inputs"])
        if inputs != preset.branch_inputs:
            raise ValueError(f"inputs: expected {preset.branch_inputs} in {folder / 'branch'}, got {inputs}")
        return (MirageTransformer(merged_backbone(model), model.branch) if stage == "all" else model).train()
    if stage == "distil":
        raise FileNotFoundError(f"transformer: {recipe.model} has none to distil; train it first or give a source")
    return MirageTransformer.from_preset(preset).train()


def merged_backbone(model: MirageTransformer) -> WanTransformer3DModel:
    """The backbone with LoRA in its weights and no trace of it in its names."""
    if not has_lora(model):
        return model.backbone
    merge_lora(model)
    plain = WanTransformer3DModel.from_config(model.backbone.config)
    weights = model.backbone.state_dict()
    plain.load_state_dict({name.replace(".base_layer.", "."): w for name, w in weights.items() if "lora_" not in name})
    return plain
