"""Recurrent layers: whole sequences of LSTM and GRU cells in float, and the integer steps of one cell.

The weights ``r[G * H, H]`` are those of the gates, one after another as in ONNX: i, o, f, c of an LSTM, z, r, h of a
GRU. ``p[T * B, G * H]`` holds what the inputs of all steps contribute to the gates, biases included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Quantization, Required, TensorType, define
from sqc.ops.elementwise import UNARY
from sqc.ops.quantization import clamp
from sqc.ops.shapes import require_dtype

GATES = {"lstm": 4, "gru": 3}
"""Kinds of whole sequences, and how many gates their cells have."""

GATE_ZERO = 128
"""The level of a gate's argument 0, and of tanh(0)."""

UNIT = np.float32(1 / 255)
"""What one level of a sigmoid is worth."""


def _require_shapes(**pairs: tuple[TensorType, tuple[int, ...]]) -> None:
    for name, (type, shape) in pairs.items():
        if type.shape != shape:
            raise ValueError(f"{name} must have shape {list(shape)}, not {list(type.shape)}")


# Whole sequences in float


def step_order(op: Op) -> list[int]:
    """The steps of a sequence in the order in which they are computed."""
    steps = list(range(op.integer("steps")))
    return steps[::-1] if op.attributes["reverse"] else steps


def _sequence(p: TensorType, r: TensorType, gates: int, attributes: Mapping[str, Any]) -> tuple[int, int, int]:
    if p.rank != 2 or r.rank != 2 or r.shape[0] != gates * r.shape[1] or p.shape[1] != r.shape[0]:
        raise ValueError(f"needs p[T * B, {gates} * H] and weights [{gates} * H, H]")
    steps = attributes["steps"]
    if steps < 1 or p.shape[0] % steps:
        raise ValueError(f"{p.shape[0]} rows are not those of {steps} steps")
    return steps, p.shape[0] // steps, r.shape[1]


def _infer_lstm(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "float32")
    steps, batch, width = _sequence(types[0], types[1], 4, attributes)
    if len(types) == 3:
        raise ValueError("the initial states come both or not at all")
    for state in types[2:]:
        _require_shapes(**{"an initial state": (state, (batch, width))})
    return TensorType((steps, batch, width), "float32")


