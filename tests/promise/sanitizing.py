"""Libraries whose C is built with sanitizers, in processes that have the sanitizers' own libraries."""

from __future__ import annotations

import os
import shlex
import subprocess

from sqc.codegen.toolchain import find_compiler

_LIBRARIES = {"address": "libasan.so", "undefined": "libubsan.so"}


def sanitize(names: str) -> None:
    """Let the processes that are started from here on build and run libraries with sanitizers; an error ends them.

    ``names`` as in the compiler's option ``-fsanitize``. Python itself leaks by design, which is not reported.
    """
    compiler = find_compiler()
    libraries = [_library(compiler, _LIBRARIES[name]) for name in names.split(",")]
    os.environ["CC"] = shlex.join([*compiler, f"-fsanitize={names}", "-fno-sanitize-recover=all", "-g"])
    os.environ["LD_PRELOAD"] = " ".join(libraries)
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0:quarantine_size_mb=32"
    os.environ["UBSAN_OPTIONS"] = "print_stacktrace=1"


def _library(compiler: list[str], name: str) -> str:
    found = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return os.path.realpath(found.stdout.strip())
