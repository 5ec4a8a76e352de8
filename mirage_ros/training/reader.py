"""Training the reader: what it reads out of other views must decode to the true picture.

One to three source frames as a memory holds them, from sensors that are not perfect, and chains in which each hop reads
what the last one wrote: a reader that never saw its own output diverges in a closed loop.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mirage_ros.geometry import Camera
from mirage_ros.images import as_images
from mirage_ros.memory.depth_patches import resample_depth
from mirage_ros.memory.frame_grids import frames_of
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.log_depth import FINE
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.recordings.clips import STATIC, Clip
from mirage_ros.sim.sensors import LEARNABLE, SENSORS, sensed_clip
from mirage_ros.training.correspondence import shared_by
from mirage_ros.training.latent_cache import LatentCache, cell_depth, depth_of, encoded_frames
from mirage_ros.training.losses import depth_loss, masked_mean, picture_loss
from mirage_ros.training.measure_reader import measure_reader
from mirage_ros.training.sample_memory import exact_splat, held_cells, held_only, noisy_depth
from mirage_ros.training.task import Rows, TrainingTask

# Weights: of the squared error of decoded pixels, of that of normalised latents, and of log-depth L1, where the decoder
# is trained; of pixels that the cells show but the source did not see: something nearer came into view, which no reader
# can know of.
PICTURE_WEIGHT, LATENT_WEIGHT, DEPTH_WEIGHT, UNSHARED_WEIGHT = 100.0, 0.1, 0.1, 0.1


# Greatest distance in frames from a source to the target and from hop to hop.
APART = 10
# Deviation of the relative depth error, in a third of the samples that no sensor spoils, and share of those whose depth
# is no finer than that of imagined frames.
NOISE, COARSE = 0.02, 0.25
# Share of the samples whose sources come from a real sensor, and its greatest strength.
SENSED, STRENGTH = 0.4, 2.0


class ReaderTask(TrainingTask):
    """Reader with its losses; the autoencoder is frozen, or all of it but the decoder.

    Args:
        preset: how source frames are written to a memory.
    """

    def __init__(
        self,
        reader: UnfoldReader,
        autoencoder: FrameAutoencoder,
        data: LatentCache,
        held_out: LatentCache,
        preset: Preset,
        hops: int = 1,
        decoder: bool = False,
    ) -> None:
        super().__init__()
        self.reader, self._preset = reader, preset
        # In a list, so that it is no part of the module; see `held`.
        self._frozen = [autoencoder.eval().requires_grad_(False)]
        self._data, self._held_out = data, held_out
        self._hops, self._trains_decoder = hops, decoder
        # Of its own and on the CPU, for processes that prepare samples.
        self._encoder = [copy.deepcopy(autoencoder).cpu()]
        if decoder:
            self.decoder = autoencoder.decoder.requires_grad_(True)

    def held(self) -> Sequence[nn.Module]:
        """The autoencoder."""
        return self._frozen

    def refresh(self) -> None:
        """Take in clips that were rendered since."""
        self._data.refresh()

    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """Source frames and a chain of targets."""
        hops = int(shared.integers(1, self._hops + 1))
        sources = int(shared.choice([1, 2, 3], p=[0.5, 0.25, 0.25]))
        index = int(rng.integers(len(self._data)))
        count = self._data.frames(index)
        chain = [int(rng.integers(count))]
        for _ in range(hops - 1):
            chain.append(_near(rng, chain[-1], count))
        froms = [_near(rng, chain[0], count) for _ in range(sources)]
        frames = np.array(froms + chain)
        samples = self.reader.source_factor
        held = FINE if rng.random() < COARSE else samples
        depth = self._data.depth(index, frames, keep=True, factor=held)
        latents, first = self._data.latents(index, frames), slice(0, sources)
        if rng.random() < SENSED:
            # The truth stays what it is: what the sensor spoilt is to be undone.
            seen = as_sensed(self._data.clips.clip(index, frames[first]), rng)
            latents[first] = encoded_frames(seen, self._encoder[0])
            rows, columns = latents.shape[-2] * held, latents.shape[-1] * held
            depth[first] = depth_of(*cell_depth(seen, rows, columns), keep=True)
        elif rng.random() < 1 / 3:
            depth = noisy_depth(depth, NOISE, rng)
        depth = resample_depth(depth, held, samples)
        camera = self._data.camera(index, frames)
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
        sources = int(batch["sources"][0])
        height, width = batch["latents"].shape[-2:]
        camera = Camera(batch["intrinsics"], batch["cam2world"], height, width)
        latents, depth = batch["latents"][:, :sources], batch["depth"][:, :sources]
        hops = batch["latents"].shape[1] - sources
        come_from, picture, latent = frames_of(camera, slice(0, sources)), [], []
        for hop in range(hops):
            place = slice(sources + hop, sources + hop + 1)
            target, truth = frames_of(camera, place), batch["latents"][:, place]
            reading = self.reader(latents, depth, come_from, target, exact_splat)
            decoded = self._frozen[0].decode_images(reading.latents[:, 0])[0].float()
            cells = reading.visible[:, 0]
            pixels = F.interpolate(cells, size=decoded.shape[-2:], mode="nearest") * batch["static"][:, hop]
            pixels = pixels * batch["shared"][:, hop].clamp(min=UNSHARED_WEIGHT)
            picture.append(masked_mean((decoded - batch["images"][:, hop]).square(), pixels))
            latent.append(masked_mean((reading.latents - truth)[:, 0].square(), cells))
            # The next hop sees what this one read; what it did not see is written anew from the truth.
            latents = torch.where(reading.visible > 0, reading.latents, truth)
            depth, come_from = batch["depth"][:, place], target
        losses = {"picture": torch.stack(picture).mean(), "latent": torch.stack(latent).mean()}
        losses["loss"] = PICTURE_WEIGHT * losses["picture"] + LATENT_WEIGHT * losses["latent"]
        if self._trains_decoder:
            # The decoder must go on drawing true latents.
            drawn, log_depth = self._frozen[0].decode_images(batch["latents"][:, -1])
            drawn, images = drawn.float(), batch["images"][:, -1]
            losses["true"] = (drawn - images).square().mean()
            losses["depth"] = depth_loss(log_depth.squeeze(1).float(), batch["metres"][:, -1])
            losses["loss"] = (
                losses["loss"]
                + PICTURE_WEIGHT * losses["true"]
                + picture_loss(drawn, images)
                + DEPTH_WEIGHT * losses["depth"]
            )
        return losses

    def save(self, folder: Path) -> None:
        """Write the reader to reader/, and the autoencoder to vae/ if its decoder is trained."""
        self.reader.save_pretrained(folder / "reader")
        if self._trains_decoder:
            self._frozen[0].save_pretrained(folder / "vae")

    def validate(self) -> tuple[dict[str, float], Rows]:
        """PSNR of what is read on held-out scenes."""
        return measure_reader(self.reader, self._frozen[0], self._held_out)


def as_sensed(clip: Clip, rng: np.random.Generator) -> Clip:
    """Frames as one of the simulated sensors would give them, with what a network can learn to undo."""
    kind, strength = rng.choice(sorted(SENSORS)), STRENGTH * rng.random()
    # Not all at once: each is to be known by itself.
    faults = [fault for fault in SENSORS[kind] if fault in LEARNABLE and rng.random() < 0.5]
    return sensed_clip(clip, faults, strength, rng)


def _near(rng: np.random.Generator, frame: int, count: int) -> int:
    """Another frame at most `APART` away."""
    others = [i for i in range(max(0, frame - APART), min(count, frame + APART + 1)) if i != frame]
    return int(rng.choice(others)) if others else frame
