"""`mirage bench memory frames`: how well each rule reads as more frames of the same place are written.

Simulated rooms, and a fixed linear autoencoder: the principal components of 8x8 patches of other rooms. Its latents are
neither learned nor smooth, so what is measured is the rule alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.geometry import Camera
from mirage_ros.memory import LatentMemory, WriteRules
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import Scene, build_scene

IMAGE, STRIDE, CHANNELS = (128, 192), 8, 16
FRAMES = (1, 2, 4, 8)
# Poses of a path of half a metre, of which nine are used.
POSES, STEP = 17, 0.03
# Rooms with other seeds, for the components.
FITTED_ROOMS, FIRST_FITTED = 6, 10_000
RULES: dict[str, dict[str, Any]] = {
    "strict": {"rule": "strict"},
    "nearest": {"rule": "nearest"},
    "nearest, blended": {"rule": "nearest", "blend": True},
}


@dataclass(frozen=True, eq=False)
class LinearAutoencoder:
    """Principal components of patches.

    Attributes:
        mean: (3 x STRIDE x STRIDE,).
        components: (CHANNELS, 3 x STRIDE x STRIDE), orthonormal rows.
    """

    mean: Tensor
    components: Tensor

    @classmethod
    def fit(cls, images: Tensor) -> LinearAutoencoder:
        """The best linear autoencoder of images (T, 3, H, W) in 0..1."""
        patches = F.unfold(images, STRIDE, stride=STRIDE).mT.flatten(0, 1)
        mean = patches.mean(dim=0)
        covariance = (patches - mean).T @ (patches - mean)
        return cls(mean, torch.linalg.eigh(covariance.double()).eigenvectors.flip(-1)[:, :CHANNELS].T.float())

    def encode(self, images: Tensor) -> Tensor:
        """Images (T, 3, H, W) to latents (T, CHANNELS, H / STRIDE, W / STRIDE)."""
        patches = F.unfold(images, STRIDE, stride=STRIDE) - self.mean.unsqueeze(-1)
        height, width = images.shape[2] // STRIDE, images.shape[3] // STRIDE
        return (self.components @ patches).reshape(len(images), CHANNELS, height, width)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images."""
        patches = self.components.T @ latents.flatten(2) + self.mean.unsqueeze(-1)
        size = (latents.shape[2] * STRIDE, latents.shape[3] * STRIDE)
        return F.fold(patches, size, STRIDE, stride=STRIDE)


@dataclass(frozen=True, eq=False)
class Place:
    """Frames of one place, (T, 3, H, W) in 0..1, (T, H, W) metres and T cameras."""

    images: Tensor
    depth: Tensor
    camera: Camera


def visit(seed: int) -> Place:
    """Frames of a simulated room: the target first, then sources in random order."""
    scene = build_scene(seed, moving=0)
    path = plan_path(scene, POSES, seed, step=STEP)
    order = torch.randperm(POSES, generator=torch.Generator().manual_seed(seed))[: 1 + max(FRAMES)]
    return drawn(scene, path[order])


def drawn(scene: Scene, poses: Tensor) -> Place:
    """Frames of a scene from these poses (T, 4, 4)."""
    with Renderer(scene, *IMAGE) as renderer:
        frames = [renderer.render(pose) for pose in poses]
        camera = renderer.camera(poses)
    images = torch.stack([torch.from_numpy(frame.rgb) for frame in frames]).permute(0, 3, 1, 2).float() / 255
    return Place(images, torch.stack([torch.from_numpy(frame.finite_depth) for frame in frames]), camera)


def fitted_autoencoder() -> LinearAutoencoder:
    """The principal components of rooms that are not measured."""
    seeds = range(FIRST_FITTED, FIRST_FITTED + FITTED_ROOMS)
    return LinearAutoencoder.fit(torch.cat([visit(seed).images for seed in tqdm(seeds, desc="fitting", leave=False)]))


