"""Nodes whose result is known at import: constants, shapes, and the arithmetic on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.ir import Value

_RANDOM = ("Random", "Bernoulli", "Multinomial")


def is_known(proto: onnx.NodeProto, inputs: Sequence[Tensor | None]) -> bool:
    """Whether a node's outputs can be computed at import."""
    if proto.op_type.startswith(_RANDOM) or has_subgraph(proto):
        return False
    if proto.op_type in ("Shape", "Size"):
        return True
    return not any(isinstance(tensor, Value) for tensor in inputs)


def has_subgraph(proto: onnx.NodeProto) -> bool:
    """Whether a node holds graphs of its own: control flow."""
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(attribute.type in kinds for attribute in proto.attribute)


def fold(proto: onnx.NodeProto, node: Node, opset: int) -> tuple[np.ndarray, ...]:
    """The outputs of a node for which :func:`is_known` holds. Raises Unsupported if they cannot be computed."""
    if proto.op_type in ("Shape", "Size") and isinstance(node.inputs[0], Value):
        shape = np.array(node.inputs[0].type.shape, np.int64)
        if proto.op_type == "Size":
            return (np.array(shape.prod(), np.int64),)
        return (shape[node.integer("start", 0) : node.attribute("end")],)
    feeds = {name: tensor for name, tensor in zip(proto.input, node.inputs, strict=True) if name}
    outputs = [name for name in proto.output if name]
    graph = onnx.helper.make_graph(
        [proto],
        "known",
        [onnx.ValueInfoProto(name=name) for name in feeds],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # the evaluator raises whatever numpy raises on malformed nodes
        raise Unsupported(f"its inputs are constants, but it cannot be evaluated: {error}") from error
    if not all(isinstance(result, np.ndarray | np.generic) for result in results):
        raise Unsupported("its result is no tensor")
    by_name = dict(zip(outputs, map(np.asarray, results), strict=True))
    return tuple(by_name.get(name, np.empty(0)) for name in proto.output)
