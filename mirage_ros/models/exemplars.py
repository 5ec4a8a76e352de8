"""Exemplars: what was never seen, taken from a view of another place that was seen under like circumstances.

Where the memory shows nothing, many things may be seen; the transformer estimates their mean, which has no texture and
no edges. What stands there instead is a part of a true view: of thousands of keyframes of training scenes, one of which
the transformer estimated about the same, and whose surroundings are like what the memory shows here. It is moved to
where it goes on best from what is known, and fitted to the place: to the mean in colour and distance, and to what is
known where it borders on that. So scenes are completed out of millions of photographs (Hays and Efros, Scene Completion
Using Millions of Photographs, SIGGRAPH 2007, with the seams of Perez et al., Poisson Image Editing, SIGGRAPH 2003);
here it is done in latents, depth included, and the match is that of estimates: two places that look alike as far as one
can tell.

A draw is a place that might be, of one piece, with walls, floors, doors and furniture. It is never a new one: what can
be drawn is what is stored.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.models.branch_input import fill_smoothly

# Latent cells along each side of a coarse cell, on which views are compared.
CELL = 4
# Weight of what surrounds an open cell, coarse cells that this reaches, and weight of what a view was not open at.
AROUND, REACH, COVERED = 1.0, 2, 4.0
# Coarse cells that a view may be moved sideways, and what a cell outside of it counts.
SHIFT, OUTSIDE = 6, 2.0
# Latent cells from what is known, within which the correction goes over from one to the other.
BLEND = 2
# Share of what a view differs from its own estimate in coarse cells that is given up: nearer to the mean, less bold.
TAMED = 0.15
# Most likely views of which it is asked how they go on from what is known, and the power of their misfit there of which
# their likelihood is the inverse.
CANDIDATES, SEAM = 48, 4.0
# Latent cells of what is known, from its border, that count for that, and rows and columns that a view may be moved by.
STRIP, ROWS, COLUMNS = 2, 2, 3
# And within which textures are no difference to be corrected.
TEXTURE = 2
# Likelihood of a view over its (squared) distance: the power of which it is the inverse.
SHARPNESS = 24.0
# Directions of latents in which large parts of views differ: their colours. Corrections in others are patterns of dots.
COLOURS = 4
# Less likely than any, as logarithms of likelihoods go.
BARRED = 1e6
LEVELS = 255
# Views in one tensor: files of weights hold whole tensors, and are to be small.
TOGETHER = 512


class Exemplars(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Keyframes with what was estimated of them, in bytes; saved and loaded like any diffusers model.

    Args:
        count: N views.
        channels: C of clean latents, depth channels included.
        latent_channels: how many of them are latents; the others are depth.
        height, width: of the latent grid, multiples of `CELL`.

    Attributes:
        truths, means: (N, C, h/4, w/4) uint8, of coarse cells the means of views and of what was estimated of them.
        is_open: (N, h/4, w/4) uint8, share of each that was not known, in 255ths.
        low, step: (C,) of the bytes: a value is `low + step * byte`.
        deviations: (C,) standard deviations of the truth from the estimate.
        colours: (L, L) projection of latents on what colours change.

    Raises:
        ValueError: the grid is not of whole coarse cells.
    """

    truths: Tensor
    means: Tensor
    is_open: Tensor
    low: Tensor
    step: Tensor
    deviations: Tensor
    colours: Tensor

    @register_to_config
    def __init__(self, count: int, channels: int, latent_channels: int, height: int, width: int) -> None:
        super().__init__()
        if height % CELL or width % CELL:
            raise ValueError(f"views: expected rows and columns that {CELL} divides, got {height}x{width}")
        coarse = (height // CELL, width // CELL)
        sizes = [min(TOGETHER, count - start) for start in range(0, count, TOGETHER)]
        self._parts = [f"views_{part}" for part in range(len(sizes))]
        for name, shape in (
            *zip(self._parts, ((size, channels, height, width) for size in sizes), strict=True),
            ("truths", (count, channels, *coarse)),
            ("means", (count, channels, *coarse)),
            ("is_open", (count, *coarse)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.uint8))
        for name in ("low", "step", "deviations"):
            self.register_buffer(name, torch.ones(channels))
        self.register_buffer("colours", torch.eye(latent_channels))
        self._compared: Tensor | None = None

    @staticmethod
    def of(truths: Tensor, means: Tensor, is_open: Tensor, latent_channels: int) -> Exemplars:
        """Store views.

        Args:
            truths, means: (N, C, h, w) true clean latents and what the transformer estimated.
            is_open: (N, 1, h, w) bool, where it had nothing to go by.
            latent_channels: how many of the C channels are latents.
        """
        count, channels, height, width = truths.shape
        made = Exemplars(count, channels, latent_channels, height, width)
        squares = ((truths - means).square() * is_open).sum(dim=(0, 2, 3))
        made.deviations.copy_((squares / is_open.sum().clamp(min=1)).sqrt().clamp(min=1e-3))
        made.low.copy_(truths.amin(dim=(0, 2, 3)))
        made.step.copy_(((truths.amax(dim=(0, 2, 3)) - made.low) / LEVELS).clamp(min=1e-6))
        for part, values in zip(made.views, truths.split(TOGETHER), strict=True):
            part.copy_(made._bytes(values))
        made.truths.copy_(made._bytes(F.avg_pool2d(truths, CELL)))
        made.means.copy_(made._bytes(F.avg_pool2d(means, CELL)))
        large = F.adaptive_avg_pool2d(truths[:, :latent_channels], (2, 3)).transpose(0, 1).flatten(1)
        strongest = torch.linalg.eigh(torch.cov(large.double())).eigenvectors[:, -COLOURS:]
        made.colours.copy_(strongest @ strongest.T)
        made.is_open.copy_((LEVELS * F.avg_pool2d(is_open.float(), CELL)[:, 0]).round())
        return made

    def __len__(self) -> int:
        """Number of views."""
        return len(self.is_open)

    @property
    def views(self) -> list[Tensor]:
        """Parts of (N, C, h, w) uint8, true clean latents in bytes."""
        return [getattr(self, name) for name in self._parts]

    def view(self, place: int) -> Tensor:
        """(C, h, w) true clean latents."""
        return self._values(self.views[place // TOGETHER][place % TOGETHER])

    def _bytes(self, values: Tensor) -> Tensor:
        low, step = self.low[:, None, None], self.step[:, None, None]
        return ((values - low) / step).round().clamp(0, LEVELS)

    def _values(self, stored: Tensor) -> Tensor:
        return self.low[:, None, None] + self.step[:, None, None] * stored.float()

    @torch.no_grad()
    def draw(self, mean: Tensor, is_open: Tensor, chance: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """Put a part of a stored view in place of the mean.

        Args:
            mean: (B, C, h, w) the transformer's estimate, the known value where nothing is open; of any grid.
            is_open: (B, C, h, w) bool, what is to be drawn.
            chance: (B, N) standard normal numbers, which decide between views that are about as near.
            barred: (B, N) bool, views that are not to be taken, unless there is no other.

        Returns:
            (B, C, h, w) float32 clean latents, the mean where nothing is open, and (B,) places of the views taken.
        """
        mean = mean.float()
        likely, shifts = self._likely(mean, is_open, chance, barred)
        placed = [self._placed(*each) for each in zip(mean, is_open, likely, shifts, strict=True)]
        picked, moves = (torch.stack(each) for each in zip(*placed, strict=True))
        view = _resized(_moved(torch.stack([self.view(place) for place in picked.tolist()]), moves), mean)
        estimate, truth = (self._values(stored[picked]) for stored in (self.means, self.truths))
        own = F.interpolate(torch.lerp(estimate, truth, TAMED), scale_factor=CELL, mode="bilinear")
        nearer = _resized(self._pooled(mean), mean) - _resized(_moved(own, moves), mean)
        latents = int(self.config["latent_channels"])
        parts = (torch.tensor_split(value, [latents], dim=1) for value in (nearer, view, mean, is_open))
        colour, depth = (_correction(*each) for each in zip(*parts, strict=True))
        colour = torch.einsum("ij,bjhw->bihw", self.colours, colour)
        return torch.where(is_open, view + torch.cat([colour, depth], dim=1), mean), picked

    def distances(self, mean: Tensor, is_open: Tensor) -> Tensor:
        """How unlike each stored view a place is, as far as one can tell: squares of deviations.

        Args:
            mean, is_open: see `draw`.

        Returns:
            (B, N, 2 `SHIFT` + 1) float32, by how many coarse cells the view is moved to the right, from -`SHIFT` on.
        """
        stored, scale = self._features(), self.deviations[:, None, None]
        rows = []
        # One by one: which view is nearest must not depend on what else is asked for.
        for place, share in zip(self._pooled(mean.float()) / scale, self._pooled(is_open[:, :1].float()), strict=True):
            around = AROUND * (F.max_pool2d(share, 2 * REACH + 1, 1, REACH) - share).clamp(min=0)
            power = place.square().mean(dim=0, keepdim=True)
            channels = len(place)
            # The sum of weighted squares, multiplied out; what is outside of a view fits badly.
            weights = [
                -2 * share * place / channels,
                share,
                -2 * around * place / channels,
                around,
                (share + around) * power - OUTSIDE * around,
                -COVERED * share,
            ]
            # (N, columns of a view, columns of the place)
            products = stored @ torch.cat(weights).flatten(0, 1)
            shifts = range(-SHIFT, SHIFT + 1)
            apart = torch.stack([products.diagonal(shift, dim1=1, dim2=2).sum(dim=1) for shift in shifts], dim=1)
            apart = apart + COVERED * share.sum() + OUTSIDE * around.sum()
            rows.append(apart / (share.sum() + around.sum()).clamp(min=1e-6))
        return torch.stack(rows)

    def _features(self) -> Tensor:
        """(N, columns, F) what `distances` multiplies, of coarse columns; a row of a channel is a feature."""
        if self._compared is None or self._compared.device != self.device:
            scale = self.deviations[:, None, None]
            means, truths = (self._values(stored) / scale for stored in (self.means, self.truths))
            power = [values.square().mean(dim=1, keepdim=True) for values in (means, truths)]
            covered = self.is_open.float()[:, None] / LEVELS
            parts = (means, power[0], truths, power[1], torch.ones_like(covered), covered)
            self._compared = torch.cat(parts, dim=1).flatten(1, 2).transpose(1, 2).contiguous()
        return self._compared

    def _likely(self, mean: Tensor, is_open: Tensor, chance: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) how likely views are, the more the nearer, with luck (Gumbel's trick); their shifts to the right."""
        even = torch.special.ndtr(chance.double()).clamp(1e-12, 1 - 1e-12)
        nearest, shifts = self.distances(mean, is_open).min(dim=2)
        likely = -SHARPNESS * nearest.double().clamp(min=1e-6).log() - torch.log(-torch.log(even))
        return torch.where(barred, likely - BARRED, likely), shifts - SHIFT

    def _placed(self, mean: Tensor, is_open: Tensor, likely: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """The place of a view, and the (2,) cells down and to the right by which it goes on best from what is known.

        What is fitted to the place afterwards, its colours at large, is no misfit.
        """
        best, places = likely.topk(min(CANDIDATES, len(self)))
        moves = F.pad(CELL * shifts[places, None], (1, 0))
        grid = (CELL * self.is_open.shape[1], CELL * self.is_open.shape[2])
        known = F.interpolate(1 - is_open[None, :1].float(), size=grid)
        strip = known * F.max_pool2d(1 - known, 2 * STRIP + 1, 1, STRIP)
        if not strip.any():
            return places[0], moves[0]
        views = torch.stack([self.view(place) for place in places.tolist()])
        scale = self.deviations[:, None, None]
        here = (_resized(mean[None], views) - _around(_resized(mean[None], views), known)) / scale
        there = _moved((views - _around(views, torch.ones_like(known))) / scale, moves, (ROWS, COLUMNS))
        # Squares multiplied out: a product for each move, those to the lower right first.
        power = F.conv2d(there.square().mean(dim=1, keepdim=True), strip) + (strip * here.square()).mean(dim=1).sum()
        misfit = (power - 2 * F.conv2d(there, strip * here) / here.shape[1])[:, 0] / strip.sum()
        fits = best[:, None, None] - SEAM * misfit.clamp(min=1e-6).double().log()
        row = fits.amax(dim=(1, 2)).argmax()
        best_move = fits[row].argmax()
        down, right = best_move // fits.shape[2], best_move % fits.shape[2]
        return places[row], moves[row] + torch.stack([ROWS - down, COLUMNS - right])

    def _pooled(self, values: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(values, (self.means.shape[-2], self.means.shape[-1]))


def _correction(wanted: Tensor, view: Tensor, mean: Tensor, is_open: Tensor) -> Tensor:
    """What is added to a view (B, c, h, w): in what is known what it lacks there, far from it `wanted`."""
    known = 1.0 - is_open[:, :1].float()
    near = F.max_pool2d(known, 2 * BLEND + 1, 1, BLEND)
    return fill_smoothly(torch.where(known > 0, _around(mean - view, known), wanted), torch.maximum(known, 1 - near))


def _around(values: Tensor, known: Tensor) -> Tensor:
    """Means over some cells around each, of what is known: textures differ in each cell."""
    share = F.avg_pool2d(known, 2 * TEXTURE + 1, 1, TEXTURE).clamp(min=1e-6)
    return F.avg_pool2d(values * known, 2 * TEXTURE + 1, 1, TEXTURE) / share


def _moved(values: Tensor, moves: Tensor, margin: tuple[int, int] = (0, 0)) -> Tensor:
    """Views (B, C, h, w) moved down and to the right by (B, 2) cells; the last row and column go on.

    With a margin of so many rows and columns more on each side.
    """
    height, width = values.shape[-2:]
    rows, columns = (
        (torch.arange(-more, size + more, device=values.device) - move[:, None]).clamp(0, size - 1)
        for more, size, move in zip(margin, (height, width), moves.T, strict=True)
    )
    values = values.gather(2, rows[:, None, :, None].expand(-1, values.shape[1], -1, width))
    return values.gather(3, columns[:, None, None].expand(-1, *values.shape[1:3], -1))


def _resized(values: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(values, size=like.shape[-2:], mode="bilinear", align_corners=False)
