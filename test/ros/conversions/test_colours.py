"""cv_bridge is used where it is right, and a wrong or crashing one does no harm."""

import itertools
import sys

import numpy as np
import pytest

from mirage_ros.ros.conversions import image_to_numpy, numpy_to_image
from mirage_ros.ros.conversions.colours import COLOURS, convert_with_opencv, cv_bridge_converter

PIXELS = np.random.default_rng(2).integers(0, 256, (4, 6, 3), dtype=np.uint8)
# Answers as the real one does for packed rows in this byte order, and keeps what it was asked.
RIGHT = """
import numpy as np
ORDERS = {"rgb8": "rgb", "bgr8": "bgr", "rgba8": "rgba", "bgra8": "bgra", "mono8": "m"}
asked = []
class CvBridge:
    def imgmsg_to_cv2(self, message, encoding):
        asked.append((message.encoding, encoding, message.step, message.is_bigendian))
        source, target = ORDERS[message.encoding], ORDERS[encoding]
        data = np.frombuffer(message.data, "u1").reshape(message.height, message.width, len(source))
        rgba = np.full((message.height, message.width, 4), 255.0)
        for i in range(3):
            rgba[..., i] = data[..., 0 if source == "m" else source.index("rgb"[i])]
        if target == "m":
            return np.rint(rgba[..., :3] @ [0.299, 0.587, 0.114]).astype("u1")
        return rgba[..., ["rgba".index(name) for name in target]].astype("u1")
"""
# A wrong result, an error of its C++ part, a segmentation fault as of a build against another NumPy, a hard exit.
BROKEN = {
    "black": "return np.zeros((message.height, message.width, 3), 'u1')",
    "raises": "raise RuntimeError('type mismatch')",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "exits": "import os; os._exit(3)",
}


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Puts a module of this name first on the path, as sourcing a workspace would."""

    def write(source):
        (tmp_path / "cv_bridge.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
        cv_bridge_converter.cache_clear()

    yield write
    sys.modules.pop("cv_bridge", None)
    cv_bridge_converter.cache_clear()


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_cv_bridge_is_not_used_and_harms_nobody(fault, install, capfd):
    method = f"    def imgmsg_to_cv2(self, message, encoding):\n        {BROKEN[fault]}\n"
    install(f"import numpy as np\nclass CvBridge:\n{method}")
    assert cv_bridge_converter() is None
    converted = image_to_numpy(numpy_to_image(PIXELS, "bgr8"), "rgb8")
    np.testing.assert_array_equal(converted, PIXELS[..., ::-1])
    assert capfd.readouterr() == ("", "")


def test_one_that_swaps_red_and_blue_is_not_used(install):
    install(RIGHT.replace('"rgba".index(name)', '"bgra".index(name)'))
    assert cv_bridge_converter() is None


def test_one_that_does_not_even_import_is_not_used(install):
    install("raise ImportError('numpy.core.multiarray failed to import')")
    assert cv_bridge_converter() is None


def test_a_right_one_is_asked_only_for_what_the_real_one_gets_right(install):
    install(RIGHT)
    assert cv_bridge_converter() is not None
    import cv_bridge

    native_big = int(sys.byteorder == "big")
    for source, target, padding, big in itertools.product(COLOURS, COLOURS, (0, 5), (0, 1)):
        pixels = convert_with_opencv(PIXELS, "rgb8", source)
        message = numpy_to_image(pixels, source)
        rows = np.pad(pixels.reshape(4, -1), ((0, 0), (0, padding)))
        message.step, message.is_bigendian = rows.shape[1], big
        message.data = message.data[:0]
        message.data.frombytes(rows.tobytes())
        cv_bridge.asked.clear()
        converted = image_to_numpy(message, target)
        expected = convert_with_opencv(pixels, source, target).astype(int)
        assert np.abs(converted - expected).max() <= 1
        used = source != target and padding == 0 and big == native_big
        assert cv_bridge.asked == ([(source, target, rows.shape[1], big)] if used else [])


def test_an_absent_one_is_no_matter(capfd, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cv_bridge_converter.cache_clear()
    try:
        assert cv_bridge_converter() is None
    finally:
        cv_bridge_converter.cache_clear()
    assert capfd.readouterr() == ("", "")
