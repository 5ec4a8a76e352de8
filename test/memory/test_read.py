"""Reading: footprints, rules, what a readout holds, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory import PUBLIC, LatentMemory, WriteRules, read_elements
from mirage_ros.memory.zbuffer import cpu

HEIGHT, WIDTH = 22, 40
SOURCE = pinhole(HEIGHT, WIDTH, focal=30.0)


def moved(distance: float, **changes: float) -> Camera:
    """Cameras that have gone forward from the origin."""
    pose = torch.eye(4)
    pose[2, 3] = distance
    return SOURCE.at(pose)


def plane(depth: float = 4.0, background: float | None = 12.0):
    """Elements of a fronto-parallel plane seen by SOURCE, features one, before a background with features two."""
    layers = [(depth, 1.0)] + ([] if background is None else [(background, 2.0)])
    points = [SOURCE.lift(torch.full((HEIGHT, WIDTH), metres)).reshape(-1, 3) for metres, _ in layers]
    sizes = [torch.full((HEIGHT * WIDTH,), metres / 30.0) for metres, _ in layers]
    features = [torch.full((HEIGHT * WIDTH, 1), value) for _, value in layers]
    return torch.cat(points), torch.cat(sizes), torch.cat(features)


@pytest.mark.parametrize("rule", ["nearest", "strict"])
@pytest.mark.parametrize("zoom", [1.0, 1.1, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("sideways", [0.0, 0.137])
def test_coming_closer_to_a_plane_leaves_no_hole_and_no_leak(rule, zoom, sideways):
    camera = moved(4.0 - 4.0 / zoom)
    camera.cam2world[:2, 3] = sideways
    points, sizes, features = plane()
    readout = read_elements(points, sizes, features, camera.at(camera.cam2world[None]), rule=rule)
    # Inside the plane's image: the plane is exactly as large as the source's view.
    projected, _ = camera.project(points[: HEIGHT * WIDTH])
    low, high = projected.amin(dim=0).clamp(min=0), projected.amax(dim=0)
    inside = readout.latents[0, 0, int(low[1].ceil()) : int(high[1]), int(low[0].ceil()) : int(high[0])]
    assert inside.numel() > 0.7 * HEIGHT * WIDTH
    assert (inside == 1).all()


def test_nearest_prefers_the_centre_and_strict_the_front():
    camera = SOURCE.at(torch.eye(4)[None])
    # Two elements of one surface in the cell (10, 20): the one in front is off the centre.
    local = torch.tensor([[0.9 / 30, 0.9 / 30, 1.0], [0.52 / 30, 0.48 / 30, 1.0]]) + torch.tensor([0.0, -1 / 30, 0.0])
    points = local * torch.tensor([[4.0], [4.1]])
    sizes, features = torch.full((2,), 0.1), torch.tensor([[1.0], [2.0]])
    nearest = read_elements(points, sizes, features, camera)
    strict = read_elements(points, sizes, features, camera, rule="strict")
    assert nearest.latents[0, 0, 10, 20] == 2
    assert strict.latents[0, 0, 10, 20] == 1
    assert nearest.offset[0, :, 10, 20].tolist() == pytest.approx([0.02, -0.02], abs=1e-4)
    assert nearest.depth[0, 0, 10, 20] == pytest.approx(4.1)
    # Beyond the tolerance the front wins by either rule.
    behind = read_elements(points * torch.tensor([[1.0], [1.2]]), sizes, features, camera)
    assert behind.latents[0, 0, 10, 20] == 1


def test_a_readout_says_what_it_saw():
    points, sizes, features = plane(background=None)
    readout = read_elements(points, sizes, features, moved(2.0).at(moved(2.0).cam2world[None]))
    assert (readout.visible == 1).all()
    assert readout.depth == pytest.approx(2.0, abs=1e-5)
    # Twice as close: cells of the source are two cells wide.
    assert readout.log_scale == pytest.approx(math.log(2), abs=1e-3)
    assert readout.offset.abs().max() <= 1.0
    assert (readout.source == -1).all()
    assert torch.equal(readout.latents[0], features[readout.index[0, 0]].movedim(-1, 0))
    assert readout.coverage().tolist() == [1.0]


def test_nothing_seen_is_zero():
    nothing = read_elements(torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 3), SOURCE.at(torch.eye(4)[None]))
    assert nothing.latents.shape == (1, 3, HEIGHT, WIDTH)
    for part in (
        nothing.latents,
        nothing.visible,
        nothing.depth,
        nothing.offset,
        nothing.log_scale,
        nothing.confidence,
    ):
        assert (part == 0).all()
    assert (nothing.index == -1).all()
    assert (nothing.source == -1).all()


@pytest.fixture(params=["compiled", "torch", "cuda"])
def device(request, monkeypatch):
    """Where to read, by each backend; 'torch' is the path of devices other than a CPU, on the CPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if request.param == "compiled" and cpu.library() is None:
        pytest.skip("the package was built without its compiled part")
    if request.param == "torch":
        monkeypatch.setattr(cpu, "library", lambda: None)
    return torch.device("cuda" if request.param == "cuda" else "cpu")


