"""Epilogues: the ops after an anchor, as expressions of its accumulator.

An :class:`Epilogue` is their structure: equal for equal code. What differs from op to op, which the kernel receives at
run time, is in :mod:`sqc.schedules.epilogue_values`. Order and rounding are those of the reference
(``sqc/NUMERICS.md``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sqc.ops.quantization import LIMITS
from sqc.schedules.intrinsics import LANES
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Term:
    """One summand of a requantize: a source, its element type, the shape of its multiplier, whether zero is 0."""

    source: int
    dtype: str
    multiplier: Shape
    centered: bool


@dataclass(frozen=True)
class Requantize:
    """Rounds the sum of its terms into ``dtype``.

    ``moderate``: no sum comes near the limits of s32, so that it may be rounded first and clamped afterwards, where the
    limits of ``dtype`` cost nothing. ``full``: it is clamped to them alone. ``centered``: its zero point is 0.
    ``affine``: its one term is the accumulator, whose bits are those of a float that a multiplier and an offset for
    each channel make the product of; see :mod:`sqc.schedules.affine`.
    """

    terms: tuple[Term, ...]
    dtype: str
    moderate: bool
    full: bool
    centered: bool
    affine: bool = False


@dataclass(frozen=True)
class Lookup:
    """Replaces u8 values by those of a table of 256."""

    source: int


@dataclass(frozen=True)
class Dequantize:
    """Multiplies an s32 accumulator into a float."""

    source: int
    multiplier: Shape


@dataclass(frozen=True)
class Rescale:
    """Makes floats of s32 accumulators over levels whose scale and zero point an operand holds, ``pairs[..., 2]``.

    Its constants are the sums of the weights, their scales and, with ``bias``, a bias: one of each a column.
    """

    source: int
    pairs: int
    bias: bool


Step: TypeAlias = Requantize | Lookup | Dequantize | Rescale


@dataclass(frozen=True)
class Epilogue:
    """The structure of an epilogue over results of ``shape``.

    Sources are numbered: 0 is the anchor's accumulator, then come the ``operands`` (shape and element type of each
    further activation), then the results of ``steps``. The last step, or the accumulator, is the result.
    """

    shape: Shape
    dtype: str
    operands: tuple[tuple[Shape, str], ...]
    steps: tuple[Step, ...]

    def inputs(self, domain: Shape, target: Target) -> EpilogueInputs:
        """Placeholders for the kernel's arguments, where the result is computed as an array of shape ``domain``.

        ``domain`` has the elements of the result in the same order, for example with some axes merged.
        """
        from sqc.schedules._tvm import te

        pairs = {step.pairs - 1 for step in self.steps if isinstance(step, Rescale)}
        operands = [
            te.placeholder(
                (math.prod(shape[:-1]), 2) if i in pairs else _declared(shape, self.shape, domain),
                dtype,
                name=f"operand{i}",
            )
            for i, (shape, dtype) in enumerate(self.operands)
        ]
        constants = []
        for i, step in enumerate(self.steps):
            if isinstance(step, Lookup):
                constants.append(te.placeholder((256,), "uint8", name=f"table{i}"))
                continue
            if isinstance(step, Dequantize):
                shape = _declared(step.multiplier, self.shape, domain)
                constants.append(te.placeholder(shape, "float32", name=f"multiplier{i}"))
                continue
            if isinstance(step, Rescale):
                dtypes = ("int32", "float32", "float32") if step.bias else ("int32", "float32")
                constants += [
                    te.placeholder(self.shape[-1:], dtype, name=f"column{i}_{j}") for j, dtype in enumerate(dtypes)
                ]
                continue
            for j, term in enumerate(step.terms):
                shape = _declared(term.multiplier, self.shape, domain)
                constants.append(te.placeholder(shape, "float32", name=f"multiplier{i}_{j}"))
            if step.affine:
                constants.append(te.placeholder(self.shape[-1:], "float32", name=f"offset{i}"))
        return EpilogueInputs(self, domain, target, operands, constants)

    def lanes(self, columns: int, target: Target) -> int:
        """How many of ``columns`` neighbouring results are computed at once: up to 64 where packing repays it."""
        moderate = all(
            step.moderate if isinstance(step, Requantize) else isinstance(step, Lookup) for step in self.steps
        )
        if target.vector_bytes < 64 or not self.steps or not moderate:
            return LANES
        return max(LANES, math.gcd(64, columns, self.shape[-1]))

    @property
    def parameter_count(self) -> int:
        """How many integers the steps take from the kernel's array of parameters."""
        return sum(3 + len(step.terms) for step in self.steps if isinstance(step, Requantize))


