"""The group of all commands; each is imported when it is called or listed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NoReturn

import click

import sqc
from sqc.errors import SqcError

COMMANDS = (
    "compile", "run", "compare", "blame", "bench", "tune", "inspect", "calibrate", "merge", "export", "opt", "cache",
)  # fmt: skip

EXTRAS = {
    "bench": ("onnxruntime", "openvino", "nncf"),
    "tune": ("tornado", "psutil", "cloudpickle"),
    "compile": ("onnx", "google", "tvm", "tvm_ffi"),
    "report": ("matplotlib",),
}
"""Which extra brings a package."""

INTERRUPTED = 130


class Commands(click.Group):
    """Turns what a user can cause into one line on stderr, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"sqc.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SqcError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            _missing(error)
        except KeyboardInterrupt:
            click.echo("Interrupted; no output file was changed.", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'system'}: {error.strerror or error}") from error


def _missing(error: ModuleNotFoundError) -> NoReturn:
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            raise click.ClickException(f"the package {package} is not installed: pip install 'sqc[{extra}]'") from error
    raise error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(sqc.__version__, prog_name="sqc")
def cli() -> None:
    """Compile ONNX models to int8 shared libraries for x86 servers, run them, and measure them."""
