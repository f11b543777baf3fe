"""The inputs of an ONNX graph: which they are, their shapes and element types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from sqc.errors import ImportFailure
from sqc.frontend.node import FLOATS, INTEGERS, UNIT
from sqc.ir import Quantization, TensorType

_STATED = {"DequantizeLinear": (0,), "QLinearConv": (0,), "QLinearMatMul": (0, 3)}
"""The inputs of operators behind which a scale and a zero point follow."""


@dataclass(frozen=True)
class ModelInput:
    """An input of the model. ``shape[0]`` is None where the model leaves the batch open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantization: Quantization = UNIT

    @property
    def open_batch(self) -> bool:
        return None in self.shape

    def type(self, batch: int) -> TensorType:
        """The type at a batch size. All floats are float32; integers are levels of the quantization."""
        shape = tuple(batch if extent is None else extent for extent in self.shape)
        if self.dtype in FLOATS:
            return TensorType(shape, "float32")
        return TensorType(shape, self.dtype, self.quantization)


def read_inputs(graph: onnx.GraphProto, label: str, constants: Mapping[str, np.ndarray]) -> tuple[ModelInput, ...]:
    """The graph's inputs without its initializers. Raises ImportFailure that lists every input at fault."""
    stated = _stated_quantizations(graph, constants)
    problems: list[str] = []
    inputs: list[ModelInput] = []
    for info in graph.input:
        if info.name in constants:
            continue
        if not info.type.HasField("tensor_type"):
            problems.append(f"'{info.name}' is no tensor")
            continue
        tensor = info.type.tensor_type
        dtype = _dtype(tensor.elem_type)
        if dtype not in FLOATS + INTEGERS:
            problems.append(f"'{info.name}' has element type {dtype}; supported: {', '.join(FLOATS + INTEGERS)}")
        if not tensor.HasField("shape"):
            problems.append(f"'{info.name}' has no shape; set one with onnx.tools.update_model_dims")
            continue
        extents = [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim]
        if None in extents[1:]:
            names = [dim.dim_param or dim.dim_value or "?" for dim in tensor.shape.dim]
            problems.append(
                f"'{info.name}' has shape [{', '.join(map(str, names))}]; only the leading extent may be open: export "
                "the model with the others fixed, or set them with onnx.tools.update_model_dims"
            )
        inputs.append(ModelInput(info.name, dtype, tuple(extents), stated.get(info.name, UNIT)))
    if problems:
        raise ImportFailure("\n".join([f"cannot import {label}: inputs at fault", *(f"  - {p}" for p in problems)]))
    return tuple(inputs)


def _stated_quantizations(graph: onnx.GraphProto, constants: Mapping[str, np.ndarray]) -> dict[str, Quantization]:
    """What the first operator that reads a tensor with one known scale says about it, by the tensor's name."""
    stated: dict[str, Quantization] = {}
    for node in graph.node:
        for i in _STATED.get(node.op_type, ()):
            scale = constants.get(node.input[i + 1])
            zero_point = constants.get(node.input[i + 2]) if i + 2 < len(node.input) else np.array(0)
            if scale is not None and zero_point is not None and scale.size == zero_point.size == 1 and scale.all():
                quantization = Quantization.per_tensor(float(scale.item()), int(zero_point.item()))
                stated.setdefault(node.input[i], quantization)
    return stated


def _dtype(elem_type: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(elem_type).name)
    except (KeyError, ValueError):
        return f"number {elem_type}"
