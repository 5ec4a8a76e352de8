"""Doubt that is fitted to errors holds what it promises, and says so honestly where it does not."""

import numpy as np
import pytest

from mirage_ros.evaluation.calibration import Errors, figures, fit, report, scaled

# Where classes of hidden pixels begin, in image widths.
BEGINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)


def drawn(count=40_000, seed=0):
    """Laplace errors: known pixels of scale .02, hidden ones of .1 near and .4 far from what is known."""
    random = np.random.default_rng(seed)
    distance = np.where(random.random(count) < 0.5, 0, random.uniform(0.001, 0.19, count)).astype(np.float32)
    scale = np.where(distance == 0, 0.02, np.where(distance < 0.1, 0.1, 0.4)).astype(np.float32)
    return Errors(np.abs(random.laplace(0, scale)).astype(np.float32), np.full(count, 0.1, np.float32), distance)


def test_the_fitted_table_is_the_truth_and_holds_on_other_pixels():
    doubt = fit(drawn(), BEGINS)
    assert doubt.visible == pytest.approx(0.02, rel=0.05)
    assert doubt.hidden[doubt.distances.index(0.05)] == pytest.approx(0.1, rel=0.08)
    assert doubt.hidden[doubt.distances.index(0.1)] == pytest.approx(0.4, rel=0.08)
    # Nothing is that far away here, so the last class is its neighbour's.
    assert doubt.distances[-1] == 0.1
    found = figures(scaled(drawn(seed=1), doubt))
    assert found["50 %"] == pytest.approx(0.5, abs=0.02)
    assert found["90 %"] == pytest.approx(0.9, abs=0.02)
    assert found["calibration error"] < 0.02


def test_intervals_that_are_too_narrow_or_too_wide_show():
    errors = drawn()
    far = errors.of(errors.distance >= 0.1)
    narrow = figures(far)
    assert narrow["90 %"] < 0.6
    wide = figures(Errors(far.error, np.full_like(far.scale, 5.0), far.distance))
    assert wide["50 %"] > 0.9
    fitting = figures(scaled(far, fit(errors, BEGINS)))
    assert fitting["NLL"] < min(narrow["NLL"], wide["NLL"])
    assert fitting["calibration error"] < 0.1 < min(narrow["calibration error"], wide["calibration error"])
    assert "hidden" in report({"as given": errors})


def test_too_few_pixels_are_refused():
    errors = drawn()
    with pytest.raises(ValueError, match="walks: expected 1000 pixels known and hidden"):
        fit(errors.of(errors.distance == 0))
