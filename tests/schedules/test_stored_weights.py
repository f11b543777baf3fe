"""Layers with stored weights equal the reference up to the order of sums, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.ir import Graph, Value, evaluate
from sqc.ops.stored_weights import pack_nibbles, unpack_nibbles
from sqc.schedules import Target, lower
from tests.schedules.cases import run_kernel
from tests.schedules.harness import Case
from tests.targets import TARGETS


def stored(case: Case, columns: int, depth: int, storage: str, groups: int) -> list[Value]:
    if storage == "float16":
        return [case.value(case.rng.normal(size=(columns, depth)).astype(np.float16))]
    levels = case.rng.integers(-7, 8, (columns, depth)).astype(np.int8)
    scales = case.rng.uniform(0.1, 1, (columns, groups)).astype(np.float32)
    return [case.value(array) for array in (pack_nibbles(levels) if storage == "int4" else levels, scales)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("storage", ["int8", "int4", "float16"])
@pytest.mark.parametrize(
    ("rows", "columns", "depth", "groups"), [(1, 64, 32, 1), (3, 17, 64, 2), (40, 33, 10, 1), (1, 1, 2, 1)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_layer(target: str, storage: str, rows: int, columns: int, depth: int, groups: int, bias: bool) -> None:
    case = Case()
    w = case.emit("restore_weights", *stored(case, columns, depth, storage, groups), storage=storage)
    case.emit("fully_connected", case.floats((rows, depth)), w, *([case.floats((columns,))] if bias else []))
    op = case.op()
    actual = run_kernel(lower(op, Target.parse(target), case.arrays), case.arrays)
    graph = Graph("g", op.operands, {"y": op.result}, {}, (op,))
    expected = evaluate(graph, {value.name: case.arrays[value] for value in op.operands})["y"]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_nibbles() -> None:
    levels = np.arange(-8, 8, dtype=np.int8).reshape(2, 8)
    np.testing.assert_array_equal(unpack_nibbles(pack_nibbles(levels)), levels)
    assert pack_nibbles(levels)[0].tolist() == [0x10, 0x32, 0x54, 0x76]
