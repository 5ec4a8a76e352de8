"""The memory branch: a side transformer that reads the memory's readout and hints to the backbone (paper, figure 2).

Its chain of full Wan blocks starts from the embedded readout plus the embedded noisy latents. After each block a
projection, zero at the start of training, gives the hint that is added after one of the backbone's blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mirage_ros.models import log_depth
from mirage_ros.models.blocks import MirageBlock, run_block
from mirage_ros.models.branch_input import fill_views, group_channels, input_channels


class MemoryBranch(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Side transformer of the world model, saved and loaded like any diffusers model.

    Args:
        layers: backbone blocks after which a hint is added, ascending; one branch block for each.
        inputs: groups of input channels in order, names of `branch_input.GROUPS`.
        latent_channels: channels of a latent token in the memory.
        patch_size: frames, rows and columns of cells in one token; the backbone's.
        num_attention_heads, attention_head_dim, ffn_dim, cross_attn_norm, qk_norm, eps: as in the backbone.
        clean_channels: above zero, the network that this branch belongs to estimates so many channels of clean latents
            rather than the flow, with a memory as a correction of the filled readout, zero at the start of training:
            `clean_estimate`. Zero is the paper's form.

    Raises:
        ValueError: layers are not ascending or an input group is unknown.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("MirageBlock",)  # type: ignore[assignment]
    _keep_in_fp32_modules = ["scale_shift_table", "norm1", "norm2", "norm3"]  # type: ignore[assignment]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        layers: Sequence[int] = tuple(range(0, 30, 2)),
        inputs: Sequence[str] = ("latents", "ones"),
        latent_channels: int = 48,
        patch_size: Sequence[int] = (1, 2, 2),
        num_attention_heads: int = 24,
        attention_head_dim: int = 128,
        ffn_dim: int = 14336,
        cross_attn_norm: bool = True,
        qk_norm: str = "rms_norm_across_heads",
        eps: float = 1e-6,
        clean_channels: int = 0,
    ) -> None:
        super().__init__()
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0:
            raise ValueError(f"layers: expected ascending numbers of backbone blocks, got {tuple(layers)}")
        width = num_attention_heads * attention_head_dim
        self.in_channels = input_channels(inputs, latent_channels)
        size = (patch_size[0], patch_size[1], patch_size[2])
        self.patch_embedding = nn.Conv3d(self.in_channels, width, kernel_size=size, stride=size)
        self.proj_in = nn.Linear(width, width)
        self.blocks = nn.ModuleList(self.new_block() for _ in layers)
        self.proj_out = nn.ModuleList(nn.Linear(width, width) for _ in layers)
        for parameter in self.proj_out.parameters():
            nn.init.zeros_(parameter)
        self.correction: nn.Linear | None = None
        if clean_channels:
            if clean_channels not in (latent_channels, latent_channels + log_depth.CHANNELS):
                raise ValueError(
                    f"clean_channels: expected those of a latent, {latent_channels}, with or without the "
                    f"{log_depth.CHANNELS} of depth, got {clean_channels}"
                )
            depth = clean_channels > latent_channels
            wanted = ("visible", "latents", "depth") if depth else ("visible", "latents")
            places = group_channels(inputs, wanted, latent_channels)
            if places is None:
                raise ValueError(f"inputs: expected {', '.join(wanted)} for clean estimates, got {tuple(inputs)}")
            self._visible, self._readout = places[0], places[1:]
            layout = ("layout", "layout_depth") if depth else ("layout",)
            self._layout = group_channels(inputs, layout, latent_channels)
            # With a layout, one channel more says how far to trust it.
            channels = clean_channels + (self._layout is not None)
            self.correction = nn.Linear(width, patch_size[1] * patch_size[2] * channels)
            nn.init.zeros_(self.correction.weight)
            nn.init.zeros_(self.correction.bias)
        self.gradient_checkpointing = False

    @classmethod
    def for_backbone(
        cls,
        backbone: WanTransformer3DModel,
        layers: Sequence[int],
        inputs: Sequence[str],
        latent_channels: int,
        clean: bool = False,
    ) -> MemoryBranch:
        """A new branch whose blocks have the backbone's shape; with `clean` the model estimates clean latents."""
        shared = ("patch_size", "num_attention_heads", "attention_head_dim", "ffn_dim", "cross_attn_norm", "qk_norm")
        configuration = {name: backbone.config[name] for name in (*shared, "eps")}
        return cls(
            layers=tuple(layers),
            inputs=tuple(inputs),
            latent_channels=latent_channels,
            clean_channels=int(backbone.config["out_channels"]) if clean else 0,
            **configuration,
        )

    def new_block(self) -> MirageBlock:
        """A block of this branch's shape, which is the backbone's, with random weights."""
        given, heads = self.config, int(self.config["num_attention_heads"])
        return MirageBlock(
            heads * int(given["attention_head_dim"]),
            int(given["ffn_dim"]),
            heads,
            qk_norm=given["qk_norm"],
            cross_attn_norm=bool(given["cross_attn_norm"]),
            eps=float(given["eps"]),
        )

    def copy_blocks_from(self, backbone: WanTransformer3DModel) -> None:
        """Start the blocks as copies of the backbone's blocks that they hint to (ControlNet, arXiv 2302.05543)."""
        for block, layer in zip(self.blocks, self.config["layers"], strict=True):
            block.load_state_dict(backbone.blocks[layer].state_dict())

    def embed(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """Start of the chain.

        Args:
            memory: (B, in_channels, F, h, w) what the memory shows of target and preceding frames.
            tokens: (B, N, D) the backbone's embedding of the same frames.

        Returns:
            (B, N, D).
        """
        memory = memory.to(self.patch_embedding.weight.dtype)
        embedded = self.patch_embedding(memory).flatten(2).transpose(1, 2).contiguous()
        return self.proj_in(embedded.to(tokens.dtype)) + tokens

    def step(
        self,
        index: int,
        chain: Tensor,
        context: Tensor,
        modulation: Tensor,
        rotary: tuple[Tensor, Tensor],
        run: Callable[..., Tensor] = run_block,
    ) -> tuple[Tensor, Tensor]:
        """Run block `index` of the chain.

        Args:
            chain: (B, N, D) from `embed` or the last step.
            context, modulation, rotary: as for `blocks.run_block`.
            run: `run_block` or its compiled form.

        Returns:
            The chain's next state and the hint for backbone block `layers[index]`, both (B, N, D).
        """
        block = self.blocks[index]
        if self.gradient_checkpointing and torch.is_grad_enabled():
            chain = checkpoint(block, chain, context, modulation, rotary, run, use_reentrant=False)
        else:
            chain = block(chain, context, modulation, rotary, run)
        return chain, self.proj_out[index](chain)

    def clean_estimate(self, correction: Tensor, memory: Tensor) -> Tensor:
        """Clean latents: the readout, filled where the memory shows nothing, plus a correction.

        Filled smoothly from around, and with continued walls and floors where the input has them, as far as they are
        trusted.

        Args:
            correction: (B, C, F, h, w) from the layer `correction`; with a layout (B, C + 1, F, h, w), the last one the
                logit of the trust in it.
            memory: (B, in_channels, F, h, w) the branch's input.
        """
        trust = None
        if self._layout is not None:
            correction, trust = correction[:, :-1], torch.sigmoid(correction[:, -1:])
        seen = (memory[:, self._visible : self._visible + 1] > 0).transpose(1, 2).to(correction)
        readout = memory[:, self._readout].transpose(1, 2).to(correction)
        filled = fill_views(readout, seen).transpose(1, 2)
        if trust is not None:
            # Where something is seen the layout is the readout, without the gaps in its depth.
            trust = torch.where(seen.transpose(1, 2) > 0, 1.0, trust)
            filled = filled + trust * (memory[:, self._layout].to(filled) - filled)
        return filled + correction
