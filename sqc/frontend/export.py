"""Float graphs, with quantize and dequantize between their ops, as ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sqc.errors import CompileError, GraphError
from sqc.frontend.interpolation import Axis, find_kernel, smallest_scale
from sqc.frontend.node import UNIT
from sqc.ir import Graph, Op, TensorType, Value, rebatch, take_name
from sqc.ops.elementwise import BINARY
from sqc.ops.products import permutations
from sqc.ops.shapes import normalize_axes

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
    "hard_sigmoid": "HardSigmoid",
    "leaky_relu": "LeakyRelu",
    "thresholded_relu": "ThresholdedRelu",
    **{kind: kind.capitalize() for kind in ("elu", "celu", "selu")},
    "prelu": "PRelu",
    "maximum": "Max",
    "minimum": "Min",
}
"""Kinds that ONNX has, with attributes of the same names."""


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
    export.last(op, _PLAIN[op.kind], *map(export.name, op.operands), **op.attributes)


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
    index = export.step(op, "Cast", export.name(x), to=TensorProto.INT32)
    export.last(op, "Gather", export.name(entries), index, axis=0)


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
    """With the channels on axis 1 for it"""
    x, *parameters = op.operands
    swap = _swapped(x.type.rank, 1, op.integer("axis"))
    operands = [export.moved(op, export.name(x), swap), *map(export.name, parameters)]
    y = export.step(op, "BatchNormalization", *operands, epsilon=op.number("epsilon"))
    export.result(op, export.moved(op, y, swap))


def _swapped(rank: int, first: int, second: int) -> list[int]:
    """The order of axes that exchanges two of them."""
    perm = list(range(rank))
    perm[first], perm[second] = perm[second], perm[first]
    return perm


def _normalize(export: _Export, op: Op) -> None:
    """Over the last axes, where LayerNormalization has its own parameters if they are of those axes alone"""
    x, *parameters = op.operands
    shape, axes = x.type.shape, normalize_axes(op.integers("axes"), x.type.rank)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    perm = (*kept, *axes)
    arrays = []
    for value in parameters:
        array = export.known(op, value)
        arrays.append(array.reshape((1,) * (len(shape) - array.ndim) + array.shape).transpose(perm))
    extents = [shape[axis] for axis in axes]
    inside = all(math.prod(array.shape[: len(kept)]) == 1 for array in arrays)
    numbers = [array[(0,) * len(kept)] for array in arrays] if inside else [np.ones(()), np.zeros(())]
    scale, bias = (np.ascontiguousarray(np.broadcast_to(array, extents), np.float32) for array in numbers)
    y = export.step(
        op,
        "LayerNormalization",
        export.moved(op, export.name(x), perm),
        export.array(scale, f"{op.result.name}.gamma"),
        export.array(bias, f"{op.result.name}.beta"),
        axis=len(kept),
        epsilon=op.number("epsilon"),
    )
    if not inside:
        for op_type, array, value in zip(("Mul", "Add"), arrays, parameters, strict=True):
            y = export.step(op, op_type, y, export.array(np.ascontiguousarray(array), value.name))
    export.result(op, export.moved(op, y, [int(axis) for axis in np.argsort(perm)]))


def _interpolate(export: _Export, op: Op) -> None:
    """Resize, or products with matrices of weights where no Resize has these"""
    x, *operands = op.operands
    arrays = [export.known(op, value) for value in operands]
    tables = list(zip(arrays[::2], arrays[1::2], strict=True))
    extents, scales = x.type.shape, np.ones(x.type.rank, np.float32)
    axes = []
    for number, (places, _) in zip(op.integers("axes"), tables, strict=True):
        scale = smallest_scale(extents[number], len(places))
        axes.append(Axis(number, extents[number], len(places), scale))
        scales[number] = scale
    kernel = find_kernel(axes, tables)
    if kernel is not None:
        export.last(
            op,
            "Resize",
            export.name(x),
            "",
            export.array(scales, f"{op.result.name}.scales"),
            mode=kernel.mode,
            coordinate_transformation_mode=kernel.coordinates,
            cubic_coeff_a=kernel.coefficient,
            exclude_outside=int(kernel.exclude_outside),
        )
        return
    y = export.name(x)
    for axis, (places, weights) in zip(axes, tables, strict=True):
        matrix = np.zeros((axis.before, axis.after), np.float32)
        np.add.at(matrix, (places, np.arange(axis.after)[:, None]), weights)
        swap = _swapped(x.type.rank, axis.axis, -1)
        name = export.array(matrix, f"{op.result.name}.weights")
        y = export.moved(op, export.step(op, "MatMul", export.moved(op, y, swap), name), swap)
    export.result(op, y)


def _matmul(export: _Export, op: Op) -> None:
    *perms, last = permutations(op)
    operands = [export.moved(op, export.name(x), perm) for x, perm in zip(op.operands, perms, strict=True)]
    y = export.step(op, "MatMul", *operands)
    export.result(op, export.moved(op, y, last))


def _power(export: _Export, op: Op) -> None:
    export.node("Pow", op, export.number(op, op.number("exponent")))


def _silu(export: _Export, op: Op) -> None:
    x, alpha = export.name(op.operands[0]), op.number("alpha")
    scaled = x if alpha == 1.0 else export.step(op, "Mul", x, export.number(op, alpha))
    export.last(op, "Mul", x, export.step(op, "Sigmoid", scaled))


def _mish(export: _Export, op: Op) -> None:
    x = export.name(op.operands[0])
    export.last(op, "Mul", x, export.step(op, "Tanh", export.step(op, "Softplus", x)))


def _gelu(export: _Export, op: Op) -> None:
    x = export.name(op.operands[0])
    if op.kind == "gelu":
        inner = export.step(op, "Erf", export.step(op, "Mul", x, export.number(op, math.sqrt(0.5))))
    else:
        cube = export.step(op, "Pow", x, export.number(op, 3.0))
        total = export.step(op, "Add", x, export.step(op, "Mul", cube, export.number(op, 0.044715)))
        inner = export.step(op, "Tanh", export.step(op, "Mul", total, export.number(op, math.sqrt(2 / math.pi))))
    gate = export.step(op, "Add", inner, export.number(op, 1.0))
    export.last(op, "Mul", export.step(op, "Mul", x, gate), export.number(op, 0.5))


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
    "normalize": _normalize,
    "interpolate": _interpolate,
    "matmul": _matmul,
    "power": _power,
    "silu": _silu,
    "mish": _mish,
    "gelu": _gelu,
    "gelu_tanh": _gelu,
    "transpose": lambda export, op: export.node("Transpose", op, perm=op.integers("perm")),
    "gather": lambda export, op: export.node("Gather", op, axis=op.integer("axis")),
    "concat": lambda export, op: export.node("Concat", op, axis=op.integer("axis")),
    "softmax": lambda export, op: export.node("Softmax", op, axis=op.integer("axis")),
}
