"""Faults as a careless change might bring them, one at a time, to show that the comparison would notice.

Each function puts one fault into the compiler through ``monkeypatch``; the reference stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sqc.codegen import build
from sqc.codegen.memory import Buffer
from sqc.ir import Op, Value
from sqc.schedules import (
    _tvm,
    chain,
    conv2d,
    depthwise,
    epilogue,
    fully_connected,
    injective,
    views,
    windows,
)
from sqc.schedules._tvm import te
from sqc.schedules.epilogue import EpilogueConstants
from sqc.schedules.intrinsics import packs
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


def wrap(patch: Patch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace ``owner.name`` by ``around(original, *arguments)``."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **named: around(original, *args, **named))


def change_epilogues(patch: Patch, change: Callable[[EpilogueConstants], EpilogueConstants]) -> None:
    """Change the run-time numbers behind every anchor."""

    def around(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        structure, values = original(*args, **named)
        return structure, change(values)

    for module in (fully_connected, conv2d, depthwise):
        wrap(patch, module, "epilogue_of", around)


def change_packed(patch: Patch, change: Callable[[Arrays], Arrays], *owners: tuple[Any, str]) -> None:
    """Change the arrays that kernels are given."""

    def around(original: Callable[..., Kernel], *args: Any) -> Kernel:
        kernel = original(*args)
        return dataclasses.replace(kernel, pack=lambda constants: change([a.copy() for a in kernel.pack(constants)]))

    for module, name in owners:
        wrap(patch, module, name, around)


def change_numbers(patch: Patch, kinds: Sequence[str], change: Callable[[list[int]], list[int]]) -> None:
    """Change the integers that the ops of ``kinds`` take at run time, where no anchor stands before them."""

    def around(original: Callable[[Op], tuple[list[int], list[float]]], op: Op) -> tuple[list[int], list[float]]:
        integers, scales = original(op)
        return (change(integers) if op.kind in kinds else integers), scales

    wrap(patch, chain, "_run_time_numbers", around)


CONVOLUTIONS = ((conv2d, "lower_conv2d"), (depthwise, "lower_depthwise"))
ANCHORS = (*CONVOLUTIONS, (fully_connected, "_lower"))


def with_entry(arrays: Arrays, index: int, change: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    arrays[index] = np.ascontiguousarray(change(arrays[index]))
    return arrays


# Rounding and float arithmetic ---------------------------------------------------------------------------------------


@fault
def ties_rounded_up(patch: Patch) -> None:
    patch.setattr(te, "round", lambda x: te.floor(x + te.const(0.5, "float32")))


@fault
def truncated_instead_of_rounded(patch: Patch) -> None:
    patch.setattr(te, "round", te.trunc)


@fault
def products_contracted_into_fma(patch: Patch) -> None:
    patch.setattr(_tvm, "fence", lambda value: value)


@fault
def terms_rounded_before_their_sum(patch: Patch) -> None:
    original = epilogue.weighted_sum

    def rounded(values: Any, zeros: Any, multipliers: Any) -> Any:
        parts = [te.round(original([v], [z], [m])) for v, z, m in zip(values, zeros, multipliers, strict=True)]
        return sum(parts[1:], parts[0])

    for module in (epilogue, injective):
        patch.setattr(module, "weighted_sum", rounded)


@fault
def terms_summed_from_the_last(patch: Patch) -> None:
    for module in (epilogue, injective):
        wrap(patch, module, "weighted_sum", lambda original, *lists: original(*(items[::-1] for items in lists)))


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
    wrap(patch, te, "max", lambda original, a, b, *rest: original(b, a, *rest))


# Clamps and zero points ----------------------------------------------------------------------------------------------


@fault
def upper_clamp_off_by_one(patch: Patch) -> None:
    def change(values: EpilogueConstants) -> EpilogueConstants:
        numbers = list(values.parameters)
        numbers[2:3] = [number - 1 for number in numbers[2:3]]
        return dataclasses.replace(values, parameters=tuple(numbers))

    change_epilogues(patch, change)


@fault
def lower_clamp_forgotten(patch: Patch) -> None:
    def change(values: EpilogueConstants) -> EpilogueConstants:
        numbers = list(values.parameters)
        if numbers:
            numbers[1] = -numbers[0]
        return dataclasses.replace(values, parameters=tuple(numbers))

    change_epilogues(patch, change)


@fault
def zero_point_of_the_residual_dropped(patch: Patch) -> None:
    def change(values: EpilogueConstants) -> EpilogueConstants:
        numbers = list(values.parameters)
        if values.activations:
            numbers[4] = 0
        return dataclasses.replace(values, parameters=tuple(numbers))

    change_epilogues(patch, change)


@fault
def zero_point_of_a_factor_dropped(patch: Patch) -> None:
    change_numbers(patch, ["qmul"], lambda integers: [integers[0], 0])


@fault
def zero_point_of_dequantize_dropped(patch: Patch) -> None:
    change_numbers(patch, ["dequantize"], lambda integers: [0] * len(integers))


@fault
def zero_point_of_a_mean_dropped(patch: Patch) -> None:
    change_numbers(patch, ["qreduce_sum"], lambda integers: [0] * len(integers))


# Padding and counting ------------------------------------------------------------------------------------------------


@fault
def convolutions_padded_with_zeros(patch: Patch) -> None:
    def change(arrays: Arrays) -> Arrays:
        arrays[-1][0] = 0
        return arrays

    change_packed(patch, change, *CONVOLUTIONS)


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
    change_packed(patch, lambda arrays: with_entry(arrays, 1, np.zeros_like), *ANCHORS)


@fault
def multiplier_of_the_next_channel(patch: Patch) -> None:
    def pack(values: EpilogueConstants, constants: Mapping[Value, np.ndarray]) -> Arrays:
        return [np.roll(constants[value], 1) if value.type.rank else constants[value] for value in values.constants]

    patch.setattr(EpilogueConstants, "pack", pack)


@fault
def table_indexed_by_signed_bytes(patch: Patch) -> None:
    def pack(values: EpilogueConstants, constants: Mapping[Value, np.ndarray]) -> Arrays:
        arrays = [constants[value] for value in values.constants]
        return [np.ascontiguousarray(np.roll(array, 128) if array.dtype == np.uint8 else array) for array in arrays]

    patch.setattr(EpilogueConstants, "pack", pack)


@fault
def weights_swapped_in_the_tail_of_their_depth(patch: Patch) -> None:
    def pack(original: Callable[..., np.ndarray], w: np.ndarray, dot: Any) -> np.ndarray:
        packed = original(w, dot)
        packed[..., -1, :, :] = packed[..., -1, :, ::-1].copy()
        return packed

    for module in (fully_connected, conv2d):
        wrap(patch, module, "pack_weights", pack)


@fault
def least_weight_saturated(patch: Patch) -> None:
    change_packed(patch, lambda arrays: with_entry(arrays, 0, lambda w: np.maximum(w, -127)), *ANCHORS)


@fault
def sums_taken_for_moderate(patch: Patch) -> None:
    for module in (epilogue, chain):
        patch.setattr(module, "is_moderate", lambda terms, multipliers: True)


@fault
def packs_left_in_the_order_of_registers(patch: Patch) -> None:
    def packed(original: Callable[..., Any], parts: Any, *rest: Any) -> Any:
        return original([parts[0], *parts[:0:-1]] if len(parts) > 2 else parts[::-1], *rest)

    wrap(patch, packs, "_packed", packed)


@fault
def shared_rows_without_their_shift(patch: Patch) -> None:
    def pack(original: Callable[..., Any], w: np.ndarray, window: Any, format: Any) -> np.ndarray:
        packed = original(w, window, format)
        packed[:, 1:] = packed[:, :1]
        return packed

    wrap(patch, depthwise, "pack_columns", pack)


@fault
def joined_taps_one_off(patch: Patch) -> None:
    def extent(original: Callable[..., Any], x: Any, window: Any, *rest: Any) -> Any:
        before = (window.before[0], window.before[1] + 1)
        return original(x, dataclasses.replace(window, before=before), *rest)

    wrap(patch, conv2d, "stage_rows", extent)


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

    wrap(patch, fully_connected.MatrixProduct, "schedule", schedule)


@fault
def concat_off_by_one(patch: Patch) -> None:
    def concatenate(xs: Sequence[View], axis: int) -> View:
        whole = views.concatenate(xs, axis)

        def read(index: Any) -> Any:
            moved = list(index)
            moved[axis] = (index[axis] + 1) % whole.shape[axis]
            return whole.read(moved)

        return View(whole.shape, whole.dtype, read)

    patch.setattr(injective, "concatenate", concatenate)


@fault
def permutation_inverted(patch: Patch) -> None:
    def transpose(x: View, perm: Sequence[int]) -> View:
        # Shapes are those of the permutation, elements those of its inverse, as far as they exist.
        right = views.transpose(x, perm)

        def read(index: Any) -> Any:
            return x.read([index[axis] % extent for axis, extent in zip(perm, x.shape, strict=True)])

        return View(right.shape, right.dtype, read)

    patch.setattr(injective, "transpose", transpose)


@fault
def memory_reused_a_step_too_early(patch: Patch) -> None:
    def plan(original: Callable[..., Any], buffers: Sequence[Buffer]) -> Any:
        return original([dataclasses.replace(b, last=max(b.first, b.last - 1)) for b in buffers])

    wrap(patch, build, "plan_arena", plan)
