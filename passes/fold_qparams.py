"""From dequantize, float ops, quantize to integer ops: zero points, biases and multipliers become constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np

from sqc.ir import Graph, Op, Quantization, Rewriter, Value, evaluate_op
from sqc.ops.elementwise import BINARY, UNARY
from sqc.ops.interpolate import interpolation_weights
from sqc.ops.shapes import normalize_axes
from sqc.passes.base import Notes
from sqc.passes.integer_parameters import (
    Function,
    check_sum,
    counted_taps,
    exponentials,
    fold_bias,
    halved,
    halvings,
    in_steps,
    level,
    multiplier,
    offset_levels,
    slope_multiplier,
    table,
)
from sqc.passes.recurrent_steps import IntegerCell, IntegerSteps
from sqc.passes.rounding import (
    CLAMPS,
    FLOAT_ONLY,
    MATRIX,
    MOVEMENT,
    RECURRENT,
    function_operand,
    initial_states,
    is_parameter,
    levels_behind,
)


@dataclass(frozen=True)
class FoldQparams:
    """Replace float ops between dequantize and quantize by integer ops and requantize.

    quantize(relu(conv2d(dequantize(x), dequantize(w), b)))  ->  requantize(qconv2d(x, w, b'), M) {lo = zero point}

    What only float ops read stays in float: accumulators of convolutions and fully connected layers are multiplied to
    float, eight-bit values dequantized. The arithmetic of the result is fixed here; later passes preserve its bits.
    Raises CompileError where accumulators could overflow.
    """

    name: ClassVar[str] = "fold-qparams"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        return _Folder(graph, self, notes).run()


@dataclass(frozen=True)
class _Term:
    """Integers and what one unit of them is worth: float64, broadcasting against them. Zero points are in the type.

    An ``offset`` is a constant, which broadcasts against the other terms.
    """

    value: Value
    scale: np.ndarray | np.float64
    offset: bool = False

    @property
    def wide(self) -> bool:
        """Whether these are 32-bit accumulators."""
        return self.value.type.dtype == "int32" and not self.offset

    @property
    def plain(self) -> bool:
        """Whether these are levels of eight bits in their own scale."""
        return self.value.type.dtype == "uint8" and np.ndim(self.scale) == 0 and self.scale == self.value.type.scale


@dataclass(frozen=True)
class _Sum:
    """The real number that terms add up to, clamped."""

    terms: tuple[_Term, ...]
    low: float = -math.inf
    high: float = math.inf

    @property
    def clamped(self) -> bool:
        return not (self.low == -math.inf and self.high == math.inf)

    @property
    def single(self) -> Value | None:
        """The only term, eight bits in its own scale and not clamped; else None."""
        (term, *more) = self.terms
        return term.value if term.plain and not more and not self.clamped else None

    @property
    def scalable(self) -> bool:
        """Whether factors and offsets of each channel may be part of the rounding: it has no accumulators."""
        return not self.clamped and not any(term.wide for term in self.terms)


@dataclass(frozen=True)
class _Function:
    """Functions of one number, one after another, of eight-bit levels."""

    x: Value
    functions: tuple[Function, ...]


@dataclass(frozen=True)
class _Rounding:
    """What an op rounds by itself: ``emit`` makes it, given the attributes of its result."""

    emit: Callable[[dict[str, Any], str, str], Value]
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class _Recurrence:
    """The hidden states of a recurrent layer, whose rounding takes part in every step."""

    op: Op
    cell: IntegerCell


_Form: TypeAlias = _Sum | _Function | _Rounding | _Recurrence


class _Folder:
    """Walks the graph with an exact integer form of float values where there is one.

    Float values are emitted only when something reads them as float, so that nothing has to be undone.
    """

    def __init__(self, graph: Graph, origin: FoldQparams, notes: Notes) -> None:
        self.graph = graph
        self.origin = origin
        self.notes = notes
        self.rewriter = Rewriter(graph)
        self.forms: dict[Value, _Form] = {}
        self.cells: dict[Value | None, Value] = {}  # the states of an LSTM's cells, by its hidden states' old levels
        self.floats: dict[Value, Value] = {value: self.rewriter.map(value) for value in graph.inputs}

    def run(self) -> Graph:
        for op in self.graph.ops:
            if op.kind == "quantize" and op.string("dtype") == "uint8":
                self.quantize(op)
                continue
            if op.result.type.dtype != "float32":
                self.integers(op)
                continue
            form = self.form(op)
            if op.kind == "lstm_cells" and (cells := self.cells.get(levels_behind(self.graph, op.operands[0]))):
                self.floats[op.result] = self.rewriter.replace(op, cells)
            elif form is not None:
                self.forms[op.result] = form
            elif op.kind != "dequantize":
                self.note(op, f"stays in float: {self.obstacle(op)}")
                self.real(op.result)
        for value in self.graph.outputs.values():
            self.real(value)
        return self.rewriter.finish()

    def form(self, op: Op) -> _Form | None:
        """The integer form of an op's result, or None if it has to be computed in float."""
        if function_operand(self.graph, op) is not None:
            return self.function(op)
        folds: dict[str, Callable[[Op], _Form | None]] = {
            "dequantize": self.dequantize,
            "concat": self.concat,
            "add": self.sum,
            "sub": self.sum,
            "mul": self.product,
            "matmul": self.matmul,
            "max_pool": self.movement,
            "average_pool": self.average_pool,
            "reduce_mean": self.reduce_mean,
            "interpolate": self.interpolate,
            "prelu": self.prelu,
            "softmax": self.softmax,
            "normalize": self.normalize,
            **dict.fromkeys(MATRIX, self.matrix),
            **dict.fromkeys(RECURRENT, self.recurrence),
            **dict.fromkeys(CLAMPS, self.clamp),
            **dict.fromkeys(MOVEMENT, self.movement),
        }
        return folds[op.kind](op) if op.kind in folds else None

    def integers(self, op: Op) -> None:
        """An op that yields integers as it is: it moves them, or gives an output its type."""
        self.rewriter.keep(op, map(self.real, op.operands))

    def obstacle(self, op: Op) -> str:
        """Why an op has no integer form."""
        if op.kind in FLOAT_ONLY:
            return FLOAT_ONLY[op.kind]
        if op.kind in MATRIX and self.single(op.operands[0]) is not None:
            return "its weights are not quantized" if self.weights(op.operands[1]) is None else "its bias is computed"
        return "not all that it reads is eight-bit"

    def note(self, op: Op, message: str) -> None:
        self.notes.add(self.origin, op, message)

    def single(self, value: Value) -> Value | None:
        """The eight-bit integers that a float value stands for, if it is no more than them."""
        form = self.forms.get(value)
        return form.single if isinstance(form, _Sum) else None

    def real(self, value: Value) -> Value:
        """The new float value for an old one; computes it if need be."""
        if value in self.floats:
            return self.floats[value]
        op = self.graph.producer(value)
        if op is None or value.type.dtype != "float32":
            return self.rewriter.map(value)
        form = self.forms.get(value)
        term = form.terms[0] if isinstance(form, _Sum) and len(form.terms) == 1 and not form.clamped else None
        if term is not None and (term.wide or term.plain):
            operands = [term.value]
            if term.wide:
                operands.append(self.constant(multiplier(term.scale), f"{value.name}.multiplier"))
            real = self.rewriter.emit("dequantize", operands, name=value.name, source=op.source)
            self.rewriter.replace(op, real)
        else:
            real = self.rewriter.keep(op, [self.real(operand) for operand in op.operands])
        self.floats[value] = real
        return real

    def constant(self, array: np.ndarray, name: str) -> Value:
        return self.rewriter.constant(array, name)

    def quantize(self, op: Op) -> None:
        """The rounding: terms become a requantize, functions a table."""
        source = op.operands[0]
        form = self.forms.get(source)
        attributes: dict[str, Any] = {"scale": op.number("scale"), "zero_point": op.integer("zero_point")}
        scale, zero_point = op.number("scale"), op.integer("zero_point")
        producer = self.graph.producer(source)
        origin = producer.source if producer is not None and producer.source else op.source
        self.explain(source, "is part of a table" if isinstance(form, _Function) else "bounds the rounding behind it")
        if form is None:
            self.rewriter.replace(op, self.rewriter.keep(op, [self.real(source)]))
        elif isinstance(form, _Recurrence):
            self.unroll(op, form, scale, zero_point)
        elif isinstance(form, _Function):
            entries = self.constant(table(form.functions, form.x.type, scale, zero_point), f"{source.name}.table")
            result = self.rewriter.emit("lookup", [form.x, entries], attributes, name=source.name, source=origin)
            self.rewriter.replace(op, result)
        elif (
            isinstance(form, _Sum)
            and (alone := form.single) is not None
            and alone.type.quantization == op.result.type.quantization
        ):
            self.rewriter.replace(op, alone)
        elif isinstance(form, _Rounding):
            self.rewriter.replace(op, form.emit({**attributes, **_bounds(form, op)}, source.name, origin))
        else:
            multipliers = [
                self.constant(multiplier(term.scale, scale), f"{source.name}.multiplier") for term in form.terms
            ]
            operands = [*(term.value for term in form.terms), *multipliers]
            attributes.update(_bounds(form, op))
            result = self.rewriter.emit("requantize", operands, attributes, name=source.name, source=origin)
            self.rewriter.replace(op, result)

    def explain(self, value: Value, message: str) -> None:
        """Leave a note about the clamps and functions right before a rounding."""
        op = self.graph.producer(value)
        while op is not None and value in self.forms:
            operand = op.operands[0] if op.kind in CLAMPS else function_operand(self.graph, op)
            if operand is None:
                return
            self.note(op, message)
            value, op = operand, self.graph.producer(operand)

    def dequantize(self, op: Op) -> _Form | None:
        x = op.operands[0]
        if x.type.quantization is not None and x.type.quantization.axis is None and x.type.dtype == "uint8":
            return self.eight_bits(self.rewriter.map(x))
        return None

    def matrix(self, op: Op) -> _Form | None:
        x, weights = self.single(op.operands[0]), self.weights(op.operands[1])
        bias = self.known(op.operands[2]) if len(op.operands) == 3 else np.zeros(op.operands[1].type.shape[0])
        if x is None or weights is None or bias is None:
            return None
        quantization = weights.type.quantization
        assert quantization is not None
        scales = np.broadcast_to(np.array(quantization.scale, np.float64), bias.shape)
        levels = self.bias_levels(op, np.float32(x.type.scale) * scales.astype(np.float32))
        array, held = self.graph.constants[weights], self.rewriter.map(weights)
        if levels is not None and (counts := halvings(x.type, array, levels)).any():
            self.note(op, f"halves {np.count_nonzero(counts)} channels of near-zero weights: their bias fills 32 bits")
            array, levels, scales = halved(array, counts).astype(np.int8), halved(levels, counts), scales * 2.0**counts
            wider = Quantization(tuple(map(float, scales)), (0,) * len(scales), 0)
            held = self.rewriter.constant(array, weights.name, wider)
        folded = fold_bias(op, x.type, array, scales, bias, levels)
        name = op.operands[2].name if len(op.operands) == 3 else f"{op.result.name}.bias"
        operands = [x, held, self.constant(folded, name)]
        kind = "qconv2d" if op.kind == "conv2d" else "qfully_connected"
        unit = x.type.scale * scales
        scale = unit.reshape(-1, 1, 1) if op.attributes.get("layout") == "NCHW" else unit
        return self.accumulators(op, kind, operands, scale, op.attributes)

    def accumulators(
        self,
        op: Op,
        kind: str,
        operands: Sequence[Value],
        scale: np.ndarray | np.float64,
        attributes: Mapping[str, Any],
    ) -> _Sum:
        """What an op of ``kind`` in the place of ``op`` sums up, in units of ``scale``."""
        name = f"{op.result.name}.sum"
        acc = self.rewriter.emit(kind, operands, attributes, name=name, source=op.source)
        return _Sum((_Term(acc, scale),))

    def matmul(self, op: Op) -> _Form | None:
        a, b = (self.single(operand) for operand in op.operands)
        if a is not None and b is None:
            return self.columns(op, a)
        if a is None or b is None:
            return None
        scale = np.float64(a.type.scale) * np.float64(b.type.scale)
        return self.accumulators(op, "qmatmul", [a, b], scale, op.attributes)

    def columns(self, op: Op, a: Value) -> _Form | None:
        """A product with matrices of constant int8 levels that have a scale for each column; None for any other."""
        levels = self.weights(op.operands[1], op.operands[1].type.rank - 1)
        if levels is None or op.integers("perm_b") or op.integers("perm_y"):
            return None
        quantization = levels.type.quantization
        assert quantization is not None
        array = (self.graph.constants[levels].astype(np.int16) + 128).astype(np.uint8)
        b = self.rewriter.constant(array, levels.name, Quantization.per_tensor(1.0, 128))
        scales = np.float64(a.type.scale) * np.array(quantization.scale, np.float64)
        return self.accumulators(op, "qmatmul", [a, b], scales, op.attributes)

    def recurrence(self, op: Op) -> _Form | None:
        p, weights = self.forms.get(op.operands[0]), self.weights(op.operands[1])
        if not isinstance(p, _Sum) or len(p.terms) > 1 or not p.terms[0].wide or p.clamped or weights is None:
            return None
        quantization = weights.type.quantization
        assert quantization is not None
        bias = np.zeros(weights.type.shape[0])
        if op.kind == "gru":
            bias[2 * weights.type.shape[1] :] = self.graph.constants[op.operands[2]]
        (term,) = p.terms
        unit = np.broadcast_to(term.scale, bias.shape)
        scales = np.broadcast_to(np.array(quantization.scale, np.float64), bias.shape)
        initial = tuple(map(self.real, initial_states(op)))
        return _Recurrence(op, IntegerCell(term.value, unit, self.graph.constants[weights], scales, bias, initial))

    def unroll(self, op: Op, form: _Recurrence, scale: float, zero_point: int) -> None:
        """Integer steps in the place of a recurrent layer and the rounding ``op`` behind it."""
        steps = IntegerSteps(self.rewriter, form.op, form.cell, scale, zero_point)
        if form.op.kind == "lstm":
            hidden, self.cells[op.result] = steps.lstm()
        else:
            hidden = steps.gru(bool(form.op.attributes["linear_before_reset"]))
        self.rewriter.replace(op, hidden)

    def weights(self, value: Value, axis: int = 0) -> Value | None:
        """The symmetric int8 constant behind ``value``, with one scale or one for each index of ``axis``; else None."""
        op = self.stored(value)
        quantization = op.operands[0].type.quantization if op is not None else None
        if op is None or quantization is None or op.operands[0].type.dtype != "int8":
            return None
        symmetric = quantization.axis in (None, axis) and not any(quantization.zero_point)
        return op.operands[0] if symmetric else None

    def stored(self, value: Value) -> Op | None:
        """The dequantize of a constant that gives ``value``, if there is one."""
        op = self.graph.producer(value)
        constant = op is not None and op.kind == "dequantize" and op.operands[0] in self.graph.constants
        return op if constant else None

    def known(self, value: Value) -> np.ndarray | None:
        """The real numbers of a constant, quantized or not; None for any other value."""
        if value in self.graph.constants:
            return self.graph.constants[value]
        op = self.stored(value)
        return None if op is None else evaluate_op(op, [self.graph.constants[op.operands[0]]])

    def bias_levels(self, op: Op, unit: np.ndarray) -> np.ndarray | None:
        """The int32 levels of a bias that is stored in units of the accumulators; None for any other."""
        stored = self.stored(op.operands[2]) if len(op.operands) == 3 else None
        if stored is None or stored.operands[0].type.dtype != "int32":
            return None
        quantization = stored.operands[0].type.quantization
        assert quantization is not None
        exact = (np.array(quantization.scale, np.float32) == unit).all() and not any(quantization.zero_point)
        return self.graph.constants[stored.operands[0]] if exact else None

    def clamp(self, op: Op) -> _Form | None:
        form = self.forms.get(op.operands[0])
        if isinstance(form, _Function):
            return replace(form, functions=(*form.functions, self.as_function(op)))
        if form is None or isinstance(form, _Recurrence):
            return None
        low, high = (0.0, math.inf) if op.kind == "relu" else (op.number("min"), op.number("max"))
        return replace(form, low=min(max(form.low, low), high), high=min(max(form.high, low), high))

    def function(self, op: Op) -> _Form | None:
        operand = function_operand(self.graph, op)
        assert operand is not None
        function = self.as_function(op)
        form = self.forms.get(operand)
        if isinstance(form, _Function):
            return replace(form, functions=(*form.functions, function))
        x = self.single(operand)
        return None if x is None else _Function(x, (function,))

    def as_function(self, op: Op) -> Function:
        if op.kind in UNARY:
            return lambda x: UNARY[op.kind][1](x, op.attributes)
        left, right = (
            None
            if operand not in self.graph.constants
            else self.graph.constants[operand].reshape(()).astype(np.float64)
            for operand in op.operands
        )
        return lambda x: BINARY[op.kind](x if left is None else left, x if right is None else right)

    def movement(self, op: Op) -> _Form | None:
        x = self.single(op.operands[0])
        if x is None:
            return None
        attributes = dict(op.attributes)
        if op.kind == "pad":
            attributes["value"] = float(level(op.number("value"), x.type.scale, x.type.zero_point))
        operands = [x, *map(self.real, op.operands[1:])]
        return self.eight_bits(self.rewriter.emit(op.kind, operands, attributes, name=op.result.name, source=op.source))

    def eight_bits(self, value: Value) -> _Sum:
        return _Sum((_Term(value, np.float64(value.type.scale)),))

    def concat(self, op: Op) -> _Form | None:
        parts = [part for operand in op.operands if (part := self.single(operand)) is not None]
        if len(parts) < len(op.operands) or len({part.type.quantization for part in parts}) > 1:
            return None
        name = op.result.name
        return self.eight_bits(self.rewriter.emit("concat", parts, op.attributes, name=name, source=op.source))

    def sum(self, op: Op) -> _Form | None:
        """A sum and one more term, accumulators first. At most one holds those, and they have the result's shape."""
        if (shifted := self.shifted(op)) is not None:
            return shifted
        total, last = (self.forms.get(operand) for operand in op.operands)
        if not isinstance(total, _Sum) or total.clamped or not isinstance(last, _Sum) or last.clamped:
            return None
        terms = [*total.terms, *last.terms]
        sums = [term for term in terms if term.wide]
        if len(last.terms) > 1 or len(sums) > 1 or any(term.value.type.shape != op.result.type.shape for term in sums):
            return None
        if sums and not all(term.wide or term.plain for term in terms):
            return None
        if op.kind == "sub":
            if not terms[-1].plain:
                return None
            terms[-1] = self.negated(op, terms[-1])
        if sums:
            self.note(op, f"is computed on the accumulators %{sums[0].value.name}, before they are rounded")
        return _Sum(tuple(sorted(terms, key=lambda term: not term.wide)))

    def shifted(self, op: Op) -> _Sum | None:
        """A sum and a constant, which is added before the rounding; or their difference, either way."""
        total, parameter = self.with_parameter(op)
        if total is None or parameter is None:
            return None
        terms = total.terms
        if op.kind == "sub" and self.known(op.operands[1]) is None:
            terms = tuple(replace(term, scale=-term.scale) for term in terms)
        elif op.kind == "sub":
            parameter = -parameter
        levels, unit = offset_levels(parameter)
        constant = self.constant(levels, f"{op.result.name}.offset")
        return replace(total, terms=(*terms, _Term(constant, np.float64(unit), offset=True)))

    def with_parameter(self, op: Op) -> tuple[_Sum | None, np.ndarray | None]:
        """The form of one operand and the constant that the other one is, if that had better not be rounded."""
        for value, parameter in (op.operands, op.operands[::-1]):
            form, array = self.forms.get(value), self.known(parameter)
            if not isinstance(form, _Sum) or not form.scalable or value.type.shape != op.result.type.shape:
                continue
            # A constant that is stored in eight bits has an integer form of its own.
            if array is not None and (self.single(parameter) is None or is_parameter(op, value, parameter)):
                return form, array
        return None, None

    def negated(self, op: Op, term: _Term) -> _Term:
        """Exact: level 255 - q with zero point 255 - z stands for the number of the other sign."""
        x = term.value
        mirror = self.constant(np.arange(255, -1, -1, dtype=np.uint8), "negation")
        attributes = {"scale": x.type.scale, "zero_point": 255 - x.type.zero_point}
        name = f"{x.name}.negated"
        return replace(term, value=self.rewriter.emit("lookup", [x, mirror], attributes, name=name, source=op.source))

    def prelu(self, op: Op) -> _Form | None:
        x, slope = self.single(op.operands[0]), self.known(op.operands[1])
        if x is None or slope is None:
            return None

        def emit(attributes: dict[str, Any], name: str, source: str) -> Value:
            factors = [
                slope_multiplier(factor, x.type, attributes["scale"]) for factor in (np.ones((), np.float32), slope)
            ]
            operands = [x, *(self.constant(factor, f"{name}.multiplier") for factor in factors)]
            return self.rewriter.emit("qprelu", operands, attributes, name=name, source=source)

        return _Rounding(emit)

    def product(self, op: Op) -> _Form | None:
        total, parameter = self.with_parameter(op)
        if total is not None and parameter is not None:
            factor = parameter.astype(np.float64)
            return replace(total, terms=tuple(replace(term, scale=term.scale * factor) for term in total.terms))
        a, b = (self.single(operand) for operand in op.operands)
        if a is None or b is None:
            return None
        product = self.rewriter.emit("qmul", [a, b], name=f"{op.result.name}.product", source=op.source)
        return _Sum((_Term(product, np.float64(a.type.scale) * np.float64(b.type.scale)),))

    def average_pool(self, op: Op) -> _Form | None:
        x = self.single(op.operands[0])
        if x is None:
            return None
        taps = counted_taps(op, x.type, bool(op.attributes["count_include_pad"]))
        check_sum(op, math.prod(op.integers("kernel")))
        attributes = {name: value for name, value in op.attributes.items() if name != "count_include_pad"}
        return self.accumulators(op, "qsum_pool", [x], np.float64(x.type.scale) / taps, attributes)

    def reduce_mean(self, op: Op) -> _Form | None:
        x = self.single(op.operands[0])
        if x is None:
            return None
        taps = math.prod(x.type.shape[axis] for axis in normalize_axes(op.integers("axes"), x.type.rank))
        check_sum(op, taps)
        return self.accumulators(op, "qreduce_sum", [x], np.float64(x.type.scale) / taps, op.attributes)

    def interpolate(self, op: Op) -> _Form | None:
        x = self.single(op.operands[0])
        weights = [self.graph.constants.get(value) for value in op.operands[2::2]]
        # Weights of integers have fewer bits, which shows where nothing is rounded afterwards.
        if x is None or any(array is None for array in weights) or self.is_shown(op.result):
            return None
        levels, bits = interpolation_weights([array for array in weights if array is not None])
        tables = [self.rewriter.map(value) for value in op.operands[1:]]
        tables[1::2] = [
            self.constant(array, value.name) for array, value in zip(levels, op.operands[2::2], strict=True)
        ]
        unit = np.float64(x.type.scale) / 2.0 ** sum(bits)
        return self.accumulators(op, "qinterpolate", [x, *tables], unit, op.attributes)

    def is_shown(self, value: Value) -> bool:
        """Whether an output of the graph depends on ``value`` as it is, before any rounding."""
        unrounded, left = {value}, [value]
        while left:
            users = (user for user in self.graph.users(left.pop()) if user.kind != "quantize")
            found = {result for user in users for result in user.results} - unrounded
            unrounded |= found
            left += found
        return any(map(self.graph.is_output, unrounded))

    def softmax(self, op: Op) -> _Form | None:
        x = self.single(op.operands[0])
        if x is None:
            return None
        powers = self.constant(exponentials(x.type), f"{op.result.name}.exponentials")

        def emit(attributes: dict[str, Any], name: str, source: str) -> Value:
            return self.rewriter.emit(
                "qsoftmax", [x, powers], {**op.attributes, **attributes}, name=name, source=source
            )

        return _Rounding(emit)

    def normalize(self, op: Op) -> _Form | None:
        x = self.single(op.operands[0])
        parameters = [self.known(value) for value in op.operands[1:]]
        if x is None or any(array is None for array in parameters):
            return None
        axes = normalize_axes(op.integers("axes"), x.type.rank)
        size = math.prod(x.type.shape[axis] for axis in axes)
        epsilon = float(multiplier(op.number("epsilon") * float(size) ** 2, x.type.scale**2))

        def emit(attributes: dict[str, Any], name: str, source: str) -> Value:
            scaled = [
                self.constant(in_steps(array, attributes["scale"]), value.name)
                for value, array in zip(op.operands[1:], parameters, strict=True)
                if array is not None
            ]
            attributes = {"axes": axes, "epsilon": epsilon, **attributes}
            return self.rewriter.emit("qnormalize", [x, *scaled], attributes, name=name, source=source)

        return _Rounding(emit)


def _bounds(form: _Sum | _Rounding, op: Op) -> dict[str, int]:
    """The clamp of ``form`` as levels of the rounding ``op``."""
    scale, zero_point = op.number("scale"), op.integer("zero_point")
    return {"lo": level(form.low, scale, zero_point), "hi": level(form.high, scale, zero_point)}