def _infer_lstm_cells(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    result = _infer_lstm(types[1:], attributes)
    _require_shapes(h=(types[0], result.shape))
    return result


def _infer_gru(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "float32")
    steps, batch, width = _sequence(types[0], types[1], 3, attributes)
    _require_shapes(bias=(types[2], (width,)))
    if len(types) == 4:
        _require_shapes(**{"the initial state": (types[3], (batch, width))})
    return TensorType((steps, batch, width), "float32")


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(UNARY["sigmoid"][1](x, {}), np.float32)


def _lstm_steps(op: Op, arrays: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The hidden state and the cell's after each step: ``(t, h[B, H], c[B, H])``."""
    p, r, *initial = arrays
    steps, width = op.integer("steps"), r.shape[1]
    p = p.reshape(steps, -1, 4 * width)
    h, c = initial or (np.zeros((p.shape[1], width), np.float32),) * 2
    for t in step_order(op):
        i, o, f, g = np.split(p[t] + np.matmul(h, r.T, dtype=np.float32), 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        yield t, h, c


def _lstm(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([h for _, h, _ in sorted(_lstm_steps(op, arrays), key=lambda step: step[0])])


def _lstm_cells(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([c for _, _, c in sorted(_lstm_steps(op, arrays[1:]), key=lambda step: step[0])])


def _gru(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    p, r, bias, *initial = arrays
    steps, width = op.integer("steps"), r.shape[1]
    p = p.reshape(steps, -1, 3 * width)
    h = initial[0] if initial else np.zeros((p.shape[1], width), np.float32)
    y = np.empty((steps, *h.shape), np.float32)
    for t in step_order(op):
        recurrent = np.matmul(h, r[: 2 * width].T, dtype=np.float32)
        update, reset = np.split(_sigmoid(p[t, :, : 2 * width] + recurrent), 2, axis=1)
        if op.attributes["linear_before_reset"]:
            candidate = reset * (np.matmul(h, r[2 * width :].T, dtype=np.float32) + bias)
        else:
            candidate = np.matmul(reset * h, r[2 * width :].T, dtype=np.float32) + bias
        h = (1 - update) * np.tanh(p[t, :, 2 * width :] + candidate) + update * h
        y[t] = h
    return y


# Integer steps


def gate_levels(p: np.ndarray, acc: np.ndarray, multipliers: Sequence[np.ndarray], columns: slice) -> np.ndarray:
    """The arguments of the gates in ``columns`` as levels: ``clamp(rint(f32(p) * M_p + f32(acc) * M_a)) + 128``."""
    own, other = (m[columns] for m in multipliers)
    total = p[:, columns].astype(np.float32) * own + acc[:, columns].astype(np.float32) * other
    return _levels(total)


def _levels(t: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        t = np.rint(t)
    return (clamp(t, -GATE_ZERO, 255 - GATE_ZERO).astype(np.int32) + GATE_ZERO).astype(np.uint8)


def _centered(levels: np.ndarray) -> np.ndarray:
    return levels.astype(np.int32) - GATE_ZERO


def _gate(arrays: Sequence[np.ndarray], number: int, width: int, table: np.ndarray) -> np.ndarray:
    """A gate of an op whose operands start with p and acc, as int32 levels."""
    p, acc, *_, own, other, _, _ = arrays
    columns = slice(number * width, (number + 1) * width)
    return np.asarray(table[gate_levels(p, acc, (own, other), columns)], np.int32)


def _require_gates(types: Sequence[TensorType], gates: int) -> tuple[int, int]:
    """Batch and width of an op on ``(p, acc, ..., M_p, M_a, sigmoid, tanh)``."""
    p, acc, *_, own, other, sigmoid, tanh = types
    if p.rank != 2 or p.shape[1] % gates:
        raise ValueError(f"needs p[B, {gates} * H]")
    batch, columns = p.shape
    require_dtype(p, "int32")
    require_dtype(acc, "int32")
    for multipliers in (own, other):
        require_dtype(multipliers, "float32")
        _require_shapes(multipliers=(multipliers, (columns,)))
    for table in (sigmoid, tanh):
        require_dtype(table, "uint8")
        _require_shapes(table=(table, (256,)))
    return batch, columns // gates


def _require_rows(type: TensorType, dtype: str, batch: int, widths: Sequence[int]) -> None:
    """A state or accumulators for every row, or one row for all."""
    require_dtype(type, dtype)
    if type.rank != 2 or type.shape[0] not in (1, batch) or type.shape[1] not in widths:
        raise ValueError(f"{type} must have {batch} rows, or one, of {' or '.join(map(str, widths))}")


def _infer_qlstm_cell(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    batch, width = _require_gates(types, 4)
    _require_rows(types[1], "int32", batch, (4 * width,))
    _require_rows(types[2], "float32", batch, (width,))
    return TensorType((batch, width), "float32")


def _qlstm_cell(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    c, sigmoid, tanh = arrays[2], arrays[-2], arrays[-1]
    width = c.shape[1]
    i, f = (_gate(arrays, number, width, sigmoid) for number in (0, 2))
    g = _gate(arrays, 3, width, tanh) - GATE_ZERO
    with np.errstate(invalid="ignore", over="ignore"):
        kept = f.astype(np.float32) * UNIT * c
        return np.asarray(kept + (i * g).astype(np.float32) * PRODUCT_UNIT, np.float32)


def _infer_qlstm_hidden(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    batch, width = _require_gates(types, 4)
    _require_rows(types[1], "int32", batch, (4 * width,))
    _require_shapes(c=(types[2], (batch, width)))
    require_dtype(types[2], "float32")
    quantization = Quantization.per_tensor(attributes["scale"], attributes["zero_point"])
    return TensorType((batch, width), "uint8", quantization)


def _qlstm_hidden(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    c, sigmoid, tanh = arrays[2], arrays[-2], arrays[-1]
    o = _gate(arrays, 1, c.shape[1], sigmoid)
    with np.errstate(invalid="ignore", over="ignore"):
        bent = _centered(tanh[_levels(c * TANH_STEPS)])
    zero_point = op.integer("zero_point")
    t = np.rint((o * bent).astype(np.float32) * np.float32(hidden_multiplier(op.number("scale"))))
    return (clamp(t, -zero_point, 255 - zero_point).astype(np.int32) + zero_point).astype(np.uint8)


def _infer_qgru_reset(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    batch, width = _require_gates(types, 3)
    _require_rows(types[1], "int32", batch, (2 * width,))
    require_dtype(types[2], "uint8")
    _require_shapes(h=(types[2], (batch, width)))
    return types[2]


def _qgru_reset(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    h, sigmoid = arrays[2], arrays[-2]
    zero_point = op.operands[2].type.zero_point
    reset = _gate(arrays, 1, h.shape[1], sigmoid)
    t = np.rint((reset * (h.astype(np.int32) - zero_point)).astype(np.float32) * UNIT)
    return np.asarray(t.astype(np.int32) + zero_point, np.uint8)


def _infer_qgru_state(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    batch, width = _require_gates(types, 3)
    _require_rows(types[1], "int32", batch, (2 * width, 3 * width))
    _require_rows(types[2], "int32", batch, (width, 3 * width))
    _require_rows(types[3], "float32", batch, (width,))
    return TensorType((batch, width), "float32")


def _qgru_state(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    p, _, candidate, h, own, other, sigmoid, tanh = arrays
    width = h.shape[1]
    update, reset = (_gate(arrays, number, width, sigmoid) for number in (0, 1))
    last = slice(2 * width, 3 * width)
    recurrent = candidate[:, -width:].astype(np.float32) * other[last]
    if op.attributes["linear_before_reset"]:
        recurrent = recurrent * (reset.astype(np.float32) * UNIT)
    g = _centered(tanh[_levels(p[:, last].astype(np.float32) * own[last] + recurrent)])
    with np.errstate(invalid="ignore", over="ignore"):
        kept = update.astype(np.float32) * UNIT * h
        return np.asarray(kept + ((255 - update) * g).astype(np.float32) * PRODUCT_UNIT, np.float32)


# Tables and scales: the same for all models

SIGMOID_SCALE = 0.05
"""The argument of a sigmoid that one level stands for: 128 levels reach just as far as gates of 255 levels open and
close entirely. The argument of a tanh has half of it, as ``tanh(x) = 2 sigmoid(2 x) - 1``."""

PRODUCT_UNIT = np.float32(1 / (255 * 127))
"""What one level of a sigmoid times one of a tanh is worth."""

TANH_STEPS = np.float32(2 / SIGMOID_SCALE)
"""How many levels the argument 1 of a tanh is from its zero."""


def gate_tables() -> tuple[np.ndarray, np.ndarray]:
    """``uint8[256]`` each: sigmoid with 255 for 1, tanh with 127 levels for 1 and 128 for 0."""
    x = (np.arange(256) - GATE_ZERO) * SIGMOID_SCALE
    sigmoid = np.rint(255 / (1 + np.exp(-x)))
    tanh = np.rint(127 * np.tanh(x / 2)) + GATE_ZERO
    return sigmoid.astype(np.uint8), tanh.astype(np.uint8)


def gate_scales(kind: str, width: int) -> np.ndarray:
    """``float64[G * H]``: what one level of each gate's argument stands for."""
    scales = np.full(GATES[kind] * width, SIGMOID_SCALE)
    scales[-width:] /= 2
    return scales


def hidden_multiplier(scale: float) -> float:
    """From a sigmoid times a tanh to levels of ``scale``."""
    return float(np.float32(1 / (255 * 127 * scale)))


_SEQUENCE = {"steps": Required(int), "reverse": False}
_STEPS: dict[str, tuple[int, Callable[..., TensorType], Callable[..., np.ndarray], Mapping[str, Any]]] = {
    "qlstm_cell": (7, _infer_qlstm_cell, _qlstm_cell, {}),
    "qlstm_hidden": (
        7,
        _infer_qlstm_hidden,
        _qlstm_hidden,
        {"scale": Required(float), "zero_point": Required(int)},
    ),
    "qgru_reset": (7, _infer_qgru_reset, _qgru_reset, {}),
    "qgru_state": (8, _infer_qgru_state, _qgru_state, {"linear_before_reset": False}),
}

define("lstm", arity=(2, 4), attributes=_SEQUENCE, infer=_infer_lstm, reference=_lstm)
define("lstm_cells", arity=(3, 5), attributes=_SEQUENCE, infer=_infer_lstm_cells, reference=_lstm_cells)
define(
    "gru",
    arity=(3, 4),
    attributes={**_SEQUENCE, "linear_before_reset": False},
    infer=_infer_gru,
    reference=_gru,
)
for _kind, (_arity, _infer, _reference, _attributes) in _STEPS.items():
    define(_kind, arity=_arity, attributes=_attributes, infer=_infer, reference=_reference)