def disturbed(depth: Tensor, noise: float, seed: int) -> Tensor:
    """Depth (T, H, W) with a smooth relative error of this standard deviation, another in each frame."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(len(depth), 1, 8, 12, generator=generator)
    smooth = F.interpolate(coarse, size=depth.shape[1:], mode="bicubic", align_corners=False)[:, 0]
    return depth * (1 + noise * smooth / smooth.std())


def seen_by_first(place: Place) -> Tensor:
    """(H, W) bool pixels of the target that the first source frame sees too."""
    points = place.camera[0].lift(place.depth[0]).reshape(-1, 3)
    pixels, depth = place.camera[1].project(points)
    height, width = IMAGE
    x, y = pixels.nan_to_num(-1).floor().long().unbind(-1)
    inside = (depth > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    measured = place.depth[1][y.clamp(0, height - 1), x.clamp(0, width - 1)]
    return (inside & ((measured / depth - 1).abs() < 0.02)).reshape(height, width)


def squared_errors(place: Place, autoencoder: LinearAutoencoder, depth: Tensor, rules: WriteRules) -> dict[str, Tensor]:
    """(len(FRAMES),) mean squared error for each rule, on pixels that every one of them shows with any frames."""
    latents = autoencoder.encode(place.images[1:])
    grid = place.camera[:1].resized(IMAGE[0] // STRIDE, IMAGE[1] // STRIDE)
    shown, common = {}, seen_by_first(place)
    for name, rule in RULES.items():
        decoded = []
        for count in FRAMES:
            memory = LatentMemory(CHANNELS, rules=rules)
            memory.write(latents[:count], depth[1 : 1 + count], place.camera[1 : 1 + count])
            readout = memory.read(grid, **rule)
            decoded.append(autoencoder.decode(readout.latents)[0])
            common = common & (F.interpolate(readout.visible, scale_factor=STRIDE)[0, 0] > 0)
        shown[name] = torch.stack(decoded)
    return {name: ((images - place.images[0]) ** 2)[..., common].mean(dim=(1, 2)) for name, images in shown.items()}


def bench_frames(places: int) -> dict[str, Any]:
    """PSNR of each rule over the number of frames, for exact and for noisy depth."""
    autoencoder = fitted_autoencoder()
    visited = [visit(seed) for seed in tqdm(range(places), desc="rooms", leave=False)]
    bound = torch.stack(
        [((autoencoder.decode(autoencoder.encode(p.images[:1])) - p.images[:1]) ** 2).mean() for p in visited]
    )
    print(
        f"{places} rooms, {IMAGE[0]}x{IMAGE[1]}, {CHANNELS} principal components of {STRIDE}x{STRIDE} patches "
        f"(alone: {psnr(bound):.2f} dB); PSNR in dB on what every read shows, by frames written"
    )
    results: dict[str, Any] = {"autoencoder_db": psnr(bound)}
    print(f"{'depth':<10} {'written':<12} {'rule':<18} " + " ".join(f"{count:>6}" for count in FRAMES))
    for noise in (0.0, 0.02):
        for written, rules in (("everything", WriteRules(select=False)), ("selected", WriteRules())):
            errors: dict[str, list[Tensor]] = {name: [] for name in RULES}
            for seed, place in enumerate(visited):
                found = squared_errors(place, autoencoder, disturbed(place.depth, noise, seed), rules)
                for name, values in found.items():
                    errors[name].append(values)
            for name, values_of in errors.items():
                decibels = [psnr(column) for column in torch.stack(values_of, dim=1)]
                results[f"{written}, {name}, noise {noise}"] = decibels
                depth = "exact" if noise == 0 else f"{100 * noise:.0f} % noise"
                print(f"{depth:<10} {written:<12} {name:<18} " + " ".join(f"{value:6.2f}" for value in decibels))
    return results


def psnr(squared_errors: Tensor) -> float:
    """Decibels of the mean over rooms."""
    finite = squared_errors[squared_errors.isfinite()]
    return -10 * math.log10(finite.mean().item())
