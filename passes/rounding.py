"""Where a float graph is rounded to eight bits: the decisions that insert-quantization carries out.

Rounding happens as late as possible. A value becomes eight bits because an integer op reads it, or because the op that
computes it yields eight bits; a clamp behind a result, the residual addition behind a convolution, one more term of a
sum, or one more function behind a function is computed before the rounding.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqc.ir import Graph, Op, Value
from sqc.ops.elementwise import BINARY, UNARY

CLAMPS = ("relu", "clip")
"""Kinds that only move the bounds of the rounding behind them."""

MOVEMENT = ("reshape", "transpose", "slice", "pad", "gather")
"""Kinds that copy elements of their first operand; they run on whatever type it has."""

MATRIX = ("conv2d", "fully_connected")
"""Kinds with weights."""

PRODUCTS = (*MATRIX, "matmul")
"""These, and products of two activations."""

SUMS = (*PRODUCTS, "average_pool", "reduce_mean", "interpolate")
"""Kinds whose accumulators may go to float without being rounded to eight bits."""

PARAMETRIZED = (*MATRIX, "normalize", "interpolate", "prelu")
"""Kinds whose operands behind the first are weights, which have to be constants."""

RECURRENT = ("lstm", "gru")
"""Kinds that read the accumulators of a fully connected layer, for all steps of a sequence at once."""

FLOAT_ONLY = {
    "batch_norm": "it stands alone, with no convolution to fold it into",
    "div": "quotients have no integer form",
    "lstm_cells": "the state of its cells is float32",
    "maximum": "its operands have scales of their own",
    "minimum": "its operands have scales of their own",
}
"""Kinds that stay in float, and why."""

TABLES = tuple(kind for kind in UNARY if kind not in CLAMPS and kind not in FLOAT_ONLY)
"""Functions of one number that become tables of 256 entries."""

KNOWN_RANGES: Mapping[str, tuple[float, float]] = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sign": (-1.0, 1.0),
}
"""Kinds whose results need no calibration."""

SELF_ROUNDING = ("softmax", "normalize")
"""Kinds that round their results by themselves where integer ops read them."""

INPUT = "input"
"""What rules call the inputs of a model, which no op computes."""

_TAILS: Mapping[str, float] = {"gelu": -4.0, "gelu_tanh": -4.0, "silu": -10.0, "mish": -10.0}
"""Below these numbers functions that rise to zero again are within 1/510 of their depth of it: half a level at most."""

_LAST = "only float ops and outputs read it"

_ROUNDING = ("add", "sub", "mul", "prelu", "concat", *RECURRENT, *TABLES, *SELF_ROUNDING)
_QUANTIZABLE = (*SUMS, *CLAMPS, *MOVEMENT, *_ROUNDING, "max_pool")


@dataclass(frozen=True)
class Placement:
    """What is rounded, and what each op becomes.

    ``rounded`` lists the float values that get a quantize and dequantize behind them, in the graph's order.
    ``precision`` maps the result of each op to how it is computed: a text that starts with "int8" or "float".
    """

    rounded: tuple[Value, ...]
    precision: Mapping[Value, str]

    def is_integer(self, op: Op) -> bool:
        return self.precision[op.result].startswith("int8")


def place(graph: Graph, exclude: Collection[str] = ()) -> Placement:
    """Decide the rounding of a float graph. Ops whose source or result is in ``exclude`` stay in float."""
    reasons = {op.result: _reason(graph, op, exclude) for op in graph.ops}
    wanted = _wanted(graph, reasons)
    reasons.update({op.result: _LAST for op in graph.ops if _is_last(graph, op, wanted) and not reasons[op.result]})
    order = {op.result: i for i, op in enumerate(graph.ops)}
    functions: set[Value] = set()  # results that one table can give, up to here

    def takes_raw(value: Value) -> bool:
        """Whether the one reader of ``value`` computes on it before the rounding."""
        user = graph.only_user(value)
        if user is None or reasons[user.result]:
            return False
        if _continues_sum(graph, user, value) and _residual(graph, user, reasons, order) is None:
            return True
        if user.kind in CLAMPS or (value in functions and function_operand(graph, user) == value):
            return True
        return _residual(graph, user, reasons, order) == value

    rounded = [value for value in (*graph.inputs, *graph.constants) if value in wanted]
    eight_bits = {value: value for value in rounded}  # and the rounded value whose levels each one holds
    pending: set[Value] = set()  # results that are rounded behind the op that reads them
    for op in graph.ops:
        value = op.result
        due = value in wanted
        if not reasons[value]:
            if function_operand(graph, op) is not None or (op.kind in CLAMPS and op.operands[0] in functions & pending):
                functions.add(value)
                due = True
            elif op.kind in (*MOVEMENT, "max_pool"):
                due = False
                if op.operands[0] in eight_bits:
                    eight_bits[value] = eight_bits[op.operands[0]]
            elif op.kind == "concat" and (shared := _shared_levels(op, eight_bits)) is not None:
                due = False
                eight_bits[value] = shared
            elif op.kind in CLAMPS:
                due = due or op.operands[0] in pending
            else:
                due = due or op.kind in _ROUNDING
        if due and op.kind not in ("concat", *RECURRENT) and takes_raw(value):
            pending.add(value)
        elif due:
            rounded.append(value)
            eight_bits[value] = value
    precision = {op.result: _precision(op, reasons, eight_bits.keys() | pending) for op in graph.ops}
    return Placement(tuple(rounded), precision)


def is_parameter(op: Op, value: Value, parameter: Value) -> bool:
    """Whether a constant operand of a product or a sum had better be part of the rounding behind, in as many digits as
    float32 has: a factor or an offset of each channel, or else few beside what ``value``, the other operand, holds."""
    kept = value.type.shape == op.result.type.shape
    few = parameter.type.size == max(parameter.type.shape, default=1) or 4 * parameter.type.size <= value.type.size
    return op.kind in ("add", "sub", "mul") and kept and few


def activations(op: Op) -> tuple[Value, ...]:
    """The operands that are rounded: not weights, which have scales of their own, and not indices."""
    return op.operands[:1] if op.kind in (*PARAMETRIZED, "gather") else op.operands


def function_operand(graph: Graph, op: Op) -> Value | None:
    """The operand of an op that is a function of one number: unary, or arithmetic with a constant number; else None."""
    if op.kind in TABLES:
        return op.operands[0]
    if op.kind in BINARY:
        constant = [graph.is_constant(operand) and operand.type.size == 1 for operand in op.operands]
        for i in (0, 1):
            if constant[1 - i] and not graph.is_constant(op.operands[i]) and op.operands[i].type == op.result.type:
                return op.operands[i]
    return None


def prepares_input(graph: Graph, op: Op) -> bool:
    """Whether ``op`` scales or shifts the channels of an image, an input of the graph, padded or moved before."""
    if op.kind not in ("add", "mul") or not graph.is_constant(op.operands[1]):
        return False
    value = op.operands[0]
    if op.operands[1].type.rank != 1 or value.type.rank != 4 or value.type.shape != op.result.type.shape:
        return False
    while (producer := graph.producer(value)) is not None:
        if producer.kind not in ("transpose", "pad") and not prepares_input(graph, producer):
            return False
        value = producer.operands[0]
    return value in graph.inputs


def initial_states(op: Op) -> tuple[Value, ...]:
    """The operands of a recurrent op that are states: of an LSTM the hidden and the cell's, of a GRU the hidden one."""
    return op.operands[2 if op.kind == "lstm" else 3 :]


