"""The main job, as the README runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")


def test_main_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import digits

    path = tmp_path / "digits.so"
    monkeypatch.setattr(sys, "argv", ["digits.py", str(path)])
    digits.main()
    output = capsys.readouterr().out
    accuracy = {name: float(value) for name, value in re.findall(r"^(float32|int8) +([\d.]+)%", output, re.MULTILINE)}
    assert accuracy["float32"] >= 97
    assert accuracy["int8"] >= accuracy["float32"] - 1
    assert str(path) in output
    assert path.exists()
