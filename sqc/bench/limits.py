"""The limits of this machine's cores, measured: multiply-accumulates, clock, bytes read from each level of memory."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from sqc.errors import InputError
from sqc.schedules import Target

CACHES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
"""Bytes of each cache where the system does not tell."""

MEMORY = "memory"
MOST_MEMORY = 512 << 20
"""Bytes read from memory are at most as many, however large the last cache is."""

PRECISIONS: tuple[Literal["int8", "float32"], ...] = ("int8", "float32")

_UNITS = {"K": 10, "M": 20, "G": 30}

_CALL_CYCLES = 200_000
"""How long one call of a kernel takes, about: short, so that some calls are not interrupted on a machine in use."""
_CALLS = 8
"""How often each kernel is called in a row; that of memory, which takes much longer, once."""
_PIECES = 16
_READ_BYTES = 4 << 20
"""What one call reads of a cache at least."""


@dataclass(frozen=True, slots=True)
class Level:
    """A cache, or memory: what it holds (bytes, of all threads together; 0: without end) and gives (bytes a second)."""

    name: str
    capacity: int
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What ``threads`` threads reach on this machine at most.

    ``clock`` is in Hz; ``products`` multiply-accumulates a second by precision, ``int8`` and ``float32``, with the
    instructions of ``target``; ``levels`` are caches and memory, from the smallest to the largest.
    """

    target: str
    threads: int
    clock: float
    products: Mapping[str, float]
    levels: tuple[Level, ...]

    def level(self, size: int) -> Level:
        """The smallest level that holds ``size`` bytes."""
        return next((level for level in self.levels if size <= level.capacity), self.levels[-1])

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


