"""Kernels: from an op, or a fused op, through ``te.compute`` and ``Schedule`` to an object file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, Value
from sqc.schedules.kernel import Kernel, Pattern, Tunable
from sqc.schedules.margins import Margins
from sqc.schedules.microkernel import Tile
from sqc.schedules.target import Target

__all__ = ["Kernel", "Target", "Tile", "Tunable", "lower"]


def lower(
    op: Op,
    target: Target,
    constants: Mapping[Value, np.ndarray] = MappingProxyType({}),
    tuned: Mapping[str, Tile] = MappingProxyType({}),
) -> Kernel:
    """The kernel of an integer op. Raises CompileError if no kernel computes it.

    ``constants`` holds those operands that are known already. A kernel may rely on their size, and on what its problem
    tells of their values.
    ``tuned`` gives tiles by workload. One that the problem does not admit, and a missing one, is the model's choice.
    """
    kernel = _lower(op, target, constants)
    if not isinstance(kernel.problem, Tunable):
        return kernel
    tiles = _tiles(kernel.problem, target)
    tile = tuned.get(kernel.workload)
    return replace(kernel, tile=tile if tile is not None and tile in tiles else tiles[0])


@lru_cache(maxsize=128)
def _tiles(problem: Tunable, target: Target) -> list[Tile]:
    # Estimating thousands of tiles takes longer than all else here, and models repeat their layers.
    return problem.tiles(target)


def _lower(op: Op, target: Target, constants: Mapping[Value, np.ndarray]) -> Kernel:
    pattern = Pattern.of(op, constants)
    if pattern.pad is not None:
        kernel = _lower_pattern(op, pattern.without_pad(), target, constants)
        return replace(kernel, result=op.result, margins=Margins.of(pattern.pad))
    return _lower_pattern(op, pattern, target, constants)


def _lower_pattern(op: Op, pattern: Pattern, target: Target, constants: Mapping[Value, np.ndarray]) -> Kernel:
    anchor = pattern.anchor
    if anchor.kind == "qfully_connected":
        from sqc.schedules.fully_connected import lower_fully_connected

        return lower_fully_connected(pattern, target)
    if anchor.kind == "qmatmul":
        from sqc.schedules.matmul import lower_product

        return lower_product(pattern, target)
    if anchor.kind == "qconv2d" and anchor.string("layout") == "NHWC":
        return _convolution(pattern, target)
    if anchor.kind == "conv2d":
        from sqc.schedules.float_conv2d import lower_float_conv2d

        return lower_float_conv2d(op, target)
    if anchor.kind == "fully_connected":
        from sqc.schedules.float_conv2d import lower_float_fully_connected

        return lower_float_fully_connected(op, target)
    if anchor.kind == "matmul":
        from sqc.schedules.float_matmul import lower_float_product

        return lower_float_product(op, target)
    if anchor.kind == "restore_weights" and [part.kind for part in pattern.tail] == ["fully_connected"]:
        from sqc.schedules.stored_weights import lower_stored_product

        return lower_stored_product(pattern, target)
    if anchor.kind == "dynamic_parameters":
        from sqc.schedules.dynamic import lower_dynamic_parameters

        return lower_dynamic_parameters(op, target)
    if anchor.kind == "softmax":
        from sqc.schedules.softmax import lower_softmax

        return lower_softmax(op, target)
    if anchor.kind in ("normalize", "qnormalize"):
        from sqc.schedules.normalize import lower_normalize

        return lower_normalize(op, target)
    if anchor.kind == "qsoftmax":
        from sqc.schedules.integer_softmax import lower_integer_softmax

        return lower_integer_softmax(op, target)
    from sqc.schedules.axes import KINDS
    from sqc.schedules.chain import lower_chain
    from sqc.schedules.transposition import lower_transposition

    if anchor.kind in ("transpose", "reshape") and (kernel := lower_transposition(pattern, target)):
        return kernel

    if all(part.kind in KINDS for part in (anchor, *pattern.tail)):
        return lower_chain(op, target, constants)
    raise CompileError(f"no kernel computes {op.label()} (anchor {anchor.kind})")


def _convolution(pattern: Pattern, target: Target) -> Kernel:
    anchor = pattern.anchor
    x, w = (value.type.shape for value in anchor.operands[:2])
    if anchor.integer("groups") == x[3] == w[0] > 1:
        from sqc.schedules.depthwise import lower_depthwise

        return lower_depthwise(pattern, target)
    plain = anchor.integer("groups") == 1 and not any(anchor.integers("pads"))
    if plain and w[2:] == anchor.integers("strides") == (1, 1):
        from sqc.schedules.fully_connected import lower_pointwise

        return lower_pointwise(pattern, target)
    from sqc.schedules.conv2d import lower_conv2d
    from sqc.schedules.indexed_conv2d import lower_indexed_conv2d

    return lower_indexed_conv2d(pattern, target) or lower_conv2d(pattern, target)
