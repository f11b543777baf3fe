"""Runs kernels on operands that end, or begin, at pages nobody may touch: a byte too far ends the process.

python -m tests.promise.bounds --seeds 0:50
"""

from __future__ import annotations

import argparse
import ctypes
import mmap

import numpy as np

from sqc.ir import TensorType, same_bits
from tests.promise.generator import generate, inputs
from tests.promise.kernels import Setting, kernels_alone, load_kernels

_NO_ACCESS = 0
_mprotect = ctypes.CDLL(None, use_errno=True).mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded(type: TensorType, at_end: bool) -> np.ndarray:
    """An array of zeros that ends at a forbidden page, or begins behind one."""
    page = mmap.PAGESIZE
    room = -(-type.bytes // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for forbidden in (start, start + page + room):
        if _mprotect(forbidden, page, _NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page + (room - type.bytes if at_end else 0)
    return np.frombuffer(memory, type.dtype, type.size, offset).reshape(type.shape)


def check(seed: int) -> tuple[int, list[str]]:
    """Run every kernel of a seed's graph by itself: their number, and those whose result is wrong."""
    setting = Setting.of(seed)
    count, wrong = 0, []
    graph = generate(seed)
    for alone in kernels_alone(graph, inputs(graph, seed), setting):
        model = load_kernels(alone.graph, setting)
        count += 1
        for at_end in (True, False):
            operands = []
            for value in alone.graph.inputs:
                operands.append(guarded(value.type, at_end))
                operands[-1][...] = alone.operands[value.name]
            result = guarded(alone.op.result.type, at_end)
            model(*operands, out=result)
            if not same_bits(np.array(result), alone.expected):
                wrong.append(f"{alone.op.result.name} of seed {seed}")
    return count, wrong


def main() -> None:
    """Check a range of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:20", help="first:last")
    first, last = map(int, parser.parse_args().seeds.split(":"))
    total = 0
    for seed in range(first, last):
        count, wrong = check(seed)
        total += count
        if wrong:
            raise SystemExit(f"wrong: {', '.join(wrong)}")
    print(f"{total} kernels stayed inside their arrays")


if __name__ == "__main__":
    main()