def useful_range(graph: Graph, value: Value, placement: Placement) -> tuple[float, float]:
    """The interval, zero in it, outside of which no reader of ``value`` tells numbers apart.

    Clamps and hard functions are constant there; sigmoid and tanh come within half a step of their last level, where
    their results are rounded over their known range. What only moves elements passes on the interval of its result.
    A recurrent layer reads its own results.
    """
    producer = graph.producer(value)
    if producer is not None and producer.kind in RECURRENT:
        return -math.inf, math.inf
    low, high = 0.0, 0.0
    for op in graph.users(value):
        least, most = _distinguished(graph, op, placement)
        low, high = min(low, least), max(high, most)
    return (low, high) if low < high and not graph.is_output(value) else (-math.inf, math.inf)


def _distinguished(graph: Graph, op: Op, placement: Placement) -> tuple[float, float]:
    """The interval outside of which ``op`` tells no numbers apart."""
    if op.kind == "relu":
        return 0.0, math.inf
    if op.kind == "clip":
        return op.number("min"), op.number("max")
    if op.kind == "hard_swish":
        return -3.0, math.inf
    if op.kind == "hard_sigmoid" and op.number("alpha") > 0:
        return -op.number("beta") / op.number("alpha"), (1.0 - op.number("beta")) / op.number("alpha")
    if op.kind == "sigmoid" and op.result in placement.rounded:
        return -math.log(2 * 255 - 1), math.log(2 * 255 - 1)
    if op.kind == "tanh" and op.result in placement.rounded:
        return -math.atanh(253 / 255), math.atanh(253 / 255)
    if op.kind in _TAILS and op.attributes.get("alpha", 1.0) == 1.0:
        return _TAILS[op.kind], math.inf
    if op.kind in (*MOVEMENT, "max_pool"):
        return useful_range(graph, op.result, placement)
    return -math.inf, math.inf


