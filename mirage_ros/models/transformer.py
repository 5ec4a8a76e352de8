"""The world model's transformer: diffusers' Wan backbone with a memory branch, one timestep for each frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mirage_ros.models.blocks import MirageBlock, modulate, run_block
from mirage_ros.models.checkpoints import final_dtype
from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.network_files import default_dtype
from mirage_ros.models.presets import Preset
from mirage_ros.models.quantised import Quantisation, quantise
from mirage_ros.models.rope import sequence_embedding
from mirage_ros.models.schedule import TRAIN_TIMESTEPS

# Noise levels below this are treated as this one where a flow is made of a clean estimate.
LEAST_SIGMA = 1e-3


class MirageTransformer(nn.Module):
    """Video diffusion transformer that is conditioned on the memory.

    The backbone is diffusers' WanTransformer3DModel, untouched, so its published weights load as they are; the forward
    pass is this class's own. Frames come as [reference | target | preceding]: references are past views, preceding
    frames are the end of the last chunk, and both are context with timestep 0. With zero hints and no context it
    computes what diffusers computes, bit for bit in float32; two short cuts, one time embedding for each frame and a
    single context token, differ from it in the last place only, because matrix products of other sizes round otherwise.

    Args:
        backbone: the video transformer; temporal patch size 1, no image embedder.
        branch: the memory branch; None for the bare backbone.

    Raises:
        ValueError: backbone and branch do not fit.
    """

    def __init__(self, backbone: WanTransformer3DModel, branch: MemoryBranch | None = None) -> None:
        super().__init__()
        _check_parts(backbone, branch)
        self.backbone = backbone
        self.branch = branch
        for block in backbone.blocks:
            MirageBlock.adopt(block)
        self._run: Callable[..., Tensor] = run_block

    @classmethod
    def from_preset(
        cls, preset: Preset, dtype: torch.dtype = torch.float32, quantised: Quantisation | None = None
    ) -> MirageTransformer:
        """A model of the preset's shape with random weights, its branch starting from copies of the backbone's blocks.

        Weights are drawn in their final type: a float32 copy of the full-size model would need 30 GB first. Quantised
        ones are drawn block by block, and the branch's blocks by themselves. Under `torch.device("meta")` nothing is
        allocated.
        """
        with default_dtype(dtype):
            blocks = int(preset.backbone["num_layers"])
            backbone = WanTransformer3DModel(**{**preset.backbone, "num_layers": 0 if quantised else blocks})
            branch = MemoryBranch.for_backbone(
                backbone, preset.branch_layers, preset.branch_inputs, preset.latent_channels, preset.predicts_clean
            )
            if quantised:
                for block in branch.blocks:
                    quantise(block, quantised)
                backbone.register_to_config(num_layers=blocks)
                for _ in range(blocks):
                    backbone.blocks.append(branch.new_block())
                    quantise(backbone.blocks[-1], quantised)
        if backbone.device.type != "meta" and not quantised:
            branch.copy_blocks_from(backbone)
        model = cls(backbone, branch)
        model.cast(dtype)
        return model

    @property
    def in_channels(self) -> int:
        """Channels of the noisy latents."""
        return int(self.backbone.config["in_channels"])

    @property
    def estimates_clean(self) -> bool:
        """Whether clean latents are estimated, as a correction of the readout, rather than the flow."""
        return self.branch is not None and self.branch.correction is not None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the large weights; norms and tables may be float32 whatever this is."""
        return self.backbone.patch_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.patch_embedding.weight.device

    def cast(self, dtype: torch.dtype) -> None:
        """Change the type of the weights in place; norms, modulation tables and the time embedding stay float32."""
        for part in (self.backbone, self.branch):
            if part is None:
                continue
            for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
                if tensor.is_floating_point() and tensor.dtype != (wanted := final_dtype(part, name, dtype)):
                    tensor.data = tensor.data.to(wanted)

    def set_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Recompute each block in the backward pass rather than keep its activations."""
        self.backbone.gradient_checkpointing = enabled
        if self.branch is not None:
            self.branch.gradient_checkpointing = enabled

    def compile_blocks(self, **options: object) -> None:
        """Run the blocks through torch.compile: one graph serves all of a kind, so that compiling stays short."""
        self._run = torch.compile(run_block, **options)  # type: ignore[call-overload]

    def embed_text(self, text: Tensor) -> Tensor:
        """Text features (B, L, text_dim) to context tokens (B, L, D); constant over a rollout, so computed once."""
        projected: Tensor = self.backbone.condition_embedder.text_embedder(text.to(self.dtype))
        return projected

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        context: Tensor,
        memory: Tensor | None = None,
        *,
        references: int = 0,
    ) -> Tensor:
        """Predict the flow (noise minus clean latents).

        A branch with `clean_channels` makes the network estimate clean latents, and this the flow that leads to them:
        with large patches that is far easier to learn than to carry the noise through (arXiv 2511.13720).

        Args:
            latents: (B, C, F, h, w), frames in the order [reference | target | preceding].
            timesteps: (B, F) in 0..1000, one for each frame; or (B,) for all frames; or (B, tokens) one for each token.
            context: (B, L, D) from `embed_text`.
            memory: (B, K, F - references, h, w) from `branch_input.assemble`; None leaves the branch out.
            references: number of reference frames, which get no hints.

        Returns:
            (B, C, F, h, w) in the type of the latents. Context frames have meaningless values.

        Raises:
            ValueError: a shape does not fit; the message names the argument.
        """
        rows, columns = self._check_shapes(latents, timesteps, context, memory, references)
        batch, _, frames, _, _ = latents.shape
        # Tokens before this one belong to references.
        start = references * rows * columns
        head = int(self.backbone.config["attention_head_dim"])
        rotary = sequence_embedding(frames, references, rows, columns, head, latents.device)
        time, modulation = self._embed_time(timesteps)
        context = context.to(self.dtype)

        hidden = self.backbone.patch_embedding(latents.to(self.dtype)).flatten(2).transpose(1, 2).contiguous()
        branch = self.branch
        hinted = branch.config["layers"] if branch is not None and memory is not None else ()
        hints = self._hints(hidden, context, modulation, rotary, memory, references, frames)
        for index, block in enumerate(self.backbone.blocks):
            if torch.is_grad_enabled() and self.backbone.gradient_checkpointing:
                hidden = checkpoint(block, hidden, context, modulation, rotary, self._run, use_reentrant=False)
            else:
                hidden = block(hidden, context, modulation, rotary, self._run)
            if index in hinted:
                own = hidden[:, start:] + next(hints)
                hidden = torch.cat([hidden[:, :start], own], dim=1) if start else own
        normalised = self._normalise(hidden, time)
        shape = (batch, frames, rows, columns)
        output = self._unembed(self.backbone.proj_out, normalised, shape)
        if branch is None or branch.correction is None:
            return output.to(latents.dtype)
        if memory is not None:
            correction = self._unembed(branch.correction, normalised, shape)[:, :, references:].float()
            output = torch.cat([output[:, :, :references].float(), branch.clean_estimate(correction, memory)], dim=2)
        # The flow that leads to this estimate; context, whose sigma is 0, gets no meaningful one anyway.
        sigmas = self._per_cell(timesteps / TRAIN_TIMESTEPS, shape).clamp(min=LEAST_SIGMA)
        return ((latents.float() - output.float()) / sigmas).to(latents.dtype)

    def _per_cell(self, values: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """Values (B,), (B, F) or (B, tokens) spread over (B, 1, F, h, w), or what broadcasts to it."""
        if values.ndim == 1:
            return values[:, None, None, None, None]
        batch, frames, rows, columns = shape
        if values.shape[1] == frames:
            return values[:, None, :, None, None]
        _, patch_rows, patch_columns = self.backbone.config["patch_size"]
        cells = values.view(batch, 1, frames, rows, columns)
        return cells.repeat_interleave(patch_rows, dim=3).repeat_interleave(patch_columns, dim=4)

    def _hints(
        self,
        tokens: Tensor,
        context: Tensor,
        modulation: Tensor,
        rotary: tuple[Tensor, Tensor],
        memory: Tensor | None,
        references: int,
        frames: int,
    ) -> Iterator[Tensor]:
        """The branch's hints (B, N, D), one block of it for each, when it is asked for: no more than one is held."""
        branch = self.branch
        if branch is None or memory is None:
            return
        start = references * (tokens.shape[1] // frames)
        groups = modulation.shape[1]
        # Groups are the whole batch element, its frames, or its tokens: the first has nothing to cut off.
        own_modulation = modulation[:, groups * references // frames if groups > 1 else 0 :]
        own_rotary = (rotary[0][:, start:], rotary[1][:, start:])
        chain = branch.embed(memory, tokens[:, start:])
        for index in range(len(branch.blocks)):
            chain, hint = branch.step(index, chain, context, own_modulation, own_rotary, self._run)
            yield hint

    def _embed_time(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Time embeddings (B, G, D) and modulations (B, G, 6, D) of G groups of tokens."""
        embedder = self.backbone.condition_embedder
        grouped = timesteps.unsqueeze(-1) if timesteps.ndim == 1 else timesteps
        features = embedder.timesteps_proj(grouped.flatten()).unflatten(0, grouped.shape)
        features = features.to(embedder.time_embedder.linear_1.weight.dtype)
        time = embedder.time_embedder(features).to(self.dtype)
        modulation = embedder.time_proj(embedder.act_fn(time))
        return time, modulation.unflatten(-1, (6, -1))

    def _normalise(self, hidden: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.backbone.scale_shift_table.unsqueeze(0) + time.unsqueeze(2)).unbind(2)
        return modulate(self.backbone.norm_out(hidden.float()), shift, scale).type_as(hidden)

    def _unembed(self, projection: nn.Module, tokens: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        batch, frames, rows, columns = shape
        _, patch_rows, patch_columns = self.backbone.config["patch_size"]
        cells = projection(tokens).view(batch, frames, rows, columns, patch_rows, patch_columns, -1)
        return cells.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)

    def _check_shapes(
        self, latents: Tensor, timesteps: Tensor, context: Tensor, memory: Tensor | None, references: int
    ) -> tuple[int, int]:
        """Rows and columns of tokens."""
        _, patch_rows, patch_columns = self.backbone.config["patch_size"]
        if latents.ndim != 5 or latents.shape[1] != self.in_channels:
            raise ValueError(f"latents: expected (B, {self.in_channels}, F, h, w), got {tuple(latents.shape)}")
        batch, _, frames, height, width = latents.shape
        if height % patch_rows or width % patch_columns:
            raise ValueError(
                f"latents: expected a height and width in multiples of {patch_rows} and {patch_columns} cells, "
                f"got {height}x{width}"
            )
        rows, columns = height // patch_rows, width // patch_columns
        if tuple(timesteps.shape) not in ((batch,), (batch, frames), (batch, frames * rows * columns)):
            raise ValueError(f"timesteps: expected ({batch},) or ({batch}, {frames}), got {tuple(timesteps.shape)}")
        width_of_tokens = self.backbone.patch_embedding.out_channels
        if context.ndim != 3 or context.shape[0] != batch or context.shape[-1] != width_of_tokens:
            raise ValueError(
                f"context: expected ({batch}, L, {width_of_tokens}) from embed_text, got {tuple(context.shape)}"
            )
        if not 0 <= references <= frames:
            raise ValueError(f"references: expected between 0 and the {frames} frames, got {references}")
        if memory is not None:
            if self.branch is None:
                raise ValueError("memory: given to a model without a memory branch")
            expected = (batch, self.branch.in_channels, frames - references, height, width)
            if tuple(memory.shape) != expected:
                raise ValueError(f"memory: expected {expected}, got {tuple(memory.shape)}")
        return rows, columns


def _check_parts(backbone: WanTransformer3DModel, branch: MemoryBranch | None) -> None:
    if backbone.config["patch_size"][0] != 1:
        raise ValueError(f"backbone: expected a temporal patch size of 1, got {backbone.config['patch_size'][0]}")
    if backbone.config["image_dim"] is not None or backbone.config["added_kv_proj_dim"] is not None:
        raise ValueError("backbone: expected one without image embeddings, got an image-to-video model of Wan 2.1")
    if branch is None:
        return
    for name in ("patch_size", "num_attention_heads", "attention_head_dim"):
        ours, theirs = (
            value if isinstance(value, int) else tuple(value) for value in (branch.config[name], backbone.config[name])
        )
        if ours != theirs:
            raise ValueError(f"branch: expected {name} {theirs} like the backbone, got {ours}")
    if branch.config["layers"][-1] >= len(backbone.blocks):
        raise ValueError(
            f"branch: expected layers below the backbone's {len(backbone.blocks)}, got {list(branch.config['layers'])}"
        )
