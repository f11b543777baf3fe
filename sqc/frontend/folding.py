"""What onnx itself can tell of a node: its result where all inputs are known, else at least the types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.frontend.quantized import Constant, QuantizedConstant, rearranged
from sqc.ir import TensorType, Value

_RANDOM = ("Random", "Bernoulli", "Multinomial")

_REARRANGING = ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that keep a quantized constant quantized."""


def is_known(proto: onnx.NodeProto, inputs: Sequence[Value | Constant | None]) -> bool:
    """Whether a node's outputs can be computed at import.

    Those of DequantizeLinear could be, but would no longer be levels.
    """
    if proto.op_type.startswith((*_RANDOM, "DequantizeLinear")) or has_subgraph(proto):
        return False
    if proto.op_type in ("Shape", "Size"):
        return True
    return not any(isinstance(tensor, Value) for tensor in inputs)


def has_subgraph(proto: onnx.NodeProto) -> bool:
    """Whether a node holds graphs of its own: control flow."""
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(attribute.type in kinds for attribute in proto.attribute)


def fold(proto: onnx.NodeProto, node: Node, opset: int) -> tuple[Constant, ...]:
    """The outputs of a node for which :func:`is_known` holds. Raises Unsupported if they cannot be computed."""
    tensors = [node.tensor(i) if node.given(i) else None for i in range(len(node.inputs))]
    if proto.op_type in _REARRANGING and isinstance(constant := node.inputs[0], QuantizedConstant):
        return (rearranged(constant, lambda array: _evaluate(proto, [array, *tensors[1:]], opset)[0]),)
    if proto.op_type in ("Shape", "Size") and isinstance(node.inputs[0], Value):
        shape = np.array(node.inputs[0].type.shape, np.int64)
        if proto.op_type == "Size":
            return (np.array(shape.prod(), np.int64),)
        return (shape[node.integer("start", 0) : node.attribute("end")],)
    return _evaluate(proto, tensors, opset)


def _evaluate(proto: onnx.NodeProto, inputs: Sequence[Tensor | None], opset: int) -> tuple[np.ndarray, ...]:
    feeds = {name: tensor for name, tensor in zip(proto.input, inputs, strict=True) if name}
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


def inferred_types(proto: onnx.NodeProto, tensors: Mapping[str, Value | Constant], opset: int) -> dict[str, TensorType]:
    """The types of a node's float outputs as far as they are static; nothing where they cannot be inferred."""
    given = {name: tensors[name] for name in proto.input if name in tensors}
    inputs = {name: tensor.array if isinstance(tensor, QuantizedConstant) else tensor for name, tensor in given.items()}
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(proto.op_type, opset, proto.domain),
            proto,
            {name: _type_proto(tensor) for name, tensor in inputs.items()},
            {name: onnx.numpy_helper.from_array(a) for name, a in inputs.items() if isinstance(a, np.ndarray)},
            opset_imports=[onnx.helper.make_opsetid("", opset)],
        )
    except Exception:  # types are a help for better messages only
        return {}
    types: dict[str, TensorType] = {}
    for name, inferred_type in inferred.items():
        tensor = inferred_type.tensor_type
        extents = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
        if tensor.elem_type == onnx.TensorProto.FLOAT and tensor.HasField("shape") and min(extents, default=0) >= 0:
            types[name] = TensorType(tuple(extents), "float32")
    return types


def _type_proto(tensor: Tensor) -> onnx.TypeProto:
    shape = tensor.type.shape if isinstance(tensor, Value) else tensor.shape
    dtype = np.dtype(tensor.type.dtype) if isinstance(tensor, Value) else tensor.dtype
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(dtype), shape)
