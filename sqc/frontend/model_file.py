"""From a path, bytes or a proto to a ModelProto that is whole, valid and of a known operator set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, inliner

from sqc.errors import ImportFailure

OLDEST_OPSET = 9
DEFAULT_DOMAINS = ("", "ai.onnx")


def newest_opset() -> int:
    """The newest operator set that the installed onnx package defines."""
    return int(onnx.defs.onnx_opset_version())


def read_model(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model, with external data loaded and its functions inlined, and what messages call it.

    Raises ImportFailure, naming the file, if it is missing, empty, damaged, or no ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        model, label = onnx.ModelProto(), "the model"
        model.CopyFrom(source)
        folder = None
    elif isinstance(source, bytes | bytearray | memoryview):
        label, folder = "the model", None
        model = _parse(bytes(source), label)
    else:
        path = Path(source)
        label, folder = f"'{path}'", path.parent
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImportFailure(f"cannot read {label}: {error.strerror or error}") from error
        model = _parse(data, label)
    _require_structure(model, label)
    _load_external_data(model, label, folder)
    if model.functions:
        model = _inline(model, label)
    for node in model.graph.node:
        if node.domain in DEFAULT_DOMAINS:
            node.domain = ""
    return model, label


def opset_of(model: onnx.ModelProto, label: str) -> int:
    """The operator set of the default domain. Raises ImportFailure if it is none that sqc imports."""
    versions = [entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS]
    if not versions:
        raise ImportFailure(f"{label} names no operator set of the default domain; the file may be truncated")
    if not OLDEST_OPSET <= versions[0] <= newest_opset():
        raise ImportFailure(
            f"{label} uses operator set {versions[0]}; sqc imports {OLDEST_OPSET} to {newest_opset()} (the newest that "
            f"onnx {onnx.__version__} knows); convert it with onnx.version_converter or export it again"
        )
    return int(versions[0])


def initializers(graph: onnx.GraphProto, label: str) -> dict[str, np.ndarray]:
    """All initializers as arrays. Raises ImportFailure naming one whose data do not fit its shape."""
    arrays: dict[str, np.ndarray] = {}
    for tensor in graph.initializer:
        try:
            array = onnx.numpy_helper.to_array(tensor)
            array.flags.writeable = False  # so that graphs share it
            arrays[tensor.name] = array
        except (ValueError, TypeError, KeyError) as error:
            raise ImportFailure(f"{label}: the data of initializer '{tensor.name}' are damaged: {error}") from error
    if graph.sparse_initializer:
        names = ", ".join(f"'{tensor.values.name}'" for tensor in graph.sparse_initializer)
        raise ImportFailure(f"{label}: sparse initializers are not supported ({names}); store them densely")
    return arrays


def _parse(data: bytes, label: str) -> onnx.ModelProto:
    if not data:
        raise ImportFailure(f"{label} is empty (0 bytes)")
    if data.startswith(b"version https://git-lfs"):
        raise ImportFailure(f"{label} is a Git LFS pointer, not the model itself; fetch it with 'git lfs pull'")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ImportFailure(
            f"{label} ({len(data)} bytes) cannot be parsed: it is truncated, damaged, or no ONNX model"
        ) from error
    return model


def _require_structure(model: onnx.ModelProto, label: str) -> None:
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ImportFailure(f"{label} holds no ONNX graph: it is truncated, damaged, or no ONNX model")
    if not model.graph.output:
        raise ImportFailure(f"{label} has no outputs; the file may be truncated")


def _load_external_data(model: onnx.ModelProto, label: str, folder: Path | None) -> None:
    tensors = external_data_helper._get_all_tensors(model)
    external = [tensor for tensor in tensors if external_data_helper.uses_external_data(tensor)]
    if not external:
        return
    if folder is None:
        names = ", ".join(f"'{tensor.name}'" for tensor in external[:5])
        raise ImportFailure(f"{label} keeps tensors in other files ({names}); give the path of the model instead")
    for tensor in external:
        where = external_data_helper.ExternalDataInfo(tensor).location
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ImportFailure(
                f"{label} keeps the tensor '{tensor.name}' in '{folder / where}', which cannot be read: {error}"
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _inline(model: onnx.ModelProto, label: str) -> onnx.ModelProto:
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # C++ errors come as RuntimeError and others
        raise ImportFailure(f"{label}: its functions cannot be inlined: {error}") from error
