"""Several frames in one memory, and the views between them; with the shipped weights: random ones draw nothing."""

from __future__ import annotations

import pytest

from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.network_files import load_part
from mirage_ros.models.presets import preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.resources import weights_directory
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.measure_reader import measure_recall


@pytest.fixture
def recall(new_clips, tmp_path):
    """Figures of walks along a wall."""
    folder = weights_directory() / "default"
    autoencoder, reader = load_part(FrameAutoencoder, folder, "vae"), load_part(UnfoldReader, folder, "reader")

    def measure(every=2):
        data = LatentCache(new_clips(2, 6), autoencoder.eval(), tmp_path / "latents")
        return measure_recall(reader.eval(), autoencoder, data, preset("default"), clips=2, every=every)

    return measure


def test_views_between_written_frames_are_read_nearly_as_well_as_encoded(recall):
    figures = recall()
    assert abs(figures["latent"] - figures["bound"]) < 2
    assert abs(figures["rgb"] - figures["bound"]) < 4
    assert 0 < figures["latent_kib"] < figures["rgb_kib"]


def test_frames_between_must_be_there(recall):
    with pytest.raises(ValueError, match="every: expected less than the 6 frames of a clip, got 6"):
        recall(every=6)
