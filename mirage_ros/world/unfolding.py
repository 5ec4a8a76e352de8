"""The reader's first half, done once for what has not changed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor

from mirage_ros.models.reader import UnfoldReader

# Unfolded frames that are kept: about fifty of the default preset.
MAX_BYTES = 64 << 20


class Unfolder:
    """Unfolds source frames and keeps the results.

    Between two writes the same frames are read again and again, by previews and by the candidates of a goal, and a
    write changes few of them. On a CPU unfolding them is half of a read, so results are found again by the content of
    the frame, whichever memory it is in. An accelerator unfolds them sooner than it would find that out.

    Args:
        reader: in evaluation mode.
        max_bytes: of kept results; the ones used longest ago go first.
    """

    def __init__(self, reader: UnfoldReader, max_bytes: int = MAX_BYTES) -> None:
        self.reader, self.max_bytes = reader, max_bytes
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self._bytes

    def __call__(self, latents: Tensor) -> Tensor:
        """Source frames (F, C, h, w) float32 to features (F, K, h s, w s) float32.

        The result does not depend on what is kept, bit for bit.
        """
        if latents.device.type != "cpu":
            return self.reader.unfold(latents).float()
        keys = [hashlib.blake2b(frame.contiguous().numpy().data, digest_size=16).digest() for frame in latents]
        results = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: index for index, key in enumerate(keys) if key not in results}
        if missing:
            # Together, since that is many small steps; it is the same for each, bit for bit.
            whole = self.reader.fill_holes(latents[list(missing.values())])
            for key, frame in zip(missing, whole, strict=True):
                # One at a time, since a convolution may round differently in another batch.
                results[key] = self.reader.unfold_whole(frame.unsqueeze(0)).float()
        for key in keys:
            self._keep(key, results[key])
        return torch.cat([results[key] for key in keys])

    def _keep(self, key: bytes, features: Tensor) -> None:
        # Another read, between two layers of this one, may have kept the same.
        if key not in self._kept:
            self._kept[key] = features
            self._bytes += features.nbytes
        self._kept.move_to_end(key)
        while self._bytes > self.max_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