def cache_sizes() -> dict[str, int]:
    """Bytes of the data caches that a core of this machine sees, by name (L1, L2, L3)."""
    sizes = {**CACHES, **{name: size for name in CACHES if (size := _configured(name))}}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, text = ((folder / file).read_text().strip() for file in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and f"L{level}" in sizes and text[:-1].isdecimal() and text[-1] in _UNITS:
            sizes[f"L{level}"] = int(text[:-1]) << _UNITS[text[-1]]
    return sizes


def _configured(cache: str) -> int:
    name = f"SC_LEVEL{cache[1:]}_{'D' if cache == 'L1' else ''}CACHE_SIZE"
    return max(0, os.sysconf(name)) if name in os.sysconf_names else 0


class Probe:
    """Kernels that reach the limits, in a library like that of a model; ``run`` them, then ask for ``limits``.

    Only the quickest calls count, so that a machine in use shows its limits in quiet moments; for several threads it
    takes a moment in which as many cores are idle.

    Made for ``threads`` threads: the kernels of the limits run on all of them at once, by the thread pool of the
    library. A thread has caches L1 and L2 of its own; L3 and memory are shared.

    Raises InputError where this machine cannot run ``target``'s code.
    """

    def __init__(self, target: Target, threads: int = 1, caches: Mapping[str, int] | None = None) -> None:
        from sqc.runtime import load_bytes

        if not target.runs_here():
            raise InputError(f"this machine cannot run code for {target.name}, so its limits cannot be measured here")
        self._target = target
        self._threads = threads
        self._caches = dict(caches or cache_sizes())
        self._meters = list(self._make_meters())
        self._best = [math.inf] * len(self._meters)
        # The first call in a row wakes the threads, and brings what is read into the cache.
        self._steps = [
            index for index, meter in enumerate(self._meters) for _ in range(1 if meter.name == MEMORY else _CALLS)
        ]
        self._model = load_bytes(_library([self._meters[index] for index in self._steps], target), threads)

    def run(self, seconds: float = 0.5) -> None:
        """Measure for about ``seconds``, once at the least: what counts is the quickest of all calls."""
        end = time.perf_counter() + seconds
        while True:
            for index, step in zip(self._steps, self._model.profile(repeat=1), strict=True):
                self._best[index] = min(self._best[index], step.seconds)
            if time.perf_counter() >= end:
                return

    @property
    def limits(self) -> Limits:
        """The limits, by what was measured until now."""
        work: defaultdict[str, float] = defaultdict(float)
        times: defaultdict[str, float] = defaultdict(float)
        for meter, seconds in zip(self._meters, self._best, strict=True):
            work[meter.name] += meter.work
            times[meter.name] += seconds
        best = {name: amount / times[name] for name, amount in work.items()}
        sizes = {name: size * (1 if name == "L3" else self._threads) for name, size in self._caches.items()}
        levels = [Level(name, sizes.get(name, 0), best[name]) for name in (*self._caches, MEMORY)]
        products: dict[str, float] = {name: best[name] for name in PRECISIONS}
        return Limits(self._target.name, self._threads, best["clock"], products, tuple(levels))

    def _make_meters(self) -> Iterator[_Meter]:
        from sqc.schedules.limits import STEPS, ClockLimit, ProductLimit, ReadLimit

        target, threads = self._target, self._threads
        steps = _CALL_CYCLES // ClockLimit.CYCLES_A_STEP
        yield _Meter("clock", ClockLimit(steps), steps * ClockLimit.CYCLES_A_STEP, (), 4)
        for precision in PRECISIONS:
            rows, vectors = ProductLimit(precision, threads, 1).tile(target)
            limit = ProductLimit(precision, threads, _CALL_CYCLES // (STEPS * rows * vectors))
            yield _Meter(precision, limit, limit.work(target), _operands(limit, target), limit.results(target))
        unit = ReadLimit.UNIT * threads
        for name, wanted in self._read_sizes().items():
            # Memory is read piece by piece, in short calls, each of which comes when caches have lost its piece.
            pieces = _PIECES if name == MEMORY else 1
            size = max(1, wanted // pieces // unit) * unit
            repeats = 1 if name == MEMORY else max(1, _READ_BYTES * threads // size)
            read = ReadLimit(size, threads, repeats)
            for piece in range(pieces):
                yield _Meter(name, read, size * repeats, (), unit, range(piece * size, (piece + 1) * size))

    def _read_sizes(self) -> dict[str, int]:
        """How many bytes to read for each level: well within it, well beyond the one before."""
        l1, l2, l3 = self._caches.values()
        own = {"L1": l1 // 2 * self._threads, "L2": l2 // 2 * self._threads}
        return {**own, "L3": max(l3 // 4, own["L2"] * 4), MEMORY: min(4 * l3, MOST_MEMORY)}


class _Kernel(Protocol):
    def schedule(self, target: Target) -> Any: ...


@dataclass(frozen=True)
class _Meter:
    """A kernel and its arguments: constants, the bytes that it ``reads`` of a large buffer, bytes of its results."""

    name: str
    kernel: _Kernel
    work: float
    constants: Sequence[np.ndarray]
    results: int
    reads: range = range(0)


def _operands(limit: Any, target: Target) -> list[np.ndarray]:
    """Small random numbers: zeros would take less power than real work."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 100, shape).astype(dtype) for shape, dtype in limit.operands(target)]


def _library(meters: Sequence[_Meter], target: Target) -> bytes:
    """A library that runs one meter after the other."""
    from sqc.codegen.build import Build
    from sqc.codegen.library import build_library
    from sqc.codegen.plan import Argument, Program, Step
    from sqc.schedules._tvm import compile_object

    build = Build(target)
    reads_at = -(-max(meter.results for meter in meters) // 4096) * 4096
    steps = []
    for meter in meters:
        symbol = f"sqc_limit_{meter.name.lower()}"
        if symbol not in build.objects:
            build.objects[symbol] = compile_object(meter.kernel.schedule(target), symbol, target)
        arguments = [build.constants.add(array) for array in meter.constants]
        if meter.reads:
            arguments.append(Argument("arena", reads_at + meter.reads.start))
        arguments.append(Argument("arena", 0))
        steps.append(Step(symbol, tuple(arguments), meter.name))
    arena = reads_at + max(meter.reads.stop for meter in meters)
    return build_library(build.plan([Program((), (), tuple(steps), arena)], "limits"))
