"""Colour maps and contact sheets."""

import cv2
import numpy as np
import pytest

from mirage_ros.media import colour_depth, colour_labels, contact_sheet, grey, read_picture, save_png, spread


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
    sheet = contact_sheet([("first", pictures[:3]), ("second", pictures[3:])])
    for picture in pictures:
        assert (sheet == picture[0, 0]).all(axis=-1).sum() >= 8 * 12
    save_png(tmp_path / "sheet.png", sheet)
    assert (cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1] == sheet).all()
    with pytest.raises(ValueError, match="ends in .png"):
        save_png(tmp_path / "sheet.jpg", sheet)
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([("", [pictures[0], pictures[0][:4]])])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_shares_become_grey_and_rows_are_spread_with_their_ends():
    assert grey(np.array([[0.0, 0.5, 1.0]], np.float32)).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert spread(range(9), 3) == [0, 4, 8]
    assert spread(range(2), 3) == [0, 1]


def test_sixteen_bits_come_back(tmp_path):
    millimetres = np.array([[0, 300], [40000, 65535]], np.uint16)
    save_png(tmp_path / "depth.png", millimetres)
    assert (cv2.imread(str(tmp_path / "depth.png"), cv2.IMREAD_UNCHANGED) == millimetres).all()


def test_a_picture_is_read_as_stored_whatever_exif_says(turned_jpeg, tmp_path):
    data, stored = turned_jpeg
    (tmp_path / "phone.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_picture(tmp_path / "phone.jpg", "image"), stored)
