"""LSTM and GRU: the inputs of all steps go through one fully connected layer, a sequence op does the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqc.frontend.node import Node, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""For each direction of a node, whether it starts at the end."""

_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}


@dataclass(frozen=True)
class _Direction:
    """What one direction computes, by time: states of shape [T, B, H]."""

    reverse: bool
    hidden: Value
    cells: Value | None = None


# Parameters of activations other than the standard ones, which have none.
_PARAMETERS = ("activation_alpha", "activation_beta")


@handler("LSTM", ignores=_PARAMETERS)
def lstm(node: Node) -> tuple[Value, ...]:
    if node.given(7) and node.known(7).any():
        raise Unsupported("it has peepholes (input P)", "an LSTM without them")
    if node.integer("input_forget"):
        raise Unsupported("it couples input and forget gates", "input_forget 0")
    steps, x = _steps_first(node)

    def direction(number: int, reverse: bool) -> _Direction:
        r, bias = node.known(2)[number], _biases(node, number)
        initial = _states(node, number, 5, 6)
        p = _project(node, x, number, bias[0] + bias[1])
        weights = node.constant(r, f"{node.operand_name(2)}/{number}")
        attributes = {"steps": steps, "reverse": reverse}
        hidden = node.step("lstm", p, weights, *initial, **attributes)
        cells = node.step("lstm_cells", hidden, p, weights, *initial, **attributes) if node.needs(2) else None
        return _Direction(reverse, hidden, cells)

    return _outputs(node, [direction(i, reverse) for i, reverse in enumerate(_directions(node))])


@handler("GRU", ignores=_PARAMETERS)
def gru(node: Node) -> tuple[Value, ...]:
    steps, x = _steps_first(node)
    before = bool(node.integer("linear_before_reset", 0))

    def direction(number: int, reverse: bool) -> _Direction:
        r, (own, recurrent) = node.known(2)[number], _biases(node, number)
        width = r.shape[1]
        # Of the biases only one has to stay apart from those of the inputs: that which the reset gate multiplies.
        apart = np.zeros_like(recurrent)
        apart[2 * width :] = recurrent[2 * width :] * np.float32(before)
        p = _project(node, x, number, own + (recurrent - apart))
        weights = node.constant(r, f"{node.operand_name(2)}/{number}")
        bias = node.constant(apart[2 * width :], f"{node.operand_name(2)}/{number}/bias")
        attributes = {"steps": steps, "reverse": reverse, "linear_before_reset": before}
        return _Direction(reverse, node.step("gru", p, weights, bias, *_states(node, number, 5), **attributes))

    return _outputs(node, [direction(i, reverse) for i, reverse in enumerate(_directions(node))])


def _directions(node: Node) -> tuple[bool, ...]:
    """Checks what directions share, and says which of them start at the end."""
    directions = _DIRECTIONS[node.string("direction")]
    wanted = _ACTIVATIONS[node.op_type] * len(directions)
    activations = node.attribute("activations") or wanted
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in activations)
    if tuple(name.lower() for name in names) != wanted:
        raise Unsupported(f"its activations are {', '.join(names)}", f"the standard ones: {', '.join(wanted)}")
    if node.attribute("clip") is not None:
        raise Unsupported("it clips the arguments of its gates", "no clip")
    if node.integer("hidden_size", 0) not in (0, node.known(2).shape[2]):
        raise Unsupported(f"its hidden_size does not fit weights of shape {list(node.known(2).shape)}")
    if len(directions) != len(node.known(1)) or len(directions) != len(node.known(2)):
        raise Unsupported(f"weights for {len(node.known(1))} directions do not fit '{node.string('direction')}'")
    return directions


def _steps_first(node: Node) -> tuple[int, Value]:
    """The number of steps, and the inputs as one row for each step and sample."""
    x = node.value(0)
    if x.type.rank != 3:
        raise Unsupported(f"its operand X has rank {x.type.rank}", "rank 3")
    if node.integer("layout", 0):
        x = node.step("transpose", x, perm=(1, 0, 2))
    steps, batch, features = x.type.shape
    if node.given(4) and (node.known(4) != steps).any():
        raise Unsupported(
            f"sequence_lens has lengths other than the {steps} steps of X", "sequences of one length, cut to it before"
        )
    return steps, node.step("reshape", x, shape=(steps * batch, features))


def _biases(node: Node, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The biases of the inputs and of the hidden state, ``[G * H]`` each."""
    columns = node.known(1).shape[1]
    if not node.given(3):
        return np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    own, recurrent = node.known(3)[number].reshape(2, columns)
    return own, recurrent


def _project(node: Node, x: Value, number: int, bias: np.ndarray) -> Value:
    w = node.constant(node.known(1)[number], f"{node.operand_name(1)}/{number}")
    return node.step("fully_connected", x, w, node.constant(bias, f"{node.operand_name(1)}/{number}/bias"))


def _states(node: Node, number: int, *indices: int) -> tuple[Value, ...]:
    """The initial states ``[B, H]`` of a direction; none where all of them are zero."""
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

    return tuple(state(index, tensor) for index, tensor in zip(indices, given, strict=True))


def _outputs(node: Node, directions: list[_Direction]) -> tuple[Value, ...]:
    """Y ``[T, D, B, H]``, Y_h and, for an LSTM, Y_c ``[D, B, H]``; the batch comes first in layout 1."""
    batch_first = bool(node.integer("layout", 0))
    steps, batch, width = directions[0].hidden.type.shape

    def joined(parts: list[Value], axis: int, perm: tuple[int, ...]) -> Value:
        y = node.step("concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
        return node.step("transpose", y, perm=perm) if batch_first else y

    def last(direction: _Direction, states: Value) -> Value:
        at = 0 if direction.reverse else steps - 1
        return node.step("slice", states, axes=(0,), starts=(at,), ends=(at + 1,), steps=(1,))

    shape = (steps, 1, batch, width)
    every = joined([node.step("reshape", d.hidden, shape=shape) for d in directions], 1, (2, 0, 1, 3))
    final = joined([last(d, d.hidden) for d in directions], 0, (1, 0, 2))
    cells = [last(d, d.cells) for d in directions if d.cells is not None]
    return every, final, *([joined(cells, 0, (1, 0, 2))] if cells else [])
