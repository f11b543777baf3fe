"""What a handler sees of an ONNX node: inputs, attributes, and the means to emit ops."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx

from sqc.frontend.quantized import Constant, QuantizedConstant
from sqc.ir import Builder, Op, Quantization, Value
from sqc.ops.shapes import normalize_axes

Tensor: TypeAlias = Value | np.ndarray
"""A tensor at import: known (an array: initializers, constants, shapes), or computed by the graph (a Value)."""

FLOATS = ("float32", "float16", "bfloat16", "float64")
"""Element types that are computed in float32."""

LEVELS = ("uint8", "int8")
"""Element types of quantized tensors."""

INTEGERS = (*LEVELS, "int32", "int64")
"""Element types that computed tensors may have besides: they move, they index, and Cast makes them float."""

UNIT = Quantization.per_tensor(1.0, 0)
"""The quantization of integer tensors that the model states none for: each stands for its own value."""


class Unsupported(Exception):
    """A node cannot be imported. ``reason`` says what is in the way, ``instead`` the nearest form that works."""

    def __init__(self, reason: str, instead: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.instead = instead


def label(proto: onnx.NodeProto) -> str:
    """How ops, reports and errors name a node: by its name, else by operator and first output."""
    return proto.name or f"{proto.op_type}:{next(filter(None, proto.output), '')}"


def as_float32(array: np.ndarray) -> np.ndarray:
    """Other float types as float32; any other array as it is."""
    return array.astype(np.float32, copy=False) if array.dtype.name in FLOATS else array


class Node:
    """One node. Attributes that the node does not set have the default of its operator set."""

    def __init__(
        self,
        proto: onnx.NodeProto,
        inputs: Sequence[Value | Constant | None],
        schema: onnx.defs.OpSchema,
        builder: Builder,
        needed: Container[str],
    ) -> None:
        self.op_type = proto.op_type
        self.version: int = schema.since_version
        self.inputs = tuple(inputs)
        self.read: set[str] = set()
        self._proto = proto
        self._schema = schema
        self._builder = builder
        self._needed = needed
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}

    # Inputs

    def given(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def tensor(self, index: int) -> Tensor:
        """An input, known or computed. What is known as levels comes as real numbers."""
        tensor = self._input(index)
        return tensor.array if isinstance(tensor, QuantizedConstant) else tensor

    def value(self, index: int) -> Value:
        """An input as a value of the graph; a known one becomes a constant, a quantized one a dequantized constant."""
        tensor = self._input(index)
        return tensor if isinstance(tensor, Value) else self.constant(tensor, self.operand_name(index))

    def known(self, index: int) -> np.ndarray:
        """An input that has to be known at import. Floats come as float32."""
        constant = self.parameter(index)
        return constant.array if isinstance(constant, QuantizedConstant) else constant

    def parameter(self, index: int) -> Constant:
        """An input that has to be known at import, as levels where the model stores it so. Floats come as float32."""
        tensor = self._input(index)
        if isinstance(tensor, Value):
            name = self.input_name(index)
            raise Unsupported(f"its input {name} ('{tensor.name}') is computed at run time", f"a constant {name}")
        return tensor if isinstance(tensor, QuantizedConstant) else as_float32(tensor)

    def _input(self, index: int) -> Value | Constant:
        tensor = self.inputs[index] if self.given(index) else None
        if tensor is None:
            raise Unsupported(f"its input {self.input_name(index)} is missing")
        return tensor

    def known_integers(self, index: int) -> tuple[int, ...]:
        """A known input as integers: axes, shapes and the like."""
        return tuple(int(item) for item in self.known(index).reshape(-1))

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes counted from the front, sorted."""
        try:
            return normalize_axes(axes, rank)
        except ValueError as error:
            raise Unsupported(str(error)) from error

    def input_name(self, index: int) -> str:
        """What the operator's specification calls an input."""
        inputs = self._schema.inputs
        return str(inputs[min(index, len(inputs) - 1)].name)

    def operand_name(self, index: int) -> str:
        """What the model calls the tensor of an input."""
        return str(self._proto.input[index])

    def needs(self, output: int) -> bool:
        """Whether anything reads an output of this node."""
        return output < len(self._proto.output) and self._proto.output[output] in self._needed

    @property
    def output_count(self) -> int:
        return len(self._proto.output)

    # Attributes

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or the operator set's default, or ``default``. Strings come as str, lists as tuples."""
        self.read.add(name)
        attribute = self._attributes.get(name)
        if attribute is None and name in self._schema.attributes:
            attribute = self._schema.attributes[name].default_value
        if attribute is None or attribute.type == onnx.AttributeProto.UNDEFINED:
            return default
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return tuple(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self._required(name, default))

    def number(self, name: str, default: float | None = None) -> float:
        return float(self._required(name, default))

    def string(self, name: str, default: str | None = None) -> str:
        return str(self._required(name, default))

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        return tuple(int(item) for item in self._required(name, default))

    def unread(self, ignored: Container[str]) -> list[str]:
        """Attributes that the node sets and that no handler looked at."""
        return [name for name in self._attributes if name not in self.read and name not in ignored]

    def _required(self, name: str, default: Any) -> Any:
        value = self.attribute(name, default)
        if value is None:
            raise Unsupported(f"its attribute {name} is missing")
        return value

    # Ops

    def result(self, kind: str, /, *operands: Value, output: int = 0, **attributes: Any) -> Value:
        """Emit the op that computes an output of the node; it takes the output's name."""
        return self._emit(kind, operands, attributes, self._proto.output[output])

    def step(self, kind: str, /, *operands: Value, **attributes: Any) -> Value:
        """Emit an op on the way to the result."""
        return self._emit(kind, operands, attributes, f"{self._proto.output[0]}/{kind}")

    def constant(self, constant: Constant, name: str = "") -> Value:
        """A constant of the graph; floats become float32. Without a name it is called after the node's output.

        Of a quantized one the levels become the constant, behind a dequantize.
        """
        name = name or f"{self._proto.output[0]}/constant"
        if isinstance(constant, QuantizedConstant):
            levels = self._builder.constant(constant.levels, f"{name}/levels", constant.quantization)
            return self._emit("dequantize", [levels], {}, name)
        quantization = UNIT if constant.dtype.name in INTEGERS else None
        return self._builder.constant(as_float32(constant), name, quantization)

    def producer(self, value: Value) -> Op | None:
        """The op that computes a value; None for inputs and constants."""
        return next((op for op in reversed(self._builder.ops) if value in op.results), None)

    def _emit(self, kind: str, operands: Sequence[Value], attributes: dict[str, Any], name: str) -> Value:
        return self._builder.emit(kind, operands, attributes, name=name, source=label(self._proto))
