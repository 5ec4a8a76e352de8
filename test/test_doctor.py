"""`mirage doctor` on the machine that runs the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirage_ros import doctor
from mirage_ros.perception.registry import DEPTHS, FILTERS


def test_names_every_part_and_what_to_do(tmp_path: Path) -> None:
    checks = doctor.check_system, doctor.check_models, doctor.check_perception, doctor.check_ros
    findings = doctor.examine(tmp_path, checks)
    names = {finding.name for finding in findings}
    assert {"python", "torch", "default", "wan2.2-ti2v-5b", "rclpy", "/dev/shm", *DEPTHS, *FILTERS} <= names
    default = next(finding for finding in findings if finding.name == "default")
    assert default.state == doctor.BAD
    assert str(tmp_path) in default.found
    unidepth = next(finding for finding in findings if finding.name == "unidepth")
    assert unidepth.state == doctor.PART
    assert "pip install" in unidepth.advice
    lines = doctor.report(findings).splitlines()
    assert all(any(finding.name in line for line in lines) for finding in findings)
    assert max(map(len, lines)) < 200


def test_a_check_that_breaks_is_one_line_of_many(tmp_path: Path) -> None:
    def broken(weights: Path) -> Iterator[doctor.Finding]:
        raise RuntimeError("driver says no")

    findings = doctor.examine(tmp_path, (broken, doctor.check_packages))
    assert findings[0].state == doctor.BAD
    assert "driver says no" in findings[0].found
    assert len(findings) > 3


def test_exit_status_tells_whether_something_needed_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for state, status in ((doctor.PART, 0), (doctor.BAD, 1)):
        found = [doctor.Finding("topic", "thing", state, "missing", "install it")]
        monkeypatch.setattr(doctor, "examine", lambda weights, found=found: found)
        monkeypatch.setattr(sys, "argv", ["mirage doctor"])
        with pytest.raises(SystemExit) as error:
            doctor.main()
        assert error.value.code == status
        assert "install it" in capsys.readouterr().out


def test_shared_memory_and_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/nowhere/fastdds.xml")
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    found = {finding.name: finding for finding in doctor.check_ros(Path())}
    if "Fast DDS profile" in found:
        assert found["Fast DDS profile"].state == doctor.BAD
