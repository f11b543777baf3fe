"""Float graphs, with quantize and dequantize between their ops, as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sqc.errors import CompileError, GraphError
from sqc.frontend.node import UNIT
from sqc.ir import Graph, Op, TensorType, Value, rebatch, take_name
from sqc.ops.elementwise import BINARY

OPSET = 17
_IR_VERSION = 8
_BATCH = "N"

_SAME_NAME = (
    "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "neg", "erf", "softplus", "softsign", "floor", "ceil",
    "round", "sign",
)  # fmt: skip
_PLAIN = {
    **{kind: kind.capitalize() for kind in (*BINARY, *_SAME_NAME)},
    "hard_swish": "HardSwish",
    "prelu": "PRelu",
    "maximum": "Max",
    "minimum": "Min",
}


def export_onnx(graph: Graph) -> onnx.ModelProto:
    """An ONNX model of operator set 17 that computes what ``graph`` does, images in NCHW.

    Inputs and outputs keep their names, element types and shapes, with an open batch where the graph has one. Raises
    CompileError for ops that ONNX has no counterpart of.
    """
    return _Export(graph).run()


class _Export:
    """Writes op by op; ``names`` maps values to names of the model."""

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

    def run(self) -> onnx.ModelProto:
        for op in self.graph.ops:
            if op.kind not in _WRITERS:
                raise CompileError(f"{op.label()}: ONNX has no counterpart of {op.kind} here; exclude the node")
            _WRITERS[op.kind](self, op)
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
        output = self.name(op.result)
        self.nodes.append(helper.make_node(op_type, [*inputs, *more], [output], name=output, **attributes))


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


def _plain(export: _Export, op: Op) -> None:
    export.node(_PLAIN[op.kind], op)


def _quantize(export: _Export, op: Op) -> None:
    name = export.name(op.result)
    scale = export.array(np.array(op.number("scale"), np.float32), f"{name}.scale")
    zero_point = export.array(np.array(op.integer("zero_point"), op.string("dtype")), f"{name}.zero_point")
    export.node("QuantizeLinear", op, scale, zero_point)


def _dequantize(export: _Export, op: Op) -> None:
    x = op.operands[0]
    quantization = x.type.quantization
    assert quantization is not None
    if quantization == UNIT:
        export.node("Cast", op, to=TensorProto.FLOAT)
        return
    whole = quantization.axis is None
    name = export.name(op.result)
    scales, zero_points = np.array(quantization.scale, np.float32), np.array(quantization.zero_point, x.type.dtype)
    parameters = [export.array(scales[0] if whole else scales, f"{name}.scale")]
    if x.type.dtype != "int32":  # which ONNX gives no zero point
        parameters.append(export.array(zero_points[0] if whole else zero_points, f"{name}.zero_point"))
    axis: dict[str, Any] = {} if whole else {"axis": quantization.axis}
    export.node("DequantizeLinear", op, *parameters, **axis)


def _lookup(export: _Export, op: Op) -> None:
    """A table as a Gather from 256 levels"""
    x, entries = op.operands
    index = take_name(f"{op.result.name}.index", export.taken)
    export.nodes.append(helper.make_node("Cast", [export.name(x)], [index], name=index, to=TensorProto.INT32))
    export.node("Gather", op, index, operands=[entries], axis=0)


def _conv2d(export: _Export, op: Op) -> None:
    export.node(
        "Conv",
        op,
        kernel_shape=op.operands[1].type.shape[2:],
        strides=op.integers("strides"),
        pads=op.integers("pads"),
        dilations=op.integers("dilations"),
        group=op.integer("groups"),
    )


def _fully_connected(export: _Export, op: Op) -> None:
    export.node("Gemm", op, transB=1)


def _pool(export: _Export, op: Op) -> None:
    attributes: dict[str, Any] = {name: op.integers(name) for name in ("strides", "pads")}
    if op.kind == "max_pool":
        export.node("MaxPool", op, kernel_shape=op.integers("kernel"), dilations=op.integers("dilations"), **attributes)
        return
    if op.integers("dilations") != (1, 1):
        raise CompileError(f"{op.label()}: operator set {OPSET} has no dilated average pool; exclude the node")
    include = int(bool(op.attributes["count_include_pad"]))
    export.node("AveragePool", op, kernel_shape=op.integers("kernel"), count_include_pad=include, **attributes)


def _reduce_mean(export: _Export, op: Op) -> None:
    axes, keepdims = op.integers("axes"), bool(op.attributes["keepdims"])
    if keepdims and op.operands[0].type.rank == 4 and axes == (2, 3):
        export.node("GlobalAveragePool", op)
    else:
        export.node("ReduceMean", op, axes=axes, keepdims=int(keepdims))


def _clip(export: _Export, op: Op) -> None:
    bounds = [
        export.array(np.array(op.number(end), np.float32), f"{op.result.name}.{end}")
        if np.isfinite(op.number(end))
        else ""
        for end in ("min", "max")
    ]
    export.node("Clip", op, *bounds)


def _integers(export: _Export, op: Op, name: str) -> str:
    return export.array(np.array(op.integers(name), np.int64), f"{op.result.name}.{name}")


def _reshape(export: _Export, op: Op) -> None:
    export.node("Reshape", op, _integers(export, op, "shape"))


def _slice(export: _Export, op: Op) -> None:
    export.node("Slice", op, *(_integers(export, op, name) for name in ("starts", "ends", "axes", "steps")))


def _pad(export: _Export, op: Op) -> None:
    dtype = op.operands[0].type.dtype
    value = export.array(np.array(op.number("value"), dtype), f"{op.result.name}.value")
    export.node("Pad", op, _integers(export, op, "pads"), value)


def _batch_norm(export: _Export, op: Op) -> None:
    if op.integer("axis") != 1:
        raise CompileError(f"{op.label()}: its channels are not axis 1; exclude the node")
    export.node("BatchNormalization", op, epsilon=op.number("epsilon"))


_WRITERS: dict[str, Callable[[_Export, Op], None]] = {
    **dict.fromkeys(_PLAIN, _plain),
    "quantize": _quantize,
    "dequantize": _dequantize,
    "lookup": _lookup,
    "conv2d": _conv2d,
    "fully_connected": _fully_connected,
    "max_pool": _pool,
    "average_pool": _pool,
    "reduce_mean": _reduce_mean,
    "clip": _clip,
    "reshape": _reshape,
    "slice": _slice,
    "pad": _pad,
    "batch_norm": _batch_norm,
    "transpose": lambda export, op: export.node("Transpose", op, perm=op.integers("perm")),
    "gather": lambda export, op: export.node("Gather", op, axis=op.integer("axis")),
    "concat": lambda export, op: export.node("Concat", op, axis=op.integer("axis")),
    "softmax": lambda export, op: export.node("Softmax", op, axis=op.integer("axis")),
    "leaky_relu": lambda export, op: export.node("LeakyRelu", op, alpha=op.number("alpha")),
    "elu": lambda export, op: export.node("Elu", op, alpha=op.number("alpha")),
    "hard_sigmoid": lambda export, op: export.node("HardSigmoid", op, alpha=op.number("alpha"), beta=op.number("beta")),
}
