"""Resizing."""

from __future__ import annotations

import numpy as np

from sqc.frontend.export.writer import Write, Writer, swapped
from sqc.frontend.interpolation import Axis, find_kernel, smallest_scale
from sqc.ir import Op


def _interpolate(export: Writer, op: Op) -> None:
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
        swap = swapped(x.type.rank, axis.axis, -1)
        name = export.array(matrix, f"{op.result.name}.weights")
        y = export.moved(op, export.step(op, "MatMul", export.moved(op, y, swap), name), swap)
    export.result(op, y)


WRITERS: dict[str, Write] = {
    "interpolate": _interpolate,
}
