"""Products over lists of groups are bit-exact, and chosen by how many groups there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqc.schedules import Target
from sqc.schedules.indexed_product import MOST, IndexedProduct, list_groups, split_pairs
from tests.schedules.cases import Case, check
from tests.targets import EVERYWHERE, TARGETS

NARROW = ["x86-64-v3", "x86-64-v4"]
"""Targets without VNNI."""


def sparse(case: Case, columns: int, depth: int, density: float, most: int = 127) -> np.ndarray:
    """Weights of which blocks of 16 x 4 are zero."""
    kept = case.rng.random((-(-columns // 16), -(-depth // 4))) < density
    mask = np.repeat(np.repeat(kept, 16, axis=0), 4, axis=1)[:columns, :depth]
    return np.where(mask, case.rng.integers(-most, most + 1, (columns, depth)), 0).astype(np.int8)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 64, 16), (7, 130, 40), (40, 61, 100), (15, 256, 64)])
def test_blocks_of_zeros_are_left_out(target: str, shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    case = Case(rows)
    w = case.value(sparse(case, columns, depth, 0.2))
    acc = case.emit("qfully_connected", case.u8(rows, depth), w, case.bias(columns))
    case.requantize(acc, 4000 * depth**0.5)
    kernel = check(case, target)
    assert isinstance(kernel.problem, IndexedProduct) or Target.parse(target).isa == "amx"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("density", [0.1, 0.3])
def test_pointwise_convolution(target: str, density: float) -> None:
    case = Case()
    w = case.value(sparse(case, 48, 64, density).reshape(48, 64, 1, 1))
    case.emit("qconv2d", case.u8(1, 3, 5, 64), w, case.bias(48), layout="NHWC")
    assert isinstance(check(case, target).problem, IndexedProduct)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [((3, 3), 1, 1), ((3, 2), 2, 1), ((2, 3), 1, 2), ((1, 4), 2, 1)]
)
def test_convolution(target: str, kernel: tuple[int, int], stride: int, dilation: int) -> None:
    case = Case()
    kh, kw = kernel
    w = sparse(case, 40, kh * kw * 8, 0.2).reshape(40, kh, kw, 8).transpose(0, 3, 1, 2)
    moves = {"strides": (stride, stride), "dilations": (dilation, dilation), "layout": "NHWC"}
    acc = case.emit("qconv2d", case.u8(2, 9, 10, 8), case.value(np.ascontiguousarray(w)), case.bias(40), **moves)
    case.requantize(acc, 4000 * (kh * kw) ** 0.5, case.u8(*acc.type.shape))
    assert isinstance(check(case, target).problem, IndexedProduct)


@pytest.mark.parametrize("target", EVERYWHERE)
@pytest.mark.parametrize("most", [63, 127])
def test_weights_of_seven_bits_need_no_widening(target: str, most: int) -> None:
    case = Case()
    w = case.value(case.rng.integers(-most - 1, most + 1, (32, 16, 3, 3)).astype(np.int8))
    case.emit("qconv2d", case.u8(1, 8, 8, 16), w, case.bias(32), layout="NHWC")
    assert isinstance(check(case, target).problem, IndexedProduct) == (target in NARROW and most == 63)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("most", [63, 127])
def test_no_sum_saturates(target: str, most: int) -> None:
    """Activations and weights at their limits; few pairs are beyond 16 bits."""
    case = Case()
    w = case.rng.choice(np.array([-most - 1, most, 0, 1], np.int8), (32, 128), p=[0.5, 0.1, 0.2, 0.2])
    if most == 127:
        w[:, 8:] = w[:, 8:].clip(-64, 63)
    x = case.value(np.full((5, 128), 255, np.uint8))
    case.emit("qfully_connected", x, case.value(w), case.bias(32))
    kernel = check(case, target)
    assert isinstance(kernel.problem, IndexedProduct) == (target in NARROW)


@pytest.mark.parametrize("target", EVERYWHERE)
def test_dense_weights_are_taken_in_order(target: str) -> None:
    case = Case()
    case.emit("qfully_connected", case.u8(5, 64), case.s8(32, 64), case.bias(32))
    assert not isinstance(check(case, target).problem, IndexedProduct)


@given(w=arrays(np.int8, (3, 2, 16, 4), elements=st.integers(-128, 127)))
def test_pairs_are_split_within_their_bound(w: np.ndarray) -> None:
    parts = split_pairs(w)
    assert (parts[0].astype(int) + parts[1] == w).all()
    for part in parts:
        pairs = part.reshape(-1, 2).astype(int)
        assert pairs.clip(min=0).sum(axis=1).max() <= MOST
        assert pairs.clip(max=0).sum(axis=1).min() >= -MOST


def test_lists() -> None:
    w = np.zeros((32, 12), np.int8)
    w[3, 4:8] = [100, 50, -100, 20]
    w[20, 11] = 7
    starts, weights = list_groups(w, Target.parse("icelake-server"))
    assert starts.tolist() == [[4], [8]] and weights[0, 0, 3].tolist() == [100, 50, -100, 20]
    starts, weights = list_groups(w, Target.parse("x86-64-v3"))
    assert starts.tolist() == [[4, 4], [8, 0]]
    assert weights[0, :, 3].tolist() == [[0, 50, -100, 20], [100, 0, 0, 0]]
