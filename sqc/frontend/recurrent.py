"""LSTM, GRU and RNN: the inputs of all steps go through one fully connected layer, a sequence op does the rest.

An RNN becomes its steps. Samples of unequal lengths are computed by length, each group as a layer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from sqc.frontend.node import Node, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""For each direction of a node, whether it starts at the end."""

_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}
_PLAIN = ("tanh", "relu", "sigmoid")
"""What an RNN may apply to its sums."""


@dataclass(frozen=True)
class _Part:
    """The samples that have one number of steps."""

    steps: int
    samples: tuple[int, ...]


@dataclass(frozen=True)
class _States:
    """What one direction computes: states of all steps ``[T, B, H]``, the last ones, of an LSTM also of the cells,
    ``[1, B, H]``."""

    every: Value
    final: Value
    cells: Value | None = None


# Parameters of activations other than the standard ones, which have none.
_PARAMETERS = ("activation_alpha", "activation_beta")


@handler("LSTM", ignores=_PARAMETERS)
def lstm(node: Node) -> tuple[Value, ...]:
    if node.given(7) and node.known(7).any():
        raise Unsupported("it has peepholes (input P)", "an LSTM without them")
    if node.integer("input_forget"):
        raise Unsupported("it couples input and forget gates", "input_forget 0")

    def states(number: int, reverse: bool, part: _Part) -> _States:
        r, bias = node.known(2)[number], _biases(node, number)
        initial = _initial(node, number, part, 5, 6)
        p = _project(node, part, number, bias[0] + bias[1])
        weights = node.constant(r, f"{node.operand_name(2)}/{number}")
        attributes = {"steps": part.steps, "reverse": reverse}
        hidden = node.step("lstm", p, weights, *initial, **attributes)
        cells = node.step("lstm_cells", hidden, p, weights, *initial, **attributes) if node.needs(2) else None
        return _of_steps(node, reverse, hidden, cells)

    return _layer(node, states)


@handler("GRU", ignores=_PARAMETERS)
def gru(node: Node) -> tuple[Value, ...]:
    before = bool(node.integer("linear_before_reset", 0))

    def states(number: int, reverse: bool, part: _Part) -> _States:
        r, (own, recurrent) = node.known(2)[number], _biases(node, number)
        width = r.shape[1]
        # Of the biases only one has to stay apart from those of the inputs: that which the reset gate multiplies.
        apart = np.zeros_like(recurrent)
        apart[2 * width :] = recurrent[2 * width :] * np.float32(before)
        p = _project(node, part, number, own + (recurrent - apart))
        weights = node.constant(r, f"{node.operand_name(2)}/{number}")
        bias = node.constant(apart[2 * width :], f"{node.operand_name(2)}/{number}/bias")
        attributes = {"steps": part.steps, "reverse": reverse, "linear_before_reset": before}
        hidden = node.step("gru", p, weights, bias, *_initial(node, number, part, 5), **attributes)
        return _of_steps(node, reverse, hidden)

    return _layer(node, states)


@handler("RNN", ignores=_PARAMETERS)
def rnn(node: Node) -> tuple[Value, ...]:
    def states(number: int, reverse: bool, part: _Part) -> _States:
        r, bias = node.known(2)[number], _biases(node, number)
        p = _project(node, part, number, bias[0] + bias[1])
        weights = node.constant(r, f"{node.operand_name(2)}/{number}")
        batch, function = len(part.samples), _activations(node)[number]
        hidden: list[Value] = []
        h = next(iter(_initial(node, number, part, 5)), None)
        for step in reversed(range(part.steps)) if reverse else range(part.steps):
            ends = {"starts": (step * batch,), "ends": ((step + 1) * batch,)}
            total = node.step("slice", p, axes=(0,), steps=(1,), **ends)
            if h is not None:
                total = node.step("add", node.step("fully_connected", h, weights), total)
            h = node.step(function, total)
            hidden.append(node.step("reshape", h, shape=(1, *h.type.shape)))
        final = hidden[-1]
        ordered = hidden[::-1] if reverse else hidden
        return _States(node.step("concat", *ordered, axis=0) if len(ordered) > 1 else final, final)

    return _layer(node, states)


