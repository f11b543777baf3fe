"""Faults as a careless change might bring them, one at a time, to show that the comparison would notice.

Each function puts one fault into the compiler through ``monkeypatch``; the reference stays as it is.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sqc import schedules
from sqc.codegen import library
from sqc.codegen.memory import Buffer, plan_arena
from sqc.codegen.plan import Argument
from sqc.ir import Op, Value
from sqc.ops import movement
from sqc.ops.quantization import LIMITS
from sqc.schedules import (
    _tvm,
    affine,
    axes,
    chain,
    conv2d,
    depthwise,
    epilogue,
    epilogue_values,
    fully_connected,
    indexed_conv2d,
    injective,
    magnitudes,
    matmul,
    microkernel,
    recurrent,
    views,
    windows,
)
from sqc.schedules._tvm import te, tirx
from sqc.schedules.epilogue import Requantize
from sqc.schedules.epilogue_values import EpilogueConstants, float_bits
from sqc.schedules.intrinsics import margins, packs, tables, tails
from sqc.schedules.kernel import Kernel
from sqc.schedules.views import View

Patch = pytest.MonkeyPatch
Arrays = list[np.ndarray]
Fault = Callable[[Patch], None]

FAULTS: dict[str, Fault] = {}


def fault(put_in: Fault) -> Fault:
    FAULTS[put_in.__name__] = put_in
    return put_in


# Ways to put faults in -----------------------------------------------------------------------------------------------


for module in pkgutil.walk_packages(schedules.__path__, "sqc.schedules."):
    importlib.import_module(module.name)  # one that comes after a fault was put in would keep it


def wrap(patch: Patch, original: Callable[..., Any], around: Callable[..., Any]) -> None:
    """Let ``around(original, *arguments)`` take a function's place under every name that modules have for it."""

    def replacement(*args: Any, **named: Any) -> Any:
        return around(original, *args, **named)

    for name, module in list(sys.modules.items()):
        if name.startswith("sqc."):
            for key in [key for key, value in vars(module).items() if value is original]:
                patch.setattr(module, key, replacement)


