"""The system's C compiler: finding it, and linking a model with it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sqc.errors import ToolchainError

COMPILERS = ("cc", "gcc", "clang")
"""Tried in this order where the environment variable CC names none."""

# The C of a model is what decides whether the kernels may run here, so it must run on any x86-64 itself.
COMPILE_FLAGS = ("-std=gnu11", "-O2", "-march=x86-64", "-fPIC", "-fvisibility=hidden", "-fno-ident", "-pthread")

LINK_FLAGS = (
    "-shared",
    "-Wl,-Bsymbolic",
    "-Wl,--build-id=none",
    "-Wl,--gc-sections",
    "-Wl,--strip-debug",
    "-Wl,-z,defs",
    "-Wl,-z,now",
    "-Wl,-z,noexecstack",
    # Only kernels of float functions that TVM leaves to libm (exp and its like) make the library need it.
    "-Wl,--as-needed",
    "-lm",
    "-pthread",
)


def find_compiler() -> list[str]:
    """The command of the C compiler: $CC (which may hold arguments), else the first of COMPILERS on the path.

    Raises ToolchainError, saying what to install, if there is none.
    """
    chosen = shlex.split(os.environ.get("CC", ""))
    if chosen:
        if shutil.which(chosen[0]):
            return chosen
        raise ToolchainError(f"the environment variable CC names {chosen[0]!r}, which is not a program on this machine")
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise ToolchainError(
        "no C compiler found (looked for cc, gcc and clang), and sqc needs one to link a model. "
        "Install one, for example with 'apt-get install gcc libc6-dev' or 'dnf install gcc', or set CC to yours"
    )


def compile_sources(folder: Path, sources: Sequence[str]) -> list[str]:
    """Compiles C files of `folder` (which also holds their headers); gives the names of their objects there.

    Raises ToolchainError with the compiler's own words.
    """
    _run([*COMPILE_FLAGS, "-c", *sources], folder)
    return [str(Path(name).with_suffix(".o")) for name in sources]


def link(folder: Path, objects: Sequence[str], exports: Sequence[str], result: str) -> None:
    """Links objects of `folder` to a shared library, `result`, that exports only `exports`.

    Raises ToolchainError with the compiler's own words.
    """
    (folder / "exports.map").write_text(f"{{ global: {' '.join(f'{name};' for name in exports)} local: *; }};\n")
    # A file, because the objects of a large model could exceed what a command line holds.
    (folder / "objects.txt").write_text("\n".join(objects) + "\n")
    _run(["@objects.txt", "-Wl,--version-script=exports.map", *LINK_FLAGS, "-o", result], folder)


def _run(arguments: Sequence[str], folder: Path) -> None:
    """Paths are relative to `folder`, lest they end up in the result."""
    compiler = find_compiler()
    environment = {**os.environ, "LC_ALL": "C"}
    run = subprocess.run([*compiler, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    if run.returncode != 0:
        words = "\n  ".join(run.stderr.strip().splitlines()[:20])
        raise ToolchainError(f"the C compiler ({shlex.join(compiler)}) could not make the model's library:\n  {words}")
