"""`mirage measure`: figures of weights on held-out clips, as JSON, with a sheet."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mirage_ros.media import contact_sheet, save_png
from mirage_ros.models.frame_autoencoder import FrameAutoencoder, channels_last
from mirage_ros.models.presets import Preset, preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.weights_io import has_part, load_part, load_transformer
from mirage_ros.resources import weights_directory
from mirage_ros.training.autoencoder import measure_autoencoder
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.measure_chunks import measure_imagination
from mirage_ros.training.measure_hops import measure_hops
from mirage_ros.training.measure_recall import measure_recall
from mirage_ros.training.reader import measure_reader
from mirage_ros.training.stages import StageTask
from mirage_ros.training.task import Rows

EPILOG = """figures, in dB of PSNR on static pixels unless said otherwise:
  autoencoder  psnr of decode(encode(frame)); depth_abs_rel, the relative error of its depth
  reader       one source frame, six frames on, pixels that both see: psnr of the reader, bound of
               decode(encode(truth)), nearest of whole tokens, rgb of a pixel cache, warped of true pixels brought over
               by true depth and encoded, visible the share of these pixels; shown and shown_rgb: all pixels that the
               reader shows
  hops         the same after the first hop of two frames, the second and so on, each reading what the one before wrote
  recall       every fourth frame of a walk written to one memory, those half-way read: latent memory, rgb of a pixel
               cache, bound; latent_kib and rgb_kib, their buffers
  imagined     first chunk out of one frame: whole, visible and hidden, whose share is hidden_share; readout with grey
               holes, readout_visible; copied, the first frame; bound; depth_visible and depth_hidden, relative errors
"""


def measure(
    weights: Path,
    transformer: Path | None,
    held_out: Path,
    clips: int,
    steps: list[int],
    chosen: Preset | None = None,
) -> tuple[dict[str, Any], Rows]:
    """Measure the parts of a preset with an autoencoder of single frames.

    Args:
        weights: folder with vae/ and reader/.
        transformer: folder with transformer/ and branch/; `weights` by default. Left out where there is none.
        held_out: shards.
        clips: of them, evenly spread.
        steps: numbers of sampling steps.
        chosen: the weights' preset; `default` by default.

    Returns:
        figures by part, and rows for a sheet, of the first number of steps.
    """
    autoencoder = load_part(FrameAutoencoder, weights, "vae").eval()
    reader = load_part(UnfoldReader, weights, "reader").eval()
    channels_last(autoencoder)
    channels_last(reader)
    data = ClipCache(held_out)
    figures: dict[str, Any] = {"autoencoder": measure_autoencoder(autoencoder, data, clips)[0]}
    _say("autoencoder")
    rows: Rows = []
    with TemporaryDirectory() as folder:
        latents = LatentCache(data, autoencoder, folder)
        figures["reader"] = measure_reader(reader, autoencoder, latents, clips)[0]
        _say("reader")
        hops = min(8, (min(data.frames(index) for index in range(len(data))) - 1) // 2)
        figures["hops"] = measure_hops(reader, autoencoder, latents, clips, hops)
        _say("hops")
        chosen = chosen or preset("default")
        figures["recall"] = measure_recall(reader, autoencoder, latents, chosen, clips)
        _say("recall")
        source = transformer or weights
        if has_part(source, "branch"):
            model = load_transformer(source)
            task = StageTask("all", model, chosen, latents, latents, reader, autoencoder).eval()
            for count in steps:
                figures[f"imagined, {count} steps"], drawn = measure_imagination(
                    task, latents, autoencoder, clips, count
                )
                rows = rows or drawn
                _say(f"imagined, {count} steps")
    return figures, rows


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="?", help="folder of the parts; those of the package by default")
    parser.add_argument("--transformer", type=Path, help="folder with transformer/ and branch/, if elsewhere")
    parser.add_argument("--held-out", type=Path, default=Path("data/held-out"), help="shards (%(default)s)")
    parser.add_argument("--clips", type=int, default=24, help="how many, evenly spread (%(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4], help="sampling steps (%(default)s)")
    parser.add_argument("--sheet", type=Path, help="PNG file for a contact sheet")
    parser.add_argument("--threads", type=int, default=2, help="on a CPU (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    weights = options.weights or weights_directory() / "default"
    if not (weights / "vae").is_dir():
        raise FileNotFoundError(f"weights: expected a folder with vae/ and reader/, got {weights}")
    figures, rows = measure(weights, options.transformer, options.held_out, options.clips, options.steps)
    if options.sheet is not None and rows:
        save_png(options.sheet, contact_sheet(rows))
    print(json.dumps(_rounded(figures), indent=1))


def _say(part: str) -> None:
    """Progress, beside the figures."""
    print(f"measured: {part}", file=sys.stderr, flush=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(value, 3)


if __name__ == "__main__":
    main()
