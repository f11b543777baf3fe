"""Runs kernels on operands that end, and begin, at pages nobody may touch: one byte too far ends the process.

    python -m tests.promise.bounds --seeds 0:50
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
from dataclasses import replace

import numpy as np

from sqc.ir import Op, TensorType, same_bits
from tests.promise.generator import generate, inputs
from tests.promise.harness import Arrays, Setting, alone, fused, load_kernels, reference

_C = ctypes.CDLL(None)
_C.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """Memory for arrays between two forbidden pages."""

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []

    def empty(self, type: TensorType, *, at_end: bool) -> np.ndarray:
        """An array that ends at the page behind, or begins after the page before."""
        page = mmap.PAGESIZE
        room = -(-type.bytes // page) * page
        memory = mmap.mmap(-1, room + 2 * page)
        self._maps.append(memory)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for forbidden in (start, start + page + room):
            if _C.mprotect(forbidden, page, mmap.PROT_READ & 0) != 0:
                raise OSError("mprotect failed")
        offset = page + (room - type.bytes if at_end else 0)
        return np.frombuffer(memory, type.dtype, type.size, offset).reshape(type.shape)


def check(seed: int) -> list[str]:
    """Run every kernel of a seed's graph by itself; those whose result is wrong."""
    setting = Setting.of(seed)
    graph = generate(seed)
    arrays = inputs(graph, seed)
    lowered = fused(graph, setting)
    everything = {op.result.name: op.result for op in lowered.ops}
    known = {**arrays, **reference(replace(lowered, outputs=everything), arrays)}
    return [
        op.result.name
        for op in lowered.ops
        if op.kind != "reshape"
        for at_end in (True, False)
        if not _is_right(op, alone(lowered, op), known, setting, at_end)
    ]
