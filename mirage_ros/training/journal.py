"""What a training run writes down: TensorBoard events, the loss curve as a picture, figures as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

# Steps whose mean becomes one point of the curve.
POINT = 20


class Journal:
    """Logs of one run; part of its checkpoints, so that the curve goes on where the weights do.

    Args:
        folder: of the run.
        enabled: false in all processes but one.
    """

    def __init__(self, folder: Path, enabled: bool = True) -> None:
        self._folder, self._enabled = folder, enabled
        self._writer: SummaryWriter | None = None
        self._recent: list[dict[str, float]] = []
        self.points: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """What to save."""
        return {"recent": self._recent, "points": self.points, "validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self._recent, self.points, self.validations = state["recent"], state["points"], state["validations"]

    def rewind(self, step: int) -> None:
        """Start a new file of events from a step on; what an interrupted run wrote beyond is hidden by TensorBoard."""
        if self._enabled:
            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)

    def losses(self, step: int, losses: dict[str, float], rate: float) -> None:
        """Note the losses of a step."""
        if not self._enabled:
            return
        self._recent.append(losses)
        if step % POINT == 0 or not self.points:
            means = {name: sum(one[name] for one in self._recent) / len(self._recent) for name in losses}
            self._recent = []
            self.points.append({"step": step, **means})
            for name, value in means.items():
                self._events().add_scalar(f"loss/{name}", value, step)
            self._events().add_scalar("learning_rate", rate, step)

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Note a validation."""
        self.validations.append({"step": step, **figures})
        for name, value in figures.items():
            self._events().add_scalar(f"validation/{name}", value, step)
        self._events().flush()
        lines = "".join(json.dumps(one) + "\n" for one in self.validations)
        (self._folder / "validation.jsonl").write_text(lines)

    def draw(self) -> None:
        """Draw the loss curve to loss.png."""
        if not self._enabled or len(self.points) < 2:
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        steps = [point["step"] for point in self.points]
        for name in self.points[-1]:
            if name not in ("step", "norm"):
                axes.plot(steps, [max(point.get(name, float("nan")), 1e-9) for point in self.points], label=name)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel(f"loss, mean of {POINT} steps")
        axes.legend()
        axes.grid(alpha=0.3)
        figure.savefig(self._folder / "loss.png", dpi=110)
        self._events().flush()

    def close(self) -> None:
        """Write out everything."""
        self.draw()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _events(self) -> SummaryWriter:
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder / "tensorboard"))
        return self._writer
