"""Colour maps, contact sheets and films."""

import av
import cv2
import numpy as np
import pytest

from mirage_ros.media import colour_depth, colour_labels, contact_sheet, save_png, write_video


def test_nearer_is_brighter_and_invalid_is_black():
    depth = np.array([[0.5, 2.0, 8.0, 0.0, np.nan, np.inf]], dtype=np.float32)
    colours = colour_depth(depth, far=8.0)
    brightness = colours.astype(int).sum(axis=-1)[0]
    assert brightness[0] > brightness[1] > brightness[2]
    assert (colours[0, 3:] == 0).all()
    assert colour_depth(np.zeros((2, 3, 4), np.float32)).shape == (2, 3, 4, 3)
    with pytest.raises(ValueError, match="far: expected"):
        colour_depth(depth, far=0.0)


def test_labels_have_three_different_colours():
    colours = colour_labels(np.array([[0, 1, 2]]))
    assert len({tuple(colour) for colour in colours[0]}) == 3
    with pytest.raises(ValueError, match="labels: expected"):
        colour_labels(np.array([[3]]))


def test_a_sheet_shows_every_picture_once(tmp_path):
    pictures = [np.full((8, 12, 3), value, np.uint8) for value in (50, 100, 150, 200)]
    sheet = contact_sheet([("first", pictures[:3]), ("second", pictures[3:])], scale=2)
    for picture in pictures:
        assert (sheet == picture[0, 0]).all(axis=-1).sum() >= 16 * 24
    save_png(tmp_path / "sheet.png", sheet)
    assert (cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1] == sheet).all()
    with pytest.raises(ValueError, match="ends in .png"):
        save_png(tmp_path / "sheet.jpg", sheet)
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([("", [pictures[0], pictures[0][:4]])])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


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
