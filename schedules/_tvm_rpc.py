"""The other module that imports TVM: its RPC, which runs kernels on other machines."""

from __future__ import annotations

import math
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tvm
import tvm.rpc
from tvm.support import cc

from sqc.schedules._tvm import Function, compile_object
from sqc.schedules.target import Target

_ALL_CORES = 1
"""How ``runtime.config_threadpool`` names the choice of the quickest cores."""


def server_count(host: str, port: int, key: str) -> tuple[int, int]:
    """How many servers a tracker knows under ``key``, and how many of them are free. Raises OSError, RuntimeError."""
    socket.create_connection((host, port), timeout=5).close()  # TVM itself would try for a minute.
    tracker = tvm.rpc.connect_tracker(host, port)
    summary = tracker.summary()
    tracker.close()
    known = sum(server["key"] == f"server:{key}" for server in summary["server_info"])
    return known, int(summary["queue_info"].get(key, {"free": 0})["free"])


class RemoteKernel:
    """A kernel on a server, with its arguments; the result comes last."""

    def __init__(self, session: RemoteSession, scheduled: Function, target: Target) -> None:
        self._session = session
        self._buffers = [tuple(int(extent) for extent in buffer.shape) for buffer in scheduled.params]
        self._dtypes = [str(buffer.dtype) for buffer in scheduled.params]
        with tempfile.TemporaryDirectory(prefix="sqc-") as name:
            item, library = Path(name, "kernel.o"), Path(name, "kernel.so")
            item.write_bytes(compile_object(scheduled, "kernel", target, tensors=True))
            cc.create_shared(str(library), [str(item)])
            self._module = session.load(library.read_bytes())
        self._arguments: list[object] = []

    def bind(self, arrays: Sequence[np.ndarray]) -> None:
        """Send the arguments; all but the result."""
        device = self._session.device
        result = np.zeros(self._buffers[-1], self._dtypes[-1])
        shaped = [
            array.reshape(shape) if array.size == math.prod(shape) else array
            for array, shape in zip(arrays, self._buffers, strict=False)
        ]
        self._arguments = [tvm.runtime.tensor(np.ascontiguousarray(array), device) for array in (*shaped, result)]

    def run(self, threads: int) -> np.ndarray:
        """The result, flat."""
        self._session.use_threads(threads)
        self._module["kernel"](*self._arguments)
        result: np.ndarray = self._arguments[-1].numpy().reshape(-1)  # type: ignore[attr-defined]
        return result

    def seconds(self, threads: int, repeat: int) -> float:
        """The mean time of ``repeat`` runs."""
        self._session.use_threads(threads)
        timer = self._module.time_evaluator("kernel", self._session.device, number=repeat, repeat=1)
        return float(timer(*self._arguments).mean)


class RemoteSession:
    """One server, held until this process ends. Raises RuntimeError if there is none, or it is lost."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._remote = tvm.rpc.connect_tracker(host, port).request(key, max_retry=1)
        self.device = self._remote.cpu()
        self._threads = 0
        self._loaded = 0

    def load(self, library: bytes) -> tvm.runtime.Module:
        self._loaded += 1
        name = f"kernel{self._loaded}.so"
        self._remote.upload(bytearray(library), name)
        module = self._remote.load_module(name)
        self._remote.remove(name)
        return module

    def use_threads(self, threads: int) -> None:
        if threads != self._threads:
            self._remote.get_function("runtime.config_threadpool")(_ALL_CORES, threads)
            self._threads = threads

    def alive(self) -> bool:
        """Whether the server still answers."""
        try:
            self._remote.get_function("runtime.config_threadpool")
        except Exception:  # Whatever TVM raises: the connection is gone.
            return False
        return True
