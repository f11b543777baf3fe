"""The group of commands: help, start-up, and what becomes of errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sqc.cli.commands import COMMANDS, Commands
from sqc.errors import CompileError
from tests.cli.conftest import Sqc


def test_help_lists_every_command(sqc: Sqc) -> None:
    result = sqc("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"  {name} " in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(sqc: Sqc, name: str) -> None:
    result = sqc(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


def test_help_loads_no_heavy_package() -> None:
    code = """
import sys
from click.testing import CliRunner
from sqc.cli.commands import cli
assert CliRunner().invoke(cli, ["--help"]).exit_code == 0
heavy = {"numpy", "onnx", "tvm", "rich", "networkx", "scipy", "onnxruntime", "openvino"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_command(sqc: Sqc) -> None:
    result = sqc("compose")
    assert result.exit_code == 2
    assert "No such command 'compose'" in result.output


class Failing(Commands):
    """A group whose only command raises."""

    error: BaseException

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        def fail() -> None:
            raise self.error

        return click.Command("fail", callback=fail)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CompileError("conv1 has no kernel"), 1, "Error: conv1 has no kernel"),
        (
            ModuleNotFoundError("no", name="onnx.helper"),
            1,
            "Error: the package onnx is not installed: pip install 'sqc[compile]'",
        ),
        (ModuleNotFoundError("", name="nncf"), 1, "Error: the package nncf is not installed: pip install 'sqc[bench]'"),
        (PermissionError(13, "Permission denied", "a.so"), 1, "Error: a.so: Permission denied"),
        (KeyboardInterrupt(), 130, "Interrupted; no output file was changed."),
    ],
)
def test_errors_are_one_line(error: BaseException, code: int, message: str) -> None:
    group = Failing()
    group.error = error
    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.output) == (code, message + "\n")


def test_errors_of_sqc_itself_are_not_hidden() -> None:
    group = Failing()
    group.error = ZeroDivisionError()
    assert isinstance(CliRunner().invoke(group, ["fail"]).exception, ZeroDivisionError)


def test_missing_click_is_explained(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import sqc.cli; sqc.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: the sqc command needs the package click: pip install 'sqc[compile]'\n"
