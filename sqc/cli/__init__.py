"""The ``sqc`` command. A command is a file here that defines ``command``, and a line in ``commands.COMMANDS``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"Error: the sqc command needs the package {error.name}: pip install 'sqc[compile]'")
    from sqc.cli.commands import cli

    cli()
