"""Films."""

import av
import numpy as np
import pytest

from mirage_ros.video import write_video


def test_a_film_plays_back_what_was_written(tmp_path):
    y, x = np.mgrid[:49, :65]
    frames = [np.stack([x * 3, y * 4, np.full_like(x, 20 * i)], axis=-1).astype(np.uint8) for i in range(6)]
    write_video(tmp_path / "film.mp4", frames, 12.5)
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 12.5
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 6
    for shown, written in zip(decoded, frames, strict=True):
        assert shown.shape == (48, 64, 3)
        assert np.abs(shown.astype(int) - written[:48, :64]).mean() < 6


def test_a_film_refuses_a_change_of_size(tmp_path):
    frames = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]
    with pytest.raises(ValueError, match="rgb: expected 8x8"):
        write_video(tmp_path / "film.mp4", frames, 10)