def rounding_names(graph: Graph, value: Value, placement: Placement) -> set[str]:
    """What rules call a rounded value: its name, and kind, node and result of the ops computed before its rounding."""
    op = graph.producer(value)
    if op is None:
        return {value.name, INPUT}
    names, pending = {value.name}, [op]
    while pending:
        op = pending.pop()
        names |= layer_names(op)
        for operand in op.operands:
            producer = graph.producer(operand)
            if producer is None or producer.kind in (*MOVEMENT, "max_pool", "concat") or operand in placement.rounded:
                continue
            if placement.is_integer(producer) and graph.only_user(operand) is op:
                pending.append(producer)
    return names


def layer_names(op: Op) -> set[str]:
    """What rules call an op: its kind, its node in the user's model, its result."""
    return {op.kind, op.source, op.result.name} - {""}


def levels_behind(graph: Graph, value: Value) -> Value | None:
    """The uint8 value that a float value stands for, itself or moved, once rounding is in the graph; else None.

    Several values that are joined stand for one if all of them are parts of it.
    """
    producer = graph.producer(value)
    if producer is None:
        return None
    if producer.kind in (*MOVEMENT, "max_pool", "concat"):
        sources = {levels_behind(graph, operand) for operand in activations(producer)}
        return sources.pop() if len(sources) == 1 else None
    return (
        producer.operands[0] if producer.kind == "dequantize" and producer.operands[0].type.dtype == "uint8" else None
    )


def normalized_sum(graph: Graph, op: Op) -> Op | None:
    """The sum that a layer normalization reads, if ``op`` is one that does; else None.

    That is the residual stream of a transformer. Normalization makes its rows equally large, so that one scale for all
    of them would leave few levels to the small ones.
    """
    if op.kind != "normalize" or op.integers("axes") not in ((-1,), (op.result.type.rank - 1,)):
        return None
    sum = graph.producer(op.operands[0])
    return sum if sum is not None and sum.kind in ("add", "sub") and function_operand(graph, sum) is None else None


def in_normalized_sum(graph: Graph, op: Op) -> bool:
    """Whether ``op`` is a sum that a layer normalization reads (:func:`normalized_sum`), or only a part of one."""
    if op.kind not in ("add", "sub") or function_operand(graph, op) is not None:
        return False
    if any(normalized_sum(graph, user) == op for user in graph.users(op.result)):
        return True
    user = graph.only_user(op.result)
    while user is not None and user.kind == "reshape" and keeps_channels(user):
        user = graph.only_user(user.result)
    return user is not None and in_normalized_sum(graph, user)


def keeps_channels(op: Op) -> bool:
    """Whether the last axis of an op's result is that of its operand, by its extent."""
    return op.operands[0].type.shape[-1:] == op.result.type.shape[-1:]


def _shared_levels(op: Op, eight_bits: Mapping[Value, Value]) -> Value | None:
    """The rounded value of which all operands of a concatenation are parts, so that it only copies; else None."""
    sources = {eight_bits.get(operand) for operand in op.operands}
    return sources.pop() if len(sources) == 1 else None


def _residual(graph: Graph, op: Op, reasons: Mapping[Value, str], order: Mapping[Value, int]) -> Value | None:
    """The operand of an addition that enters it as accumulators: the last one that a convolution computes for it."""
    if op.kind not in ("add", "sub") or function_operand(graph, op) is not None:
        return None
    candidates = []
    for operand in op.operands if op.kind == "add" else op.operands[:1]:
        producer = graph.producer(operand)
        if (
            producer is not None
            and producer.kind in PRODUCTS
            and not reasons[operand]
            and graph.only_user(operand) is op
            and operand.type.shape == op.result.type.shape
        ):
            candidates.append(operand)
    return max(candidates, key=order.__getitem__, default=None)


