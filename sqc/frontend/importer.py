"""ONNX model in, float graph out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from sqc.errors import GraphError, ImportFailure
from sqc.frontend import (
    convolution,
    dynamic,
    elementwise,
    gather,
    linear,
    logic,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
    resize,
    transposed,
)
from sqc.frontend.batch import DependsOnBatch, open_batch
from sqc.frontend.folding import fold, has_subgraph, inferred_types, is_known
from sqc.frontend.inputs import ModelInput, read_inputs
from sqc.frontend.model_file import DEFAULT_DOMAINS, initializers, opset_of, read_model
from sqc.frontend.node import FLOATS, Node, Unsupported, as_float32, label
from sqc.frontend.quantized import Constant, QuantizedConstant
from sqc.frontend.table import HANDLERS
from sqc.ir import Builder, Graph, Value, rebatch

FAMILIES = (
    convolution, dynamic, elementwise, gather, linear, logic, movement, normalization, pooling, quantization,
    recurrent, resize, transposed,
)  # fmt: skip
"""The modules that fill the table of handlers."""

NO_OPERATOR = "the operator is not supported"


def import_onnx(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    batch: int | None = None,
) -> Graph:
    """Import an ONNX model, operator set 9 or newer, from a path, its bytes or a proto.

    A model in float becomes a float graph; one with QuantizeLinear and DequantizeLinear, or QLinearConv and
    QLinearMatMul, one that rounds where the model does, with the model's scales and zero points.

    Inputs and outputs keep names, shapes and order; tensors of other float types become float32. An open leading extent
    is imported as ``batch`` (default 1) and can be changed with :func:`sqc.ir.rebatch`; a model that holds for one
    batch size only in spite of it is imported for that size, with a warning that names the node.

    Raises ImportFailure if the source is missing, damaged or no ONNX model, if an extent other than the leading one is
    open, if ``batch`` contradicts the model, and for nodes that are not supported: the message lists all of them.
    """
    model, name = read_model(source)
    opset = opset_of(model, name)
    arrays = initializers(model.graph, name)
    inputs = read_inputs(model.graph, name, arrays)

    def build(size: int) -> Graph:
        return _Import(model, name, opset, inputs, arrays, size).run()

    opened = [item.open_batch for item in inputs]
    if batch is not None:
        _check_batch(name, inputs, batch)
    graph = build(batch or 1)
    if not any(opened):
        return graph
    try:
        if not all(opened):
            fixed = ", ".join(f"'{item.name}'" for item in inputs if not item.open_batch)
            raise DependsOnBatch(f"the input {fixed} has a fixed batch")
        one = graph if batch in (None, 1) else build(1)
        return rebatch(open_batch(one, build(2)), batch or 1)
    except (DependsOnBatch, ImportFailure) as error:
        warnings.warn(
            f"{name} leaves its batch open, but can be imported for batch {batch or 1} only: {error}", stacklevel=2
        )
        return graph


def _check_batch(name: str, inputs: Sequence[ModelInput], batch: int) -> None:
    if batch < 1:
        raise ImportFailure(f"cannot import {name} with batch={batch}: it must be at least 1")
    fixed = [item for item in inputs if not item.open_batch and item.shape[:1] != (batch,)]
    if inputs and len(fixed) == len(inputs):
        raise ImportFailure(
            f"cannot import {name} with batch={batch}: its input '{fixed[0].name}' has the fixed shape "
            f"{list(fixed[0].shape)}; export it with an open leading extent"
        )


@dataclass(frozen=True)
class Problem:
    """A node that cannot be imported."""

    node: str
    op_type: str
    reason: str
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.op_type} '{self.node}': {self.reason}" + (f"; supported: {self.instead}" if self.instead else "")


class _Import:
    """One walk over the nodes. A node that is not supported is noted, and the walk goes on to find all of them."""

    def __init__(
        self,
        model: onnx.ModelProto,
        name: str,
        opset: int,
        inputs: Sequence[ModelInput],
        arrays: Mapping[str, np.ndarray],
        batch: int,
    ) -> None:
        self.model = model
        self.name = name
        self.opset = opset
        self.inputs = inputs
        self.batch = batch
        self.builder = Builder(model.graph.name or "graph")
        self.tensors: dict[str, Value | Constant] = dict(arrays)
        self.precision: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.lost: set[str] = set()
        self.needed: set[str] = {output.name for output in model.graph.output}
        self.rules = onnx.checker.C.CheckerContext()
        self.rules.ir_version = model.ir_version or onnx.IR_VERSION
        self.rules.opset_imports = {"": opset}

    def run(self) -> Graph:
        for item in self.inputs:
            self.tensors[item.name] = self.builder.input(item.name, item.type(self.batch))
            self.precision[item.name] = item.dtype
        self.walk(self.model.graph.node)
        if self.problems:
            raise ImportFailure(self.report())
        for output in self.model.graph.output:
            if output.type.tensor_type.elem_type == onnx.TensorProto.BOOL:
                raise ImportFailure(f"{self.name}: the output '{output.name}' is of truth values; Cast it to a number")
            self.builder.outputs[output.name] = self.output(output.name)
        return self.builder.finish()

    def walk(self, nodes: Sequence[onnx.NodeProto]) -> None:
        for proto in live_nodes(nodes, self.needed):
            try:
                self.visit(proto)
            except (Unsupported, GraphError, ValueError, LookupError) as error:
                instead = error.instead if isinstance(error, Unsupported) else ""
                self.problems.append(Problem(label(proto), proto.op_type, str(error), instead))
                self.guess(proto)

    def visit(self, proto: onnx.NodeProto) -> None:
        schema = schema_of(proto, self.opset)
        if proto.op_type == "If" and self.inline_branch(proto):
            return
        if has_subgraph(proto):
            raise Unsupported("control flow is not supported", "a model exported without it")
        self.check(proto)
        supported = proto.op_type in HANDLERS
        if self.lost.intersection(proto.input):
            # Of a node behind one that is not supported only the operator can be judged.
            if not supported and proto.op_type not in ("Shape", "Size"):
                raise Unsupported(NO_OPERATOR)
            self.guess(proto)
            return
        tensors = [self.tensors[name] if name else None for name in proto.input]
        node = Node(proto, tensors, schema, self.builder, self.needed)
        if is_known(proto, tensors):
            self.define(proto.output, fold(proto, node, self.opset))
            return
        if not supported:
            raise Unsupported(NO_OPERATOR)
        precision = self.common_precision(proto, schema)
        handler = HANDLERS[proto.op_type]
        result = handler.function(node)
        if unread := node.unread(handler.ignores):
            raise Unsupported(f"its attribute {', '.join(unread)} is not supported")
        self.define(proto.output, result if isinstance(result, tuple) else (result,), precision)

    def define(self, names: Sequence[str], tensors: Sequence[Value | Constant], precision: str = "") -> None:
        for name, tensor in zip(names, tensors, strict=False):
            if name:
                self.tensors[name] = tensor
                self.precision[name] = precision

    def check(self, proto: onnx.NodeProto) -> None:
        """Raise Unsupported if the node breaks the rules of ONNX."""
        try:
            onnx.checker.check_node(proto, self.rules)
        except onnx.checker.ValidationError as error:
            finding = str(error).strip().split("\n")[0]
            raise Unsupported(f"it is not valid: {finding}") from error
        for name in proto.input:
            if name and name not in self.tensors and name not in self.lost:
                raise Unsupported(f"it reads '{name}', which nothing before it computes")
        for name in proto.output:
            if name in self.tensors or name in self.lost:
                raise Unsupported(f"it computes '{name}', which exists already")

    def common_precision(self, proto: onnx.NodeProto, schema: onnx.defs.OpSchema) -> str:
        """The float type that a node computes in. Raises Unsupported if inputs that must agree do not."""
        if proto.op_type == "Cast":
            target = next(attribute.i for attribute in proto.attribute if attribute.name == "to")
            return str(onnx.helper.tensor_dtype_to_np_dtype(target).name)
        if proto.op_type == "CastLike":
            return self.precision_of(proto.input[1])
        groups: dict[str, dict[str, str]] = {}
        for i, name in enumerate(proto.input):
            precision = self.precision_of(name)
            if precision in FLOATS:
                formal = schema.inputs[min(i, len(schema.inputs) - 1)].type_str
                groups.setdefault(formal, {})[precision] = name
        for group in groups.values():
            if len(group) > 1:
                mixed = ", ".join(f"'{name}' is {precision}" for precision, name in group.items())
                raise Unsupported(f"its inputs have different float types: {mixed}", "one float type, or Cast")
        return next((precision for group in groups.values() for precision in group), "float32")

    def precision_of(self, name: str) -> str:
        """The element type that the model gives a tensor; an empty string if there is none."""
        tensor = self.tensors.get(name)
        known = tensor.dtype.name if isinstance(tensor, np.ndarray) else ""
        return self.precision.get(name) or known

    def inline_branch(self, proto: onnx.NodeProto) -> bool:
        """Walk the branch of an If whose condition is known; False if it is not."""
        condition = self.tensors.get(proto.input[0])
        if not isinstance(condition, np.ndarray):
            return False
        chosen = "then_branch" if condition.all() else "else_branch"
        branch = next(attribute.g for attribute in proto.attribute if attribute.name == chosen)
        self.tensors.update(initializers(branch, self.name))
        self.needed.update(output.name for output in branch.output)
        self.walk(branch.node)
        for name, output in zip(proto.output, branch.output, strict=True):
            if output.name in self.tensors:
                self.define([name], [self.tensors[output.name]], self.precision.get(output.name, ""))
            else:
                self.lost.add(name)
        return True

    def guess(self, proto: onnx.NodeProto) -> None:
        """Let the walk go on behind a node that is not supported, where the types of its outputs can be inferred."""
        types = inferred_types(proto, self.tensors, self.opset)
        for name in filter(None, proto.output):
            if name in types:
                self.define([name], [Value(name, types[name])])
            else:
                self.lost.add(name)

    def output(self, name: str) -> Value:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ImportFailure(f"{self.name}: no node computes the output '{name}'")
        if isinstance(tensor, Value):
            return tensor
        if isinstance(tensor, QuantizedConstant):
            tensor = tensor.array
        try:
            return self.builder.constant(as_float32(tensor), name)
        except ValueError as error:
            raise ImportFailure(f"{self.name}: the constant output '{name}': {error}") from error

    def report(self) -> str:
        count = len(self.problems)
        lines = [f"cannot import {self.name}: {count} node{'s are' if count > 1 else ' is'} not supported"]
        lines += [f"  - {problem}" for problem in self.problems]
        if any(problem.reason == NO_OPERATOR for problem in self.problems):
            lines.append(f"Supported operators: {', '.join(sorted(HANDLERS))}; any other on constants and shapes alone")
        return "\n".join(lines)


def schema_of(proto: onnx.NodeProto, opset: int) -> onnx.defs.OpSchema:
    """The definition of a node's operator. Raises Unsupported for custom domains and unknown operators."""
    if proto.domain not in DEFAULT_DOMAINS:
        raise Unsupported(f"it is of the domain '{proto.domain}'", "operators of the default domain")
    try:
        return onnx.defs.get_schema(proto.op_type, opset, "")
    except (onnx.defs.SchemaError, TypeError) as error:  # TypeError: a damaged name
        raise Unsupported(f"operator set {opset} has no such operator") from error


def live_nodes(nodes: Sequence[onnx.NodeProto], needed: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the tensors in ``needed`` depend on, in order. Adds to ``needed`` what these nodes read."""
    live: list[onnx.NodeProto] = []
    for proto in reversed(nodes):
        if needed.intersection(proto.output):
            live.append(proto)
            needed.update(names_read(proto))
    return live[::-1]


def names_read(proto: onnx.NodeProto) -> Iterable[str]:
    """The names that a node reads, those inside its subgraphs included."""
    yield from filter(None, proto.input)
    for attribute in proto.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from names_read(inner)
