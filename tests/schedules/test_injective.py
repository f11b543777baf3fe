"""Chains without loops: quantize, requantize, lookup, movement, and their fusions."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sqc.errors import CompileError
from sqc.ir import Value
from sqc.schedules import Kernel, Target, lower
from sqc.schedules._tvm import assembly
from sqc.schedules.axes import KINDS
from sqc.schedules.injective import FORMULAS
from tests.targets import TARGETS

from . import cases
from .harness import NATIVE, Build, Case, check

EDGES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.25, 0.75, -0.25, 1e30, -1e30, 1e-30], np.float32)


def entry(shape: tuple[int, int, int, int]) -> Build:
    """A model's entry: float NCHW to u8 NHWC with four channels."""

    def build(case: Case) -> Value:
        q = case.emit("quantize", case.floats(shape), scale=0.03125, zero_point=114)
        moved = case.emit("transpose", q, perm=(0, 2, 3, 1))
        return case.emit("pad", moved, pads=(0, 0, 0, 0, 0, 0, 0, 4 - shape[1]), value=114.0)

    return build


def leave(shape: tuple[int, int, int, int], channels: int) -> Build:
    """A model's exit: u8 NHWC to some channels of float NCHW."""

    def build(case: Case) -> Value:
        cut = case.emit("slice", case.bytes(shape), axes=(3,), starts=(0,), ends=(channels,), steps=(1,))
        return case.emit("dequantize", case.emit("transpose", cut, perm=(0, 3, 1, 2)))

    return build


def sum_of(*shapes: tuple[int, ...]) -> Build:
    def build(case: Case) -> Value:
        terms = [case.bytes(shape, zero_point=10 * i) for i, shape in enumerate(shapes)]
        return case.sum(terms, [0.3 + 0.1 * i for i in range(len(terms))], zero_point=31, lo=5, hi=250)

    return build


def product(a: tuple[int, ...], b: tuple[int, ...], table: bool) -> Build:
    def build(case: Case) -> Value:
        y = case.sum([case.emit("qmul", case.bytes(a), case.bytes(b, zero_point=3))], [0.004])
        return case.lookup(y) if table else y

    return build


def mean(shape: tuple[int, ...], axes: tuple[int, ...], *, keepdims: bool) -> Build:
    def build(case: Case) -> Value:
        total = case.emit("qreduce_sum", case.bytes(shape), axes=axes, keepdims=keepdims)
        multipliers = case.rng.random((shape[1], 1, 1) if keepdims else shape[1:2]) * 0.02 + 0.001
        return case.lookup(case.sum([total], [multipliers], zero_point=31, hi=250))

    return build


def affine(case: Case, shape: tuple[int, ...], parameters: tuple[int, ...]) -> Value:
    """Levels times a factor of either sign, and a constant term, for each channel."""
    offset = case.value(case.rng.integers(-(2**20), 2**20, parameters).astype(np.int32))
    factor = np.asarray(case.rng.normal(size=parameters))
    return case.sum([case.bytes(shape), offset], [factor, 100 * 2.0**-20], zero_point=31)


def interpolate(case: Case, kind: str, x: Value, axes: tuple[int, ...], taps: int, bits: int = 9) -> Value:
    tables = []
    for axis in axes:
        places = case.rng.integers(-1, x.type.shape[axis] + 1, (2 * x.type.shape[axis] + 1, taps))
        weights = case.rng.uniform(-1, 1, places.shape)
        levels = np.rint(weights * 2**bits).astype(np.int32)
        tables += [case.value(places.astype(np.int32))]
        tables += [case.value(levels if kind == "qinterpolate" else weights.astype(np.float32))]
    return case.emit(kind, x, *tables, axes=axes)


def _cut(case: Case, shape: tuple[int, ...], **attributes: Any) -> Value:
    return case.emit("slice", case.bytes(shape), **attributes)


