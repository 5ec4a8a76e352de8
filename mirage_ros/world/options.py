"""How imagining is asked for, and the one place that refuses settings of the denoising."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast, get_args

from mirage_ros.models.schedule import MAX_STEPS
from mirage_ros.perception.pipeline import Perception
from mirage_ros.world.history import History
from mirage_ros.world.networks import Networks
from mirage_ros.world.results import Cancel, OnProgress

# The most samples of one trajectory, each of which has a seed of its own.
MAX_SAMPLES = 64
MAX_SEED = 2**63 - 1 - MAX_SAMPLES
# What is imagined where the memory shows nothing: the mean of what may be there, which errs least and looks like fog,
# or one of it, if the weights hold exemplars to draw from.
Unseen = Literal["mean", "sample"]
_LIMITS = (
    ("seed", 0, MAX_SEED),
    ("steps", 1, MAX_STEPS),
    ("samples", 1, MAX_SAMPLES),
    ("batch", 1, 2**31),
)


class ImagineKeywords(TypedDict, total=False):
    """Keywords of imagining, whether one trajectory or several.

    Attributes:
        prompt: text, for presets that take it.
        seed: of the noise; candidates share the noise, so that they differ by their cameras alone.
        steps: denoising steps; the preset's by default.
        unseen: 'mean', the default, for those who measure, or 'sample' for those who look; see `Unseen`.
        samples: drawn of each trajectory, as one batch: the frames are those of the first, `uncertainty` is the
            spread of depth over all, or what was measured of such frames if that is more. With one it is the latter.
        guidance: classifier-free guidance on the text; 1, the default, for none.
        perception: for this call; the model's by default.
        history: past frames that may serve as references; grows with the memory. Empty by default.
        on_progress: called after each denoising step and each stage.
        cancel: asked as often; true stops.
    """

    prompt: str | None
    seed: int
    steps: int | None
    unseen: Unseen
    samples: int
    guidance: float
    perception: Perception | None
    history: History | None
    on_progress: OnProgress | None
    cancel: Cancel | None


@dataclass(frozen=True)
class DenoiseSettings:
    """How rollouts are denoised; fields as of ImagineKeywords.

    Attributes:
        batch: how many chunks are denoised together at most; None for all.

    Raises:
        ValueError: a setting is out of range; names it.
    """

    prompt: str | None = None
    seed: int = 0
    steps: int | None = None
    unseen: Unseen = "mean"
    samples: int = 1
    guidance: float = 1.0
    batch: int | None = None

    def __post_init__(self) -> None:
        for name, least, most in _LIMITS:
            value = getattr(self, name)
            if value is None and name not in ("seed", "samples"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")
        if self.unseen not in get_args(Unseen):
            raise ValueError(f"unseen: expected one of {', '.join(get_args(Unseen))}, got {self.unseen!r}")
        if not isinstance(self.guidance, int | float) or not math.isfinite(self.guidance) or self.guidance < 0:
            raise ValueError(f"guidance: expected a number from 0, got {self.guidance!r}")


def settings_of(networks: Networks, options: ImagineKeywords, batch: int | None = None) -> DenoiseSettings:
    """The settings among options.

    Raises:
        TypeError: there is no such option.
        ValueError: a setting is out of range, or the networks take no such prompt.
    """
    known = ImagineKeywords.__annotations__
    if unknown := options.keys() - known.keys():
        raise TypeError(f"options: expected {', '.join(known)}, got {sorted(unknown)}")
    given = {name: value for name, value in options.items() if name in DenoiseSettings.__annotations__}
    settings = DenoiseSettings(batch=batch, **cast(dict[str, Any], given))
    networks.check_prompt(settings.prompt or "")
    return settings
