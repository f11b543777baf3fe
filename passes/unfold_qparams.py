"""From integer ops back to float ops between dequantize and quantize: what fold-qparams folds again, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Graph, Op, Quantization, Rewriter, Value
from sqc.ops.elementwise import UNARY
from sqc.ops.quantization import ROUNDED
from sqc.ops.shapes import normalize_axes
from sqc.passes.base import Notes
from sqc.passes.integer_parameters import counted_taps, exponentials, multiplier, slope_multiplier, slope_of, table
from sqc.passes.rounding import MOVEMENT, TABLES


@dataclass(frozen=True)
class UnfoldQparams:
    """Replace integer ops by the float ops they stand for, which read dequantized values and are rounded behind.

    requantize(qconv2d(x, w, b'), M) {lo = zero point}  ->  quantize(relu(conv2d(dequantize(x), dequantize(w), b)))

    A bias becomes a dequantized int32 constant in units of the accumulators. Tables of functions with their default
    parameters become these functions, other tables stay. Raises CompileError for ops on integers that stand for none
    in float.
    """

    name: ClassVar[str] = "unfold-qparams"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        return _Unfolder(graph).run()


class _Unfolder(Rewriter):
    """``reals`` holds the float values of old integer ones."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.reals: dict[Value, Value] = {}

    def run(self) -> Graph:
        for op in self.graph.ops:
            dtype = op.result.type.dtype
            if op.kind == "requantize":
                self.requantize(op)
            elif op.kind == "dequantize" and len(op.operands) == 2:
                (unit,) = self.units(op, 1.0)
                self.replace(op, self.accumulated(op.operands[0], unit))
            elif op.kind == "dequantize" and op.operands[0].type.dtype == "uint8":
                self.replace(op, self.real(op.operands[0]))
            elif dtype == "int32" and op.kind in _ACCUMULATORS:
                continue  # emitted where they are read
            elif dtype == "uint8" and op.kind in _ROUNDED:
                self.moved(op)
            elif op.kind in _SELF_ROUNDING:
                self.round_clamped(op, _SELF_ROUNDING[op.kind](self, op))
            elif op.kind == "lookup" and (function := self.known_function(op)) is not None:
                self.round(op, function)
            elif dtype == "uint8" and op.kind == "transpose":
                self.keep(op)
                self.reals[op.result] = self.emit_float(op, [self.real(op.operands[0])])
            elif dtype == "float32" or op.kind in ("quantize", "lookup", *MOVEMENT):
                self.keep(op)
            else:
                raise CompileError(f"{op.label()} ({op.kind}) stands for no float op")
        return self.finish()

    def real(self, value: Value) -> Value:
        """The real numbers of eight-bit levels."""
        if value not in self.reals:
            op = self.graph.producer(value)
            name, source = f"{value.name}.dequantized", "" if op is None else op.source
            self.reals[value] = self.emit("dequantize", [self.map(value)], name=name, source=source)
        return self.reals[value]

    def emit_float(self, op: Op, operands: list[Value], kind: str = "", **changes: Any) -> Value:
        attributes = {name: value for name, value in op.attributes.items() if name not in ROUNDED}
        attributes.update(changes)
        return self.emit(kind or op.kind, operands, attributes, name=f"{op.result.name}.real", source=op.source)

    def round(self, op: Op, value: Value) -> None:
        """``value`` in the scale of the result of ``op``."""
        attributes = {"scale": op.result.type.scale, "zero_point": op.result.type.zero_point}
        self.replace(op, self.emit("quantize", [value], attributes, name=op.result.name, source=op.source))

    def moved(self, op: Op) -> None:
        changes: dict[str, Any] = {}
        if op.kind == "pad":
            x = op.operands[0].type
            changes["value"] = float(np.float32((op.number("value") - x.zero_point) * x.scale))
        operands = [
            self.real(operand) if operand.type.dtype == "uint8" else self.map(operand) for operand in op.operands
        ]
        self.round(op, self.emit_float(op, operands, **changes))

    def requantize(self, op: Op) -> None:
        count = len(op.operands) // 2
        terms = []
        for term, factor, unit in zip(
            op.operands, op.operands[count:], self.units(op, op.number("scale")), strict=False
        ):
            if term.type.dtype == "uint8":
                terms.append(self.scaled(op, term, self.known(op, factor)))
            elif term in self.graph.constants:
                terms.append(self.offset(op, term, self.known(op, factor)))
            else:
                terms.append(self.accumulated(term, unit))
        total = terms[0]
        for term in terms[1:]:
            total = self.emit("add", [total, term], name=f"{op.result.name}.real", source=op.source)
        self.round_clamped(op, total)

    def round_clamped(self, op: Op, total: Value) -> None:
        """``total`` in the scale of the result of ``op``, cut to its least and largest level."""
        scale, zero_point = op.number("scale"), op.integer("zero_point")
        lo, hi = op.integer("lo"), op.integer("hi")
        low = -math.inf if lo == 0 else scale * (lo - zero_point)
        high = math.inf if hi == 255 else scale * (hi - zero_point)
        name = f"{op.result.name}.real"
        if (low, high) == (0.0, math.inf):
            total = self.emit("relu", [total], name=name, source=op.source)
        elif (low, high) != (-math.inf, math.inf):
            total = self.emit("clip", [total], {"min": low, "max": high}, name=name, source=op.source)
        self.round(op, total)

    def units(self, op: Op, scale: float) -> list[Callable[[np.ndarray | np.float64], bool]]:
        """For each term of a rounding, whether its multiplier is that of a unit (float64, broadcasting)."""
        multipliers = [self.graph.constants.get(operand) for operand in op.operands[len(op.operands) // 2 :]]

        def test(m: np.ndarray | None) -> Callable[[np.ndarray | np.float64], bool]:
            return lambda unit: m is not None and bool((multiplier(unit, scale) == m).all())

        return [test(m) for m in multipliers]

    def scaled(self, op: Op, x: Value, factor: np.ndarray) -> Value:
        """The real numbers of levels times what ``factor`` multiplies them by beyond their own scale."""
        real = self.real(x)
        if (multiplier(np.float64(x.type.scale), op.number("scale")) == factor).all():
            return real
        slope = slope_of(factor, x.type, op.number("scale"))
        if slope is None:
            raise CompileError(f"{op.label()} scales %{x.name} by what is no number of float32")
        operands = [real, self.constant(slope, f"{op.result.name}.factor")]
        return self.emit("mul", operands, name=f"{op.result.name}.scaled", source=op.source)

    def offset(self, op: Op, levels: Value, factor: np.ndarray) -> Value:
        """The real numbers of a constant term, whose unit is a power of two."""
        unit = 2.0 ** np.rint(np.log2(factor.astype(np.float64) * op.number("scale")))
        array = (self.graph.constants[levels] * unit).astype(np.float32)
        return self.constant(array, levels.name)

    def accumulated(self, value: Value, matches: Callable[[np.ndarray | np.float64], bool]) -> Value:
        """The real numbers of accumulators one unit of which ``matches``."""
        op = self.graph.producer(value)
        if op is None or op.kind not in _ACCUMULATORS:
            raise CompileError(f"%{value.name} stands for no float value")
        real = _ACCUMULATORS[op.kind](self, op, matches)
        if real is None:
            raise CompileError(f"{op.label()} is not rounded by the scales of what it reads")
        return real

    def matrix(self, op: Op, matches: Callable[[np.ndarray | np.float64], bool]) -> Value | None:
        x, weights, bias = op.operands
        quantization = weights.type.quantization
        levels, folded = self.graph.constants.get(weights), self.graph.constants.get(bias)
        if quantization is None or levels is None or folded is None:
            return None
        scales = np.broadcast_to(np.array(quantization.scale, np.float64), folded.shape)
        unit = x.type.scale * scales
        if not matches(unit.reshape(-1, 1, 1) if op.attributes.get("layout") == "NCHW" else unit):
            return None
        w = self.emit("dequantize", [self.map(weights)], name=f"{weights.name}.dequantized", source=op.source)
        rows = levels.reshape(levels.shape[0], -1).astype(np.int64).sum(axis=1)
        unfolded = (folded + x.type.zero_point * rows).astype(np.int32)
        units = np.float32(x.type.scale) * scales.astype(np.float32)
        stored = self.constant(unfolded, bias.name, Quantization(tuple(map(float, units)), (0,) * len(units), 0))
        b = self.emit("dequantize", [stored], name=f"{bias.name}.dequantized", source=op.source)
        return self.emit_float(op, [self.real(x), w, b], kind=op.kind.removeprefix("q"))

    def product(self, op: Op, matches: Callable[[np.ndarray | np.float64], bool]) -> Value | None:
        a, b = op.operands
        unit = np.float64(a.type.scale) * np.float64(b.type.scale)
        return self.emit_float(op, [self.real(a), self.real(b)], kind="mul") if matches(unit) else None

    def average_pool(self, op: Op, matches: Callable[[np.ndarray | np.float64], bool]) -> Value | None:
        x = op.operands[0]
        for include_pad in (False, True):
            if matches(np.float64(x.type.scale) / counted_taps(op, x.type, include_pad)):
                return self.emit_float(op, [self.real(x)], kind="average_pool", count_include_pad=include_pad)
        return None

    def matmul(self, op: Op, matches: Callable[[np.ndarray | np.float64], bool]) -> Value | None:
        a, b, *parameters = op.operands
        if parameters:  # zero points found at run time
            return None
        unit = np.float64(a.type.scale) * np.float64(b.type.scale)
        return self.emit_float(op, [self.real(a), self.real(b)], kind="matmul") if matches(unit) else None

    def interpolate(self, op: Op, matches: Callable[[np.ndarray | np.float64], bool]) -> Value | None:
        x, *tables = op.operands
        levels = [self.known(op, weights) for weights in tables[1::2]]
        bits = [int(array.sum(axis=1).max(initial=1)).bit_length() - 1 for array in levels]  # they sum up to 1
        if not matches(np.float64(x.type.scale) / 2.0 ** sum(bits)):
            return None
        operands = [self.real(x), *map(self.map, tables)]
        for i, (array, count) in enumerate(zip(levels, bits, strict=True)):
            operands[2 * i + 2] = self.constant(np.ldexp(array, -count).astype(np.float32), tables[2 * i + 1].name)
        return self.emit_float(op, operands, kind="interpolate")

    def known(self, op: Op, value: Value) -> np.ndarray:
        """A constant. Raises CompileError for any other value."""
        if value not in self.graph.constants:
            raise CompileError(f"{op.label()} has no constant %{value.name}")
        return self.graph.constants[value]

    def prelu(self, op: Op) -> Value:
        x, above, below = op.operands
        scale = op.number("scale")
        slope = slope_of(self.known(op, below), x.type, scale)
        if slope is None or (self.known(op, above) != slope_multiplier(np.ones((), np.float32), x.type, scale)).any():
            raise CompileError(f"{op.label()} does not scale %{x.name} by its own scale")
        return self.emit_float(op, [self.real(x), self.constant(slope, below.name)], kind="prelu")

    def softmax(self, op: Op) -> Value:
        x, powers = op.operands
        if not np.array_equal(self.known(op, powers), exponentials(x.type)):
            raise CompileError(f"{op.label()} does not hold the exponentials of %{x.name}")
        return self.emit_float(op, [self.real(x)], kind="softmax")

    def normalize(self, op: Op) -> Value:
        x, *parameters = op.operands
        scale, axes = op.number("scale"), op.integers("axes")
        size = math.prod(x.type.shape[axis] for axis in axes)
        epsilon = op.number("epsilon") * x.type.scale**2 / float(size) ** 2
        operands = [self.real(x)]
        for value in parameters:
            steps = self.known(op, value).astype(np.float64)
            operands.append(self.constant((steps * scale).astype(np.float32), value.name))
        return self.emit_float(op, operands, kind="normalize", epsilon=float(np.float32(epsilon)))

    def known_function(self, op: Op) -> Value | None:
        """The function whose table ``op`` looks up, of the levels as real numbers; None for any other table."""
        x, entries = op.operands
        scale, zero_point = op.result.type.scale, op.result.type.zero_point
        given = self.graph.constants.get(entries)
        if given is None or x.type.quantization is None:
            return None
        for kind in TABLES:
            attributes = {name: float(np.float32(number)) for name, number in UNARY[kind][0].items()}
            function = partial(_applied, kind, attributes)
            if np.array_equal(table([function], x.type, scale, zero_point), given):
                name = f"{op.result.name}.real"
                return self.emit(kind, [self.real(x)], attributes, name=name, source=op.source)
        return None

    def reduce_mean(self, op: Op, matches: Callable[[np.ndarray | np.float64], bool]) -> Value | None:
        x = op.operands[0]
        taps = math.prod(x.type.shape[axis] for axis in normalize_axes(op.integers("axes"), x.type.rank))
        unit = np.float64(x.type.scale) / taps
        return self.emit_float(op, [self.real(x)], kind="reduce_mean") if matches(unit) else None


def _applied(kind: str, attributes: Mapping[str, float], x: np.ndarray) -> np.ndarray:
    return UNARY[kind][1](x, attributes)


_ROUNDED = ("reshape", "slice", "gather", "pad", "concat", "max_pool")
"""Kinds that move levels, and get a rounding of their own in float, as other tools expect it."""

_SELF_ROUNDING: Mapping[str, Callable[[_Unfolder, Op], Value]] = {
    "qprelu": _Unfolder.prelu,
    "qsoftmax": _Unfolder.softmax,
    "qnormalize": _Unfolder.normalize,
}

_ACCUMULATORS: Mapping[str, Callable[..., Value | None]] = {
    "qconv2d": _Unfolder.matrix,
    "qfully_connected": _Unfolder.matrix,
    "qmul": _Unfolder.product,
    "qmatmul": _Unfolder.matmul,
    "qinterpolate": _Unfolder.interpolate,
    "qsum_pool": _Unfolder.average_pool,
    "qreduce_sum": _Unfolder.reduce_mean,
}
