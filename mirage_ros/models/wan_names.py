"""Names of weights: the original Wan and VACE code's against diffusers' and this project's."""

from __future__ import annotations

import re

# Prefixes that training wrappers leave in front of names.
WRAPPERS = ("module.", "model.", "_fsdp_wrapped_module.", "pipe.", "base_model.model.", "base_model.")

_IN_BLOCK = (
    ("self_attn.q", "attn1.to_q"),
    ("self_attn.k", "attn1.to_k"),
    ("self_attn.v", "attn1.to_v"),
    ("self_attn.o", "attn1.to_out.0"),
    ("self_attn.norm_q", "attn1.norm_q"),
    ("self_attn.norm_k", "attn1.norm_k"),
    ("cross_attn.q", "attn2.to_q"),
    ("cross_attn.k", "attn2.to_k"),
    ("cross_attn.v", "attn2.to_v"),
    ("cross_attn.o", "attn2.to_out.0"),
    ("cross_attn.norm_q", "attn2.norm_q"),
    ("cross_attn.norm_k", "attn2.norm_k"),
    # The only norm with weights stands before cross-attention: third in Wan's numbering, second in diffusers'.
    ("norm3", "norm2"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
    ("modulation", "scale_shift_table"),
)
_OUTSIDE = (
    ("patch_embedding", "patch_embedding"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("head.modulation", "scale_shift_table"),
    ("head.head", "proj_out"),
)
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def strip_wrappers(name: str, also: tuple[str, ...] = ()) -> str:
    """A name without the prefixes of training wrappers, repeated or not."""
    prefixes = WRAPPERS + also
    while prefix := next((prefix for prefix in prefixes if name.startswith(prefix)), None):
        name = name[len(prefix) :]
    return name


def backbone_name(name: str) -> str | None:
    """diffusers' name of one of the original Wan transformer's weights or modules; None if it is none of them.

    blocks.3.self_attn.q.weight -> blocks.3.attn1.to_q.weight, head.head.bias -> proj_out.bias.
    """
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _replace(name, _OUTSIDE)
    inside = _replace(block[2], _IN_BLOCK)
    return None if inside is None else f"blocks.{block[1]}.{inside}"


def branch_name(name: str) -> str | None:
    """This project's name of one of the public side branch's weights; None if it is none of them.

    vace_blocks.3.after_proj.weight -> proj_out.3.weight, vace_blocks.0.before_proj.bias -> proj_in.bias.
    """
    if not name.startswith("vace_"):
        return None
    name = name.removeprefix("vace_")
    if name.startswith("blocks.0.before_proj."):
        return name.replace("blocks.0.before_proj", "proj_in")
    block = _BLOCK.fullmatch(name)
    if block is None:
        return name if name.startswith("patch_embedding.") else None
    if block[2].startswith("after_proj."):
        return f"proj_out.{block[1]}.{block[2].removeprefix('after_proj.')}"
    inside = _replace(block[2], _IN_BLOCK)
    return None if inside is None else f"blocks.{block[1]}.{inside}"


def public_branch_name(name: str) -> str:
    """The public code's name of one of this project's branch weights: the inverse of `branch_name`."""
    if name.startswith("patch_embedding."):
        return f"vace_{name}"
    if name.startswith("proj_in."):
        return f"vace_blocks.0.before_proj.{name.removeprefix('proj_in.')}"
    if name.startswith("proj_out."):
        _, number, rest = name.split(".", 2)
        return f"vace_blocks.{number}.after_proj.{rest}"
    return f"vace_{original_name(name)}"


def original_name(name: str) -> str:
    """The original Wan name of one of diffusers' weights or modules: the inverse of `backbone_name`.

    Raises:
        KeyError: the name is not one of a Wan transformer's.
    """
    block = _BLOCK.fullmatch(name)
    table = _OUTSIDE if block is None else _IN_BLOCK
    inside = _replace(name if block is None else block[2], tuple((new, old) for old, new in table))
    if inside is None:
        raise KeyError(name)
    return inside if block is None else f"blocks.{block[1]}.{inside}"


def _replace(name: str, table: tuple[tuple[str, str], ...]) -> str | None:
    for old, new in table:
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return None