def _continues_sum(graph: Graph, op: Op, value: Value) -> bool:
    """Whether ``op`` adds to, or subtracts from, the sum ``value``: then one rounding does for both.

    So it does behind a product with a constant for each channel.
    """
    producer = graph.producer(value)
    if producer is None or op.operands[0] != value or value.type.shape != op.result.type.shape:
        return False
    if op.kind not in ("add", "sub") or function_operand(graph, op) or function_operand(graph, producer):
        return False
    scaled = producer.kind == "mul" and any(_is_exact(graph, producer, operand) for operand in producer.operands)
    return producer.kind in ("add", "sub") or scaled


def _is_last(graph: Graph, op: Op, wanted: Collection[Value]) -> bool:
    """Whether ``op`` is a function, or a softmax, that no integer op reads: in float it keeps more than eight bits."""
    return (function_operand(graph, op) is not None or op.kind in SELF_ROUNDING) and op.result not in wanted


def _wanted(graph: Graph, reasons: Mapping[Value, str]) -> set[Value]:
    """The values that integer ops read as activations, directly or through clamps, movement and wanted functions."""
    wanted: set[Value] = set()
    for op in reversed(graph.ops):
        if reasons[op.result]:
            continue
        function = function_operand(graph, op)
        if op.result not in wanted and (function is not None or op.kind in (*CLAMPS, *MOVEMENT, *SELF_ROUNDING)):
            continue
        if function is not None:
            wanted.add(function)
        elif op.kind not in RECURRENT:
            wanted.update(value for value in activations(op) if not _is_exact(graph, op, value))
    return wanted


def _is_exact(graph: Graph, op: Op, value: Value) -> bool:
    """Whether ``value`` is a constant that becomes part of the rounding behind ``op``."""
    others = [operand for operand in op.operands if operand != value]
    return graph.is_constant(value) and len(others) == 1 and is_parameter(op, others[0], value)


def _reason(graph: Graph, op: Op, exclude: Collection[str]) -> str:
    """Why ``op`` stays in float; empty if it need not."""
    if op.source in exclude or op.result.name in exclude:
        return "excluded by the user"
    if function_operand(graph, op) is not None:
        return ""
    if normalized_sum(graph, op) is not None or in_normalized_sum(graph, op):
        return "rows of a normalized sum have ranges of their own"
    if prepares_input(graph, op):
        return "it prepares an input, which is float"
    if op.kind in FLOAT_ONLY:
        return FLOAT_ONLY[op.kind]
    if _masks(graph, op) or (op.kind == "softmax" and _masks(graph, graph.producer(op.operands[0]))):
        return "a mask takes up the range of what a softmax reads"
    if op.kind == "matmul" and any(_is_finely_shared(graph, operand) for operand in op.operands):
        return "an even share of a softmax's row is less than two levels"
    if op.kind not in _QUANTIZABLE or any(value.type.dtype != "float32" for value in (*activations(op), op.result)):
        return f"{op.kind} has no integer form"
    if op.kind in PARAMETRIZED and not all(map(graph.is_constant, op.operands[1:])):
        return "its weights are no constants"
    if op.kind in RECURRENT:
        producer = graph.producer(op.operands[0])
        if producer is None or producer.kind != "fully_connected" or _reason(graph, producer, exclude):
            return "its inputs do not come from a layer in int8"
        if not all(map(graph.is_constant, op.operands[1 : len(op.operands) - len(initial_states(op))])):
            return "its weights are no constants"
    return ""


def _masks(graph: Graph, op: Op | None) -> bool:
    """Whether a softmax reads ``op``, a choice between numbers or the sum of two computed ones: masked, mostly."""
    if op is None or not any(user.kind == "softmax" for user in graph.users(op.result)):
        return False
    return op.kind == "where" or (op.kind in ("add", "sub") and function_operand(graph, op) is None)


def _is_finely_shared(graph: Graph, value: Value) -> bool:
    """Whether ``value`` is a softmax of rows so long that eight bits, which reach up to 1, hardly tell their shares."""
    producer = graph.producer(value)
    while producer is not None and producer.kind in MOVEMENT:
        producer = graph.producer(producer.operands[0])
    if producer is None or producer.kind != "softmax":
        return False
    return 2 * producer.result.type.shape[producer.integer("axis")] > 255


def _precision(op: Op, reasons: Mapping[Value, str], eight_bits: Collection[Value]) -> str:
    if reasons[op.result]:
        return f"float: {reasons[op.result]}"
    if op.result in eight_bits:
        return "int8"
    if op.kind in SUMS:
        return "int8, its accumulators go to float"
    return f"float: {_LAST}"
