"""The networks of a world model and where they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mirage_ros.images import fit_nearest
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.write_rules import PATCHED_KNOWN, PATCHED_SHARE, WriteRules
from mirage_ros.memory.zbuffer.projection import Convention
from mirage_ros.models import log_depth
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.branch_input import pack_frames
from mirage_ros.models.exemplars import Exemplars
from mirage_ros.models.presets import Preset
from mirage_ros.models.public_weights import OnesLatents
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.text import TextEncoder, no_text
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.world.doubt import DepthDoubt
from mirage_ros.world.unfolding import Unfolder

# Prompts whose context tokens are kept: 3 to 6 MB each at full size.
KEPT_PROMPTS = 16
# Hard cap on the buffers of a memory, unless told otherwise.
MAX_BYTES = 512 << 20


def new_memory(
    preset: Preset,
    channels: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.int8,
    max_bytes: int = MAX_BYTES,
    *,
    colour: bool = False,
) -> LatentMemory:
    """An empty memory that is written and read as a preset wants it.

    Args:
        preset: gives depth patches, rules of writing and conventions.
        channels: of a latent token.
        device: where it is.
        dtype: of its features.
        max_bytes: hard cap on its buffers.
        colour: keep the colour of every element, for clouds.
    """
    conventions = preset.conventions
    patched = {"share": PATCHED_SHARE, "known": PATCHED_KNOWN} if preset.memory_patch else {}
    return LatentMemory(
        channels,
        device,
        dtype,
        max_bytes,
        patch=preset.memory_patch,
        colour=colour,
        rules=WriteRules(select=conventions.footprints, context=preset.memory_context, **patched),
        convention=Convention(conventions.integer_centres, conventions.footprints, conventions.bilinear_depth),
    )


class Networks:
    """The networks of a preset, their device, and the constants computed once.

    Args:
        preset: shape and habits.
        transformer, autoencoder, reader: networks in evaluation mode.
        exemplars: what is drawn from where the memory shows nothing; without them it is the transformer's estimate.
        text: prompts to features, where the preset takes text and its encoder is at hand.
        device: where the work is done.
        size: pixels (height, width) of a frame; the preset's by default.
        offload: keep only the large network at work on the device, the other in host memory. On a CPU the transformer
            is dropped while frames are decoded.
        transformer_anew: gives the transformer again, once it was dropped.
        doubt: how sure its depth is.

    Raises:
        ValueError: networks and preset do not fit, or the size is not a whole number of tokens.
    """

    def __init__(
        self,
        preset: Preset,
        transformer: MirageTransformer,
        autoencoder: Autoencoder,
        reader: UnfoldReader | None = None,
        text: TextEncoder | None = None,
        exemplars: Exemplars | None = None,
        *,
        device: torch.device | str = "cpu",
        size: tuple[int, int] | None = None,
        offload: bool = False,
        transformer_anew: Callable[[], MirageTransformer] | None = None,
        doubt: DepthDoubt | None = None,
    ) -> None:
        self.doubt = doubt or DepthDoubt()
        self._transformer_anew = transformer_anew if offload and torch.device(device).type == "cpu" else None
        self.preset, self.device, self.offload = preset, torch.device(device), offload
        self.transformer, self.autoencoder, self.reader, self.text = transformer, autoencoder, reader, text
        self.exemplars = exemplars
        self.size = size or (preset.height, preset.width)
        self.latent_size = _latent_size(preset, autoencoder, self.size)
        _check_channels(preset, transformer, autoencoder, reader, exemplars)
        networks: tuple[nn.Module | None, ...] = (transformer, autoencoder, reader, exemplars)
        for network in networks:
            if network is not None:
                network.eval().requires_grad_(False)
                # Reader and exemplars are small.
                if not offload or network is reader or network is exemplars:
                    network.to(self.device)
        self.unfolder = None if reader is None else Unfolder(reader)
        self._contexts: dict[str, Tensor] = {}
        self._ones = OnesLatents(autoencoder, self.encode)

    def draws(self, unseen: str) -> bool:
        """Whether exemplars take the place of the mean for such a setting: 'sample', of presets with keyframes."""
        return unseen == "sample" and self.exemplars is not None and self.preset.keyframe_stride > 1

    @contextmanager
    def timed(self, seconds: dict[str, float], stage: str) -> Iterator[None]:
        """Add the wall time of a stage to `seconds`; waits for the device, once a stage."""
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start

    @contextmanager
    def at_work(self, network: nn.Module) -> Iterator[None]:
        """Have a network on the device; without offloading it is there always."""
        if network is self.transformer and self._transformer_anew is not None and network.device.type == "meta":
            anew = self._transformer_anew()
            self.transformer.backbone, self.transformer.branch = anew.backbone, anew.branch
            self.transformer.eval().requires_grad_(False)
        if not self.offload or self._transformer_anew is not None:
            yield
            return
        network.to(self.device)
        try:
            yield
        finally:
            network.to("cpu")

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W) to latents (B, C, F, h, w)."""
        with self.at_work(self.autoencoder):
            return self.autoencoder.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F, h, w) to frames (B, T, 3, H, W) float32 0..1."""
        if self._transformer_anew is not None:
            self.transformer.to("meta")
        with self.at_work(self.autoencoder):
            return self.autoencoder.decode(latents)

    def check_prompt(self, prompt: str) -> None:
        """Refuse what cannot be a prompt here.

        Raises:
            ValueError: no text, or text for a model without text or without its text encoder.
        """
        if not isinstance(prompt, str):
            raise ValueError(f"prompt: expected text, got {prompt!r}")
        if prompt and not self.preset.text:
            raise ValueError(f"prompt: expected none, preset {self.preset.name!r} takes no text, got {prompt!r}")
        if prompt and self.text is None:
            raise ValueError(f"prompt: expected none, the text encoder was not loaded, got {prompt!r}")

    def context(self, prompt: str) -> Tensor:
        """(1, L, D) context tokens of a prompt, computed once; the text encoder is freed afterwards.

        Raises:
            ValueError: see `check_prompt`.
        """
        self.check_prompt(prompt)
        if prompt not in self._contexts:
            if self.text is not None:
                features = self.text.to(self.device).encode([prompt])
                self.text.release()
            else:
                features = no_text(1, self.preset.text_dim, self.preset.text_tokens, self.device)
            with torch.no_grad(), self.at_work(self.transformer):
                self._contexts[prompt] = self.transformer.embed_text(features)
        context = self._contexts[prompt]
        for old in list(self._contexts)[:-KEPT_PROMPTS]:
            del self._contexts[old]
        return context

    def ones(self, inputs: Sequence[str], frames: int) -> Tensor | None:
        """(F, C, h, w) latents of an all-ones video, if the branch asks for them; encoded once for each length.

        Args:
            inputs: the branch's groups.
            frames: latent frames F, targets before preceding. The autoencoder is causal, so that the first of them are
                those of the shorter video of the targets alone.
        """
        return self._ones(frames, *self.latent_size, self.device) if "ones" in inputs else None

    def fine_depth(self, depth: Tensor) -> Tensor:
        """Fit depth (H, W) to the model's view and bring it to the grid of depth channels, as for training.

        Returns:
            (2h, 2w) metres, `log_depth.SKY_DEPTH` where it is too far to measure (+inf), NaN where it is unknown.
        """
        metres = fit_nearest(torch.where(depth == torch.inf, log_depth.SKY_DEPTH, depth), *self.size)
        return log_depth.reduce(metres, *(cells * log_depth.FINE for cells in self.latent_size))

    def with_depth(self, latents: Tensor, depth: Tensor) -> Tensor:
        """Latents (C, F, h, w) with the channels of their depth (F, 2h, 2w) metres, whose holes are filled."""
        packed = pack_frames(depth, self.preset.log_depth_mean, self.preset.log_depth_std)
        return torch.cat([latents, packed.transpose(0, 1).to(latents)])


def _latent_size(preset: Preset, autoencoder: Autoencoder, size: tuple[int, int]) -> tuple[int, int]:
    rows, columns = autoencoder.latent_size(*size)
    _, patch_rows, patch_columns = preset.backbone["patch_size"]
    if rows % patch_rows or columns % patch_columns:
        unit = (autoencoder.strides[1] * patch_rows, autoencoder.strides[2] * patch_columns)
        raise ValueError(f"size: expected a height and width in multiples of {unit} pixels, got {size}")
    return rows, columns


def _check_channels(
    preset: Preset,
    transformer: MirageTransformer,
    autoencoder: Autoencoder,
    reader: UnfoldReader | None,
    exemplars: Exemplars | None,
) -> None:
    if preset.read_rule == "unfold" and reader is None:
        raise ValueError(f"reader: expected one for preset {preset.name!r}, whose read rule is 'unfold', got none")
    for name, expected, got in (
        ("autoencoder", preset.latent_channels, autoencoder.channels),
        ("transformer", preset.latent_channels + preset.depth_channels, transformer.in_channels),
        ("reader", preset.latent_channels, None if reader is None else reader.config["channels"]),
        ("exemplars", preset.latent_channels, None if exemplars is None else exemplars.config["latent_channels"]),
        ("exemplars", transformer.in_channels, None if exemplars is None else exemplars.config["channels"]),
    ):
        if got is not None and expected != got:
            raise ValueError(f"{name}: expected {expected} latent channels for preset {preset.name!r}, got {got}")
