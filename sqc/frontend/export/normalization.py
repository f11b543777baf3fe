"""Normalizations and softmax."""

from __future__ import annotations

import math

import numpy as np

from sqc.frontend.export.writer import Write, Writer, swapped
from sqc.ir import Op
from sqc.ops.shapes import normalize_axes


def _batch_norm(export: Writer, op: Op) -> None:
    """With the channels on axis 1 for it"""
    x, *parameters = op.operands
    swap = swapped(x.type.rank, 1, op.integer("axis"))
    operands = [export.moved(op, export.name(x), swap), *map(export.name, parameters)]
    y = export.step(op, "BatchNormalization", *operands, epsilon=op.number("epsilon"))
    export.result(op, export.moved(op, y, swap))


def _normalize(export: Writer, op: Op) -> None:
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


WRITERS: dict[str, Write] = {
    "batch_norm": _batch_norm,
    "normalize": _normalize,
    "softmax": lambda export, op: export.node("Softmax", op, axis=op.integer("axis")),
}
