"""What goes into a model and comes out: specifications, and checks of arrays against them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqc.errors import InputError

Array = NDArray[Any]

_bytes = ctypes.c_char.from_buffer
_address = ctypes.addressof


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: its name in the ONNX model, element type and shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


def specs(description: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    """Reads specifications from the description of a model."""
    return tuple(TensorSpec(t["name"], np.dtype(t["dtype"]), tuple(t["shape"])) for t in description)


def address(array: Array) -> int:
    """Where the data of a contiguous array lie."""
    buffer: Any = array
    try:
        return _address(_bytes(buffer))  # a third of what array.ctypes takes
    except TypeError:  # not writable
        return array.ctypes.data


def ready_address(array: Any, spec: TensorSpec) -> int:
    """Where the data of an array lie that is what ``spec`` says and that kernels can read in place; else 0."""
    if type(array) is not np.ndarray or array.shape != spec.shape or array.dtype != spec.dtype:
        return 0
    buffer: Any = array
    try:
        start = _address(_bytes(buffer))
    except TypeError:  # not contiguous, or not writable
        start = array.ctypes.data if array.flags.c_contiguous else 0
    return 0 if start % spec.dtype.alignment else start


def order(arrays: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> list[Any]:
    """The values of a dict in the order of the inputs. Raises InputError for names that are missing or unknown."""
    names = [spec.name for spec in inputs]
    unknown = [name for name in arrays if name not in names]
    missing = [name for name in names if name not in arrays]
    if unknown or missing:
        parts = [f"unknown: {', '.join(map(repr, unknown))}"] * bool(unknown)
        parts += [f"missing: {', '.join(map(repr, missing))}"] * bool(missing)
        raise InputError(f"inputs {'; '.join(parts)}. The model takes {', '.join(map(repr, names))}")
    return [arrays[name] for name in names]


def make_ready(arrays: Sequence[Any], variants: Sequence[Sequence[TensorSpec]]) -> list[Array]:
    """Checks arrays against the inputs of each variant and copies those that are not contiguous.

    Raises InputError, saying which input differs from what the model takes.
    """
    inputs = variants[0]
    if len(arrays) != len(inputs):
        raise InputError(f"the model takes {len(inputs)} input(s) ({', '.join(map(str, inputs))}), not {len(arrays)}")
    ready = [_check_type(array, spec) for array, spec in zip(arrays, inputs, strict=True)]
    for index, (array, spec) in enumerate(zip(ready, inputs, strict=True)):
        shapes = list(dict.fromkeys(variant[index].shape for variant in variants))
        if array.shape not in shapes:
            raise InputError(
                f"input {spec.name!r} has shape {array.shape}, the model takes {' or '.join(map(str, shapes))}"
            )
    if tuple(array.shape for array in ready) not in [tuple(spec.shape for spec in v) for v in variants]:
        raise InputError(f"inputs have different batch sizes: {', '.join(str(array.shape) for array in ready)}")
    return ready


def _check_type(value: Any, spec: TensorSpec) -> Array:
    if not isinstance(value, np.ndarray) and not hasattr(value, "__array_interface__"):
        raise InputError(f"input {spec.name!r} is a {type(value).__name__}, not a numpy array ({spec})")
    array = np.asarray(value)
    if array.dtype != spec.dtype:
        raise InputError(
            f"input {spec.name!r} has type {array.dtype}, the model takes {spec.dtype}. "
            f"Types are never converted silently: use .astype(np.{spec.dtype})"
        )
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])


def count_samples(array: Any, spec: TensorSpec, samples: int) -> int:
    """How many samples an array holds, where one of ``spec`` holds ``samples``; 0 if that is no whole number."""
    shape = np.shape(array)
    if shape[1:] != spec.shape[1:] or not shape:
        return 0
    count, rest = divmod(shape[0] * samples, spec.shape[0])
    return 0 if rest else count


def resize(spec: TensorSpec, samples: int, count: int) -> TensorSpec:
    """The specification of ``count`` samples, from that of ``samples``."""
    return TensorSpec(spec.name, spec.dtype, (spec.shape[0] // samples * count, *spec.shape[1:]))


def check_outputs(out: Any, outputs: Sequence[TensorSpec]) -> tuple[list[Array], list[int]]:
    """The arrays that a caller wants the outputs in, and where they lie. Raises InputError if they cannot take them."""
    arrays = [out] if type(out) is np.ndarray else list(out)
    if len(arrays) != len(outputs):
        raise InputError(f"out has {len(arrays)} array(s), the model has {len(outputs)} output(s)")
    addresses = []
    for array, spec in zip(arrays, outputs):  # noqa: B905 (equally long)
        start = ready_address(array, spec)
        addresses.append(start)
        if not start or not array.flags.writeable:
            raise InputError(
                f"the out array of output {spec.name!r} must be a writable, contiguous numpy array of {spec}"
            )
    return arrays, addresses


def check_overlap(
    outputs: Sequence[Array], targets: Sequence[int], arrays: Sequence[Array], sources: Sequence[int]
) -> None:
    """Raises InputError if an output, by its address in `targets`, shares memory with an input, in `sources`."""
    for output, target in zip(outputs, targets):  # noqa: B905 (equally long)
        for array, source in zip(arrays, sources):  # noqa: B905 (equally long)
            if target < source + array.nbytes and source < target + output.nbytes:
                raise InputError("an out array shares memory with an input, which the model reads while it writes")
