"""Graphs as text, and back: ``parse_graph(format_graph(g), constant_data(g)) == g``.

    graph "tiny" dynamic_batch (%x: float32[1,4]) {
      const %w: int8[2,4]<axis=0 0.5:0 0.25:0> = [1,2,3,4,5,6,7,8]
      const %big: float32[64,64] = digest:0f3a...
      %q: uint8[1,4]<0.02:128> = quantize(%x) {scale=0.02,zero_point=128,dtype="uint8"} @"Gemm_0"
      return "y"=%q
    }

Constants of more than ``INLINE`` elements print as a digest; their data live in a file beside the text.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sqc.errors import ParseError
from sqc.ir.graph import Attribute, Graph, Op, Value, digest
from sqc.ir.types import Quantization, TensorType

INLINE = 16
_PLAIN = re.compile(r"[A-Za-z0-9_.$/\-]+")
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<value>%(?:[A-Za-z0-9_.$/\-]+|"(?:[^"\\]|\\.)*"))
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>[+-]?(?:inf|nan|\d+\.?\d*(?:e[+-]?\d+)?)(?![A-Za-z_]))
      | (?P<digest>digest:[0-9a-f]+)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[()\[\]{}<>,:=@])""",
    re.VERBOSE,
)


def format_type(type: TensorType) -> str:
    """``uint8[1,8]<0.5:3>``; a quantization with an axis reads ``<axis=0 0.5:0 0.25:0>``."""
    text = f"{type.dtype}[{','.join(map(str, type.shape))}]"
    if (quantization := type.quantization) is None:
        return text
    pairs = [
        f"{_float32(scale)}:{zero_point}"
        for scale, zero_point in zip(quantization.scale, quantization.zero_point, strict=True)
    ]
    axis = "" if quantization.axis is None else f"axis={quantization.axis} "
    return f"{text}<{axis}{' '.join(pairs)}>"


def format_graph(graph: Graph, indent: str = "") -> str:
    """The graph as text. Data of large constants: :func:`constant_data`."""
    arguments = ", ".join(f"{_value(value)}: {format_type(value.type)}" for value in graph.inputs)
    flag = " dynamic_batch" if graph.dynamic_batch else ""
    lines = [f"graph {json.dumps(graph.name)}{flag} ({arguments}) {{"]
    for value, array in graph.constants.items():
        lines.append(f"  const {_value(value)}: {format_type(value.type)} = {_constant(array)}")
    lines += [f"  {_op(op, indent + '  ')}" for op in graph.ops]
    outputs = ", ".join(f"{json.dumps(name)}={_value(value)}" for name, value in graph.outputs.items())
    lines += [f"  return {outputs}", "}"]
    return f"\n{indent}".join(lines)


def constant_data(graph: Graph) -> dict[str, np.ndarray]:
    """The arrays of all constants that the text only names, by digest."""
    data = {digest(array): array for array in graph.constants.values() if not _is_inline(array)}
    for op in graph.ops:
        for attribute in op.attributes.values():
            if isinstance(attribute, Graph):
                data.update(constant_data(attribute))
    return data


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the text to ``path`` and the data of large constants, if any, to ``path`` + ``.npz``."""
    path = Path(path)
    data = constant_data(graph)
    if data:
        with open(f"{path}.npz", "wb") as file:
            np.savez(file, **data)  # type: ignore[arg-type]
    path.write_text(format_graph(graph) + "\n", encoding="utf-8")


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read what :func:`write_graph` wrote. Raises ParseError with line and column, or OSError."""
    path = Path(path)
    data: dict[str, np.ndarray] = {}
    beside = Path(f"{path}.npz")
    if beside.exists():
        with np.load(beside) as arrays:
            data = {name: arrays[name] for name in arrays.files}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"{path} is not the text of a graph: {error}") from error
    return parse_graph(text, data)