CASES: dict[str, Build] = {
    "quantize-edges": lambda c: c.emit("quantize", c.value(np.tile(EDGES, 5)), scale=0.5, zero_point=128),
    "quantize-s8": lambda c: c.emit("quantize", c.floats((3, 5, 7), 40), scale=0.5, zero_point=-3, dtype="int8"),
    "quantize-scalar": lambda c: c.emit("quantize", c.floats(()), scale=0.5, zero_point=1),
    "dequantize": lambda c: c.emit("dequantize", c.bytes((2, 3, 4, 5, 6))),
    "entry": entry((2, 3, 9, 17)),
    "entry-one-channel": entry((1, 1, 28, 28)),
    "entry-large": entry((1, 3, 96, 128)),
    "exit": leave((2, 5, 19, 32), 21),
    "exit-four": leave((1, 9, 33, 4), 3),
    "add": sum_of((2, 7, 5, 16), (2, 7, 5, 16)),
    "add-broadcast": sum_of((2, 7, 5, 16), (16,)),
    "add-three": sum_of((3, 1, 5), (1, 4, 5), (3, 4, 1)),
    "rescale-large": sum_of((1, 40, 40, 32)),
    "mean-of-images": mean((3, 5, 4, 9), (2, 3), keepdims=True),
    "mean-of-images-without-axes": mean((3, 20, 4, 9), (2, 3), keepdims=False),
    "mean-of-scattered-axes": mean((3, 5, 4, 9), (0, 3), keepdims=True),
    "affine": lambda c: affine(c, (2, 7, 5, 19), (19,)),
    "affine-channels-first": lambda c: affine(c, (2, 7, 5, 19), (7, 1, 1)),
    "requantize-channels": lambda c: c.sum(
        [c.value(c.rng.integers(-(10**6), 10**6, (2, 3, 3, 24)).astype(np.int32)), c.bytes((2, 3, 3, 24))],
        [c.rng.random(24) * 1e-4 + 1e-6, 0.7],
    ),
    "requantize-border": lambda c: c.sum(
        [c.value(c.rng.integers(-2000, 2000, (2, 4, 3, 5)).astype(np.int32))], [c.rng.random((4, 3, 1)) * 0.1]
    ),
    "lookup": lambda c: c.lookup(c.bytes((3, 100))),
    "levels-then-slopes": lambda c: c.emit(
        "qprelu",
        entry((2, 3, 5, 6))(c),
        *(c.value(np.array(m, np.float32)) for m in (0.7, [0.1, -0.2, 0.3, 0.4])),
        scale=1.0,
        zero_point=9,
    ),
    "gate": product((2, 6, 7, 32), (2, 1, 1, 32), True),
    "gate-scalar": product((5, 3), (), False),
    "transpose": lambda c: c.emit("transpose", c.bytes((3, 4, 5, 18)), perm=(3, 1, 0, 2)),
    "transpose-floats": lambda c: c.emit("transpose", c.floats((3, 37)), perm=(1, 0)),
    "transpose-to-four": lambda c: c.emit("transpose", c.bytes((1, 4, 21, 3)), perm=(0, 2, 3, 1)),
    "reshape": lambda c: c.emit("reshape", c.bytes((4, 6, 35)), shape=(7, -1, 8)),
    "slice-steps": lambda c: c.emit(
        "slice", c.bytes((9, 40, 5)), axes=(0, 1), starts=(1, 3), ends=(9, 38), steps=(3, 2)
    ),
    "slice-of-channels": lambda c: _cut(c, (2, 12, 7, 9), axes=(1,), starts=(3,), ends=(8,), steps=(1,)),
    "slice-crop": lambda c: _cut(c, (2, 9, 8, 24), axes=(1, 2), starts=(2, 1), ends=(8, 7), steps=(1, 1)),
    "slice-rows-in-steps": lambda c: _cut(c, (2, 9, 8, 24), axes=(1,), starts=(1,), ends=(9,), steps=(3,)),
    "slice-all": lambda c: _cut(c, (2, 9), axes=(1,), starts=(0,), ends=(9,), steps=(1,)),
    "slice-last": lambda c: _cut(c, (9, 64), axes=(1,), starts=(5,), ends=(50,), steps=(1,)),
    "pad": lambda c: c.emit("pad", c.bytes((3, 5, 37)), pads=(1, 0, 4, 0, 2, 9), value=77.0),
    "pad-images": lambda c: c.emit("pad", c.bytes((2, 5, 6, 24)), pads=(0, 1, 2, 0, 0, 3, 1, 0), value=77.0),
    "pad-samples": lambda c: c.emit("pad", c.bytes((2, 5, 6)), pads=(1, 0, 0, 0, 0, 0), value=3.0),
    "pad-floats": lambda c: c.emit("pad", c.floats((1, 6, 5, 3)), pads=(0, 1, 1, 0, 0, 1, 1, 0), value=-1.5),
    "pad-before-four": lambda c: c.emit("pad", c.bytes((1, 3, 5, 4)), pads=(0, 1, 0, 1, 0, 0, 2, 11), value=7.0),
    "pad-four-by-four": lambda c: c.emit("pad", c.bytes((1, 3, 5, 4)), pads=(0, 0, 1, 2, 0, 0, 0, 2), value=7.0),
    "pad-space-of-four": lambda c: c.emit("pad", c.bytes((1, 6, 5, 4)), pads=(0, 1, 1, 0, 0, 1, 1, 0), value=7.0),
    "interpolate": lambda c: interpolate(c, "interpolate", c.floats((2, 3, 4, 5)), (1, 2), 2),
    "interpolate-levels": lambda c: interpolate(c, "qinterpolate", c.bytes((1, 3, 4, 20)), (1, 2), 2),
    "interpolate-narrow": lambda c: c.sum(
        [interpolate(c, "qinterpolate", c.bytes((1, 3, 4, 40)), (1, 2), 2, bits=2)], [0.01]
    ),
    "interpolate-cubic": lambda c: c.sum([interpolate(c, "qinterpolate", c.bytes((2, 9)), (1,), 4)], [1e-6]),
    "gather": lambda c: c.emit("gather", c.bytes((5, 6, 7)), c.value(np.array([3, 0, -2, 9, -9])), axis=1),
    "gather-rows": lambda c: c.emit(
        "gather", c.bytes((50, 64)), c.value(c.rng.integers(-60, 60, (3, 4)).astype(np.int32)), axis=0
    ),
    "gather-last": lambda c: c.emit("gather", c.floats((4, 20)), c.value(c.rng.integers(0, 20, 33)), axis=-1),
    "concat-channels": lambda c: c.emit(
        "concat", c.bytes((2, 3, 3, 48)), c.bytes((2, 3, 3, 5)), c.bytes((2, 3, 3, 16)), axis=-1
    ),
    "concat-rows": lambda c: c.emit("concat", c.floats((2, 3, 7)), c.floats((2, 1, 7)), axis=1),
    "concat-then-table": lambda c: c.lookup(c.emit("concat", c.bytes((5, 40)), c.bytes((5, 3)), axis=1)),
    "five-axes": lambda c: c.emit("transpose", c.bytes((2, 3, 2, 5, 6)), perm=(4, 0, 3, 1, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_reference(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("target", TARGETS)
def test_tables_of_tables(target: str) -> None:
    """The index of a read holds another read, also where a condition guards both."""
    case = Case()
    y = case.lookup(case.sum([case.lookup(case.bytes((3, 50)))], [0.7], lo=5, hi=250))
    case.lookup(case.lookup(case.emit("pad", y, pads=(0, 2, 0, 1), value=9.0)))
    cases.check(case, target)


def test_tables_are_read_by_permutation() -> None:
    """This cannot run everywhere, so look at the code: no byte is extracted or inserted."""
    case = Case()
    case.lookup(case.bytes((4, 64)))
    kernel = lower(case.op(), Target.parse("icelake-server"))
    text = assembly(kernel.scheduled, kernel.target)
    assert re.search(r"vperm[it]2b", text) and not re.search(r"vpinsrb|vpextrb", text)


def test_constants_are_not_part_of_the_key() -> None:
    def kernel(zero_point: int, seed: int) -> Kernel:
        case = Case(seed)
        x = case.bytes((2, 5), zero_point=zero_point)
        case.sum([x], [0.25 * seed + 0.1], zero_point=zero_point, lo=seed)
        return lower(case.op(), NATIVE)

    assert kernel(3, 1).key == kernel(200, 2).key


def test_every_kind_has_a_formula() -> None:
    assert set(FORMULAS) == KINDS


def test_lowering_does_not_load_tvm() -> None:
    script = """
import sys
from sqc.ir import Builder, TensorType
from sqc.schedules import Target, lower
for kind, shape in (("relu", (3,)), ("softmax", (3,)), ("reduce_mean", (3,))):
    builder = Builder()
    x = builder.input("x", TensorType(shape, "float32"))
    builder.emit(kind, [x], {"axes": (0,)} if kind == "reduce_mean" else {}, name="y")
    lower(builder.ops[0], Target.parse("x86-64-v3"))
assert "tvm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_empty_arrays_are_refused() -> None:
    case = Case()
    case.emit("relu", case.floats((0, 4)))
    with pytest.raises(CompileError, match="empty"):
        lower(case.op(), NATIVE)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("scale", [0.0123, 1.9999999, 3e-9, 2.0**-70, 7e20])
def test_levels_of_numbers_next_to_ties(scale: float, dtype: str, target: str) -> None:
    """Quotients are rounded as a division rounds them, or they would fall to the other side."""
    scale = float(np.float32(scale))
    ties = ((np.arange(-300, 300) + 0.5) * scale).astype(np.float32)
    near = [(ties.view(np.int32) + steps).view(np.float32) for steps in range(-3, 4)]
    limits = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 1e-40], np.float32)
    case = Case()
    x = case.value(np.concatenate([*near, limits])[None])
    case.emit("quantize", x, scale=scale, zero_point=11, dtype=dtype)
    cases.check(case, target)


def test_tables_of_tables_of_bound_levels_are_refused() -> None:
    case = Case()
    x = case.emit("quantize", case.floats((2, 40)), scale=0.125, zero_point=9)
    case.lookup(case.lookup(x))
    with pytest.raises(CompileError, match="tables of tables; split"):
        lower(case.op(), Target.parse("x86-64-v3"), case.arrays)
