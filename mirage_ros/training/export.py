"""`python -m mirage_ros.training.export`: the parts of a run as a folder of weights to ship, in half precision."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from torch import nn

from mirage_ros.models.exemplars import Exemplars
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.network_files import MAX_FILE, load_part
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.weights_io import load_transformer
from mirage_ros.training.recipe import merged_backbone

PARTS = ("vae", "reader", "transformer", "branch", "exemplars")


def export(model: Path, out: Path, earlier: Path | None = None, share: float = 0.5) -> dict[str, int]:
    """Write the finished parts of a run, LoRA merged into the backbone.

    Args:
        model: folder of the parts: `model` in that of a run, or `averaged` in that of a phase that is under way.
        out: where to; parts that are there already are replaced.
        earlier: folder with the transformer and branch that these were trained on from. A mean of both keeps more of
            what the earlier ones did better (arXiv 2109.01903).
        share: of `model` in that mean.

    Returns:
        bytes of each part that was written.

    Raises:
        FileNotFoundError: there is no finished part.
        ValueError: the share is not in 0..1, or the earlier weights have other shapes.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected 0..1, got {share}")
    found = [part for part in PARTS if (model / part).is_dir()]
    # A backbone alone imagines without a memory: nothing that could be shipped.
    if "branch" in found and "transformer" not in found:
        raise FileNotFoundError(f"transformer: {model} has a branch, but no transformer")
    found = [part for part in found if part != "transformer" or "branch" in found]
    if not found:
        raise FileNotFoundError(f"model: {model} holds none of vae, reader, transformer with branch, and exemplars")
    for part, kind in (("vae", FrameAutoencoder), ("reader", UnfoldReader), ("exemplars", Exemplars)):
        if part in found:
            load_part(kind, model, part).half().save_pretrained(_fresh(out, part), max_shard_size=MAX_FILE)
    if "branch" in found:
        transformer = load_transformer(model)
        backbone = merged_backbone(transformer)
        assert transformer.branch is not None
        if earlier is not None:
            before = load_transformer(earlier)
            assert before.branch is not None
            _mix(backbone, merged_backbone(before), share)
            _mix(transformer.branch, before.branch, share)
        backbone.half().save_pretrained(_fresh(out, "transformer"), max_shard_size=MAX_FILE)
        transformer.branch.half().save_pretrained(_fresh(out, "branch"), max_shard_size=MAX_FILE)
    if "branch" in found and "exemplars" not in found:
        # Those of another transformer match what that one estimated.
        shutil.rmtree(out / "exemplars", ignore_errors=True)
    for file in out.rglob("*.safetensors"):
        # They are written for their owner alone; an installed package is for everyone.
        file.chmod(0o644)
    for file in out.rglob("config.json"):
        # Where the run was is nobody's business.
        config = {name: value for name, value in json.loads(file.read_text()).items() if name != "_name_or_path"}
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return {
        part: sum(file.stat().st_size for file in (out / part).rglob("*.safetensors"))
        for part in PARTS
        if (out / part).is_dir()
    }


@torch.no_grad()
def _mix(module: nn.Module, earlier: nn.Module, share: float) -> None:
    """Make a module's weights their mean with those of another."""
    weights, others = module.state_dict(), earlier.state_dict()
    if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in others.items()}:
        raise ValueError("earlier: expected weights of the same shapes")
    for name, value in weights.items():
        value.copy_(torch.lerp(others[name].float(), value.float(), share))


def _fresh(out: Path, part: str) -> Path:
    """A folder that is not there: shards of a longer predecessor must not stay."""
    shutil.rmtree(out / part, ignore_errors=True)
    return out / part


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=Path("runs/default/model"), help="(%(default)s)")
    parser.add_argument("out", type=Path, nargs="?", default=Path("weights/default"), help="(%(default)s)")
    parser.add_argument("--earlier", type=Path, help="mix with the transformer and branch of this folder")
    parser.add_argument("--share", type=float, default=0.5, help="of the newer weights in the mix (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        sizes = export(options.model, options.out, options.earlier, options.share)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"export: {error}")
    for part, size in sizes.items():
        print(f"{options.out / part}: {size / 1e6:.1f} MB")
    print(f"{sum(sizes.values()) / 1e6:.1f} MB in all")


if __name__ == "__main__":
    main()
