"""Products with weights of four bits are bit-exact, and chosen where the weights fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqc.schedules import Target, lower
from sqc.schedules.epilogue import Epilogue
from sqc.schedules.fully_connected import MatrixProduct
from sqc.schedules.indexed_product import IndexedProduct
from sqc.schedules.packed_product import PackedProduct
from tests.schedules.cases import Case, check
from tests.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "shape", [(1, 64, 16), (4, 16, 32), (7, 13, 10), (1, 129, 100), (130, 40, 48), (17, 129, 100), (3, 5, 1), (1, 8, 1)]
)
def test_requantized(target: str, shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    case = Case(rows)
    acc = case.emit("qfully_connected", case.u8(rows, depth), case.s4(columns, depth), case.bias(columns))
    case.requantize(acc, 600 * depth**0.5)
    kernel = check(case, target)
    assert isinstance(kernel.problem, PackedProduct) or (Target.parse(target).isa == "amx" and rows >= 16)


@pytest.mark.parametrize("target", TARGETS)
def test_pointwise_convolution_and_residual(target: str) -> None:
    case = Case()
    w = case.value(case.rng.integers(-8, 8, (48, 40, 1, 1)).astype(np.int8))
    acc = case.emit("qconv2d", case.u8(1, 2, 3, 40), w, case.bias(48), layout="NHWC")
    case.requantize(acc, 4000, case.u8(1, 2, 3, 48))
    assert isinstance(check(case, target).problem, PackedProduct)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("level", [-8, 7])
def test_sums_at_their_limits(target: str, level: int) -> None:
    case = Case()
    x = case.value(np.full((2, 100), 255, np.uint8))
    case.emit("qfully_connected", x, case.value(np.full((24, 100), level, np.int8)), case.bias(24))
    assert isinstance(check(case, target).problem, PackedProduct)


@pytest.mark.parametrize(("least", "most"), [(-9, 7), (-8, 8)])
def test_weights_of_more_bits_stay_bytes(least: int, most: int) -> None:
    case = Case()
    w = case.value(np.tile(np.array([least, most], np.int8), (32, 32)))
    case.emit("qfully_connected", case.u8(1, 64), w, case.bias(32))
    assert isinstance(check(case, "avx512vnni-emulated").problem, MatrixProduct)


def test_lists_of_few_groups_go_first() -> None:
    case = Case()
    w = case.rng.integers(-8, 8, (32, 64)).astype(np.int8)
    w[:, 16:] = 0
    w[16:, :8] = 0
    w[:, -1] = 1
    case.emit("qfully_connected", case.u8(1, 64), case.value(w), case.bias(32))
    assert isinstance(check(case, "x86-64-v3").problem, IndexedProduct)


@given(w=arrays(np.int8, (20, 12), elements=st.integers(-8, 7)))
def test_packing(w: np.ndarray) -> None:
    """Half as many bytes, of which each half is a weight: the low ones four activations earlier."""
    epilogue = Epilogue((1, 20), "int32", (), ())
    (packed,) = PackedProduct(1, 20, 12, 12, epilogue).pack(w, Target.parse("x86-64-v3"))
    assert packed.shape == (2, 2, 16, 4) and packed.dtype == np.uint8
    halves = np.stack([packed & 15, packed >> 4], axis=2).astype(np.int8) - 8
    rows = halves.transpose(0, 3, 1, 2, 4).reshape(32, 16)
    np.testing.assert_array_equal(rows[:20, :12], w)
    assert not rows[20:].any() and not rows[:, 12:].any()


def test_half_the_bytes() -> None:
    def constants(case: Case, w: str) -> int:
        case.emit("qfully_connected", case.u8(1, 256), getattr(case, w)(256, 256), case.bias(256))
        return sum(
            array.nbytes for array in lower(case.op(), Target.parse("cascadelake"), case.arrays).pack(case.arrays)
        )

    assert constants(Case(), "s8") - constants(Case(), "s4") == 256 * 256 // 2