@dataclass(frozen=True)
class EpilogueInputs:
    """An epilogue's arguments as ``te`` placeholders: ``operands`` are activations, ``constants`` come from packing."""

    epilogue: Epilogue
    domain: Shape
    target: Target
    operands: list[Tensor]
    constants: list[Tensor]

    def apply(self, accumulator: Expr | None, index: Sequence[Expr], parameters: Tensor, offset: int = 0) -> Expr:
        """The result at ``index`` of the domain.

        ``accumulator`` is the anchor's s32 value there (None where the anchor is the first step itself). The steps
        take their zero points and limits (as bits of float32) from ``parameters[offset:]``.
        """
        return self._apply(self.epilogue.steps, [accumulator, *self._activations(index)], index, parameters, offset)

    def first_total(self, accumulator: Expr, factors: Sequence[Expr]) -> Expr:
        """The rounded sum of a first step that is a moderate requantize of ``accumulator`` alone.

        ``factors`` are its multiplier and, if it is affine, its offset.
        """
        from sqc.schedules._tvm import rounded

        return rounded(_product(accumulator, *factors))

    def first_level(self, total: Expr, parameters: Tensor, offset: int) -> Expr:
        """What a first step makes of its rounded sum, but for limits narrower than those of its type."""
        return _to_level(total, parameters(offset), self._first.dtype)

    def after_first(self, level: Expr, index: Sequence[Expr], parameters: Tensor, offset: int) -> Expr:
        """The result at ``index`` of the domain, where the first step has made ``level`` of the accumulator."""
        first = self._first
        if not first.full:
            level = _limited(level, [parameters(offset + i) for i in (1, 2)], first.dtype)
        sources = [None, *self._activations(index), level]
        return self._apply(self.epilogue.steps[1:], sources, index, parameters, offset + 3 + len(first.terms))

    @property
    def _first(self) -> Requantize:
        first = self.epilogue.steps[0]
        assert isinstance(first, Requantize)
        return first

    def _activations(self, index: Sequence[Expr]) -> list[Expr | None]:
        pairs = {step.pairs - 1 for step in self.epilogue.steps if isinstance(step, Rescale)}
        return [
            None if i in pairs else tensor(*self._index(shape, index))
            for i, (tensor, (shape, _)) in enumerate(zip(self.operands, self.epilogue.operands, strict=True))
        ]

    def _apply(
        self,
        steps: Sequence[Step],
        sources: list[Expr | None],
        index: Sequence[Expr],
        parameters: Tensor,
        offset: int,
    ) -> Expr:
        """What the last ``steps`` make of the sources before them."""
        from sqc.schedules._tvm import tirx

        constants = iter(self.constants[len(self.constants) - sum(map(_constant_count, steps)) :])
        for step in steps:
            if isinstance(step, Lookup):
                sources.append(next(constants)(sources[step.source].astype("int32")))  # type: ignore[union-attr]
                continue
            if isinstance(step, Dequantize):
                multiplier = next(constants)(*self._index(step.multiplier, index))
                sources.append(weighted_sum([sources[step.source]], [None], [multiplier]))
                continue
            if isinstance(step, Rescale):
                tensor = self.operands[step.pairs - 1]
                row = self._row(self.epilogue.operands[step.pairs - 1][0][:-1], index)
                columns = [next(constants)(index[-1]) for _ in range(3 if step.bias else 2)]
                sources.append(rescaled(sources[step.source], (tensor(row, 0), tensor(row, 1)), columns))
                continue
            multipliers = [next(constants)(*self._index(term.multiplier, index)) for term in step.terms]
            terms = [sources[term.source] for term in step.terms]
            zeros = [None if term.centered else parameters(offset + 3 + i) for i, term in enumerate(step.terms)]
            if step.affine:
                total = _product(terms[0], multipliers[0], next(constants)(index[-1]))
            else:
                total = weighted_sum(terms, zeros, multipliers)
            zero_point, *limits = (parameters(offset + i) for i in range(3))
            if step.moderate:
                shift = None if step.centered else zero_point
                sources.append(saturated(total, shift, [] if step.full else limits, step.dtype))
            else:
                lo, hi = (tirx.reinterpret("float32", limit) for limit in limits)
                sources.append(requantized(total, lo, hi, zero_point, step.dtype))
            offset += 3 + len(step.terms)
        return sources[-1]

    def _index(self, shape: Shape, index: Sequence[Expr]) -> list[Expr]:
        """Where an array of ``shape``, broadcast to the result, is read for ``index`` of the domain."""
        result = self.epilogue.shape
        if shape == result:
            return list(index)
        if math.prod(shape) == 1:
            return [0]
        if shape[-1] == result[-1] == math.prod(shape):
            return [index[-1] % result[-1] if self.domain[-1] > result[-1] else index[-1]]
        linear: Expr = 0
        for extent, i in zip(self.domain, index, strict=True):
            linear = linear * extent + i
        full = []
        for extent in reversed(result):
            full.append(linear % extent)
            linear = linear // extent
        full = full[::-1][len(result) - len(shape) :]
        return [i if extent > 1 else 0 for i, extent in zip(full, shape, strict=True)]

    def _row(self, rows: Shape, index: Sequence[Expr]) -> Expr:
        """Which of ``rows``, broadcast to those of the result, ``index`` of the domain lies in."""
        row: Expr = 0
        if math.prod(rows) > 1:
            for extent, i in zip(rows, self._index((*rows, 1), index)[:-1], strict=True):
                row = row * extent + i
        return row


