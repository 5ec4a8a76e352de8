"""Moments in the middle of the model's work at which something short can be done in the same thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder


class LayerPauses:
    """Calls something before each layer of the networks.

    On a CPU a denoising step, or reading and decoding a chunk, takes longer than a preview may wait; a layer does not.
    Networks that keep a state between their layers (video autoencoders with a cache) are left out, as what is done in
    between could disturb them.
    """

    def __init__(self, networks: Sequence[nn.Module | None]) -> None:
        """Hook into the networks; nothing is called yet."""
        self._between: Callable[[], None] | None = None
        for network in networks:
            stateful = isinstance(network, Autoencoder) and not isinstance(network, FrameAutoencoder)
            if network is None or stateful:
                continue
            for layer in network.modules():
                if layer is not network:
                    layer.register_forward_pre_hook(self._pause)

    @contextmanager
    def between(self, do: Callable[[], None]) -> Iterator[None]:
        """Call this before each layer while the context lasts, in the thread that runs the layers."""
        before, self._between = self._between, do
        try:
            yield
        finally:
            self._between = before

    def _pause(self, layer: nn.Module, inputs: object) -> None:
        if self._between is not None:
            self._between()
