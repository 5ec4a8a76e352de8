"""Memory files and clouds: round trips, damage, atomic writing."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
import safetensors.torch
import torch

from mirage_ros import atomic_files as atomic
from mirage_ros.memory import PUBLIC, LatentMemory, MemoryFileError, SourceFrame, files
from mirage_ros.memory.depth_patches import resample_depth

GRID = (11, 20)


def build(room, walk, dtype=torch.int8, **options) -> LatentMemory:
    """A small memory of three frames."""
    camera = walk(3, height=88, width=160)
    memory = LatentMemory(6, dtype=dtype, **options)
    colour = torch.randint(0, 256, (3, 88, 160, 3), dtype=torch.uint8) if options.get("colour") else None
    frames = [SourceFrame(id=i * 3, stamp=i, kind=("observation", "imagination")[i % 2]) for i in range(3)]
    memory.write(room.colour(camera.resized(*GRID)), room.depth(camera), camera, frame=frames, colour=colour)
    return memory


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("options", [{}, {"patch": 2, "colour": True}, {"convention": PUBLIC}])
def test_a_round_trip_is_bit_exact(room, walk, tmp_path, dtype, options):
    memory = build(room, walk, dtype, **options)
    memory.save(tmp_path / "memory.safetensors")
    back = LatentMemory.load(tmp_path / "memory.safetensors")
    view = walk(4, height=88, width=160).resized(*GRID)
    first, second = memory.read(view), back.read(view)
    for name in first.tensors():
        assert torch.equal(getattr(first, name), getattr(second, name))
    for name in memory._store.columns:
        one, other = memory._store.column(name), back._store.column(name)
        assert torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)), name
    assert [(r.id, r.stamp, r.kind, r.elements) for r in memory.frames()] == [
        (r.id, r.stamp, r.kind, r.elements) for r in back.frames()
    ]
    assert (back.dtype, back.patch, back.colour, back.convention) == (
        memory.dtype,
        memory.patch,
        memory.colour,
        memory.convention,
    )
    # It goes on from where it was.
    camera = walk(1, height=88, width=160)
    colour = torch.zeros(1, 88, 160, 3, dtype=torch.uint8) if back.colour else None
    report = back.write(room.colour(camera.resized(*GRID)), room.depth(camera), camera, colour=colour)
    assert report.explained > 100


@pytest.mark.parametrize(("held", "wanted"), [(2, 4), (4, 2), (2, 3), (0, 4), (2, 0)])
def test_a_memory_can_be_loaded_with_other_depth_patches(room, walk, tmp_path, held, wanted):
    memory = build(room, walk, patch=held, colour=True)
    memory.save(tmp_path / "memory.safetensors")
    back = LatentMemory.load(tmp_path / "memory.safetensors", patch=wanted)
    assert back.patch == wanted
    assert len(back) == len(memory)
    # A live memory that keeps such patches takes it over.
    live = LatentMemory(6, dtype=memory.dtype, patch=wanted, colour=True)
    live.restore(back)
    before, after = memory.frame_grids(), live.frame_grids()
    assert torch.equal(before.latents, after.latents)
    same = {(2, 4): (1, 2, 4), (4, 2): (2,)}.get((held, wanted), ())
    for samples in same:
        assert torch.equal(before.fine_depth(samples).nan_to_num(), after.fine_depth(samples).nan_to_num())
    if not same:
        # Each sub-cell has the depth of its element.
        told = after.fine_depth(wanted or 1)
        assert torch.allclose(told, resample_depth(after.depth, 1, wanted or 1), equal_nan=True)


def test_a_patch_that_no_memory_has_is_refused_before_the_file_is_read(tmp_path):
    LatentMemory(3, patch=2).save(tmp_path / "empty")
    for wrong in (-1, 17, "x", True):
        with pytest.raises(ValueError, match="patch: expected 0..16 sub-cells, got") as refused:
            LatentMemory.load(tmp_path / "empty", patch=wrong)
        assert not isinstance(refused.value, MemoryFileError)


def test_an_empty_memory_can_be_saved(tmp_path):
    LatentMemory(3).save(tmp_path / "empty")
    assert len(LatentMemory.load(tmp_path / "empty")) == 0


def test_damaged_files_are_refused_or_are_valid(room, walk, tmp_path):
    path = tmp_path / "memory.safetensors"
    build(room, walk, patch=1).save(path)
    content = path.read_bytes()
    header = struct.unpack("<Q", content[:8])[0] + 8
    view = walk(1, height=88, width=160).resized(*GRID)
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(500):
        damaged = bytearray(content)
        if trial % 3 == 0:
            del damaged[rng.integers(0, len(content)) :]
        else:
            # Half of the flips in the header, where they do the most.
            end = header if trial % 2 else len(content)
            for place in rng.integers(0, end, rng.integers(1, 5)):
                damaged[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged)
        try:
            memory = LatentMemory.load(path, max_bytes=8 << 20)
        except MemoryFileError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert memory.read(view).latents.isfinite().all()
    assert refused > 450


def _resaved(path, change) -> None:
    """Write the file at `path` again with changed tensors and a checksum that matches: hostile, not damaged."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()["mirage_ros"])
    change(tensors, description)
    description["checksum"] = files.checksum(tensors, description)
    safetensors.torch.save_file(tensors, path, {"mirage_ros": json.dumps(description)})


