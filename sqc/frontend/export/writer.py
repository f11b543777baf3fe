"""The ONNX model under construction, and what all writers of ops do with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sqc.errors import CompileError, GraphError
from sqc.ir import Graph, Op, TensorType, Value, rebatch, take_name

OPSET = 17
_IR_VERSION = 8
_BATCH = "N"


class Writer:
    """Nodes and initializers of the model so far; ``names`` maps values to names of the model."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.taken = {*(value.name for value in graph.inputs), *graph.outputs}
        self.names = {value: value.name for value in graph.inputs}
        computed = {op.result for op in graph.ops}
        for name, value in graph.outputs.items():
            if value in computed:
                self.names.setdefault(value, name)

    def model(self) -> onnx.ModelProto:
        """The model of all that was written."""
        for name, value in self.graph.outputs.items():
            if self.name(value) != name:
                self.nodes.append(helper.make_node("Identity", [self.name(value)], [name]))
        types = _open_types(self.graph)
        proto = helper.make_graph(
            self.nodes,
            self.graph.name,
            [_info(value.name, value.type, types[value]) for value in self.graph.inputs],
            [_info(name, value.type, types[value]) for name, value in self.graph.outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.initializers.items()],
        )
        return helper.make_model(
            proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="sqc"
        )

    def name(self, value: Value) -> str:
        if value not in self.names:
            self.names[value] = take_name(value.name, self.taken)
            if value in self.graph.constants:
                self.initializers[self.names[value]] = self.graph.constants[value]
        return self.names[value]

    def array(self, array: np.ndarray, name: str) -> str:
        """A new initializer."""
        name = take_name(name, self.taken)
        self.initializers[name] = array
        return name

    def node(
        self, op_type: str, op: Op, *more: str, operands: Sequence[Value] | None = None, **attributes: Any
    ) -> None:
        """The node of an op: its operands, then names of initializers."""
        inputs = [self.name(value) for value in (op.operands if operands is None else operands)]
        self.last(op, op_type, *inputs, *more, **attributes)

    def last(self, op: Op, op_type: str, *inputs: str, **attributes: Any) -> None:
        """A node that gives the result of an op."""
        output = self.name(op.result)
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))

    def step(self, op: Op, op_type: str, *inputs: str, **attributes: Any) -> str:
        """One more node of an op; returns the name of its result."""
        output = take_name(f"{op.result.name}.{op_type.lower()}", self.taken)
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def number(self, op: Op, number: float) -> str:
        """A new initializer of one float32."""
        return self.array(np.array(number, np.float32), f"{op.result.name}.number")

    def known(self, op: Op, value: Value) -> np.ndarray:
        """A constant. Raises CompileError for any other value."""
        if value not in self.graph.constants:
            raise CompileError(f"{op.label()}: its operand %{value.name} is no constant; exclude the node")
        return self.graph.constants[value]

    def result(self, op: Op, x: str) -> None:
        """Lets ``x`` be the result of an op."""
        if op.result in self.names:  # an output
            self.last(op, "Identity", x)
        else:
            self.names[op.result] = x

    def moved(self, op: Op, x: str, perm: Sequence[int]) -> str:
        """``x`` transposed, unless ``perm`` changes nothing."""
        return x if tuple(perm) == tuple(range(len(perm))) else self.step(op, "Transpose", x, perm=perm)


Write: TypeAlias = Callable[[Writer, Op], None]
"""Writes the nodes of an op."""


def swapped(rank: int, first: int, second: int) -> list[int]:
    """The order of axes that exchanges two of them."""
    perm = list(range(rank))
    perm[first], perm[second] = perm[second], perm[first]
    return perm


def _open_types(graph: Graph) -> dict[Value, TensorType]:
    """The types of inputs and outputs at another batch, if it is open."""
    values = (*graph.inputs, *graph.outputs.values())
    same = {value: value.type for value in values}
    if not graph.dynamic_batch:
        return same
    try:
        other = rebatch(graph, 2 * graph.inputs[0].type.shape[0])
    except GraphError:
        return same
    return dict(zip(values, (value.type for value in (*other.inputs, *other.outputs.values())), strict=True))


def _info(name: str, type: TensorType, other: TensorType) -> onnx.ValueInfoProto:
    extents = [_BATCH if a != b else a for a, b in zip(type.shape, other.shape, strict=True)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(type.dtype)), extents)
