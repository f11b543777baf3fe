"""Convolutions over lists of groups of activations, where many weights are zero, or none saturate 16 bits in pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sqc.ir import Value
from sqc.schedules.conv2d import Window
from sqc.schedules.epilogue_values import epilogue_of
from sqc.schedules.indexed_product import GROUP, IndexedProduct, Pixels, paying_groups
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.target import Target

_BY_TAPS = (0, 2, 3, 1)
"""From ``[O, I, kh, kw]`` to weights whose channels of a tap lie side by side."""


def lower_indexed_conv2d(pattern: Pattern, target: Target) -> Kernel | None:
    """A kernel for ``qconv2d`` in NHWC; None where lists don't pay, or activations cannot be read where they lie.

    That takes images that come with their padding, whole groups of channels, and weights that are known.
    """
    anchor = pattern.anchor
    x, w, bias = (pattern.operand[value] for value in anchor.operands)
    window, known = Window.of(pattern), pattern.constants.get(w)
    outputs, depth = w.type.shape[:2]
    if known is None or anchor.integer("groups") > 1 or depth % GROUP or window.pads:
        return None
    groups = paying_groups(known.transpose(_BY_TAPS), target, packs=False)
    if groups is None:
        return None
    epilogue, values = epilogue_of(pattern)
    batch, *image = x.type.shape
    (down, right), (sy, sx) = _steps(window, depth), window.strides
    pixels = Pixels(window.output, (sy * down, sx * right))
    problem = IndexedProduct(batch, pixels, outputs, math.prod(image), groups, epilogue)
    places = _places(window, depth)

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        starts, weights = problem.pack(constants[w].transpose(_BY_TAPS).reshape(outputs, -1), target)
        return [places[starts // GROUP], weights, *values.behind_weights(constants, bias)]

    return Kernel(problem, target, (x, *values.activations), pattern.result, pack)


def _steps(window: Window, depth: int) -> tuple[int, int]:
    """How many activations after a pixel the ones below and to the right of it start."""
    return window.input[1] * depth, depth


def _places(window: Window, depth: int) -> np.ndarray:
    """Where in an image the groups of all taps lie, from where a pixel's activations start; s32."""
    (down, right), (kh, kw), (dy, dx) = _steps(window, depth), window.kernel, window.dilations
    rows, columns = np.arange(kh) * dy * down, np.arange(kw) * dx * right
    places = rows[:, None, None] + columns[:, None] + np.arange(0, depth, GROUP)
    return places.reshape(-1).astype(np.int32)
