"""The machine's limits: kernels that compute what they say, caches, levels. No figure is held against another."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sqc.bench.limits import Level, Limits, Probe, cache_sizes
from sqc.errors import InputError
from sqc.schedules import Target
from sqc.schedules._tvm import jit
from sqc.schedules.limits import ClockLimit, ProductLimit, ReadLimit

NATIVE = Target.parse("native")
SMALL = {"L1": 16 << 10, "L2": 32 << 10, "L3": 256 << 10}


@pytest.mark.parametrize("name", ["native", "x86-64-v3", "avx512vnni-emulated"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("threads", [1, 3])
def test_products(name: str, precision: str, threads: int) -> None:
    target = Target.parse(name)
    assert precision in ("int8", "float32")
    limit = ProductLimit(precision, threads, 2)
    rng = np.random.default_rng(0)
    x, w = (rng.integers(0, 9, shape).astype(dtype) for shape, dtype in limit.operands(target))
    rows, vectors = limit.tile(target)
    out = np.zeros((threads, rows, vectors * 16), "int32" if precision == "int8" else "float32")
    assert out.nbytes == limit.results(target)
    jit(limit.schedule(target), target)(x, w, out)
    one = 2 * np.einsum("kmj,nj->mn", x.astype(np.int64), w.astype(np.int64))
    np.testing.assert_array_equal(out, np.stack([one] * threads))
    assert limit.work(target) == 2 * threads * len(x) * rows * vectors * 16 * x.shape[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_reads_every_byte(threads: int) -> None:
    size = 3 * ReadLimit.UNIT * threads
    x = np.random.default_rng(0).integers(-1000, 1000, (threads, 3, 8, 16), dtype=np.int32)
    assert x.nbytes == size
    out = np.zeros((threads, 8, 16), np.int32)
    jit(ReadLimit(size, threads, 5).schedule(NATIVE), NATIVE)(x, out)
    np.testing.assert_array_equal(out, 5 * x.sum(axis=1))


def test_clock_is_a_chain() -> None:
    out = np.zeros(1, np.int32)
    jit(ClockLimit(1000).schedule(NATIVE), NATIVE)(out)
    value = 0
    for k in range(1000):
        value = (value * value ^ k) & 0xFFFFFFFF
    assert out.view(np.uint32)[0] == value


@pytest.mark.parametrize("threads", [1, 2])
def test_probe(threads: int) -> None:
    probe = Probe(NATIVE, threads, SMALL)
    probe.run(0.0)
    first = probe.limits
    probe.run(0.01)
    limits = probe.limits
    assert (limits.target, limits.threads) == (NATIVE.name, threads)
    assert [level.name for level in limits.levels] == ["L1", "L2", "L3", "memory"]
    assert [level.capacity for level in limits.levels] == [threads * (16 << 10), threads * (32 << 10), 256 << 10, 0]
    figures = [limits.clock, *limits.products.values(), *(level.bandwidth for level in limits.levels)]
    assert all(math.isfinite(figure) and figure > 0 for figure in figures)
    assert limits.clock >= first.clock and limits.products["int8"] >= first.products["int8"]
    assert json.loads(json.dumps(limits.to_dict()))["levels"][0]["name"] == "L1"


def test_levels_by_size() -> None:
    levels = (Level("L1", 100, 3.0), Level("L2", 200, 2.0), Level("memory", 0, 1.0))
    limits = Limits("t", 1, 1.0, {}, levels)
    assert [limits.level(size).name for size in (0, 100, 101, 200, 201)] == ["L1", "L1", "L2", "L2", "memory"]


def test_caches_of_this_machine() -> None:
    sizes = cache_sizes()
    assert list(sizes) == ["L1", "L2", "L3"] and all(size > 0 for size in sizes.values())


def test_targets_of_other_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "runs_here", lambda self: False)
    with pytest.raises(InputError, match="cannot run code for"):
        Probe(NATIVE)
