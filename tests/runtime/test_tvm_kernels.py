"""Objects that TVM itself makes, linked with the runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sqc.codegen.plan import Plan, Step
from sqc.runtime import Model
from tests.runtime.models import ARENA, INPUT, OUTPUT, program


def tvm_kernel(symbol: str, add: int, folder: Path) -> bytes:
    """Adds a number to u8[64, 256] in a parallel loop."""
    import tvm
    from tvm.script import tirx as T

    @T.prim_func(s_tir=True)
    def kernel(a: T.handle("uint8", "global"), b: T.handle("uint8", "global")):
        x = T.decl_buffer((64, 256), "uint8", data=a)
        y = T.decl_buffer((64, 256), "uint8", data=b)
        for i in T.parallel(64):
            for j in range(256):
                y[i, j] = x[i, j] + T.uint8(add)

    module = tvm.IRModule({symbol: kernel.with_attr("global_symbol", symbol)})
    path = folder / f"{symbol}.o"
    tvm.compile(module, {"kind": "llvm", "mcpu": "x86-64"}).mod.write_to_file(str(path), "o")
    return path.read_bytes()


def test_parallel_loops(make: Callable[..., Model], image: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    steps = Step("add_3", (INPUT, ARENA), "first"), Step("add_4", (ARENA, OUTPUT), "second")
    objects = {f"add_{n}": tvm_kernel(f"add_{n}", n, tmp_path) for n in (3, 4)}
    two = Plan((program(*steps, dtype="uint8", shape=(64, 256)),), b"", objects, ("sse2",), 1, {})
    model = make(two)
    for threads in (1, 2, 3):
        model.threads = threads
        np.testing.assert_array_equal(model(image), image + 7)
