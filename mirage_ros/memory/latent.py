"""The latent spatial memory: a persistent cache of latent tokens in world space."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory import files
from mirage_ros.memory.depth_patches import check_patch
from mirage_ros.memory.elements import ElementStore, Undo
from mirage_ros.memory.provenance import FrameTable, SourceFrame
from mirage_ros.memory.read import assemble, check_rule
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.state import MemoryState
from mirage_ros.memory.write import Destination, check_write, source_frames, write_frame
from mirage_ros.memory.write_rules import WriteReport, WriteRules
from mirage_ros.memory.zbuffer.backends import backend, winners
from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks
from mirage_ros.memory.zbuffer.projection import CENTRED, Convention, views_of

logger = logging.getLogger(__name__)


class LatentMemory(MemoryState):
    """World-space elements, each a position and a latent token, written from posed depth frames and read by cameras.

    Source of the idea: Mirage (arXiv 2606.09828), whose memory is M = {(p_i, f_i)}; how this one is read and written is
    described in `zbuffer` and in `write`.

    An element holds, in bytes:

    | what | type | bytes |
    |---|---|---|
    | feature | int8, float16, bfloat16 or float32 | C x 1, 2, 2, 4 |
    | position, relative to the memory's origin | 3 float32 | 12 |
    | size: side of its patch in metres | float16 | 2 |
    | confidence: agreeing views, 0 to 255 | uint8 | 1 |
    | source frame: slot in the frame table | int16 | 2 |
    | cell of the source frame: row, column | 2 uint8 | 2 |
    | colour, if asked for | 3 uint8 | 3 |
    | depth patch, if asked for: p x p sub-cells | int8 | p x p |

    With 48 int8 channels that is 67 bytes, and .11 more for the box of its block of 256.

    Confidence starts at 2, or 1 where a cell was not all one surface or known for the smaller part; every later view
    that agrees adds one; a view that sees through the element sets it to 1, and one that does so at 1 removes it: two
    views in a row at most.

    Bounds: `nbytes`, the storages of all buffers with their unused rows, the boxes and the frame table, never exceeds
    `max_bytes`, not even while a buffer grows and its old and new storage exist together. Working memory of one call is
    not counted. When there is no room, elements go in this order: imagined before observed, those in doubt (confidence
    1), those of the oldest frame, of them the least confirmed; a twentieth of the room at a time. New imagined cells
    never displace observed elements: they are dropped. A sixteenth of the room is for source frames: when none is left,
    the imagined or else the oldest frame goes with its elements.

    `fork` and `restore` share buffers: what-if rollouts write to a fork, and one that must leave the caller's memory as
    it was forks it first and restores it from the fork.

    A memory is used from one thread at a time; forks may be used from different ones.
    """

    def __init__(
        self,
        channels: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float16,
        max_bytes: int = 512 << 20,
        *,
        patch: int = 0,
        colour: bool = False,
        rules: WriteRules | None = None,
        convention: Convention = CENTRED,
    ) -> None:
        """An empty memory.

        Args:
            device: where the elements are; cameras and frames must be there too.
            dtype: of the stored features: int8 (a scale for each channel), float16, bfloat16 or float32.
            max_bytes: hard cap, see above.
            patch: sub-cells along each side of a cell whose depth is kept for readers that unfold; none by default.
            colour: keep a colour with each element, for `cloud`; `write` then needs it.
            convention: `projection.CENTRED`, or `projection.PUBLIC` for weights trained with the public Mirage code.

        Raises:
            TypeError: `max_bytes` is of another type.
            ValueError: an argument is out of range, or `max_bytes` holds not even one block of elements.
        """
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int | np.integer):
            raise TypeError(f"max_bytes: expected a whole number of bytes, got {max_bytes!r}")
        self.rules, self.convention = WriteRules() if rules is None else rules, convention
        self.channels, self.dtype, self.device = channels, dtype, _indexed(torch.device(device))
        self.max_bytes, self.patch, self.colour = int(max_bytes), patch, bool(colour)
        self._warned = False
        self._element_bytes = self.max_bytes - self.max_bytes // 16
        store = ElementStore(channels, dtype, self.device, patch, self.colour)
        super().__init__(store, FrameTable(self.max_bytes // 16))
        if self._table.limit < 1 or self._store.limit(self._element_bytes) == 0:
            least = (self._store.row_bytes * BLOCK + Blocks.BYTES + channels * 4 + 1024) * 16 // 15
            raise ValueError(f"max_bytes: expected at least {least} for one block of elements, got {max_bytes}")

    def __repr__(self) -> str:
        return (
            f"LatentMemory({len(self)} elements of {self.channels} channels in {self.dtype}, {self.nbytes / 2**20:.2f} "
            f"of {self.max_bytes / 2**20:.2f} MiB, {len(self._table.slots())} frames, {self.device}"
            # On a GPU the answer may take seconds.
            + (f", {self.backend} z-buffer)" if self.device.type == "cpu" else ")")
        )

    @property
    def backend(self) -> str:
        """What finds the winners of a read: 'compiled', 'triton' or 'torch'; see `backends`."""
        return backend(self.device)

    @torch.no_grad()
    def write(
        self,
        latents: Tensor,
        depth: Tensor,
        camera: Camera,
        keep: Tensor | None = None,
        frame: SourceFrame | Sequence[SourceFrame] | None = None,
        *,
        copied: Tensor | None = None,
        colour: Tensor | None = None,
    ) -> WriteReport:
        """Back-project frames, one after the other: each is compared with what those before it left.

        All are written or, where anything fails, none: the memory is then as it was, to the bit. It is changed in
        place, unless forks share its buffers: then the first write copies them.

        Args:
            latents: (T, C, h, w) float, at most 256 cells along each side, of magnitudes below 1e38; what exceeds a
                stored float16 becomes its largest number.
            depth: (T, H, W) float metres along the optical axis, of any resolution. Where it is not finite or not
                positive there is nothing to write, nor where a cell would be larger than 65 km.
            camera: T cameras at any resolution with the field of view of the frames, within 1e12 m of the origin.
            keep: (T, H, W) bool, of any resolution; false on what must not be remembered, such as moving things.
            frame: provenance of each frame; observations without a stamp by default.
            copied: (T, h, w) bool, cells whose content was merely read from the memory (a readout's `visible`, where
                the model copies what was seen). They are skipped: nothing is written, confirmed or removed there.
            colour: (T, H, W, 3) uint8, if the memory keeps colours.

        Returns:
            what happened, summed over the frames.

        Raises:
            TypeError: an argument is of another type; the memory is then unchanged.
            ValueError: an argument does not fit; likewise.
        """
        check_write(self._store, latents, depth, camera, keep, copied, colour)
        frames = source_frames(frame, len(latents))
        self._table.check_new(frames)
        if len(latents) == 0:
            return WriteReport()
        store, origin, report, undo = self._own(), self._origin, WriteReport(), Undo()
        if len(store.holes) * 64 > store.end:
            # Rarely enough to cost little for each row removed.
            store.compact()
        if origin is None:
            # Positions are float32: near the first camera they keep their precision wherever the map's origin is.
            origin = camera.cam2world.expand(*camera.batch_shape, 4, 4)[0, :3, 3].double().round()
        into = Destination(store, self._table, origin, self.rules, self.convention, self._element_bytes, undo)
        try:
            for t in range(len(latents)):
                given = (None if part is None else part[t] for part in (keep, copied, colour))
                report += write_frame(into, latents[t], depth[t], camera[t], frames[t], *given)
            store.settle()
        except BaseException:
            while undo:
                undo.pop()()
            raise
        self._origin = origin
        if report.evicted + report.dropped and not self._warned:
            self._warned = True
            logger.warning(
                "the memory is full: %d of at most %d bytes hold %d elements; imagined, little confirmed and old ones "
                "make room for new ones from here on (said once)",
                self.nbytes,
                self.max_bytes,
                len(self),
            )
        return report

    def read(
        self,
        camera: Camera,
        rule: str = "nearest",
        *,
        observed_first: bool = False,
    ) -> Readout:
        """Project the memory into cameras.

        Args:
            camera: (...) cameras whose height and width are those of the latent grid, usually `camera.resized(h, w)`.
            rule: 'nearest' (the element nearest to a cell's centre among the visible ones) or 'strict' (the frontmost,
                as in the paper); see `zbuffer`.
            observed_first: imagined elements show only in cells that no observed one covers, however far behind that
                one is: a guess hides nothing that was seen. Takes twice the time.

        Raises:
            TypeError: `camera` is not a Camera.
            ValueError: an option or the camera's device is not usable.
        """
        check_rule(rule)
        if not isinstance(camera, Camera):
            raise TypeError(f"camera: expected Camera, got {type(camera).__name__}")
        if camera.device != self.device:
            raise ValueError(f"camera: expected on {self.device} like the memory, got {camera.device}")
        store = self._store
        views = views_of(camera, self.convention, self._origin)
        positions, sizes = store.columns["positions"], store.columns["size"]
        index = winners(positions, sizes, views, store.blocks, rule)
        if observed_first and self._table.mixed():
            imagined = self._table.imagined(self.device)[store.columns["frame"][: store.end].to(torch.int64)]
            # Rows that are not finite never win.
            observed = positions.clone()
            observed[:, : store.end].masked_fill_(imagined, torch.nan)
            seen = winners(observed, sizes, views, store.blocks, rule)
            index = torch.where(seen >= 0, seen, index)
        ids = self._table.ids(self.device)
        readout = assemble(index, store.columns, store.scale, ids, views, camera.batch_shape)
        return replace(readout, index=store.elements_of(readout.index))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the memory to a file, atomically; see `files` for the format.

        Raises:
            OSError: the file cannot be written; an older file at the path is then as it was.
        """
        files.save(path, self._store, self._table, self.convention, self._origin)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        max_bytes: int = 512 << 20,
        rules: WriteRules | None = None,
        patch: int | None = None,
    ) -> LatentMemory:
        """The memory of a file.

        Args:
            path: written by `save`.
            device, max_bytes, rules: of the new memory.
            patch: likewise; that of the file by default. Depth patches are resampled; where neither number divides the
                other, sub-cells have the depth of their element.

        Raises:
            OSError: the file cannot be read.
            ValueError: `patch` is out of range.
            MemoryFileError: the file is truncated, foreign, of another version or inconsistent, or does not fit into
                `max_bytes`.
        """
        if patch is not None:
            check_patch(patch)
        device = _indexed(torch.device(device))
        with files.opened(path) as file:
            try:
                memory = cls(
                    file.channels,
                    device,
                    file.dtype,
                    max_bytes,
                    patch=file.patch if patch is None else patch,
                    colour=file.colour,
                    rules=rules,
                    convention=file.convention,
                )
            except ValueError as error:
                raise files.MemoryFileError(f"{path}: {error}") from error
            most, frames = memory._store.limit(memory._element_bytes), memory._table.limit
            if file.count > most or file.frames > frames:
                raise files.MemoryFileError(
                    f"{path}: {file.count} elements of {file.frames} frames do not fit into max_bytes {max_bytes}, "
                    f"which holds {most} of {frames}"
                )
            memory._table.rows = file.fill(memory._store, memory._element_bytes)
        if file.origin is not None:
            memory._origin = torch.tensor(file.origin, dtype=torch.float64, device=memory.device)
        return memory


def _indexed(device: torch.device) -> torch.device:
    """The device as tensors report it: 'cuda' without a number is the current one."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: expected 'cpu', no CUDA device is usable here, got {str(device)!r}")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
