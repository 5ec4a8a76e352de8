"""`mirage measure`: figures of weights on held-out clips, as JSON, with a sheet."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mirage_ros.media import contact_sheet, save_png
from mirage_ros.models.frame_autoencoder import FrameAutoencoder, channels_last
from mirage_ros.models.network_files import load_part
from mirage_ros.models.presets import Preset, preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.weights_io import has_part, load_transformer
from mirage_ros.resources import weights_directory
from mirage_ros.training.autoencoder import measure_autoencoder
from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.measure_chunks import measure_imagination
from mirage_ros.training.measure_reader import measure_hops, measure_reader, measure_recall
from mirage_ros.training.prompts import Prompts
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
        held_out: shards, so many clips of which, evenly spread, are measured.
        steps: numbers of sampling steps.
        chosen: the weights' preset; `default` by default.

    Returns:
        figures by part, and rows for a sheet, of the first number of steps.
    """
    chosen = chosen or preset("default")
    autoencoder = load_part(FrameAutoencoder, weights, "vae").eval()
    reader = load_part(UnfoldReader, weights, "reader").eval()
    channels_last(autoencoder)
    channels_last(reader)
    data, source = ClipCache(held_out), transformer or weights
    rows: Rows = []
    with TemporaryDirectory() as folder:
        latents = LatentCache(data, autoencoder, folder)
        hops = min(8, (min(data.frames(index) for index in range(len(data))) - 1) // 2)
        parts: dict[str, Callable[[], Any]] = {
            "autoencoder": lambda: measure_autoencoder(autoencoder, data, clips)[0],
            "reader": lambda: measure_reader(reader, autoencoder, latents, clips)[0],
            "hops": lambda: measure_hops(reader, autoencoder, latents, clips, hops),
            "recall": lambda: measure_recall(reader, autoencoder, latents, chosen, clips),
        }
        figures = {name: _measured(name, part) for name, part in parts.items()}
        if has_part(source, "branch"):
            chunks = ChunkModel(load_transformer(source).eval(), chosen, reader, autoencoder, Prompts(chosen))
            for count in steps:
                name = f"imagined, {count} steps"
                figures[name], drawn = _measured(name, partial(measure_imagination, chunks, latents, clips, count))
                rows = rows or drawn
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
    print(json.dumps(json.loads(json.dumps(figures), parse_float=lambda value: round(float(value), 3)), indent=1))


def _measured(name: str, part: Callable[[], Any]) -> Any:
    """Measure, and say so beside the figures."""
    figures = part()
    print(f"measured: {name}", file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    main()