def check_readout(found, expected, index):
    """Every field of a readout of one view against that of the same view read alone by the reference's arithmetic."""
    assert torch.equal(found.index.cpu(), index)
    assert found.tensors().keys() == expected.tensors().keys()
    for name, there in expected.tensors().items():
        if name != "index":
            # Logarithms and exponentials may round differently on another device.
            here = getattr(found, name).cpu()
            assert torch.allclose(here, there, atol=0 if name in ("visible", "source", "confidence") else 1e-6), name


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("own", [False, True])
def test_every_field_of_a_readout_is_that_of_its_view_alone(device, batch, own):
    points, sizes, features = plane()
    # No two elements are alike, and of two groups no two sizes.
    features = torch.arange(len(points), dtype=torch.float32).unsqueeze(1) / len(points)
    sizes = sizes * torch.linspace(0.5, 1.5, len(sizes))
    count, groups = math.prod(batch), batch[0] if own and len(batch) == 2 else 0
    poses = torch.eye(4).repeat(count, 1, 1)
    poses[:, 0, 3], poses[:, 2, 3] = torch.linspace(-0.5, 0.5, count), torch.linspace(0.2, 1.5, count)
    clouds = torch.stack([points + torch.tensor([0.3, 0.1, 0.5]) * i for i in range(max(groups, 1))])
    lengths = torch.stack([sizes * (1 + i) for i in range(max(groups, 1))])
    tokens = torch.stack([features + i for i in range(max(groups, 1))])
    given = [clouds, lengths, tokens] if groups else [clouds[0], lengths[0], tokens[0]]
    camera = SOURCE.at(poses.reshape(*batch, 4, 4)).to(device)
    together = read_elements(*(part.to(device) for part in given), camera)
    assert together.latents.shape == (*batch, 1, HEIGHT, WIDTH)
    flat = {name: value.reshape(count, -1, HEIGHT, WIDTH) for name, value in together.tensors().items()}
    for i in range(count):
        group = i // batch[1] if groups else 0
        alone = read_elements(clouds[group], lengths[group], tokens[group], SOURCE.at(poses[i]))
        assert alone.visible.mean() > 0.5
        index = torch.where(alone.index >= 0, alone.index + group * len(points), -1)
        check_readout(type(together)(**{name: part[i] for name, part in flat.items()}), alone, index)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_every_field_of_a_memory_s_readout_is_that_of_its_view_alone(device, batch, room, walk):
    camera = walk(3)
    memory = LatentMemory(6, dtype=torch.float32)
    memory.write(room.latents(camera), room.depth(camera), camera)
    count = math.prod(batch)
    views = walk(count, turn=0.5).resized(HEIGHT, WIDTH)
    poses = views.cam2world.reshape(*batch, 4, 4)
    together = memory.read(views.at(poses))
    for i in range(count):
        alone = memory.read(views[i])
        assert together.tensors().keys() == alone.tensors().keys()
        for name, value in alone.tensors().items():
            found = getattr(together, name)
            assert found.shape == (*batch, *value.shape)
            assert torch.equal(found.reshape(count, *found.shape[len(batch) :])[i], value), name


