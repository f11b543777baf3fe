"""The comparison fails where it should: every fault of ``faults.py`` is caught by a seed that passes without it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

import pytest

from sqc.codegen import build
from tests.promise.faults import FAULTS
from tests.promise.harness import check
from tests.promise.kernels import Setting

CAUGHT_BY = {
    "ties_rounded_up": 0,
    "truncated_instead_of_rounded": 0,
    "products_contracted_into_fma": 28,
    "terms_rounded_before_their_sum": 24,
    "terms_summed_from_the_last": 51,
    "reciprocal_instead_of_division": 4,
    "nan_clamped_to_the_other_end": 0,
    "upper_clamp_off_by_one": 4,
    "lower_clamp_forgotten": 7,
    "zero_point_of_the_residual_dropped": 19,
    "zero_point_of_a_factor_dropped": 3,
    "zero_point_of_a_product_dropped": 35,
    "zero_point_of_a_row_dropped": 283,
    "zero_point_of_dequantize_dropped": 0,
    "zero_point_of_a_mean_dropped": 24,
    "convolutions_padded_with_zeros": 5,
    "average_pool_counts_its_padding": 41,
    "max_pool_padded_with_the_edge_beyond": 41,
    "bias_dropped": 2,
    "multiplier_of_the_next_channel": 4,
    "table_indexed_by_signed_bytes": 28,
    "sums_of_interpolation_in_sixteen_bits": 47,
    "axes_behind_steps_merged": 59,
    "table_halves_exchanged": 24,
    "weights_swapped_in_the_tail_of_their_depth": 2,
    "least_weight_saturated": 4,
    "sums_started_one_off": 4,
    "sums_taken_for_moderate": 62,
    "packs_left_in_the_order_of_registers": 35,
    "shared_rows_without_their_shift": 274,
    "joined_taps_one_off": 16,
    "last_row_missing": 4,
    "last_lane_of_a_tail_missing": 4,
    "groups_of_the_next_tap": 38,
    "margins_of_zeros": 31,
    "last_share_of_margins_missing": 4,
    "gates_of_the_next_unit": 2,
    "concat_off_by_one": 4,
    "permutation_inverted": 21,
    "tiles_of_other_axes": 0,
    "memory_reused_a_step_too_early": 37,
    "all_rounds_over_the_first_samples": 3,
}
"""A seed for each fault. After a change of the generator, ``python -m tests.promise.test_faults [NAME ...]`` finds new
ones.
"""
TARGETS = {"packs_left_in_the_order_of_registers": "x86-64-v4"}
"""Faults in code for AVX-512 alone, which emulated targets do not run."""


def setting(name: str, seed: int) -> Setting:
    """How the graph of ``seed`` is compiled to catch a fault: the same on every machine, unlike ``Setting.of``."""
    turn, emulates = divmod(seed, 2)
    return Setting(TARGETS.get(name, "avx512vnni-emulated" if emulates else "x86-64-v3"), turn % 4 > 0)


@pytest.fixture(autouse=True)
def no_objects_are_reused() -> Iterator[None]:
    """Kernels with a fault have the names of those without."""
    build._objects.clear()
    yield
    build._objects.clear()


def is_caught(name: str, seed: int) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        return check(seed, setting(name, seed)) != []


def each(names: Iterable[str]) -> list[object]:
    isa = pytest.mark.isa("avx512bw", "avx512dq", "avx512vl")
    return [pytest.param(name, marks=isa) if name in TARGETS else name for name in names]


def test_every_fault_has_a_seed() -> None:
    assert FAULTS.keys() == CAUGHT_BY.keys()
    assert len(FAULTS) >= 10


@pytest.mark.parametrize("name", each({(seed, setting(name, seed)): name for name, seed in CAUGHT_BY.items()}.values()))
def test_without_a_fault_nothing_differs(name: str) -> None:
    seed = CAUGHT_BY[name]
    assert check(seed, setting(name, seed)) == []


@pytest.mark.parametrize("name", each(FAULTS))
def test_fault_is_caught(name: str) -> None:
    assert is_caught(name, CAUGHT_BY[name])


def main(names: Sequence[str]) -> None:
    """Print a seed that catches each fault, or each of those named: the known one, or one of another, or the first."""
    found: list[int] = []
    for name in names or FAULTS:
        for seed in dict.fromkeys([CAUGHT_BY.get(name, 0), *found, *range(300)]):
            build._objects.clear()
            if is_caught(name, seed):
                print(f'    "{name}": {seed},', flush=True)
                found.append(seed)
                break
        else:
            print(f"{name} is caught by no seed")


if __name__ == "__main__":
    main(sys.argv[1:])
