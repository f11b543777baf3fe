"""Time and peak memory of a command, as ``/usr/bin/time -v`` tells them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A process starts out with its parent's peak, so the command gets a small parent: an interpreter that imports little.
_WAIT = """
import json, os, sys, time
start = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss * 1024]))
"""


@dataclass(frozen=True)
class Usage:
    """What a command took: seconds of wall time, and the largest resident set in bytes of it or a child of it."""

    seconds: float
    peak_bytes: int


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run ``command`` to its end, with additions to the environment. Ends the program if it fails."""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WAIT, *command],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        sys.exit(f"cannot run {command[0]}:\n{result.stderr}")
    code, seconds, peak = json.loads(result.stdout)
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{result.stderr}")
    return Usage(seconds, peak)
