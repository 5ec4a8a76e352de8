"""Doubt that is fitted to errors holds what it promises, and says so honestly where it does not."""

import numpy as np
import pytest

from mirage_ros.evaluation.calibration import Errors, figures, fit, report, scaled


def laplace(count=40_000, seed=0, hidden=0.3):
    """Laplace errors: known pixels of scale .02, hidden ones of a wider one; the model says .1 of all."""
    random = np.random.default_rng(seed)
    known = random.random(count) < 0.5
    error = np.abs(random.laplace(0, np.where(known, 0.02, hidden))).astype(np.float32)
    return Errors(error, np.full(count, 0.1, np.float32), known)


def test_the_fitted_table_is_the_truth_and_holds_on_other_pixels():
    doubt = fit(laplace(), laplace(hidden=0.4))
    assert doubt.visible == pytest.approx(0.02, rel=0.05)
    assert doubt.hidden == pytest.approx(0.3, rel=0.05)
    assert doubt.drawn == pytest.approx(0.4, rel=0.05)
    found = figures(scaled(laplace(seed=1), doubt))
    assert found["50 %"] == pytest.approx(0.5, abs=0.02)
    assert found["90 %"] == pytest.approx(0.9, abs=0.02)
    assert found["calibration error"] < 0.02


def test_intervals_that_are_too_narrow_or_too_wide_show():
    errors = laplace()
    hidden = errors.of(~errors.known)
    narrow = figures(hidden)
    assert narrow["90 %"] < 0.6
    wide = figures(Errors(hidden.error, np.full_like(hidden.scale, 5.0), hidden.known))
    assert wide["50 %"] > 0.9
    fitting = figures(scaled(hidden, fit(errors)))
    assert fitting["NLL"] < min(narrow["NLL"], wide["NLL"])
    assert fitting["calibration error"] < 0.1 < min(narrow["calibration error"], wide["calibration error"])
    assert "hidden" in report({"as given": errors})


def test_too_few_pixels_are_refused():
    errors = laplace()
    with pytest.raises(ValueError, match="walks: expected 1000 pixels each"):
        fit(errors.of(errors.known))