def _layer(node: Node, states: Callable[[int, bool, _Part], _States]) -> tuple[Value, ...]:
    """The outputs of a layer, from the states of each direction and of the samples of each length."""
    parts = _parts(node)
    return _outputs(node, [_joined(node, parts, partial(states, i, reverse)) for i, reverse in _directions(node)])


def _parts(node: Node) -> tuple[_Part, ...]:
    """The samples by their numbers of steps."""
    if node.value(0).type.rank != 3:
        raise Unsupported(f"its operand X has rank {node.value(0).type.rank}", "rank 3")
    steps, batch = _steps_first(node).type.shape[:2]
    lengths = node.known_integers(4) if node.given(4) else (steps,) * batch
    if len(lengths) != batch or not all(1 <= length <= steps for length in lengths):
        raise Unsupported(f"sequence_lens {list(lengths)} does not fit {batch} samples of {steps} steps", "1 or more")
    groups = {length: tuple(i for i, other in enumerate(lengths) if other == length) for length in lengths}
    return tuple(_Part(length, groups[length]) for length in sorted(groups))


def _joined(node: Node, parts: tuple[_Part, ...], states: Callable[[_Part], _States]) -> _States:
    """The states of all samples, in their order; zeros behind the last step of each."""
    x = _steps_first(node)
    found = [states(part) for part in parts]
    order = np.argsort([sample for part in parts for sample in part.samples])

    def together(values: list[Value]) -> Value:
        if len(values) == 1:
            return values[0]
        return node.step("gather", node.step("concat", *values, axis=1), node.constant(order, "order"), axis=1)

    every = []
    for part, own in zip(parts, found, strict=True):
        rest = x.type.shape[0] - part.steps
        every.append(node.step("pad", own.every, pads=(0, 0, 0, rest, 0, 0), value=0.0) if rest else own.every)
    cells = [own.cells for own in found if own.cells is not None]
    return _States(together(every), together([own.final for own in found]), together(cells) if cells else None)


def _of_steps(node: Node, reverse: bool, hidden: Value, cells: Value | None = None) -> _States:
    at = 0 if reverse else hidden.type.shape[0] - 1

    def last(states: Value) -> Value:
        return node.step("slice", states, axes=(0,), starts=(at,), ends=(at + 1,), steps=(1,))

    return _States(hidden, last(hidden), None if cells is None else last(cells))


def _activations(node: Node) -> tuple[str, ...]:
    """The functions of all directions, in lower case. Raises Unsupported for others than those that are known."""
    count = len(_DIRECTIONS[node.string("direction")])
    standard = _ACTIVATIONS.get(node.op_type, ("tanh",)) * count
    activations = node.attribute("activations") or standard
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in activations)
    lower = tuple(name.lower() for name in names)
    if node.op_type == "RNN":
        lower = lower[:count]  # the default names two, whatever the direction
    if lower != standard and (node.op_type != "RNN" or len(lower) != count or not set(lower) <= set(_PLAIN)):
        known = ", ".join(_PLAIN if node.op_type == "RNN" else standard)
        raise Unsupported(f"its activations are {', '.join(names)}", f"the standard ones: {known}")
    return lower


def _directions(node: Node) -> Iterable[tuple[int, bool]]:
    """Checks what directions share, and numbers them; each with whether it starts at the end."""
    directions = _DIRECTIONS[node.string("direction")]
    _activations(node)
    if node.attribute("clip") is not None:
        raise Unsupported("it clips the arguments of its gates", "no clip")
    if node.integer("hidden_size", 0) not in (0, node.known(2).shape[2]):
        raise Unsupported(f"its hidden_size does not fit weights of shape {list(node.known(2).shape)}")
    if len(directions) != len(node.known(1)) or len(directions) != len(node.known(2)):
        raise Unsupported(f"weights for {len(node.known(1))} directions do not fit '{node.string('direction')}'")
    return enumerate(directions)


