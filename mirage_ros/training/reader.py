"""Training the reader: what it reads out of other views must decode to the true picture.

One to three source frames as a memory holds them, noisy depth, and chains in which each hop reads what the last one
wrote: a reader that never saw its own output diverges in a closed loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.geometry import Camera
from mirage_ros.media import Pixels
from mirage_ros.memory.depth_patches import resample_depth
from mirage_ros.memory.frame_grids import splat
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.log_depth import FINE
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.recordings.clips import STATIC, Clip
from mirage_ros.training.correspondence import correspond, shared_by
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.losses import depth_loss, masked_mean, picture_loss, psnr
from mirage_ros.training.pictures import as_images, as_pixels
from mirage_ros.training.sample_memory import exact_splat, held_cells, held_only, lifted
from mirage_ros.training.task import Rows, Task


@dataclass(frozen=True)
class ReaderSettings:
    """How the reader is trained.

    Attributes:
        hops: greatest length of a chain; each step draws its own.
        apart: greatest distance in frames from a source to the target, and from hop to hop.
        decoder: train the autoencoder's decoder too, on what was read and on true latents; the encoder, and so what
            latents mean, stays.
        noise: deviation of the relative depth error, in a third of the samples.
        coarse: share of samples whose depth is no finer than that of imagined frames.
        unshared_weight: of pixels that the cells show but the source did not see: something nearer came into view,
            which no reader can know of.
        picture_weight: of the squared error of decoded pixels.
        latent_weight: of the squared error of normalised latents.
        depth_weight: of log-depth L1, where the decoder is trained.
    """

    hops: int = 1
    apart: int = 10
    decoder: bool = False
    noise: float = 0.02
    coarse: float = 0.25
    unshared_weight: float = 0.1
    picture_weight: float = 100.0
    latent_weight: float = 0.1
    depth_weight: float = 0.1


class ReaderTask(Task):
    """Reader with its losses; the autoencoder is frozen, or all of it but the decoder.

    Args:
        reader: to train.
        autoencoder: finished.
        data, held_out: latents of clips.
        preset: how source frames are written to a memory.
        settings: how.
    """

    def __init__(
        self,
        reader: UnfoldReader,
        autoencoder: FrameAutoencoder,
        data: LatentCache,
        held_out: LatentCache,
        preset: Preset,
        settings: ReaderSettings | None = None,
    ) -> None:
        super().__init__()
        self.reader, self._preset = reader, preset
        # In a list, so that it is no part of the module; see `held`.
        self._frozen = [autoencoder.eval().requires_grad_(False)]
        self._data, self._held_out = data, held_out
        self.settings = settings or ReaderSettings()
        if self.settings.decoder:
            self.decoder = autoencoder.decoder.requires_grad_(True)

    def held(self) -> Sequence[nn.Module]:
        """The autoencoder."""
        return self._frozen

    def refresh(self) -> None:
        """Take in clips that were rendered since."""
        self._data.refresh()

    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """Source frames and a chain of targets."""
        own = self.settings
        hops = int(shared.integers(1, own.hops + 1))
        sources = int(shared.choice([1, 2, 3], p=[0.5, 0.25, 0.25]))
        index = int(rng.integers(len(self._data)))
        count = self._data.frames(index)
        chain = [int(rng.integers(count))]
        for _ in range(hops - 1):
            chain.append(_near(rng, chain[-1], count, own.apart))
        froms = [_near(rng, chain[0], count, own.apart) for _ in range(sources)]
        frames = np.array(froms + chain)
        samples = self.reader.source_factor
        held = FINE if rng.random() < own.coarse else samples
        depth = self._data.depth(index, frames, keep=True, factor=held)
        if rng.random() < 1 / 3:
            depth = noisy_depth(depth, own.noise, rng)
        latents, depth = self._data.latents(index, frames), resample_depth(depth, held, samples)
        camera = self._data.camera(index, frames)
        first = slice(0, sources)
        kept = held_cells(depth[first], camera[first], self._preset)
        latents[first], depth[first] = held_only(latents[first], depth[first], kept)
        clip = self._data.clips.clip(index, frames)
        # The first target is read out of all sources, each other one out of the target before.
        common = [shared_by(clip, [sources], range(sources))]
        common += [shared_by(clip, [place], [place - 1]) for place in range(sources + 1, sources + hops)]
        return {
            "latents": latents,
            "depth": depth,
            "intrinsics": camera.intrinsics,
            "cam2world": camera.cam2world,
            "images": as_images(clip.rgb[sources:]),
            "metres": torch.from_numpy(clip.depth[sources:]),
            "static": torch.from_numpy(clip.labels[sources:] == STATIC).float().unsqueeze(1),
            "shared": torch.cat(common).float().unsqueeze(1),
            "sources": torch.tensor(sources),
        }

    def forward(self, batch: dict[str, Tensor], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses, the mean over the hops of a chain."""
        own, sources = self.settings, int(batch["sources"][0])
        height, width = batch["latents"].shape[-2:]
        camera = Camera(batch["intrinsics"], batch["cam2world"], height, width)
        latents, depth = batch["latents"][:, :sources], batch["depth"][:, :sources]
        hops = batch["latents"].shape[1] - sources
        come_from, picture, latent = _at(camera, slice(0, sources)), [], []
        for hop in range(hops):
            place = slice(sources + hop, sources + hop + 1)
            target, truth = _at(camera, place), batch["latents"][:, place]
            reading = self.reader(latents, depth, come_from, target, exact_splat)
            decoded = self._frozen[0].decode_images(reading.latents[:, 0])[0].float()
            cells = reading.visible[:, 0]
            pixels = F.interpolate(cells, size=decoded.shape[-2:], mode="nearest") * batch["static"][:, hop]
            pixels = pixels * batch["shared"][:, hop].clamp(min=own.unshared_weight)
            picture.append(masked_mean((decoded - batch["images"][:, hop]).square(), pixels))
            latent.append(masked_mean((reading.latents - truth)[:, 0].square(), cells))
            # The next hop sees what this one read; what it did not see is written anew from the truth.
            latents = torch.where(reading.visible > 0, reading.latents, truth)
            depth, come_from = batch["depth"][:, place], target
        losses = {"picture": torch.stack(picture).mean(), "latent": torch.stack(latent).mean()}
        losses["loss"] = own.picture_weight * losses["picture"] + own.latent_weight * losses["latent"]
        if own.decoder:
            # The decoder must go on drawing true latents.
            drawn, log_depth = self._frozen[0].decode_images(batch["latents"][:, -1])
            drawn, images = drawn.float(), batch["images"][:, -1]
            losses["true"] = (drawn - images).square().mean()
            losses["depth"] = depth_loss(log_depth.squeeze(1).float(), batch["metres"][:, -1])
            losses["loss"] = (
                losses["loss"]
                + own.picture_weight * losses["true"]
                + picture_loss(drawn, images)
                + own.depth_weight * losses["depth"]
            )
        return losses

    def save(self, folder: Path) -> None:
        """Write the reader to reader/, and the autoencoder to vae/ if its decoder is trained."""
        self.reader.save_pretrained(folder / "reader")
        if self.settings.decoder:
            self._frozen[0].save_pretrained(folder / "vae")

    def validate(self) -> tuple[dict[str, float], Rows]:
        """PSNR of what is read on held-out scenes."""
        return measure_reader(self.reader, self._frozen[0], self._held_out)


