"""Depth networks that come in packages of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mirage_ros.perception.pretrained import ON_CPU, Loading, import_extra, load_hub_mixin


class PackagedNetwork:
    """A network of an optional package, loaded by that package's own class.

    Subclasses say what it is and estimate with it. None of these packages is needed for anything else.

    Args:
        source: folder or hub repository; `SOURCE` by default.
        loading: where and how the weights are loaded.

    Raises:
        MissingExtraError: the package is not installed, or does not load.
        MissingWeightsError: the weights are not there.
        PerceptionUnavailableError: the source holds another kind of network.
    """

    # Name in parameters, what installs the package, module and class of the network, published weights.
    NAME: ClassVar[str]
    COMMAND: ClassVar[str]
    MODULE: ClassVar[str]
    CLASS: ClassVar[str]
    SOURCE: ClassVar[str]
    metric = True

    def __init__(self, source: str | Path | None = None, loading: Loading = ON_CPU) -> None:
        kind = getattr(self.part(self.MODULE), self.CLASS)
        self._network: Any = load_hub_mixin(kind, source or self.SOURCE, loading)
        self._device = next(self._network.parameters()).device

    @classmethod
    def part(cls, module: str) -> Any:
        """A module of the package."""
        return import_extra(module, cls.NAME, cls.COMMAND)
