"""Random float parts of graphs: layers quantized at run time, weights stored in fewer bits, float operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import TensorType, Value
from sqc.ops.elementwise import BINARY, UNARY
from sqc.ops.stored_weights import STORAGES, pack_nibbles

if TYPE_CHECKING:
    from tests.promise.generator import Generator


class Reals:
    """What the makers below share."""

    def __init__(self, generator: Generator) -> None:
        self.g = generator
        self.draw = generator.draw

    def emit(self, kind: str, *operands: Value, **attributes: object) -> Value:
        return self.g.builder.emit(kind, operands, attributes, name=self.g.name(kind))

    def normal(self, *shape: int, spread: float = 1.0) -> Value:
        return self.g.constant(self.draw.random.normal(0, spread, shape).astype(np.float32), "real")

    def image(self) -> Value:
        """NHWC floats from -4 to 4, or from 0 to 8."""
        table = self.g.constant(self.draw.table(), "table")
        qparams = {"scale": 2.0**-5, "zero_point": self.draw.one([0, 128])}
        return self.emit("dequantize", self.emit("lookup", self.g.image(), table, **qparams))

    def rows(self, most: int = 2000) -> Value:
        """``[rows, depth]``"""
        x = self.image()
        if x.type.size // x.type.shape[0] <= most and self.draw.chance(0.4):
            return self.emit("reshape", x, shape=(x.type.shape[0], -1))
        return self.emit("reshape", x, shape=(-1, x.type.shape[3]))

    def leave(self, value: Value) -> None:
        self.g.builder.outputs[f"real_{value.name}"] = value


def dynamic_layer(generator: Generator) -> None:
    """A fully connected layer whose input is quantized at run time."""
    r = Reals(generator)
    x = r.rows() if r.draw.chance(0.7) else given(r)
    pairs = r.emit("dynamic_parameters", x, per_row=r.draw.chance(0.5))
    levels = r.emit("dynamic_quantize", x, pairs)
    w, _, _ = r.draw.weights((r.draw.channels(), x.type.shape[1]))
    start = np.zeros(len(w), np.int32)
    acc = r.emit("qfully_connected", levels, generator.constant(w, "w"), generator.constant(start, "start"))
    scales = np.exp2(r.draw.random.uniform(-10, 0, len(w))).astype(np.float32)
    columns = [generator.constant(w.sum(axis=1, dtype=np.int32), "sums"), generator.constant(scales, "scales")]
    y = r.emit("dynamic_dequantize", acc, pairs, *columns, *([r.normal(len(w))] if r.draw.chance(0.5) else []))
    r.leave(y)
    if r.draw.chance(0.4):
        generator.keep(r.emit("quantize", y, **r.draw.qparams()))


def given(r: Reals) -> Value:
    """Rows of an input of its own, which may hold anything."""
    shape = (r.g.batch, r.draw.whole(1, 70))
    return r.g.builder.input(f"x{len(r.g.builder.inputs)}", TensorType(shape, "float32"))


def dynamic_product(generator: Generator) -> None:
    """Rows, quantized at run time as a whole, times columns; both zero points are computed, or one is known."""
    r = Reals(generator)
    x = r.rows(200)
    pair = r.emit("dynamic_parameters", x, per_row=False)
    levels = r.emit("dynamic_quantize", x, pair)
    zero_point = r.emit("slice", pair, axes=(0,), starts=(1,), ends=(2,), steps=(1,))
    zero_point = r.emit("quantize", zero_point, scale=1.0, zero_point=0)
    b, z_b = levels, zero_point
    if r.draw.chance(0.5):
        shape = (x.type.shape[1], r.draw.channels())
        b = generator.constant(r.draw.random.integers(0, 256, shape).astype(np.uint8), "b")
        z_b = generator.constant(np.array([r.draw.whole(0, 255)], np.uint8), "z")
    perm = () if b is not levels else (1, 0)
    generator.finish(
        r.emit("qmatmul", levels, b, zero_point, z_b, perm_b=perm), 128.0**2 * x.type.shape[1] ** 0.5, "product", ()
    )


def stored_layer(generator: Generator) -> None:
    """A float layer whose weights are restored from fewer bits."""
    r = Reals(generator)
    x = r.rows()
    depth, outputs = x.type.shape[1], r.draw.channels()
    storage = r.draw.one([s for s in STORAGES if s != "int4" or depth % 2 == 0])
    if storage == "float16":
        w = generator.constant(r.draw.random.normal(0, 1, (outputs, depth)).astype(np.float16), "w")
        restored = r.emit("restore_weights", w, storage=storage)
    else:
        most = 8 if storage == "int4" else 128
        levels = r.draw.random.integers(-most, most, (outputs, depth)).astype(np.int8)
        even = 2 if storage == "int4" else 1
        groups = r.draw.one([g for g in range(1, depth + 1) if depth % g == 0 and depth // g % even == 0])
        w = generator.constant(pack_nibbles(levels) if storage == "int4" else levels, "w")
        scales = r.draw.random.uniform(0.01, 1, (outputs, groups)).astype(np.float32)
        restored = r.emit("restore_weights", w, generator.constant(scales, "scales"), storage=storage)
    r.leave(r.emit("fully_connected", x, restored, *([r.normal(outputs)] if r.draw.chance(0.5) else [])))


# Float operators, whose results are near the reference ---------------------------------------------------------------


def _unary(kind: str) -> Callable[[Reals], Value]:
    return lambda r: r.emit(kind, r.image(), **({"min": -1.5, "max": 3.0} if kind == "clip" else {}))


def _binary(kind: str) -> Callable[[Reals], Value]:
    def make(r: Reals) -> Value:
        x = r.image()
        shape = r.draw.one([x.type.shape, x.type.shape[-1:], (x.type.shape[1], 1, 1)])
        return r.emit(kind, x, r.normal(*shape))

    return make


def _conv2d(r: Reals) -> Value:
    x = r.image()
    channels = x.type.shape[3]
    window = r.draw.window(x, 3) or {"kernel": (1, 1), "layout": "NHWC"}
    groups = r.draw.one([1, 1, channels])
    outputs = channels if groups > 1 else r.draw.channels()
    kernel = window.pop("kernel")
    assert isinstance(kernel, tuple)
    return r.emit("conv2d", x, r.normal(outputs, channels // groups, *kernel), **window, groups=groups)


def _fully_connected(r: Reals) -> Value:
    x, outputs = r.rows(), r.draw.channels()
    return r.emit("fully_connected", x, r.normal(outputs, x.type.shape[1]), r.normal(outputs))


def _matmul(r: Reals) -> Value:
    x = r.rows(200)
    x = r.emit("slice", x, axes=(0,), starts=(0,), ends=(min(50, x.type.shape[0]),), steps=(1,))
    return r.emit("matmul", x, x, perm_b=(1, 0))


def _batch_norm(r: Reals) -> Value:
    x = r.image()
    channels = x.type.shape[3]
    variance = r.g.constant(r.draw.random.uniform(0.1, 2, channels).astype(np.float32), "variance")
    return r.emit("batch_norm", x, *(r.normal(channels) for _ in range(3)), variance, axis=3)


def _normalize(r: Reals) -> Value:
    x = r.image()
    channels = x.type.shape[3]
    return r.emit("normalize", x, r.normal(channels), r.normal(channels), axes=r.draw.one([(3,), (1, 2)]))


def _softmax(r: Reals) -> Value:
    return r.emit("softmax", r.image(), axis=r.draw.whole(1, 3))


def _average_pool(r: Reals) -> Value:
    x = r.image()
    window = r.draw.window(x, 3) or {"kernel": (1, 1), "layout": "NHWC"}
    return r.emit("average_pool", x, **window, count_include_pad=True)


def _reduce_mean(r: Reals) -> Value:
    return r.emit("reduce_mean", r.image(), axes=r.draw.one([(1, 2), (3,), (2, 3)]), keepdims=r.draw.chance(0.5))


def _interpolate(r: Reals) -> Value:
    x = r.image()
    axes = r.draw.one([(1,), (1, 2)])
    tables = []
    for axis in axes:
        shape = (r.draw.whole(1, 2 * x.type.shape[axis]), 2)
        places = r.draw.random.integers(-1, x.type.shape[axis] + 1, shape).astype(np.int32)
        weights = r.draw.random.dirichlet(np.ones(2), len(places)).astype(np.float32)
        tables += [r.g.constant(places, "places"), r.g.constant(weights, "weights")]
    return r.emit("interpolate", x, *tables, axes=axes)


def _sequence(kind: str, gates: int) -> Callable[[Reals], Value]:
    def make(r: Reals) -> Value:
        x, width, steps = r.rows(), r.draw.whole(1, 12), r.draw.one([1, 2])
        batch = max(1, min(x.type.shape[0] // steps, 3))
        steps = steps if x.type.shape[0] >= steps * batch else 1
        x = r.emit("slice", x, axes=(0,), starts=(0,), ends=(steps * batch,), steps=(1,))
        spread = x.type.shape[1] ** -0.5
        p = r.emit("fully_connected", x, r.normal(gates * width, x.type.shape[1], spread=spread))
        weights = r.normal(gates * width, width, spread=width**-0.5)
        attributes = {"steps": steps, "reverse": r.draw.chance(0.3)}
        if kind == "gru":
            initial = [r.normal(batch, width)] if r.draw.chance(0.5) else []
            linear = r.draw.chance(0.5)
            return r.emit(kind, p, weights, r.normal(width), *initial, **attributes, linear_before_reset=linear)
        initial = [r.normal(batch, width), r.normal(batch, width)] if r.draw.chance(0.5) else []
        hidden = r.emit("lstm", p, weights, *initial, **attributes)
        if kind == "lstm":
            return hidden
        r.leave(hidden)
        return r.emit("lstm_cells", hidden, p, weights, *initial, **attributes)

    return make


FLOAT_OPS: dict[str, Callable[[Reals], Value]] = {
    **{kind: _unary(kind) for kind in UNARY},
    **{kind: _binary(kind) for kind in BINARY},
    "conv2d": _conv2d,
    "fully_connected": _fully_connected,
    "matmul": _matmul,
    "batch_norm": _batch_norm,
    "normalize": _normalize,
    "softmax": _softmax,
    "average_pool": _average_pool,
    "reduce_mean": _reduce_mean,
    "interpolate": _interpolate,
    "lstm": _sequence("lstm", 4),
    "lstm_cells": _sequence("lstm_cells", 4),
    "gru": _sequence("gru", 3),
}
"""By kind: an op of it."""


def float_op(generator: Generator, kind: str) -> None:
    r = Reals(generator)
    r.leave(FLOAT_OPS[kind](r))


MAKERS: tuple[Callable[[Generator], None], ...] = (dynamic_layer, dynamic_product, stored_layer)