def _steps_first(node: Node) -> Value:
    """The inputs ``[T, B, I]``."""
    return node.step("transpose", node.value(0), perm=(1, 0, 2)) if node.integer("layout", 0) else node.value(0)


def _biases(node: Node, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The biases of the inputs and of the hidden state, ``[G * H]`` each."""
    columns = node.known(1).shape[1]
    if not node.given(3):
        return np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    own, recurrent = node.known(3)[number].reshape(2, columns)
    return own, recurrent


def _project(node: Node, part: _Part, number: int, bias: np.ndarray) -> Value:
    """What the inputs of a part contribute: one row for each step and sample."""
    x = _steps_first(node)
    steps, batch, features = x.type.shape
    if part.steps < steps:
        x = node.step("slice", x, axes=(0,), starts=(0,), ends=(part.steps,), steps=(1,))
    if len(part.samples) < batch:
        x = node.step("gather", x, node.constant(np.array(part.samples), "samples"), axis=1)
    rows = node.step("reshape", x, shape=(part.steps * len(part.samples), features))
    w = node.constant(node.known(1)[number], f"{node.operand_name(1)}/{number}")
    return node.step("fully_connected", rows, w, node.constant(bias, f"{node.operand_name(1)}/{number}/bias"))


def _initial(node: Node, number: int, part: _Part, *indices: int) -> tuple[Value, ...]:
    """The initial states ``[B, H]`` of a direction, of the samples of a part; none where all of them are zero."""
    given = [node.tensor(i) if node.given(i) else None for i in indices]
    if all(state is None or (isinstance(state, np.ndarray) and not state.any()) for state in given):
        return ()
    axis = 1 if node.integer("layout", 0) else 0
    x, width = node.value(0), node.known(2).shape[2]
    shape = (x.type.shape[1 - axis], width)

    def state(index: int, tensor: Value | np.ndarray | None) -> Value:
        if tensor is None:
            return node.constant(np.zeros(shape, np.float32), f"{node.operand_name(2)}/zeros")
        if isinstance(tensor, np.ndarray):
            return node.constant(tensor.take(number, axis), f"{node.operand_name(index)}/{number}")
        if tensor.type.shape[axis] > 1:
            tensor = node.step("slice", tensor, axes=(axis,), starts=(number,), ends=(number + 1,), steps=(1,))
        return node.step("reshape", tensor, shape=shape)

    def of_part(whole: Value) -> Value:
        if len(part.samples) == shape[0]:
            return whole
        return node.step("gather", whole, node.constant(np.array(part.samples), "samples"), axis=0)

    return tuple(of_part(state(index, tensor)) for index, tensor in zip(indices, given, strict=True))


def _outputs(node: Node, directions: list[_States]) -> tuple[Value, ...]:
    """Y ``[T, D, B, H]``, Y_h and, for an LSTM, Y_c ``[D, B, H]``; the batch comes first in layout 1."""
    batch_first = bool(node.integer("layout", 0))
    steps, batch, width = directions[0].every.type.shape

    def joined(parts: list[Value], axis: int, perm: tuple[int, ...]) -> Value:
        y = node.step("concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
        return node.step("transpose", y, perm=perm) if batch_first else y

    shape = (steps, 1, batch, width)
    every = joined([node.step("reshape", d.every, shape=shape) for d in directions], 1, (2, 0, 1, 3))
    final = joined([d.final for d in directions], 0, (1, 0, 2))
    cells = [d.cells for d in directions if d.cells is not None]
    return every, final, *([joined(cells, 0, (1, 0, 2))] if cells else [])
