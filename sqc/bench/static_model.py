"""ONNX models as engines like them best: a fixed batch, constant weights, operators that take per-channel scales."""

from __future__ import annotations

from pathlib import Path

from sqc.errors import ImportFailure, InputError
from sqc.frontend.node import label

PER_CHANNEL_OPSET = 13
MODERN_IR = 8


def static_model(path: Path, batch: int) -> bytes:
    """The model at ``path`` with its open leading dimensions set to ``batch``; nodes without a name get sqc's for them.

    Raises ImportFailure if the file is no ONNX model, InputError if the model fixes another batch.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import version_converter

    try:
        model = onnx.load(str(path))
    except DecodeError as error:
        raise ImportFailure(f"{path} is not an ONNX model, or damaged: {error}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, MODERN_IR)
    for node in model.graph.node:
        node.name = label(node)

    symbols: set[str] = set()
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if not dimensions:
            continue
        if not dimensions[0].dim_value:
            symbols.add(dimensions[0].dim_param)
            dimensions[0].dim_value = batch
        elif dimensions[0].dim_value != batch:
            found = dimensions[0].dim_value
            raise InputError(f"{path} fixes the batch of input '{value.name}' at {found}; batch {batch} cannot be had")
    if symbols:
        del model.graph.value_info[:]  # inferred for the open batch
    for value in model.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param and dimension.dim_param in symbols:
                dimension.dim_value = batch
    if any(opset.domain in ("", "ai.onnx") and opset.version < PER_CHANNEL_OPSET for opset in model.opset_import):
        model = version_converter.convert_version(model, PER_CHANNEL_OPSET)
    return bytes(model.SerializeToString())
