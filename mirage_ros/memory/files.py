"""Memory files: safetensors with a version, a description and a checksum.

Layout: the tensors of the element store (rows in use only), `scale` for int8 features, and the columns of the frame
table as `frames.<name>`. The metadata entry `mirage_ros` holds JSON: format, version, channels, dtype, patch, colour,
convention, origin, and the CRC-32 of the rest of the description and of all tensors in the order of their names.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.atomic_files import write_atomically
from mirage_ros.memory.depth_patches import resample_patch
from mirage_ros.memory.elements import FEATURE_DTYPES, ElementStore, layout
from mirage_ros.memory.provenance import MAX_COORDINATE, MAX_SLOTS, ROW, FrameTable
from mirage_ros.memory.zbuffer.projection import Convention

FORMAT = "mirage_ros.latent_memory"
VERSION = 1
_KEY = "mirage_ros"
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FEATURE_DTYPES}
# What safetensors calls the types that a file may hold.
_CODES = {
    torch.int8: "I8",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.uint8: "U8",
    torch.int16: "I16",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.bool: "BOOL",
}
_FRAME_SHAPES: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
    **dict.fromkeys(("id", "stamp", "sequence"), ((), torch.int64)),
    "cam2world": ((4, 4), torch.float64),
    "intrinsics": ((3, 3), torch.float64),
    **dict.fromkeys(("height", "width"), ((), torch.int16)),
    **dict.fromkeys(("imagined", "used"), ((), torch.bool)),
}
_DESCRIBED = {"format", "version", "channels", "dtype", "patch", "colour", "convention", "origin", "checksum"}


class MemoryFileError(ValueError):
    """A file that is not a usable memory of this version."""


def save(
    path: str | os.PathLike[str],
    store: ElementStore,
    table: FrameTable,
    convention: Convention,
    origin: Tensor | None,
) -> None:
    """Write a memory; see `LatentMemory.save`."""
    tensors = {name: store.column(name) for name in store.columns}
    tensors["positions"] = tensors["positions"].mT
    tensors = {name: rows.cpu().contiguous() for name, rows in tensors.items()}
    if store.scale is not None:
        tensors["scale"] = store.scale.cpu()
    for name, (_, dtype) in _FRAME_SHAPES.items():
        tensors[f"frames.{name}"] = torch.from_numpy(np.ascontiguousarray(table.rows[name]).astype(_numpy(dtype)))
    description = {
        "format": FORMAT,
        "version": VERSION,
        "channels": store.channels,
        "dtype": str(store.dtype).removeprefix("torch."),
        "patch": store.patch,
        "colour": store.colour,
        "convention": list(astuple(convention)),
        "origin": None if origin is None else origin.tolist(),
    }
    description["checksum"] = checksum(tensors, description)
    write_atomically(Path(path), safetensors.torch.save(tensors, {_KEY: json.dumps(description)}))


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[MemoryFile]:
    """A memory file to read from.

    Raises:
        OSError: the file cannot be read.
        MemoryFileError: it is truncated, foreign, of another version or inconsistent.
    """
    path = Path(path)
    with path.open("rb"):
        pass  # A missing or unreadable file is an OSError, not a broken file.
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            yield MemoryFile(path, file)
    except safetensors.SafetensorError as error:
        raise MemoryFileError(f"{path}: not a memory file, or truncated ({error})") from error


class MemoryFile:
    """A memory file whose description and whose tensors' shapes and types have been checked.

    Attributes:
        channels, dtype, patch, colour, convention: see `LatentMemory`.
        origin: world metres (x, y, z) that positions are relative to, or None.
        count, frames: numbers of elements and of rows of the frame table.
    """

    def __init__(self, path: Path, file: Any) -> None:
        """Look at what safetensors has opened."""
        self._path, self._file = path, file
        self._description = _description(path, file.metadata())
        self.channels: int = self._description["channels"]
        self.dtype = _DTYPES[self._description["dtype"]]
        self.patch: int = self._description["patch"]
        self.colour: bool = self._description["colour"]
        self.convention = Convention(*self._description["convention"])
        self.origin: list[float] | None = self._description["origin"]
        self._shapes = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        self.count, self.frames = _sizes(path, self._expected(), self._shapes)

    def _expected(self) -> dict[str, tuple[tuple[int | str, ...], torch.dtype]]:
        """Names, shapes and types of the tensors that the description asks for; 'n' and 'f' stand for the counts."""
        columns = layout(self.channels, self.dtype, self.patch, self.colour)
        expected: dict[str, tuple[tuple[int | str, ...], torch.dtype]] = {
            name: (("n", *shape) if name != "positions" else (*shape, "n"), dtype)
            for name, (shape, dtype) in columns.items()
        }
        if self.dtype == torch.int8:
            expected["scale"] = ((self.channels,), torch.float32)
        for name, (shape, dtype) in _FRAME_SHAPES.items():
            expected[f"frames.{name}"] = (("f", *shape), dtype)
        return expected

    def fill(self, store: ElementStore, max_bytes: int) -> NDArray[np.void]:
        """Put the elements into an empty store, with the depth patches that it keeps; the rows of the frame table.

        Raises:
            MemoryFileError: the content is damaged, or such as no memory holds.
        """
        tensors = {name: self._file.get_tensor(name) for name in self._shapes}
        if checksum(tensors, self._description) != self._description["checksum"]:
            raise MemoryFileError(f"{self._path}: damaged, the checksum of its content does not match")
        _check_values(self._path, tensors, self.count, self.frames)
        if store.patch != self.patch:
            codes = tensors.pop("patch", torch.zeros(self.count, 0, 0, dtype=torch.int8))
            tensors["patch"] = resample_patch(codes, store.patch)
        tensors["positions"] = tensors["positions"].mT
        store.make_room(self.count, max_bytes, [])
        store.end = self.count
        for name in store.columns:
            store.rows_first(name)[: self.count] = tensors[name].to(store.device)
        if store.scale is not None:
            store.scale = tensors["scale"].to(store.device)
        rows = np.zeros(self.frames, ROW)
        for name in _FRAME_SHAPES:
            rows[name] = tensors[f"frames.{name}"].numpy()
        return rows


def _description(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        description = json.loads((metadata or {})[_KEY])
        if not isinstance(description, dict) or description["format"] != FORMAT:
            raise KeyError("format")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MemoryFileError(f"{path}: not a memory file, its metadata has no {FORMAT} description") from error
    if description.get("version") != VERSION:
        raise MemoryFileError(f"{path}: expected version {VERSION}, got {description.get('version')!r}")
    convention, origin = description.get("convention"), description.get("origin")
    sound = (
        set(description) == _DESCRIBED
        and _is_whole(description.get("channels"), 1, 65536)
        and isinstance(description.get("dtype"), str)
        and description["dtype"] in _DTYPES
        and _is_whole(description.get("patch"), 0, 16)
        and isinstance(description.get("colour"), bool)
        and isinstance(convention, list)
        and len(convention) == 3
        and all(isinstance(switch, bool) for switch in convention)
        and (origin is None or _is_point(origin))
        and _is_whole(description.get("checksum"), 0, 2**32 - 1)
    )
    if not sound:
        raise MemoryFileError(f"{path}: damaged, its description is not usable")
    return description


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_point(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        # The memory rounds its origin to whole metres.
        and all(isinstance(number, float | int) and abs(number) <= MAX_COORDINATE for number in value)
    )


def _sizes(
    path: Path, expected: dict[str, tuple[tuple[int | str, ...], torch.dtype]], slices: dict[str, Any]
) -> tuple[int, int]:
    """Numbers of elements and frames, once every tensor has the shape and type that belongs to them."""
    if set(slices) != set(expected):
        wrong = sorted(set(slices) ^ set(expected))
        raise MemoryFileError(f"{path}: damaged, tensors missing or unexpected: {', '.join(wrong)[:200]}")
    count, frames = slices["size"].get_shape(), slices["frames.id"].get_shape()
    if len(count) != 1 or len(frames) != 1 or frames[0] > MAX_SLOTS:
        raise MemoryFileError(f"{path}: damaged, size is {count} and frames.id is {frames}")
    numbers = {"n": count[0], "f": frames[0]}
    for name, (shape, dtype) in expected.items():
        wanted = [numbers[length] if isinstance(length, str) else length for length in shape]
        found = slices[name]
        if list(found.get_shape()) != wanted or found.get_dtype() != _CODES[dtype]:
            raise MemoryFileError(
                f"{path}: damaged, expected {name} {wanted} {_CODES[dtype]}, "
                f"got {found.get_shape()} {found.get_dtype()}"
            )
    return count[0], frames[0]


def _check_values(path: Path, tensors: dict[str, Tensor], count: int, frames: int) -> None:
    """Refuse values that no memory would hold, whoever made the file."""

    def refuse(what: str) -> None:
        raise MemoryFileError(f"{path}: damaged, {what}")

    for name in ("features", "positions", "size", "scale", "frames.cam2world", "frames.intrinsics"):
        if name in tensors and not torch.isfinite(tensors[name]).all():
            refuse(f"{name} is not finite")
    if (tensors["size"] <= 0).any():
        refuse("size is not positive")
    if "scale" in tensors and (tensors["scale"] < 0).any():
        refuse("scale is negative")
    used = tensors["frames.used"]
    ids = tensors["frames.id"][used]
    if (ids < 0).any() or len(np.unique(ids.numpy())) != len(ids):
        refuse("frame ids are negative or not unique")
    if (tensors["frames.stamp"] < 0).any():
        refuse("a frame's stamp is negative")
    # The next frame's is larger, and must be a whole number of 64 bits too.
    if ((tensors["frames.sequence"] < 0) | (tensors["frames.sequence"] > 2**62)).any():
        refuse("a frame's sequence is out of range")
    height, width = tensors["frames.height"][used], tensors["frames.width"][used]
    if ((height < 1) | (height > 256) | (width < 1) | (width > 256)).any():
        refuse("a frame's latent grid is not 1..256 cells along each side")
    rotation = tensors["frames.cam2world"][used][:, :3, :3]
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    error = rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)
    if (error.abs() > 1e-2).any() or (tensors["frames.cam2world"][used][:, 3] != bottom).any():
        refuse("a frame's pose is not rigid")
    if (tensors["frames.cam2world"][used][:, :3, 3].abs() > MAX_COORDINATE).any():
        refuse("a frame's pose is out of the world")
    focal = tensors["frames.intrinsics"][used].diagonal(dim1=-2, dim2=-1)
    if (focal <= 0).any():
        refuse("a frame's focal length is not positive")
    frame = tensors["frame"].to(torch.int64)
    if count == 0:
        return
    if int(frame.min()) < 0 or int(frame.max()) >= frames or not used[frame].all():
        refuse("an element's frame is not in the table")
    cell = tensors["cell"].to(torch.int16)
    limits = torch.stack([tensors["frames.height"], tensors["frames.width"]], dim=-1)[frame]
    if (cell >= limits).any():
        refuse("an element's cell is outside its frame")


def checksum(tensors: dict[str, Tensor], description: dict[str, Any]) -> int:
    """CRC-32 of the description without its checksum and of all tensors in the order of their names."""
    plain = {key: value for key, value in description.items() if key != "checksum"}
    value = zlib.crc32(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        if tensors[name].numel():
            value = zlib.crc32(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data, value)
    return value


def _numpy(dtype: torch.dtype) -> Any:
    return torch.zeros(0, dtype=dtype).numpy().dtype
