"""What the reader reads out of a memory, beside a pixel cache: of one frame, hop after hop, and of a whole walk.

PSNR in dB on static pixels that both caches show and that a source frame sees too, by true depth: of what has come
nearer into view since, no cache can know.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.images import as_images, as_pixels
from mirage_ros.media import Pixels
from mirage_ros.memory.frame_grids import splat
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.recordings.clips import STATIC, Clip
from mirage_ros.training.correspondence import correspond, shared_by
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.losses import psnr
from mirage_ros.training.sample_memory import lifted
from mirage_ros.training.task import Rows
from mirage_ros.world.networks import new_memory
from mirage_ros.world.reading import read_views
from mirage_ros.world.unfolding import Unfolder


class _Drawn:
    """Pictures of several methods, the true ones, and the pixels (N, 1, H, W) that count."""

    def __init__(self, *names: str) -> None:
        self.pictures: dict[str, list[Tensor]] = {name: [] for name in names}
        self.truth: list[Tensor] = []
        self.masks: list[Tensor] = []

    def add(self, pictures: Tensor, truth: Tensor, mask: Tensor) -> None:
        """Note pictures (methods, N, 3, H, W)."""
        for name, picture in zip(self.pictures, pictures, strict=True):
            self.pictures[name].append(picture)
        self.truth.append(truth)
        self.masks.append(mask)

    def psnr(self, name: str, masks: list[Tensor] | None = None) -> float:
        """Of one method, over all that was noted."""
        return psnr(torch.cat(self.pictures[name]), torch.cat(self.truth), torch.cat(masks or self.masks))

    def figures(self) -> dict[str, float]:
        """Of each method."""
        return {name: self.psnr(name) for name in self.pictures}


def _pixel_cache(
    autoencoder: FrameAutoencoder, clip: Clip, device: torch.device, rgb: Pixels | None = None
) -> RgbMemory:
    """The frames of a clip, or other pictures in their places, in a pixel cache."""
    cache = RgbMemory(autoencoder.encode_images, autoencoder.strides[1], device)
    colour, metres, keep = (
        torch.from_numpy(part).to(device) for part in (clip.rgb if rgb is None else rgb, clip.depth, clip.keep)
    )
    cache.write(None, metres, clip.camera.to(device), keep, colour=colour)
    return cache


def _static(clip: Clip) -> Tensor:
    """(T, 1, H, W) 1 where nothing moves and there is no sky."""
    return torch.from_numpy(clip.labels == STATIC).float().unsqueeze(1)


def _to_pixels(cells: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(cells, size=images.shape[-2:], mode="nearest")


@torch.no_grad()
def measure_reader(
    reader: UnfoldReader, autoencoder: FrameAutoencoder, data: LatentCache, clips: int = 24, gap: int = 6
) -> tuple[dict[str, float], Rows]:
    """One source frame, one target `gap` frames later.

    Returns:
        figures as `mirage measure --help` has them, of which 'warped' is what a pixel cache that knew everything would
        show; rows of sources, truth and readings.
    """
    device = reader.output.weight.device
    drawn = _Drawn("psnr", "bound", "nearest", "rgb", "warped")
    shown: list[Tensor] = []
    rows: list[list[Pixels]] = []
    for index in data.clips.evenly(clips):
        frames = np.array([2, min(2 + gap, data.frames(index) - 1)])
        camera = data.camera(index, frames).to(device)
        depth = data.depth(index, frames, keep=True, factor=reader.source_factor).to(device)
        latents = data.latents(index, frames).to(device)
        reading = reader(*lifted(latents[:1], depth[:1]), camera[:1], camera[1:], splat)
        clip = data.clips.clip(index, frames)
        images = as_images(clip.rgb)
        cached = _pixel_cache(autoencoder, clip[:1], device).read(camera[1:])
        warped = autoencoder.encode_images(_warped(images[:1], clip).to(device))
        stacked = torch.cat([reading.latents, latents[1:], reading.coarse.latents, cached.latents, warped])
        decoded = autoencoder.decode_images(stacked)[0].float().cpu()
        # Cells that the reader, the nearest whole token and the pixel cache all show.
        pixels = _to_pixels((reading.visible * reading.coarse.visible * cached.visible).cpu(), images)
        shown.append(pixels * _static(clip[1:]))
        drawn.add(decoded.unsqueeze(1), images[1:], shown[-1] * shared_by(clip, [1], [0]).float().unsqueeze(1))
        if len(rows) < 5:
            grey = torch.where(pixels > 0, decoded[:1], 0.5)
            rows.append([as_pixels(image) for image in (images[0], images[1], grey[0])])
    figures = drawn.figures() | {"visible": float(torch.cat(drawn.masks).mean())}
    figures |= {"shown": drawn.psnr("psnr", shown), "shown_rgb": drawn.psnr("rgb", shown)}
    captions = ("source", "truth", "read, grey where the memory shows nothing")
    return figures, [(caption, [row[i] for row in rows]) for i, caption in enumerate(captions)]


def _warped(image: Tensor, clip: Clip) -> Tensor:
    """The first frame (1, 3, H, W) of two of a clip as the second one sees it, by true depth."""
    depth = torch.from_numpy(clip.depth)
    places, _ = correspond(clip.camera[1:], depth[1:], clip.camera[:1], depth[:1])
    grid = 2 * places / places.new_tensor([image.shape[-1], image.shape[-2]]) - 1
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


@torch.no_grad()
def measure_hops(
    reader: UnfoldReader,
    autoencoder: FrameAutoencoder,
    data: LatentCache,
    clips: int = 24,
    hops: int = 8,
    step: int = 2,
) -> dict[str, list[float]]:
    """A closed loop without diffusion: views `step` frames apart, each reading what the one before wrote.

    What a hop does not show is filled in from the truth, so that only the error of reading piles up.

    Returns:
        'latent' (the reader; latents are written as they were read) and 'rgb' (splat, fill, encode, decode), and
        'bound' of decode(encode(truth)): a figure for each hop.
    """
    drawn = [_Drawn("latent", "rgb", "bound") for _ in range(hops)]
    for index in data.clips.evenly(clips):
        frames = np.arange(0, hops * step + 1, step)
        truth = data.latents(index, frames)
        depth = data.depth(index, frames, keep=True, factor=reader.source_factor)
        camera, clip = data.camera(index, frames), data.clips.clip(index, frames)
        images = as_images(clip.rgb)
        latents, image = truth[:1], images[:1]
        for hop in range(hops):
            now, then = slice(hop, hop + 1), slice(hop + 1, hop + 2)
            reading = reader(*lifted(latents, depth[now]), camera[now], camera[then], splat)
            rgb = _pixel_cache(autoencoder, clip[now], torch.device("cpu"), as_pixels(image)).read(camera[then])
            stacked = torch.cat([reading.latents, rgb.latents, truth[then]])
            decoded = autoencoder.decode_images(stacked)[0].float()
            seen = _to_pixels(reading.visible * rgb.visible, images)
            shared = shared_by(clip, [hop + 1], [hop]).float().unsqueeze(1)
            drawn[hop].add(decoded.unsqueeze(1), images[then], seen * shared * _static(clip[then]))
            latents = torch.where(reading.visible > 0, reading.latents, truth[then])
            image = torch.where(_to_pixels(rgb.visible, images) > 0, decoded[1:2].clamp(0, 1), images[then])
    return {name: [hop.psnr(name) for hop in drawn] for name in ("latent", "rgb", "bound")}


@torch.no_grad()
def measure_recall(
    reader: UnfoldReader,
    autoencoder: FrameAutoencoder,
    data: LatentCache,
    preset: Preset,
    clips: int = 24,
    every: int = 4,
) -> dict[str, float]:
    """Write every few frames of a walk, as a camera would, and read a frame between each two of them.

    Returns:
        'latent', 'rgb' of coloured points (splat, fill, encode, decode) and 'bound' of decode(encode(truth));
        'latent_kib' and 'rgb_kib', buffers of the caches, each of which keeps of a frame what it does not hold yet.

    Raises:
        ValueError: no frame lies between two that are written.
    """
    device = reader.output.weight.device
    unfolder, drawn = Unfolder(reader), _Drawn("latent", "rgb", "bound")
    held: dict[str, list[int]] = {"latent_kib": [], "rgb_kib": []}
    for index in data.clips.evenly(clips):
        written = np.arange(0, data.frames(index), every)
        asked = written[:-1] + every // 2
        if not len(asked):
            raise ValueError(f"every: expected less than the {data.frames(index)} frames of a clip, got {every}")
        walk = data.clips.clip(index, np.concatenate([asked, written]))
        memory = new_memory(preset, autoencoder.channels, device)
        depth = data.depth(index, written, keep=True, factor=preset.depth_samples).to(device)
        memory.write(data.latents(index, written).to(device), depth, data.camera(index, written).to(device))
        points = _pixel_cache(autoencoder, walk[len(asked) :], device)
        views = data.camera(index, asked).to(device)
        # View by view, since each has a limit of source frames.
        readings = [read_views(memory, views[i : i + 1], preset, unfolder) for i in range(len(asked))]
        cached, images = points.read(views), as_images(walk.rgb[: len(asked)])
        latents = [torch.cat([one.latents for one in readings]), cached.latents, data.latents(index, asked).to(device)]
        pictures = torch.stack([autoencoder.decode_images(part)[0].float().cpu() for part in latents])
        both = _to_pixels((torch.cat([one.visible for one in readings]) * cached.visible).cpu(), images)
        seen = shared_by(walk, range(len(asked)), range(len(asked), len(walk))).unsqueeze(1)
        drawn.add(pictures, images, both * seen * _static(walk[: len(asked)]))
        held["latent_kib"].append(memory.nbytes)
        held["rgb_kib"].append(points.nbytes)
    return drawn.figures() | {name: float(np.mean(sizes)) / 1024 for name, sizes in held.items()}