def wrap_attribute(patch: Patch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """The same for ``owner.name`` alone."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **named: around(original, *args, **named))


def change_requantizes(patch: Patch, change: Callable[[str, list[int], list[int]], None]) -> None:
    """Let ``change(dtype, limits, zero points of the terms)`` alter every requantize behind an anchor."""

    def changed(step: Requantize, numbers: Sequence[int]) -> list[int]:
        zero_point, *limits = numbers[:3]
        zeros = list(numbers[3:])
        if not step.moderate:
            limits = [int(np.int32(bits).view(np.float32)) + zero_point for bits in limits]
        change(step.dtype, limits, zeros)
        return [zero_point, *(limits if step.moderate else [float_bits(n - zero_point) for n in limits]), *zeros]

    def around(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        structure, values = original(*args, **named)
        steps, numbers = [], list(values.parameters)
        first = 0
        for step in structure.steps:
            if isinstance(step, Requantize):
                own = slice(first, first := first + 3 + len(step.terms))
                numbers[own] = changed(step, numbers[own])
                step = dataclasses.replace(step, full=False)
            steps.append(step)
        structure = dataclasses.replace(structure, steps=tuple(steps))
        return structure, dataclasses.replace(values, parameters=tuple(numbers))

    wrap(patch, epilogue_values.epilogue_of, around)


def change_parameters(patch: Patch, change: Callable[[list[int]], list[int]], *lowers: Callable[..., Kernel]) -> None:
    """Change the integers that the kernels of anchors take at run time, the anchor's own before the epilogue's."""

    def around(original: Callable[..., Kernel], *args: Any) -> Kernel:
        kernel = original(*args)

        def pack(constants: Mapping[Value, np.ndarray]) -> Arrays:
            *arrays, parameters = kernel.pack(constants)
            return [*arrays, np.array(change(parameters.tolist()), np.int32)]

        return dataclasses.replace(kernel, pack=pack)

    for lower in lowers:
        wrap(patch, lower, around)


def change_weights(patch: Patch, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change weights before they are packed."""
    for pack in (microkernel.pack_weights, depthwise.pack_rows):
        wrap(patch, pack, lambda original, w, *how: original(change(w), *how))


def change_numbers(patch: Patch, kinds: Sequence[str], change: Callable[[list[int]], list[int]]) -> None:
    """Change the integers that the ops of ``kinds`` take at run time, where no anchor stands before them."""

    def around(original: Callable[[Op], tuple[list[int], list[float]]], op: Op) -> tuple[list[int], list[float]]:
        integers, scales = original(op)
        return (change(integers) if op.kind in kinds else integers), scales

    wrap(patch, chain._run_time_numbers, around)


def round_by(patch: Patch, rounding: Callable[[Any], Any]) -> None:
    """Round to whole numbers otherwise, kept as floats or converted."""
    patch.setattr(te, "round", rounding)
    wrap(patch, _tvm.rounded, lambda original, value: rounding(value).astype("int32"))


# Rounding and float arithmetic ---------------------------------------------------------------------------------------


@fault
def ties_rounded_up(patch: Patch) -> None:
    round_by(patch, lambda x: te.floor(x + te.const(0.5, "float32")))


@fault
def truncated_instead_of_rounded(patch: Patch) -> None:
    round_by(patch, te.trunc)


@fault
def products_contracted_into_fma(patch: Patch) -> None:
    wrap(patch, _tvm.fence, lambda original, value: value)


@fault
def terms_rounded_before_their_sum(patch: Patch) -> None:
    def rounded(original: Callable[..., Any], *lists: Any) -> Any:
        parts = [te.round(original(*([item] for item in items))) for items in zip(*lists, strict=True)]
        return sum(parts[1:], parts[0])

    wrap(patch, epilogue.weighted_sum, rounded)


@fault
def terms_summed_from_the_last(patch: Patch) -> None:
    wrap(patch, epilogue.weighted_sum, lambda original, *lists: original(*(items[::-1] for items in lists)))


@fault
def reciprocal_instead_of_division(patch: Patch) -> None:
    def quantize(step: Any, sources: Any, numbers: Any) -> View:
        inverse = te.const(1.0, "float32") / numbers.scale(0)
        return View(
            sources[0].shape,
            step.dtype,
            lambda i: injective._rounded(sources[0].read(i) * inverse, numbers, step.dtype),
        )

    patch.setitem(injective.FORMULAS, "quantize", quantize)


@fault
def nan_clamped_to_the_other_end(patch: Patch) -> None:
    def swapped(original: Callable[..., Any], a: Any, b: Any, *rest: Any) -> Any:
        return original(a, b, *rest) if isinstance(b, list) else original(b, a, *rest)  # a list holds axes to reduce

    wrap_attribute(patch, te, "max", swapped)


# Clamps and zero points ----------------------------------------------------------------------------------------------


@fault
def upper_clamp_off_by_one(patch: Patch) -> None:
    def change(dtype: str, limits: list[int], zeros: list[int]) -> None:
        limits[1] -= 1

    change_requantizes(patch, change)


@fault
def lower_clamp_forgotten(patch: Patch) -> None:
    def change(dtype: str, limits: list[int], zeros: list[int]) -> None:
        limits[0] = LIMITS[dtype][0]

    change_requantizes(patch, change)


@fault
def zero_point_of_the_residual_dropped(patch: Patch) -> None:
    def change(dtype: str, limits: list[int], zeros: list[int]) -> None:
        zeros[1:] = [0 for _ in zeros[1:]]

    change_requantizes(patch, change)


@fault
def zero_point_of_a_factor_dropped(patch: Patch) -> None:
    change_numbers(patch, ["qmul"], lambda integers: [integers[0], 0])


@fault
def zero_point_of_a_product_dropped(patch: Patch) -> None:
    change_parameters(patch, lambda numbers: [0, *numbers[1:]], matmul.lower_product)


@fault
def zero_point_of_a_row_dropped(patch: Patch) -> None:
    def around(original: Callable[..., Any], accumulator: Any, pair: Any, columns: Any) -> Any:
        return original(accumulator, (pair[0], te.const(0.0, "float32")), columns)

    wrap(patch, epilogue.rescaled, around)


@fault
def zero_point_of_dequantize_dropped(patch: Patch) -> None:
    change_numbers(patch, ["dequantize"], lambda integers: [0] * len(integers))


@fault
def zero_point_of_a_mean_dropped(patch: Patch) -> None:
    change_numbers(patch, ["qreduce_sum"], lambda integers: [0] * len(integers))


# Padding and counting ------------------------------------------------------------------------------------------------


@fault
def convolutions_padded_with_zeros(patch: Patch) -> None:
    change_parameters(patch, lambda numbers: [0, *numbers[1:]], conv2d.lower_conv2d, depthwise.lower_depthwise)


@fault
def average_pool_counts_its_padding(patch: Patch) -> None:
    patch.setattr(windows.Axis, "count", lambda axis, output: axis.kernel)


@fault
def max_pool_padded_with_the_edge_beyond(patch: Patch) -> None:
    def position(axis: windows.Axis, output: Any, tap: Any) -> Any:
        return output * axis.stride + tap * axis.dilation - max(0, axis.before - 1)

    patch.setattr(windows.Axis, "position", position)


# Constants -----------------------------------------------------------------------------------------------------------


@fault
def bias_dropped(patch: Patch) -> None:
    wrap(patch, microkernel.pack_bias, lambda original, bias: original(np.zeros_like(bias)))


@fault
def multiplier_of_the_next_channel(patch: Patch) -> None:
    def pack(original: Callable[..., Arrays], *args: Any) -> Arrays:
        return [np.roll(array, 1) for array in original(*args)]

    wrap_attribute(patch, EpilogueConstants, "pack", pack)


@fault
def table_indexed_by_signed_bytes(patch: Patch) -> None:
    def pack(original: Callable[..., Arrays], *args: Any) -> Arrays:
        return [np.roll(array, 128) if array.dtype == np.uint8 else array for array in original(*args)]

    wrap_attribute(patch, EpilogueConstants, "pack", pack)


@fault
def sums_of_interpolation_in_sixteen_bits(patch: Patch) -> None:
    wrap(patch, chain._is_narrow, lambda original, weights: True)


@fault
def axes_behind_steps_merged(patch: Patch) -> None:
    wrap(patch, axes._whole, lambda original, rank, changed, joins: original(rank, changed, [True] * rank))


@fault
def table_halves_exchanged(patch: Patch) -> None:
    wrap(patch, tables._is_negative, lambda original, vector, lanes: tirx.Not(original(vector, lanes)))


@fault
def weights_swapped_in_the_tail_of_their_depth(patch: Patch) -> None:
    def pack(original: Callable[..., np.ndarray], w: np.ndarray, dot: Any) -> np.ndarray:
        packed = original(w, dot)
        packed[..., -1, :, :] = packed[..., -1, :, ::-1].copy()
        return packed

    wrap(patch, microkernel.pack_weights, pack)


@fault
def least_weight_saturated(patch: Patch) -> None:
    change_weights(patch, lambda w: np.maximum(w, -127))


@fault
def sums_started_one_off(patch: Patch) -> None:
    def around(original: Callable[..., affine.Affine | None], *args: Any) -> affine.Affine | None:
        found = original(*args)
        return found and dataclasses.replace(found, starts=found.starts + 1)

    wrap(patch, affine.fit, around)


@fault
def sums_taken_for_moderate(patch: Patch) -> None:
    wrap(patch, magnitudes.is_moderate, lambda original, *rest: True)


@fault
def packs_left_in_the_order_of_registers(patch: Patch) -> None:
    def packed(original: Callable[..., Any], parts: Any, *rest: Any) -> Any:
        return original([parts[0], *parts[:0:-1]] if len(parts) > 2 else parts[::-1], *rest)

    wrap(patch, packs._packed, packed)


@fault
def shared_rows_without_their_shift(patch: Patch) -> None:
    def pack(original: Callable[..., Any], w: np.ndarray, window: Any, format: Any) -> np.ndarray:
        packed = original(w, window, format)
        packed[:, 1:] = packed[:, :1]
        return packed

    wrap(patch, depthwise.pack_rows, pack)


@fault
def joined_taps_one_off(patch: Patch) -> None:
    def extent(original: Callable[..., Any], x: Any, window: Any, *rest: Any) -> Any:
        before = (window.before[0], window.before[1] + 1)
        return original(x, dataclasses.replace(window, before=before), *rest)

    wrap(patch, conv2d.stage_rows, extent)


# Shapes, places, memory ----------------------------------------------------------------------------------------------


@fault
def last_row_missing(patch: Patch) -> None:
    def schedule(original: Callable[..., Any], problem: fully_connected.MatrixProduct, *how: Any) -> Any:
        structure = problem.epilogue
        if problem.rows == 1 or structure.operands:
            return original(problem, *how)
        shape = (problem.rows - 1, problem.columns)
        steps = dataclasses.replace(structure, shape=shape)
        return original(dataclasses.replace(problem, rows=problem.rows - 1, epilogue=steps), *how)

    wrap_attribute(patch, fully_connected.MatrixProduct, "schedule", schedule)


@fault
def last_lane_of_a_tail_missing(patch: Patch) -> None:
    def pieces(original: Callable[..., Any], loop: Any, body: Any, lanes: int) -> Any:
        return original(loop, body, lanes - 1 if lanes > 1 else lanes)

    wrap(patch, tails._pieces, pieces)


@fault
def groups_of_the_next_tap(patch: Patch) -> None:
    wrap(patch, indexed_conv2d._places, lambda original, *where: np.roll(original(*where), 1))


@fault
def margins_of_zeros(patch: Patch) -> None:
    def fill(original: Callable[..., Any], padded: Any, around: Any, *tasks: Any) -> Any:
        return original(padded, dataclasses.replace(around, value=0), *tasks)

    wrap(patch, margins._filled, fill)


@fault
def last_share_of_margins_missing(patch: Patch) -> None:
    def fill(original: Callable[..., Any], padded: Any, around: Any, task: Any, tasks: int) -> Any:
        return original(padded, around, task, tasks + 1)

    wrap(patch, margins._filled, fill)


@fault
def gates_of_the_next_unit(patch: Patch) -> None:
    def read(original: Callable[..., Any], gates: Any, sources: Any, shape: Any, index: Any) -> None:
        original(gates, sources, shape, (index[0], (index[1] + 1) % shape[1]))

    wrap_attribute(patch, recurrent._Gates, "__init__", read)


@fault
def concat_off_by_one(patch: Patch) -> None:
    def concatenate(original: Callable[..., View], xs: Sequence[View], axis: int) -> View:
        whole = original(xs, axis)

        def read(index: Any) -> Any:
            moved = list(index)
            moved[axis] = (index[axis] + 1) % whole.shape[axis]
            return whole.read(moved)

        return View(whole.shape, whole.dtype, read)

    wrap(patch, views.concatenate, concatenate)


@fault
def permutation_inverted(patch: Patch) -> None:
    def transpose(original: Callable[..., View], x: View, perm: Sequence[int]) -> View:
        # Shapes are those of the permutation, elements those of its inverse, as far as they exist.
        right = original(x, perm)

        def read(index: Any) -> Any:
            return x.read([index[axis] % extent for axis, extent in zip(perm, x.shape, strict=True)])

        return View(right.shape, right.dtype, read)

    wrap(patch, views.transpose, transpose)


@fault
def tiles_of_other_axes(patch: Patch) -> None:
    def axes(original: Callable[..., Any], ops: Any) -> Any:
        found = original(ops)
        return found and (found[0][::-1], found[1])

    wrap(patch, movement.turned_axes, axes)


@fault
def all_rounds_over_the_first_samples(patch: Patch) -> None:
    def argument(original: Callable[[Argument], str], argument: Argument) -> str:
        return original(dataclasses.replace(argument, stride=0))

    wrap(patch, library._argument, argument)


@fault
def memory_reused_a_step_too_early(patch: Patch) -> None:
    def plan(original: Callable[..., Any], buffers: Sequence[Buffer]) -> Any:
        return original([dataclasses.replace(b, last=max(b.first, b.last - 1)) for b in buffers])

    wrap(patch, plan_arena, plan)
