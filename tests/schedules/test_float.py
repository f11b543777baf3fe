"""Kernels in float, against numpy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from sqc.ir import Value
from sqc.ops.elementwise import BINARY, UNARY
from sqc.schedules import Target, lower
from sqc.schedules._tvm import assembly

from .cases import run_kernel
from .harness import NATIVE, Build, Case, check

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, 88.5, 89.0, -87.5, -100.0, -103.5, -110.0, 1e-8, -1e-8, 9.5, 1e30])


def conv(x: tuple[int, ...], w: tuple[int, ...], bias: bool = True, **attributes: Any) -> Build:
    def build(case: Case) -> Value:
        operands = [case.floats(x), case.floats(w)]
        if bias:
            operands.append(case.floats(w[:1]))
        return case.emit("conv2d", *operands, **{"layout": "NHWC", **attributes})

    return build


def normalize(case: Case, x: Value, axes: tuple[int, ...], parameters: tuple[int, ...]) -> Value:
    gamma, beta = (case.floats(parameters) for _ in range(2))
    return case.emit("normalize", x, gamma, beta, axes=axes)


def linear(m: int, k: int, n: int, bias: bool = True) -> Build:
    return lambda c: c.emit("fully_connected", c.floats((m, k)), c.floats((n, k)), *([c.floats((n,))] * bias))


LAYERS: dict[str, Build] = {
    "conv": conv((2, 9, 11, 16), (32, 16, 3, 3), pads=(1, 1, 1, 1)),
    "conv-stem": conv((1, 21, 23, 3), (24, 3, 5, 5), strides=(2, 2), pads=(2, 1, 2, 1)),
    "conv-odd": conv((1, 13, 13, 7), (10, 7, 3, 2), bias=False, dilations=(2, 3), pads=(0, 3, 1, 2)),
    "conv-pointwise": conv((2, 7, 7, 24), (40, 24, 1, 1)),
    "conv-pointwise-strided": conv((1, 8, 8, 16), (16, 16, 1, 1), strides=(2, 2)),
    "conv-groups": conv((1, 6, 6, 12), (18, 4, 3, 3), groups=3),
    "conv-wide-groups": conv((1, 6, 6, 32), (64, 16, 3, 3), groups=2, pads=(1, 1, 1, 1)),
    "conv-depthwise": conv((1, 10, 10, 48), (48, 1, 3, 3), groups=48, pads=(1, 1, 1, 1), strides=(2, 2)),
    "conv-depthwise-odd": conv((1, 5, 5, 21), (21, 1, 3, 3), groups=21, pads=(1, 1, 1, 1)),
    "conv-multiplier": conv((1, 5, 5, 6), (12, 1, 3, 3), groups=6),
    "conv-channels-first": conv((2, 5, 9, 8), (20, 5, 3, 3), layout="NCHW", pads=(1, 0, 1, 0)),
    "conv-whole-image": conv((3, 4, 4, 8), (20, 8, 4, 4)),
    "linear": linear(5, 33, 50),
    "linear-one-row": linear(1, 100, 130, bias=False),
    "linear-many-rows": linear(70, 64, 64),
    "batch-norm": lambda c: c.emit(
        "batch_norm", c.floats((2, 5, 6, 7)), *(c.floats((5,)) for _ in range(3)),
        c.value(c.rng.random(5).astype(np.float32)), axis=1,
    ),
    "layer-norm": lambda c: normalize(c, c.floats((3, 5, 40)), (2,), (40,)),
    "layer-norm-odd": lambda c: normalize(c, c.floats((2, 3, 7)), (1, 2), (3, 7)),
    "instance-norm": lambda c: normalize(c, c.floats((2, 5, 6, 24)), (1, 2), (24,)),
    "instance-norm-channels-first": lambda c: normalize(c, c.floats((2, 6, 5, 7)), (2, 3), (6, 1, 1)),
    "group-norm": lambda c: normalize(c, c.floats((2, 4, 4, 3, 32)), (1, 2, 4), (3, 32)),
    "softmax": lambda c: c.emit("softmax", c.floats((3, 1000))),
    "softmax-whole": lambda c: c.emit("softmax", c.floats((2, 4, 64)), axis=-1),
    "softmax-middle": lambda c: c.emit("softmax", c.floats((2, 21, 6, 8)), axis=1),
    "softmax-prime": lambda c: c.emit("softmax", c.floats((2, 5, 17)), axis=1),
    "softmax-short": lambda c: c.emit("softmax", c.floats((3, 442, 2)), axis=2),
    "softmax-scores": lambda c: c.emit("softmax", c.floats((2, 12, 197, 197), 1.0), axis=3),
    "softmax-one": lambda c: c.emit("softmax", c.floats((2, 1)), axis=1),
    "softmax-large": lambda c: c.emit("softmax", c.floats((1, 21843), 1.0), axis=1),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    check(LAYERS[name], tolerance=3e-6)


@pytest.mark.parametrize("kind", UNARY)
def test_unary(kind: str) -> None:
    values = np.concatenate([SPECIAL, np.random.default_rng(1).normal(size=187) * 8]).astype(np.float32)
    attributes = {"min": -1.5, "max": 6.0} if kind == "clip" else {}
    rtol = 1e-5 if kind == "gelu_tanh" else 1e-6  # both sides exponentiate a rounded cubic
    case = Case()
    case.emit(kind, case.value(values), **attributes)
    op = case.op()
    with np.errstate(all="ignore"):
        expected = UNARY[kind][1](values, op.attributes)
    np.testing.assert_allclose(run_kernel(lower(op, NATIVE), case.arrays), expected, rtol=rtol, atol=1e-44)


@pytest.mark.parametrize("kind", BINARY)
def test_binary(kind: str) -> None:
    check(lambda c: c.emit(kind, c.floats((3, 5, 1)), c.floats((5, 18))))


@pytest.mark.parametrize("target", [NATIVE.name, "icelake-server"])
def test_no_foreign_functions(target: str) -> None:
    for kind in ("exp", "tanh", "sqrt", "gelu", "power", "softplus", "floor"):
        case = Case()
        case.emit(kind, case.floats((100,)))
        kernel = lower(case.op(), Target.parse(target))
        text = assembly(kernel.scheduled, kernel.target)
        assert set(re.findall(r"\bcall\w*\s+(\S+)", text)) <= {"kernel_compute_"}


def test_same_bits_for_any_batch() -> None:
    case = Case()
    x, w = case.floats((3, 7, 7, 16)), case.floats((32, 16, 3, 3))
    case.emit("conv2d", x, w, layout="NHWC")
    whole = run_kernel(lower(case.op(), NATIVE), case.arrays)
    single = Case()
    first, same = single.value(case.arrays[x][1:2]), single.value(case.arrays[w])
    single.emit("conv2d", first, same, layout="NHWC")
    part = run_kernel(lower(single.op(), NATIVE), single.arrays)
    np.testing.assert_array_equal(part[0], whole[1])
