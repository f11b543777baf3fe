"""``sqc cache``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import DIGITS, Sqc


def test_shows_and_clears(sqc: Sqc, calibration_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqc.codegen import build

    folder = tmp_path / "kernels"
    monkeypatch.setenv("SQC_CACHE", "on")
    monkeypatch.setenv("SQC_CACHE_DIR", str(folder))
    monkeypatch.setenv("SQC_CACHE_MIB", "2")
    build._objects.clear()
    assert sqc("cache").output == f"{folder}: 0 files, 0 KiB of 2,048 KiB\n"
    library = tmp_path / "digits.so"
    result = sqc("compile", DIGITS, "--calibration-data", calibration_file, "-o", library)
    assert result.exit_code == 0, result.output
    count = len(list(folder.iterdir()))
    assert count > 3
    assert sqc("cache").output.startswith(f"{folder}: {count} files, ")
    assert sqc("cache", "--clear").output == f"{folder}: 0 files, 0 KiB of 2,048 KiB, {count} removed\n"
    assert not list(folder.iterdir())


def test_tells_when_it_is_off(sqc: Sqc) -> None:
    assert "SQC_CACHE is off" in sqc("cache").output


def test_bad_settings_are_one_line(sqc: Sqc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQC_CACHE", "maybe")
    result = sqc("cache")
    assert result.exit_code == 1
    assert result.output == "Error: the environment variable SQC_CACHE must be on or off, not 'maybe'\n"