HOSTILE = {
    "positions is not finite": lambda t, d: t["positions"].__setitem__((0, 0), torch.nan),
    "size is not positive": lambda t, d: t["size"].__setitem__(0, -1),
    "scale is not finite": lambda t, d: t["scale"].__setitem__(0, torch.inf),
    "frame is not in the table": lambda t, d: t["frame"].__setitem__(0, 4000),
    "frame is not in the table ": lambda t, d: t["frame"].__setitem__(0, -1),
    "cell is outside its frame": lambda t, d: t["cell"].__setitem__((0, 0), 200),
    "sequence is out of range": lambda t, d: t["frames.sequence"].fill_(2**63 - 1),
    "pose is out of the world": lambda t, d: t["frames.cam2world"][:, 0, 3].fill_(1e13),
    "pose is not rigid": lambda t, d: t["frames.cam2world"].mul_(3),
    "focal length is not positive": lambda t, d: t["frames.intrinsics"].mul_(-1),
    "frame ids are negative or not unique": lambda t, d: t["frames.id"].fill_(1),
    "latent grid is not 1..256": lambda t, d: t["frames.height"].fill_(0),
    "expected version 1, got 2": lambda t, d: d.update(version=2),
    "tensors missing or unexpected: positions": lambda t, d: t.pop("positions"),
    "tensors missing or unexpected: more": lambda t, d: t.update(more=torch.zeros(1)),
    "expected features": lambda t, d: t.update(features=t["features"].float()),
    "expected positions": lambda t, d: t.update(positions=t["positions"][:, :-1].contiguous()),
    "description is not usable": lambda t, d: d.update(channels=10**12),
    "description is not usable ": lambda t, d: d.update(origin=[1, 2]),
    "description is not usable  ": lambda t, d: d.update(origin=[1e13, 0, 0]),
    "has no mirage_ros.latent_memory": lambda t, d: d.update(format="gaussians"),
}


@pytest.mark.parametrize("message", list(HOSTILE))
def test_hostile_files_are_refused_by_what_is_wrong(room, walk, tmp_path, message):
    path = tmp_path / "memory.safetensors"
    build(room, walk).save(path)
    _resaved(path, HOSTILE[message])
    with pytest.raises(MemoryFileError, match=message.strip()):
        LatentMemory.load(path)


def test_foreign_files_and_missing_ones(tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    with pytest.raises(MemoryFileError, match="not a memory file"):
        LatentMemory.load(picture)
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, weights)
    with pytest.raises(MemoryFileError, match="not a memory file"):
        LatentMemory.load(weights)
    with pytest.raises(FileNotFoundError):
        LatentMemory.load(tmp_path / "nowhere")


def test_a_memory_that_does_not_fit_is_refused(room, walk, tmp_path):
    path = tmp_path / "memory"
    memory = build(room, walk)
    memory.save(path)
    with pytest.raises(MemoryFileError, match="do not fit into max_bytes"):
        LatentMemory.load(path, max_bytes=12_000)
    # Not even one block of elements.
    with pytest.raises(MemoryFileError, match="max_bytes: expected at least"):
        LatentMemory.load(path, max_bytes=1_000)
    assert LatentMemory.load(path, max_bytes=200_000).nbytes <= 200_000


def test_a_failed_save_leaves_the_old_file(room, walk, tmp_path, monkeypatch):
    path = tmp_path / "memory"
    build(room, walk).save(path)
    before = path.read_bytes()
    os.chmod(path, 0o640)

    def broken(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        LatentMemory(3).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["memory"]
    LatentMemory(3).save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def read_ply(path):
    """Header lines and vertices of a binary little-endian PLY."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    kinds = {"float": "<f4", "uchar": "u1"}
    properties = [line.split() for line in header.decode("ascii").splitlines() if line.startswith("property")]
    return header.decode("ascii").splitlines(), np.frombuffer(
        body, [(name, kinds[kind]) for _, kind, name in properties]
    )


def test_a_cloud_is_a_ply_that_viewers_read(room, walk, tmp_path):
    memory = build(room, walk, colour=True)
    path = tmp_path / "cloud.ply"
    cloud = memory.cloud()
    cloud.save_ply(path)
    header, vertices = read_ply(path)
    assert header[:3] == ["ply", "format binary_little_endian 1.0", f"element vertex {len(memory)}"]
    assert vertices.dtype.names == ("x", "y", "z", "red", "green", "blue", "confidence")
    assert np.allclose(np.stack([vertices[axis] for axis in "xyz"], axis=-1), cloud.points.numpy(), atol=1e-5)
    assert (np.stack([vertices[c] for c in ("red", "green", "blue")], axis=-1) == cloud.colours.numpy()).all()
    assert (vertices["confidence"] == cloud.confidence.numpy()).all()


def test_open3d_opens_it(room, walk, tmp_path):
    open3d = pytest.importorskip("open3d", exc_type=ImportError)
    memory = build(room, walk, colour=True)
    memory.cloud().save_ply(tmp_path / "cloud.ply")
    cloud = open3d.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    assert len(cloud.points) == len(memory)
    assert np.allclose(np.asarray(cloud.points), memory.cloud().points.numpy(), atol=1e-5)
    assert np.allclose(np.asarray(cloud.colors) * 255, memory.cloud().colours.numpy(), atol=0.6)


def test_a_memory_without_colours_is_grey(room, walk):
    assert (build(room, walk).cloud().colours == 160).all()
