"""Pooling windows and reductions, with and without an epilogue."""

from __future__ import annotations

from typing import Any

import pytest

from sqc.ir import Value

from .harness import Build, Case, check


def pool(kind: str, shape: tuple[int, ...], kernel: tuple[int, int], dtype: str = "uint8", **attributes: Any) -> Build:
    def build(case: Case) -> Value:
        x = case.bytes(shape) if dtype == "uint8" else case.floats(shape)
        y = case.emit(kind, x, kernel=kernel, **{"layout": "NHWC", **attributes})
        return case.sum([y], [0.01], zero_point=9) if kind == "qsum_pool" else y

    return build


def mean(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool, table: bool = False) -> Build:
    def build(case: Case) -> Value:
        total = case.emit("qreduce_sum", case.bytes(shape), axes=axes, keepdims=keepdims)
        y = case.sum([total], [0.02], zero_point=9)
        return case.lookup(y) if table else y

    return build


INTEGER: dict[str, Build] = {
    "max": pool("max_pool", (2, 13, 12, 32), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    "max-odd": pool("max_pool", (1, 7, 9, 21), (2, 3), strides=(2, 1), pads=(0, 1, 0, 2)),
    "max-dilated": pool("max_pool", (1, 9, 9, 16), (3, 2), pads=(2, 0, 2, 0), dilations=(2, 3)),
    "max-beyond-padding": pool("max_pool", (1, 4, 4, 16), (2, 2), pads=(3, 3, 3, 3)),
    "max-four": pool("max_pool", (1, 8, 10, 4), (2, 2), strides=(2, 2)),
    "max-large": pool("max_pool", (1, 12, 12, 48), (7, 7), pads=(3, 3, 3, 3)),
    "max-channels-first": pool("max_pool", (2, 5, 8, 8), (3, 3), pads=(1, 1, 1, 1), layout="NCHW"),
    "sum": pool("qsum_pool", (2, 9, 10, 32), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    "sum-inside": pool("qsum_pool", (1, 8, 8, 24), (2, 2), strides=(2, 2)),
    "sum-large": pool("qsum_pool", (1, 14, 14, 80), (7, 7), strides=(7, 7), pads=(1, 0, 0, 1)),
    "sum-channels-first": pool("qsum_pool", (1, 3, 6, 7), (3, 2), pads=(1, 1, 1, 1), layout="NCHW"),
    "mean": mean((3, 7, 7, 64), (1, 2), True),
    "mean-table": mean((1, 14, 14, 96), (1, 2), True, table=True),
    "mean-flat": mean((2, 5, 3, 20), (1, 2), False),
    "mean-last": mean((2, 5, 37), (-1,), True),
    "mean-all": mean((5, 37), (0, 1), False),
    "mean-first": mean((5, 37), (0,), False),
    "mean-channels-first": mean((2, 6, 7, 5), (2, 3), True),
}

FLOAT: dict[str, Build] = {
    "max": pool("max_pool", (2, 13, 12, 32), (3, 3), "float32", strides=(2, 2), pads=(1, 1, 1, 1)),
    "max-dilated": pool("max_pool", (1, 9, 9, 16), (3, 2), "float32", pads=(2, 0, 2, 0), dilations=(2, 3)),
    "average": pool("average_pool", (2, 9, 10, 21), (3, 3), "float32", strides=(2, 2), pads=(1, 1, 1, 1)),
    "average-counted": pool(
        "average_pool", (1, 9, 10, 16), (3, 3), "float32", pads=(1, 1, 1, 1), count_include_pad=True
    ),
    "average-large": pool("average_pool", (1, 9, 9, 40), (8, 8), "float32", pads=(3, 3, 3, 3)),
    "average-channels-first": pool("average_pool", (2, 3, 8, 9), (3, 3), "float32", pads=(1, 1, 1, 1), layout="NCHW"),
    "mean": lambda c: c.emit("reduce_mean", c.floats((2, 7, 7, 48)), axes=(1, 2)),
    "mean-last": lambda c: c.emit("reduce_mean", c.floats((3, 50)), axes=(1,), keepdims=False),
    "mean-of-nothing": lambda c: c.emit("reduce_mean", c.floats((3, 50)), axes=()),
}


@pytest.mark.parametrize("name", INTEGER)
def test_integer(name: str) -> None:
    check(INTEGER[name])


@pytest.mark.parametrize("name", FLOAT)
def test_float(name: str) -> None:
    check(FLOAT[name], tolerance=1e-6)
