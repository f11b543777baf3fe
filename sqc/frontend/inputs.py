"""The inputs of an ONNX graph: which they are, their shapes and element types."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from sqc.errors import ImportFailure
from sqc.frontend.node import FLOATS, INTEGERS, UNIT
from sqc.ir import TensorType


@dataclass(frozen=True)
class ModelInput:
    """An input of the model. ``shape[0]`` is None where the model leaves the batch open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def open_batch(self) -> bool:
        return None in self.shape

    def type(self, batch: int) -> TensorType:
        """The type at a batch size. All floats are float32; integers stand for themselves."""
        shape = tuple(batch if extent is None else extent for extent in self.shape)
        if self.dtype in FLOATS:
            return TensorType(shape, "float32")
        return TensorType(shape, self.dtype, UNIT)


def read_inputs(graph: onnx.GraphProto, label: str) -> tuple[ModelInput, ...]:
    """The graph's inputs without its initializers. Raises ImportFailure that lists every input at fault."""
    constants = {tensor.name for tensor in graph.initializer}
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
        inputs.append(ModelInput(info.name, dtype, tuple(extents)))
    if problems:
        raise ImportFailure("\n".join([f"cannot import {label}: inputs at fault", *(f"  - {p}" for p in problems)]))
    return tuple(inputs)


def _dtype(elem_type: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(elem_type).name)
    except (KeyError, ValueError):
        return f"number {elem_type}"
