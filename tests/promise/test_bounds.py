"""Kernels read and write nothing outside of their operands and result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_kernels_stay_inside_their_arrays() -> None:
    """In a process of its own, which a kernel that does not would end."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.promise.bounds", "--seeds", "0:8"]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "stayed inside" in run.stdout