def parse_graph(text: str, data: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Parse the text of a graph; ``data`` holds large constants by digest. Raises ParseError with line and column."""
    parser = _Parser(text, data or {})
    graph = parser.graph()
    parser.end()
    return graph


def _float32(value: float) -> str:
    return str(np.float32(value))


def _value(value: Value) -> str:
    return "%" + (value.name if _PLAIN.fullmatch(value.name) else json.dumps(value.name))


def _is_inline(array: np.ndarray) -> bool:
    return array.size <= INLINE and not (array.dtype.kind == "f" and bool(np.isnan(array).any()))


def _constant(array: np.ndarray) -> str:
    if not _is_inline(array):
        return f"digest:{digest(array)}"
    return f"[{','.join(_element(item) for item in array.reshape(-1))}]"


def _element(item: Any) -> str:
    return str(item) if isinstance(item, np.floating) else str(int(item))


def _op(op: Op, indent: str) -> str:
    results = ", ".join(f"{_value(result)}: {format_type(result.type)}" for result in op.results)
    text = f"{results} = {op.kind}({', '.join(map(_value, op.operands))})"
    if op.attributes:
        items = (f"{name}={_attribute(value, indent)}" for name, value in op.attributes.items())
        text += f" {{{', '.join(items)}}}"
    return f"{text} @{json.dumps(op.source)}" if op.source else text


def _attribute(value: Attribute, indent: str) -> str:
    if isinstance(value, Graph):
        return format_graph(value, indent)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return f"[{','.join(map(repr, value))}]"
    return repr(value)


class _Parser:
    """Recursive descent over tokens; one method a grammar rule."""

    def __init__(self, text: str, data: Mapping[str, np.ndarray]) -> None:
        self.text = text
        self.data = data
        self.tokens: list[tuple[str, str, int]] = []
        self.at = 0
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"unexpected character {text[position]!r}", position)
            if match.lastgroup != "space":
                self.tokens.append((str(match.lastgroup), match.group(), position))
            position = match.end()
        self.tokens.append(("end", "end of text", len(text)))

    def error(self, message: str, position: int | None = None) -> ParseError:
        if position is None:
            position = self.tokens[self.at][2]
        line = self.text.count("\n", 0, position) + 1
        column = position - (self.text.rfind("\n", 0, position) + 1) + 1
        return ParseError(f"line {line}, column {column}: {message}")

    def peek(self, text: str) -> bool:
        return self.tokens[self.at][1] == text

    def take(self, text: str) -> bool:
        if self.peek(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.error(f"expected {text!r}, found {self.tokens[self.at][1]!r}")

    def token(self, group: str) -> str:
        found, text, _ = self.tokens[self.at]
        if found != group:
            raise self.error(f"expected a {group}, found {text!r}")
        self.at += 1
        return text

    def end(self) -> None:
        self.token("end")

    def string(self) -> str:
        return self.unquoted(self.token("string"))

    def unquoted(self, text: str) -> str:
        try:
            return str(json.loads(text))
        except json.JSONDecodeError as error:
            self.at -= 1
            raise self.error(f"no valid string: {error.msg}") from error

    def number(self) -> int | float:
        text = self.token("number")
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)

    def integer(self) -> int:
        number = self.number()
        if isinstance(number, float):
            self.at -= 1
            raise self.error("expected a whole number")
        return number

    def value_name(self) -> str:
        text = self.token("value")[1:]
        return self.unquoted(text) if text.startswith('"') else text

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.string()
        dynamic_batch = self.take("dynamic_batch")
        scope: dict[str, Value] = {}
        self.expect("(")
        inputs: list[Value] = []
        while not self.take(")"):
            if inputs:
                self.expect(",")
            inputs.append(self.declaration(scope))
        self.expect("{")
        constants: dict[Value, np.ndarray] = {}
        while self.take("const"):
            value = self.declaration(scope)
            self.expect("=")
            constants[value] = self.constant(value.type)
        ops: list[Op] = []
        while not self.take("return"):
            ops.append(self.op(scope))
        outputs: dict[str, Value] = {}
        while not self.take("}"):
            if outputs:
                self.expect(",")
            output = self.string()
            self.expect("=")
            outputs[output] = self.use(scope)
        return Graph(name, tuple(inputs), outputs, constants, tuple(ops), dynamic_batch)

    def declaration(self, scope: dict[str, Value]) -> Value:
        position = self.tokens[self.at][2]
        name = self.value_name()
        if name in scope:
            raise self.error(f"%{name} is defined twice", position)
        self.expect(":")
        scope[name] = Value(name, self.type())
        return scope[name]

    def use(self, scope: dict[str, Value]) -> Value:
        position = self.tokens[self.at][2]
        name = self.value_name()
        if name not in scope:
            raise self.error(f"%{name} is used before its definition", position)
        return scope[name]

    def type(self) -> TensorType:
        position = self.tokens[self.at][2]
        dtype = self.token("word")
        shape = tuple(self.integers())
        try:
            return TensorType(shape, dtype, self.quantization())
        except ValueError as error:
            raise self.error(str(error), position) from error

    def integers(self) -> list[int]:
        self.expect("[")
        items: list[int] = []
        while not self.take("]"):
            if items:
                self.expect(",")
            items.append(self.integer())
        return items

    def quantization(self) -> Quantization | None:
        if not self.take("<"):
            return None
        axis = None
        if self.take("axis"):
            self.expect("=")
            axis = self.integer()
        scales: list[float] = []
        zero_points: list[int] = []
        while not self.take(">"):
            scales.append(float(np.float32(self.number())))
            self.expect(":")
            zero_points.append(self.integer())
        return Quantization(tuple(scales), tuple(zero_points), axis)

    def constant(self, type: TensorType) -> np.ndarray:
        position = self.tokens[self.at][2]
        if self.tokens[self.at][0] == "digest":
            name = self.token("digest").removeprefix("digest:")
            if name not in self.data:
                raise self.error(
                    f"the data of constant digest:{name} is missing from the file beside the text", position
                )
            array = self.data[name]
            if digest(array) != name or array.shape != type.shape or array.dtype.name != type.dtype:
                raise self.error(f"the data of constant digest:{name} is not what the text says", position)
            return array
        self.expect("[")
        items: list[int | float] = []
        while not self.take("]"):
            if items:
                self.expect(",")
            items.append(self.number())
        if len(items) != math.prod(type.shape):
            raise self.error(f"{len(items)} elements given for {format_type(type)}", position)
        if np.dtype(type.dtype).kind != "f" and any(isinstance(item, float) for item in items):
            raise self.error(f"{format_type(type)} holds whole numbers only", position)
        try:
            with np.errstate(over="raise"):
                return np.array(items, dtype=type.dtype).reshape(type.shape)
        except (ArithmeticError, ValueError) as error:
            raise self.error(str(error), position) from error

    def op(self, scope: dict[str, Value]) -> Op:
        declared = [(self.value_name(), self.tokens[self.at - 1][2])]
        self.expect(":")
        types = [self.type()]
        while self.take(","):
            declared.append((self.value_name(), self.tokens[self.at - 1][2]))
            self.expect(":")
            types.append(self.type())
        self.expect("=")
        kind = self.token("word")
        self.expect("(")
        operands: list[Value] = []
        while not self.take(")"):
            if operands:
                self.expect(",")
            operands.append(self.use(scope))
        attributes: dict[str, Attribute] = {}
        if self.take("{"):
            while not self.take("}"):
                if attributes:
                    self.expect(",")
                name = self.token("word")
                self.expect("=")
                attributes[name] = self.attribute()
        source = self.string() if self.take("@") else ""
        results: list[Value] = []
        for (name, position), type in zip(declared, types, strict=True):
            if name in scope:
                raise self.error(f"%{name} is defined twice", position)
            scope[name] = Value(name, type)
            results.append(scope[name])
        return Op(kind, tuple(operands), tuple(results), attributes, source)

    def attribute(self) -> Attribute:
        if self.peek("graph"):
            return self.graph()
        if self.peek("true") or self.peek("false"):
            return self.token("word") == "true"
        if self.tokens[self.at][0] == "string":
            return self.string()
        if not self.take("["):
            return self.number()
        items: list[int | float] = []
        while not self.take("]"):
            if items:
                self.expect(",")
            items.append(self.number())
        return tuple(items)