def _constant_count(step: Step) -> int:
    if isinstance(step, Requantize):
        return len(step.terms) + step.affine
    return (3 if step.bias else 2) if isinstance(step, Rescale) else 1


def _declared(shape: Shape, result: Shape, domain: Shape) -> Shape:
    if shape == result:
        return domain
    if math.prod(shape) == 1:
        return (1,)
    return (shape[-1],) if shape[-1] == math.prod(shape) == result[-1] else shape


def weighted_sum(values: Sequence[Expr], zeros: Sequence[Expr | None], multipliers: Sequence[Expr]) -> Expr:
    """``f32(x1 - z1) * m1 + f32(x2 - z2) * m2 + ...`` from left to right, every product and sum rounded by itself."""
    from sqc.schedules._tvm import fence

    total: Expr = None
    for value, zero, multiplier in zip(values, zeros, multipliers, strict=True):
        integer = value.astype("int32")
        if zero is not None:
            integer = integer - zero
        product = integer.astype("float32") * multiplier
        total = fence(product) if total is None else fence(total + fence(product))
    return total


def _product(accumulator: Expr, multiplier: Expr, offset: Expr | None = None) -> Expr:
    """The accumulator times ``multiplier``, rounded; with an ``offset`` by one FMA (:mod:`sqc.schedules.affine`)."""
    from sqc.schedules._tvm import fma, tirx

    if offset is None:
        return weighted_sum([accumulator], [None], [multiplier])
    return fma(tirx.reinterpret("float32", accumulator), multiplier, offset)


def rescaled(accumulator: Expr, pair: tuple[Expr, Expr], columns: Sequence[Expr]) -> Expr:
    """``f32(acc - z * sum) * (s * scale) + bias``, where ``pair`` is (s, z) and ``columns`` (sum, scale[, bias])."""
    from sqc.schedules._tvm import fence

    scale, zero_point = pair
    weights, factor, *bias = columns
    total = (accumulator - zero_point.astype("int32") * weights).astype("float32")
    value = fence(total * fence(scale * factor))
    return fence(value + bias[0]) if bias else value


def requantized(total: Expr, lo: Expr, hi: Expr, zero_point: Expr, dtype: str) -> Expr:
    """``total`` rounded, clamped to [``lo``, ``hi``] (float32 numbers without a fraction), plus ``zero_point``."""
    from sqc.schedules._tvm import rounded, te

    # Limits without a fraction commute with rounding, and a clamped number is rounded and converted by one instruction.
    return (rounded(te.min(te.max(total, lo), hi)) + zero_point).astype(dtype)


def saturated(total: Expr, zero_point: Expr | None, limits: Sequence[Expr], dtype: str) -> Expr:
    """``total``, below 2**30 in magnitude, rounded, plus ``zero_point``, clamped to ``dtype`` and to ``limits``."""
    from sqc.schedules._tvm import rounded

    value = _to_level(rounded(total), zero_point, dtype)
    return _limited(value, limits, dtype) if limits else value


def _to_level(integer: Expr, zero_point: Expr | None, dtype: str) -> Expr:
    from sqc.schedules._tvm import te

    least, most = LIMITS[dtype]
    if zero_point is not None:
        # A zero point of 16 bits can be added after packing to 16 bits; see sqc.schedules.intrinsics.packs.
        integer = integer + zero_point.astype("int16").astype("int32")
    return te.max(te.min(integer, most), least).astype(dtype)


def _limited(level: Expr, limits: Sequence[Expr], dtype: str) -> Expr:
    from sqc.schedules._tvm import te

    lo, hi = (limit.astype(dtype) for limit in limits)
    return te.min(te.max(level, lo), hi)
