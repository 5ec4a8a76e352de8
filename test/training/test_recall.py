"""Several frames in one memory, and the views between them."""

from __future__ import annotations

import math

from mirage_ros.training.latents import LatentCache
from mirage_ros.training.recall import measure_recall


def test_frames_between_written_ones_are_read(new_clips, tiny_preset, tmp_path):
    autoencoder, reader = tiny_preset.new_autoencoder().eval(), tiny_preset.new_reader().eval()
    data = LatentCache(new_clips(2, 6), autoencoder, tmp_path / "latents")
    figures = measure_recall(reader, autoencoder, data, tiny_preset, clips=2, every=2)
    assert all(math.isfinite(value) for value in figures.values())
    # A latent memory writes what is new alone, a pixel cache all.
    assert 0 < figures["latent_kib"]
    sparse = measure_recall(reader, autoencoder, data, tiny_preset, clips=2, every=4)
    assert figures["rgb_kib"] == 1.5 * sparse["rgb_kib"]
    assert figures["latent_kib"] < 1.2 * sparse["latent_kib"]
    # Whole tokens a step away are not the truth, encoded.
    assert figures["latent"] < figures["bound"] + 0.1


def test_a_view_at_a_written_place_is_drawn_as_well_as_the_autoencoder_can(new_clips, tiny_preset, tmp_path):
    autoencoder, reader = tiny_preset.new_autoencoder().eval(), tiny_preset.new_reader().eval()
    still = LatentCache(new_clips(1, 6, step=0.0, moving=False), autoencoder, tmp_path / "latents")
    figures = measure_recall(reader, autoencoder, still, tiny_preset, clips=1, every=2)
    assert abs(figures["latent"] - figures["bound"]) < 0.1