def _warped(image: Tensor, clip: Clip) -> Tensor:
    """The first frame (1, 3, H, W) of two of a clip as the second one sees it, by true depth."""
    depth = torch.from_numpy(clip.depth)
    places, _ = correspond(clip.camera[1:], depth[1:], clip.camera[:1], depth[:1])
    size = places.new_tensor([clip.camera.width, clip.camera.height])
    grid = (2 * places / size - 1).to(image)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def noisy_depth(depth: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    """Depth (T, H, W) with a relative error that varies slowly over the picture, a quarter from pixel to pixel."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    coarse = torch.randn(len(depth), 1, 4, 6, generator=generator)
    slow = F.interpolate(coarse, size=depth.shape[-2:], mode="bicubic", align_corners=False).squeeze(1)
    fast = torch.randn(depth.shape, generator=generator)
    return depth * torch.exp(deviation * (0.75 * slow + 0.25 * fast))


def _near(rng: np.random.Generator, frame: int, count: int, apart: int) -> int:
    """Another frame at most `apart` away."""
    others = [i for i in range(max(0, frame - apart), min(count, frame + apart + 1)) if i != frame]
    return int(rng.choice(others)) if others else frame


def _at(camera: Camera, place: slice) -> Camera:
    """Some of the frames, the second dimension, of a batch of cameras."""
    return Camera(camera.intrinsics[:, place], camera.cam2world[:, place], camera.height, camera.width)


@torch.no_grad()
def measure_reader(
    reader: UnfoldReader, autoencoder: FrameAutoencoder, data: LatentCache, clips: int = 24, gap: int = 6
) -> tuple[dict[str, float], Rows]:
    """One source frame, one target `gap` frames later: PSNR on static pixels that both frames see, by true depth.

    Returns:
        'psnr' of the reader, 'bound' of decode(encode(target)), 'nearest' of whole tokens, 'rgb' of a pixel cache
        (splat, fill, encode, decode) and 'warped' of the source's true pixels at the places that the target's true
        depth gives, encoded and decoded: what a pixel cache that knew everything would show; all on the same pixels,
        and 'visible' the share of them; 'shown' and 'shown_rgb', the reader and the pixel cache on all static pixels of
        cells that the reader shows, also where something nearer has come into view; rows of sources, truth and
        readings.
    """
    device = reader.output.weight.device
    drawn: dict[str, list[Tensor]] = {name: [] for name in ("psnr", "bound", "nearest", "rgb", "warped")}
    truth: list[Tensor] = []
    masks: list[Tensor] = []
    shown: list[Tensor] = []
    rows: list[list[Pixels]] = []
    for index in np.linspace(0, len(data) - 1, min(clips, len(data))).round().astype(int).tolist():
        frames = np.array([2, min(2 + gap, data.frames(index) - 1)])
        camera = data.camera(index, frames).to(device)
        depth = data.depth(index, frames, keep=True, factor=reader.source_factor).to(device)
        latents = data.latents(index, frames).to(device)
        reading = reader(*lifted(latents[:1], depth[:1]), camera[:1], camera[1:], splat)
        clip = data.clips.clip(index, frames)
        images, colour = as_images(clip.rgb), torch.from_numpy(clip.rgb[:1]).to(device)
        cache = RgbMemory(autoencoder.encode_images, autoencoder.strides[1], device)
        depth_image, keep = (torch.from_numpy(part[:1]).to(device) for part in (clip.depth, clip.keep))
        cache.write(None, depth_image, clip.camera[:1].to(device), keep, colour=colour)
        warped = autoencoder.encode_images(_warped(images[:1], clip).to(device))
        cached = cache.read(camera[1:])
        others = [reading.coarse.latents, cached.latents, warped]
        stacked = torch.cat([reading.latents, latents[1:], *others])
        decoded = autoencoder.decode_images(stacked)[0].float().cpu()
        # Cells that the reader, the nearest whole token and the pixel cache all show.
        seen = (reading.visible * reading.coarse.visible * cached.visible).cpu()
        pixels = F.interpolate(seen, size=images.shape[-2:], mode="nearest")
        shown.append(pixels * torch.from_numpy(clip.labels[1:] == STATIC).float())
        masks.append(shown[-1] * shared_by(clip, [1], [0]).float().unsqueeze(1))
        for name, picture in zip(drawn, decoded, strict=True):
            drawn[name].append(picture.unsqueeze(0))
        truth.append(images[1:])
        if len(rows) < 5:
            grey = torch.where(pixels > 0, decoded[:1], 0.5)
            rows.append([as_pixels(image) for image in (images[0], images[1], grey[0])])
    mask, target = torch.cat(masks), torch.cat(truth)
    figures = {name: psnr(torch.cat(pictures), target, mask) for name, pictures in drawn.items()}
    figures["visible"] = float(mask.mean())
    for name, of in (("shown", "psnr"), ("shown_rgb", "rgb")):
        figures[name] = psnr(torch.cat(drawn[of]), target, torch.cat(shown))
    captions = ("source", "truth", "read, grey where the memory shows nothing")
    return figures, [(caption, [row[i] for row in rows]) for i, caption in enumerate(captions)]
