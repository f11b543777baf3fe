"""The graph: SSA values, ops in topological order, constants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias, Union

import numpy as np

from sqc.ir.types import TensorType

Attribute: TypeAlias = Union[int, float, bool, str, tuple[int, ...], tuple[float, ...], "Graph"]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph; its name is unique within the graph."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Op:
    """An operation. ``source`` names the node of the user's model that it came from, for reports and errors."""

    kind: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    @property
    def result(self) -> Value:
        """The only result. Raises ValueError if there are several."""
        (result,) = self.results
        return result

    def integer(self, name: str) -> int:
        value = self.attributes[name]
        assert isinstance(value, int)
        return value

    def number(self, name: str) -> float:
        value = self.attributes[name]
        assert isinstance(value, int | float)
        return float(value)

    def integers(self, name: str) -> tuple[int, ...]:
        value = self.attributes[name]
        assert isinstance(value, tuple)
        return tuple(int(item) for item in value)

    def string(self, name: str) -> str:
        value = self.attributes[name]
        assert isinstance(value, str)
        return value

    @property
    def body(self) -> Graph:
        """The graph inside a ``fused`` op."""
        value = self.attributes["body"]
        assert isinstance(value, Graph)
        return value

    def label(self) -> str:
        """How messages name this op."""
        return f"{self.kind} '{self.source or self.results[0].name}'"


@dataclass(frozen=True, eq=False)
class Graph:
    """A program: ``ops`` in topological order from ``inputs`` and ``constants`` to ``outputs``.

    ``outputs`` maps the names that a user sees to values. Input values carry the user's names themselves.
    ``dynamic_batch`` tells that the model left its leading dimension open; :func:`sqc.ir.rebatch` sets it.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: Mapping[str, Value]
    constants: Mapping[Value, np.ndarray]
    ops: tuple[Op, ...]
    dynamic_batch: bool = False

    @cached_property
    def _producers(self) -> dict[Value, Op]:
        return {result: op for op in self.ops for result in op.results}

    @cached_property
    def _users(self) -> dict[Value, tuple[Op, ...]]:
        users: dict[Value, list[Op]] = {}
        for op in self.ops:
            for operand in dict.fromkeys(op.operands):
                users.setdefault(operand, []).append(op)
        return {value: tuple(ops) for value, ops in users.items()}

    @cached_property
    def _output_values(self) -> frozenset[Value]:
        return frozenset(self.outputs.values())

    def producer(self, value: Value) -> Op | None:
        """The op that computes ``value``; None for inputs and constants."""
        return self._producers.get(value)

    def users(self, value: Value) -> tuple[Op, ...]:
        """The ops that read ``value``, each once."""
        return self._users.get(value, ())

    def is_output(self, value: Value) -> bool:
        return value in self._output_values

    def is_constant(self, value: Value) -> bool:
        return value in self.constants

    def only_user(self, value: Value) -> Op | None:
        """The single reader of a value that is not an output and is read once; else None."""
        users = self.users(value)
        if self.is_output(value) or len(users) != 1 or users[0].operands.count(value) != 1:
            return None
        return users[0]

    def values(self) -> list[Value]:
        """All values: inputs, constants, then results in order."""
        return [*self.inputs, *self.constants, *(result for op in self.ops for result in op.results)]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run op by op through the numpy references; see :func:`sqc.ir.evaluate`."""
        from sqc.ir.evaluate import evaluate

        return evaluate(self, inputs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            self.name == other.name
            and self.inputs == other.inputs
            and dict(self.outputs) == dict(other.outputs)
            and self.ops == other.ops
            and self.dynamic_batch == other.dynamic_batch
            and self.constants.keys() == other.constants.keys()
            and all(same_bits(array, other.constants[value]) for value, array in self.constants.items())
        )

    __hash__ = object.__hash__

    def __str__(self) -> str:
        from sqc.ir.text import format_graph

        return format_graph(self)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equality of shape, type and bytes (NaN equals itself, 0.0 differs from -0.0)."""
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def digest(array: np.ndarray) -> str:
    """A short name for the contents of an array: type, shape and bytes."""
    header = f"{array.dtype.name}{list(array.shape)}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
