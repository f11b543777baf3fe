"""Object files link without TVM and run through the documented entry, with a launcher that the host supplies."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from sqc.schedules import Target, lower
from tests.schedules.cases import Case, run_kernel


class Any(ctypes.Structure):
    _fields_ = (("type_index", ctypes.c_int32), ("padding", ctypes.c_int32), ("pointer", ctypes.c_void_p))


class Environment(ctypes.Structure):
    _fields_ = (("sync", ctypes.c_void_p), ("tasks", ctypes.c_int32))


LAMBDA = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(Environment), ctypes.c_void_p)
LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
OPAQUE_POINTER = 4


def test_links_without_tvm(tmp_path: Path) -> None:
    case = Case()
    acc = case.emit("qfully_connected", case.u8(400, 64), case.s8(64, 64), case.bias(64))
    case.requantize(acc, 80000)
    kernel = lower(case.op(), Target.parse("x86-64-v3"))
    (tmp_path / "k.o").write_bytes(kernel.object("sqc_k7"))
    (tmp_path / "host.c").write_text(
        "int announced; void sqc_announce_loop(int count, int blocks) { announced = count; }"
    )
    sources = [tmp_path / "k.o", tmp_path / "host.c"]
    subprocess.run(["cc", "-shared", "-o", tmp_path / "k.so", *sources, "-Wl,-z,defs", "-Wl,-Bsymbolic"], check=True)
    library = ctypes.CDLL(str(tmp_path / "k.so"))

    seen = []

    def launch(function: int, data: int, _tasks: int) -> int:
        seen.append(function)
        results = [LAMBDA(function)(i, ctypes.byref(Environment(None, 3)), data) for i in range(3)]
        return max(results)

    launcher = LAUNCH(launch)
    ctypes.c_void_p.in_dll(library, "__TVMBackendParallelLaunch").value = ctypes.cast(launcher, ctypes.c_void_p).value
    arrays = [case.arrays[value] for value in kernel.activations] + kernel.pack(case.arrays)
    result = np.zeros(kernel.result.type.shape, np.uint8)
    arguments = (Any * (len(arrays) + 1))(*(Any(OPAQUE_POINTER, 0, a.ctypes.data) for a in [*arrays, result]))
    status = library["__tvm_ffi_sqc_k7"](None, arguments, len(arguments), ctypes.byref(Any()))
    assert status == 0 and seen
    assert ctypes.c_int.in_dll(library, "announced").value > 1
    np.testing.assert_array_equal(result, run_kernel(kernel, case.arrays))
