"""One Wan transformer block, driven with one timestep for each frame.

diffusers' own block takes a modulation for each token, which at full size is 0.7 GB of repeated numbers in float32 for
every block. Here the modulation stays one vector for each frame and is broadcast: the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn


class MirageBlock(WanTransformerBlock):
    """diffusers' block, which can also be driven by `run_block`.

    Blocks are called as modules, not taken apart by a function, so that hooks see them: FSDP gathers a sharded block's
    weights in one.
    """

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        run: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """diffusers' forward pass; with `run`, that of `run_block` or its compiled form, whose arguments these are."""
        if run is None:
            result: Tensor = super().forward(hidden_states, encoder_hidden_states, temb, rotary_emb)  # type: ignore[arg-type]
            return result
        return run(self, hidden_states, encoder_hidden_states, temb, rotary_emb)

    @staticmethod
    def adopt(block: nn.Module) -> None:
        """Make a WanTransformerBlock one of these; weights and names stay."""
        if not isinstance(block, MirageBlock):
            block.__class__ = MirageBlock


def run_block(
    block: WanTransformerBlock, hidden: Tensor, context: Tensor, modulation: Tensor, rotary: tuple[Tensor, Tensor]
) -> Tensor:
    """Forward pass of a block.

    Args:
        block: its submodules may carry LoRA.
        hidden: (B, N, D) tokens.
        context: (B, L, D) embedded text.
        modulation: (B, G, 6, D), with G groups of N / G tokens in a row that share a timestep.
        rotary: cosines and sines, (1, N, 1, head_dim).

    Returns:
        (B, N, D).
    """
    table = block.scale_shift_table.unsqueeze(0) + modulation.float()
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table.unbind(2)

    attended = block.attn1(modulate(block.norm1(hidden.float()), shift, scale).type_as(hidden), None, None, rotary)
    hidden = (hidden.float() + gated(attended, gate)).type_as(hidden)

    hidden = hidden + _cross_attention(block, hidden, context)

    mixed = block.ffn(modulate(block.norm3(hidden.float()), ffn_shift, ffn_scale).type_as(hidden))
    return (hidden.float() + gated(mixed.float(), ffn_gate)).type_as(hidden)


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift (B, N, D) tokens by one (B, G, D) vector for each of G equal runs of tokens."""
    runs = tokens.unflatten(1, (shift.shape[1], -1))
    return (runs * (1 + scale.unsqueeze(2)) + shift.unsqueeze(2)).flatten(1, 2)


def gated(tokens: Tensor, gate: Tensor) -> Tensor:
    """Multiply (B, N, D) tokens by one (B, G, D) vector for each of G equal runs of tokens."""
    return (tokens.unflatten(1, (gate.shape[1], -1)) * gate.unsqueeze(2)).flatten(1, 2)


def _cross_attention(block: WanTransformerBlock, hidden: Tensor, context: Tensor) -> Tensor:
    attention = block.attn2
    if context.shape[1] == 1 and attention.add_k_proj is None and not getattr(attention, "fused_projections", False):
        # Attention to a single token is that token's value, whatever the query: models without text skip the rest.
        value: Tensor = attention.to_v(context)
        for layer in attention.to_out:
            value = layer(value)
        return value
    normalised = block.norm2(hidden.float()).type_as(hidden)
    return attention(normalised, context, None, None)
