"""The process that compiles and runs candidates, so that no crash or hang of one can hurt the search.

It calls ``main`` with the descriptor of one end of a pipe, answers one job after another, and ends when the pipe does.
Kernels run here, or on a server that a tracker of TVM's RPC hands out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from sqc.bench.measure import PAUSE
from sqc.ir import Value
from sqc.tuning.task import Task

if TYPE_CHECKING:
    from sqc.runtime import Model
    from sqc.schedules._tvm_rpc import RemoteSession
    from sqc.schedules.microkernel import Tile

SLOT_SECONDS = 0.0015
"""How long a kernel is repeated for one reading, at least."""
MOST_REPEATS = 500
HOPELESS = 2.0
"""A candidate that takes this much longer is not measured any further than three rounds."""

Round: TypeAlias = tuple[float, float, float]
"""Seconds of the incumbent, the candidate, and the incumbent again."""


@dataclass(frozen=True)
class Measure:
    """Time ``tile`` in turns with ``incumbent``: a list of rounds for each number of threads."""

    task: Task
    tile: Tile
    incumbent: Tile
    threads: tuple[int, ...]
    rounds: int

    def run(self, device: Device) -> list[list[Round]]:
        candidate = device.load(self.task, self.tile)
        incumbent = device.load(self.task, self.incumbent, keep=True)
        return [self._rounds(candidate, incumbent, threads) for threads in self.threads]

    def _rounds(self, candidate: Loaded, incumbent: Loaded, threads: int) -> list[Round]:
        once = incumbent.seconds(threads, 3)
        repeat = min(MOST_REPEATS, max(1, round(SLOT_SECONDS / max(once, 1e-9))))
        candidate.seconds(threads, 1)
        rounds: list[Round] = []
        while len(rounds) < self.rounds:
            before, middle = incumbent.seconds(threads, repeat), candidate.seconds(threads, repeat)
            rounds.append((before, middle, incumbent.seconds(threads, repeat)))
            if len(rounds) == 3 and min(r[1] / max(r[0], r[2]) for r in rounds) > HOPELESS:
                break
        return rounds


@dataclass(frozen=True)
class Compute:
    """Run ``tile`` on ``task.inputs(seed)`` for each seed and each number of threads; the results are flat."""

    task: Task
    tile: Tile
    threads: tuple[int, ...]
    seeds: tuple[int, ...]

    def run(self, device: Device) -> list[np.ndarray]:
        loaded = device.load(self.task, self.tile)
        return [
            loaded.result(self.task.inputs(seed), threads).reshape(-1)
            for seed in self.seeds
            for threads in self.threads
        ]


Job: TypeAlias = "Measure | Compute"


@dataclass(frozen=True)
class Answer:
    """``error`` tells what went wrong with the job; ``lost`` that the server is gone, and the worker with it."""

    value: Any = None
    error: str = ""
    lost: bool = False


class Loaded(Protocol):
    """A kernel that is ready to run."""

    def seconds(self, threads: int, repeat: int) -> float: ...

    def result(self, inputs: Mapping[Value, np.ndarray], threads: int) -> np.ndarray: ...


class Device(Protocol):
    """Where kernels run."""

    def load(self, task: Task, tile: Tile, *, keep: bool = False) -> Loaded:
        """The kernel of ``task`` with ``tile``; ``keep`` it for the next jobs."""
        ...

    def alive(self) -> bool: ...


class LocalKernel:
    """A kernel in a library of its own, run by sqc's runtime as it will be in a model."""

    def __init__(self, task: Task, tile: Tile) -> None:
        from sqc.lowering import LoweredOp
        from sqc.runtime import load_bytes

        self._model: Model = load_bytes(LoweredOp(task.op, task.kernel(tile), task.packed).library, threads=1)
        self._inputs = self._named(task.inputs(0))

    @staticmethod
    def _named(inputs: Mapping[Value, np.ndarray]) -> dict[str, np.ndarray]:
        return {value.name: array for value, array in inputs.items()}

    def _use(self, threads: int) -> None:
        if self._model.threads != threads:
            self._model.threads = threads
        if threads > 1:
            time.sleep(PAUSE)  # for the threads of the kernel before to fall asleep

    def seconds(self, threads: int, repeat: int) -> float:
        self._use(threads)
        return self._model.profile(self._inputs, repeat=repeat)[0].seconds

    def result(self, inputs: Mapping[Value, np.ndarray], threads: int) -> np.ndarray:
        self._use(threads)
        (result,) = self._model.run(self._named(inputs)).values()
        return result


class LocalDevice:
    """This machine."""

    def __init__(self) -> None:
        self._kept: tuple[str, Tile, Loaded] | None = None

    def load(self, task: Task, tile: Tile, *, keep: bool = False) -> Loaded:
        if self._kept is not None and self._kept[:2] == (task.workload, tile):
            return self._kept[2]
        loaded = self._load(task, tile)
        if keep:
            self._kept = task.workload, tile, loaded
        return loaded

    def _load(self, task: Task, tile: Tile) -> Loaded:
        return LocalKernel(task, tile)

    def alive(self) -> bool:
        return True


class RemoteDevice(LocalDevice):
    """A server of TVM's RPC."""

    def __init__(self, host: str, port: int, key: str) -> None:
        from sqc.schedules._tvm_rpc import RemoteSession

        super().__init__()
        self.session: RemoteSession = RemoteSession(host, port, key)

    def _load(self, task: Task, tile: Tile) -> Loaded:
        return RemoteLoaded(self.session, task, tile)

    def alive(self) -> bool:
        return self.session.alive()


class RemoteLoaded:
    """A kernel on a server, built with TVM's own calling convention from the same schedule."""

    def __init__(self, session: RemoteSession, task: Task, tile: Tile) -> None:
        from sqc.schedules._tvm_rpc import RemoteKernel

        self._task, self._kernel = task, task.kernel(tile)
        self._remote = RemoteKernel(session, self._kernel.scheduled, task.target)
        self._bind(task.inputs(0))

    def _bind(self, inputs: Mapping[Value, np.ndarray]) -> None:
        arrays = {**self._task.packed, **inputs}
        self._remote.bind([arrays[value] for value in self._kernel.activations] + self._kernel.pack(arrays))

    def seconds(self, threads: int, repeat: int) -> float:
        return self._remote.seconds(threads, repeat)

    def result(self, inputs: Mapping[Value, np.ndarray], threads: int) -> np.ndarray:
        self._bind(inputs)
        return self._remote.run(threads)


def main(arguments: list[str]) -> None:
    """Answer jobs until the other end of the pipe is closed. ``arguments``: its descriptor, or that, HOST:PORT, KEY."""
    connection: Connection[Answer, Job] = Connection(int(arguments[0]))
    device: Device
    if len(arguments) > 1:
        host, _, port = arguments[1].rpartition(":")
        device = RemoteDevice(host, int(port), arguments[2])
    else:
        device = LocalDevice()
    connection.send(Answer())
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(_answer(job, device))


def _answer(job: Job, device: Device) -> Answer:
    try:
        return Answer(job.run(device))
    except Exception as error:  # Whatever TVM, LLVM or the C compiler raise about one candidate.
        text = str(error).strip().splitlines() or [""]
        return Answer(error=f"{type(error).__name__}: {text[0][:300]}", lost=not device.alive())
