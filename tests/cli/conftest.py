"""A way to call the command line, and small files for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sqc.cli.commands import cli

DIGITS = Path(__file__).parents[2] / "examples" / "digits.onnx"

GRAPH = """\
graph "tiny" (%x: float32[1,4]) {
  const %two: float32[1] = [2.0]
  const %three: float32[1] = [3.0]
  %six: float32[1] = mul(%two, %three) @"six"
  %y: float32[1,4] = mul(%x, %six) @"scale"
  return "y"=%y
}
"""

Sqc = Callable[..., Result]


@pytest.fixture
def sqc() -> Sqc:
    """Runs the ``sqc`` command with the given arguments, in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.sqc"
    path.write_text(GRAPH)
    return path


@pytest.fixture(scope="session")
def calibration_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen random pictures of the digits model's shape, under the name of its input."""
    path = tmp_path_factory.mktemp("data") / "calib.npz"
    rng = np.random.default_rng(0)
    np.savez(path, image=rng.integers(0, 17, (16, 1, 8, 8)).astype(np.float32))
    return path
