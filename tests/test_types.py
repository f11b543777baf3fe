"""mypy, strict, on the package as it is installed: with ``passes/`` and ``schedules/`` inside ``sqc``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).parent.parent


def test_the_package_is_typed(tmp_path: Path) -> None:
    package = tmp_path / "sqc"
    package.mkdir()
    for entry in (ROOT / "sqc").iterdir():
        (package / entry.name).symlink_to(entry)
    for mapped in ("passes", "schedules"):
        (package / mapped).symlink_to(ROOT / mapped)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), "-p", "sqc"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "MYPYPATH": ""})
    assert result.returncode == 0, result.stdout.replace(str(tmp_path), "") + result.stderr
