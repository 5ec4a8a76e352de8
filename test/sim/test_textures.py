"""Textures: natural statistics, no seams."""

import numpy as np
import pytest

from mirage_ros.sim import pictures, textures

COLOUR = (0.6, 0.5, 0.4)
TILING = {
    "plaster": lambda rng: textures.plaster(rng, COLOUR),
    "carpet": lambda rng: textures.carpet(rng, COLOUR),
    "concrete": lambda rng: textures.concrete(rng, COLOUR),
    "wood": lambda rng: textures.wood(rng, COLOUR),
}


def rng():
    return np.random.default_rng(0)


def test_noise_falls_with_frequency_like_natural_images():
    noise = textures.fractal_noise(rng(), 256, 256, beta=1.0)
    assert noise.mean() == pytest.approx(0, abs=1e-9)
    assert noise.std() == pytest.approx(1)
    power = np.abs(np.fft.fft2(noise)) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    bands = [(0.01, 0.02), (0.04, 0.08), (0.16, 0.32)]
    x = [np.log((a + b) / 2) for a, b in bands]
    y = [np.log(power[(radius > a) & (radius < b)].mean()) for a, b in bands]
    slope = np.polyfit(x, y, 1)[0]
    assert slope == pytest.approx(-2, abs=0.25)


@pytest.mark.parametrize("name", TILING)
def test_tiling_textures_have_no_seam(name):
    pixels = TILING[name](rng()).astype(float)
    inside = np.abs(np.diff(pixels, axis=0)).mean(), np.abs(np.diff(pixels, axis=1)).mean()
    seam = np.abs(pixels[0] - pixels[-1]).mean(), np.abs(pixels[:, 0] - pixels[:, -1]).mean()
    # Wood closes along the grain only; across it, boards end.
    assert seam[1] < 2 * inside[1] + 1
    if name != "wood":
        assert seam[0] < 2 * inside[0] + 1


@pytest.mark.parametrize("name", TILING)
def test_colours_stay_near_the_wanted_one(name):
    mean = TILING[name](rng()).reshape(-1, 3).mean(axis=0) / 255
    np.testing.assert_allclose(mean, COLOUR, atol=0.06)


def test_pictures_differ_and_fill_their_frame():
    seen = set()
    generator = rng()
    for _ in range(12):
        picture = pictures.poster(generator, 96, 72)
        assert picture.shape == (96, 72, 3)
        assert picture[8:-8, 8:-8].std() > 8
        seen.add(picture.tobytes())
    assert len(seen) == 12
    assert [face.shape for face in pictures.panorama(rng(), 32)] == [(32, 32, 3)] * 6
