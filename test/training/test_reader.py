"""The reader's samples and its training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from mirage_ros.memory.frame_grids import splat
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.network_files import load_part
from mirage_ros.training import reader
from mirage_ros.training.batches import batches
from mirage_ros.training.latent_cache import LatentCache, cell_depth
from mirage_ros.training.measure_reader import measure_hops, measure_reader
from mirage_ros.training.reader import ReaderTask
from mirage_ros.training.sample_memory import exact_splat, noisy_depth, token_depth


@pytest.fixture
def task(new_clips, tiny_preset, tmp_path) -> ReaderTask:
    torch.manual_seed(0)
    autoencoder = tiny_preset.new_autoencoder().eval()
    latents = LatentCache(new_clips(), autoencoder, tmp_path / "latents")
    return ReaderTask(tiny_preset.new_reader(), autoencoder, latents, latents, tiny_preset, hops=3)


def batch_of(task: ReaderTask, shared: int, count: int = 2) -> dict[str, torch.Tensor]:
    samples = [task.sample(np.random.default_rng(i), np.random.default_rng(shared)) for i in range(count)]
    return default_collate(samples)


def test_a_batch_agrees_on_its_lengths_and_lengths_vary(task):
    shapes = {tuple(batch_of(task, shared)["latents"].shape[1:2]) for shared in range(12)}
    assert len(shapes) > 1


def test_sources_are_as_a_memory_holds_them(task):
    several = 0
    for seed in range(12):
        sample = task.sample(np.random.default_rng(seed), np.random.default_rng(seed))
        count = int(sample["sources"])
        known = token_depth(sample["depth"], 8, 12).isfinite()
        held = sample["latents"].abs().sum(dim=1) > 0
        # No depth without a latent, no latent without depth.
        assert torch.equal(held[:count], known[:count])
        # The chain itself is true, moving things and all.
        assert held[count:].all()
        if count > 1:
            several += 1
            assert held[1:count].sum() < held[:1].sum() * (count - 1)
    assert several > 2


def test_sources_come_from_real_sensors_and_the_truth_does_not(task, monkeypatch):
    monkeypatch.setattr(reader, "SENSED", 1.0)

    def sample(seed):
        return task.sample(np.random.default_rng(seed), np.random.default_rng(seed))

    spoilt = [sample(seed) for seed in range(8)]
    spoil, changed = reader.as_sensed, []
    monkeypatch.setattr(reader, "as_sensed", lambda clip, rng: spoil(clip, rng) and clip)
    for seed, sensed in enumerate(spoilt):
        perfect = sample(seed)
        count = int(perfect["sources"])
        for name in ("images", "metres", "cam2world", "static"):
            assert torch.equal(perfect[name], sensed[name])
        assert torch.equal(perfect["latents"][count:], sensed["latents"][count:])
        held = (perfect["latents"][:count] != 0) & (sensed["latents"][:count] != 0)
        difference = (perfect["latents"][:count] - sensed["latents"][:count])[held].abs()
        # Of the same thing, if not as it is.
        assert difference.mean() < 1
        changed.append(bool(difference.any()) or not torch.equal(perfect["depth"], sensed["depth"]))
    assert sum(changed) > 4


def test_processes_that_prepare_samples_draw_the_same(task, monkeypatch):
    monkeypatch.setattr(reader, "SENSED", 1.0)
    drawn = [
        next(iter(batches(task.sample, seed=3, batch=2, accumulate=1, step=0, processes=1, process=0, workers=workers)))
        for workers in (0, 1)
    ]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0] if name != "depth")


def test_every_hop_of_a_chain_reaches_the_weights(task):
    for shared in range(6):
        batch = batch_of(task, shared)
        losses = task(batch, 0, torch.Generator())
        task.zero_grad()
        losses["loss"].backward()
        assert all(parameter.grad is not None for parameter in task.reader.unfolding.parameters())
        assert not any(parameter.requires_grad for parameter in task._frozen[0].parameters())


def test_the_decoder_learns_with_the_reader_and_the_encoder_stays(task, tmp_path):
    autoencoder, data = task._frozen[0], task._data
    images = torch.rand(1, 3, 32, 48)
    latents = autoencoder.encode_images(images)
    drawn = autoencoder.decode_images(latents)[0]
    both = ReaderTask(task.reader, autoencoder, data, data, task._preset, hops=3, decoder=True)
    optimiser = torch.optim.AdamW([p for p in both.parameters() if p.requires_grad], lr=3e-3)
    batch = batch_of(both, 1, 4)
    values = []
    for _ in range(10):
        losses = both(batch, 0, torch.Generator())
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        values.append(float(losses["true"].detach()))
    assert values[-1] < values[0]
    both.save(tmp_path)
    saved = load_part(FrameAutoencoder, tmp_path, "vae")
    assert torch.equal(saved.encode_images(images), latents)
    assert not torch.equal(saved.decode_images(latents)[0], drawn)
    # Latents on disk are still those of this encoder.
    assert LatentCache(data.clips, autoencoder, tmp_path.parent / "latents")._fingerprint == data._fingerprint


def test_some_samples_have_depth_no_finer_than_that_of_imagined_frames(task, monkeypatch):
    held, given = [], task._data.depth
    task._data.depth = lambda *args, factor, **kept: held.append(factor) or given(*args, factor=factor, **kept)
    monkeypatch.setattr(reader, "COARSE", 0.5)
    monkeypatch.setattr(reader, "NOISE", 0.05)
    uneven = {2: 0, 4: 0}
    for seed in range(16):
        depth = task.sample(np.random.default_rng(seed), np.random.default_rng(0))["depth"]
        assert depth.shape[-2:] == (32, 48)
        uneven[held[-1]] += not torch.equal(depth[:, ::2, ::2].nan_to_num(), depth[:, 1::2, 1::2].nan_to_num())
    assert uneven[2] == 0
    assert uneven[4] > 0
    assert 2 in held


def test_training_reduces_what_is_read_wrongly(task):
    batch = batch_of(task, 1, 4)
    optimiser = torch.optim.AdamW(task.reader.parameters(), lr=3e-3)
    values = []
    for _ in range(15):
        loss = task(batch, 0, torch.Generator())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0]


def test_cells_with_anything_that_moves_are_not_kept(new_clip):
    clip = new_clip()
    everything, kept = cell_depth(clip, 16, 24)
    moves = (
        torch.nn.functional.max_pool2d(torch.from_numpy((clip.labels != 0).astype(np.float32))[:, None], 2)[:, 0] > 0
    )
    assert (kept[moves.numpy()] == 0).all()
    assert (kept[~moves.numpy()] == 2000).all()
    assert (everything[:, :2] == 30_000).all()


def test_depth_is_given_at_any_number_of_samples(task, new_clip):
    data, frames = task._data, np.array([1, 3])
    clip = data.clips.clip(0, frames)
    pixels = data.depth(0, frames, keep=True, factor=4).numpy()
    still = clip.labels == 0
    assert pixels[still] == pytest.approx(clip.depth[still], abs=1e-3)
    assert np.isnan(pixels[~still]).all()
    assert data.depth(0, frames, keep=False, factor=1).shape == (2, 8, 12)


def test_noise_leaves_holes_alone_and_is_of_the_size_asked_for():
    depth = torch.full((4, 32, 48), 2.0)
    depth[:, :8] = torch.nan
    noisy = noisy_depth(depth, 0.02, np.random.default_rng(0))
    assert torch.isnan(noisy[:, :8]).all()
    assert 0.005 < (noisy[:, 8:] / 2 - 1).std() < 0.04


def test_splatting_under_autocast_is_exact(task):
    batch = batch_of(task, 0)
    from mirage_ros.geometry import Camera

    camera = Camera(batch["intrinsics"], batch["cam2world"], 8, 12).resized(32, 48)
    features = torch.randn(2, batch["depth"].shape[1], 3, 32, 48)
    wanted = splat(features, batch["depth"], camera, camera)
    with torch.autocast("cpu", torch.bfloat16):
        got = exact_splat(features, batch["depth"], camera, camera)
    assert torch.equal(got.index, wanted.index)


def test_an_untrained_reader_reads_whole_tokens(task):
    figures, rows = measure_reader(task.reader, task._frozen[0], task._held_out, clips=2, gap=2)
    assert figures["psnr"] == pytest.approx(figures["nearest"], abs=0.2)
    assert 0 < figures["visible"] < 1
    # Behind the ball, in the shown cells, the frames do not see the same.
    assert figures["shown"] < figures["psnr"]
    # The wall's true picture is there, the untrained reader's whole tokens are not.
    assert figures["nearest"] < figures["warped"] <= figures["bound"] + 0.2
    assert len(rows) == 3


def test_hops_of_a_closed_loop_pile_up_errors(task):
    figures = measure_hops(task.reader, task._frozen[0], task._held_out, clips=2, hops=2, step=1)
    assert {name: len(values) for name, values in figures.items()} == {"latent": 2, "rgb": 2, "bound": 2}