def test_features_get_gradients_of_the_cells_they_fill():
    points, sizes, features = plane()
    features = features.double().requires_grad_()
    camera = SOURCE.at(torch.eye(4)[None])
    readout = read_elements(points, sizes, features, camera)
    readout.latents.sum().backward()
    assert features.grad.sum() == pytest.approx(HEIGHT * WIDTH, rel=1e-5)
    assert (features.grad[HEIGHT * WIDTH :] == 0).all()


def test_what_cannot_be_seen_never_wins():
    camera = SOURCE.at(torch.eye(4)[None])
    nan, inf = math.nan, math.inf
    points = torch.tensor(
        [[0, 0, -2.0], [0, 0, 0.001], [0, 0, 0], [50, 0, 1.0], [nan, 0, 1], [0, 0, inf], [inf, inf, inf], [0, -inf, 2]]
    )
    readout = read_elements(points, torch.full((8,), 0.01), torch.ones(8, 1), camera)
    assert (readout.visible == 0).all()


def test_the_public_convention_reads_what_the_public_code_would():
    """Integer centres, own cell only, frontmost: every cell against a loop over the points as that code defines it."""
    generator = torch.Generator().manual_seed(0)
    depth = 2 + torch.rand(HEIGHT * 4, WIDTH * 4, generator=generator) * 0.2
    latents = torch.randn(1, 3, HEIGHT, WIDTH, generator=generator)
    camera = pinhole(HEIGHT * 4, WIDTH * 4, focal=120.0)
    memory = LatentMemory(3, dtype=torch.float32, rules=WriteRules(select=False), convention=PUBLIC)
    memory.write(latents, depth[None], camera.at(torch.eye(4)[None]))
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.21, -0.13, 0.4])
    readout = memory.read(SOURCE.at(pose[None]), rule="strict")

    coarse = torch.nn.functional.interpolate(depth[None, None], size=(HEIGHT, WIDTH), mode="bilinear")[0, 0].double()
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    x, y = (columns - WIDTH / 2) * coarse / 30, (rows - HEIGHT / 2) * coarse / 30
    moved_points = torch.stack([x, y, coarse], dim=-1).reshape(-1, 3) - pose[:3, 3].double()
    u = moved_points[:, 0] * 30 / moved_points[:, 2] + WIDTH / 2
    v = moved_points[:, 1] * 30 / moved_points[:, 2] + HEIGHT / 2
    # The band where float32 may round to another cell or swap two depths.
    clear = ((u % 1 - 0.5).abs() > 1e-4) & ((v % 1 - 0.5).abs() > 1e-4)
    expected = torch.zeros(3, HEIGHT, WIDTH)
    front = torch.full((HEIGHT, WIDTH), math.inf, dtype=torch.float64)
    shaky = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    tokens = latents[0].reshape(3, -1)
    for i in range(len(moved_points)):
        column, row = round(float(u[i])), round(float(v[i]))
        if not (0 <= row < HEIGHT and 0 <= column < WIDTH):
            continue
        shaky[row, column] |= ~clear[i] | ((moved_points[i, 2] - front[row, column]).abs() < 1e-5)
        if moved_points[i, 2] < front[row, column]:
            front[row, column], expected[:, row, column] = moved_points[i, 2], tokens[:, i]
    assert shaky.float().mean() < 0.02
    assert torch.equal(torch.where(shaky, 0, readout.latents[0]), torch.where(shaky, 0, expected))
    assert (readout.visible[0, 0] == front.isfinite().float())[~shaky].all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "farthest"}, "rule: expected one of nearest, strict, got 'farthest'"),
        ({"positions": torch.zeros(5, 2)}, "positions: expected float"),
        ({"sizes": torch.zeros(4)}, "sizes: expected"),
        ({"features": torch.zeros(4, 2)}, "features: expected float"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"positions": torch.zeros(5, 3), "sizes": torch.ones(5), "features": torch.ones(5, 2)}
    with pytest.raises(ValueError, match=message.replace("(", "\\(")):
        read_elements(**{**arguments, "camera": SOURCE.at(torch.eye(4)[None]), **changes})
