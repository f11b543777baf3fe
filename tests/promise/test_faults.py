"""The comparison fails where it should: every fault of ``faults.py`` is caught by a seed that passes without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sqc.codegen import build
from tests.promise.faults import FAULTS
from tests.promise.harness import check
from tests.promise.kernels import Setting

CAUGHT_BY = {
    "ties_rounded_up": 0,
    "truncated_instead_of_rounded": 0,
    "products_contracted_into_fma": 43,
    "terms_rounded_before_their_sum": 2,
    "terms_summed_from_the_last": 43,
    "reciprocal_instead_of_division": 0,
    "nan_clamped_to_the_other_end": 0,
    "upper_clamp_off_by_one": 6,
    "lower_clamp_forgotten": 0,
    "zero_point_of_the_residual_dropped": 26,
    "zero_point_of_a_factor_dropped": 9,
    "zero_point_of_dequantize_dropped": 0,
    "zero_point_of_a_mean_dropped": 10,
    "convolutions_padded_with_zeros": 0,
    "average_pool_counts_its_padding": 19,
    "max_pool_padded_with_the_edge_beyond": 19,
    "bias_dropped": 0,
    "multiplier_of_the_next_channel": 0,
    "table_indexed_by_signed_bytes": 1,
    "weights_swapped_in_the_tail_of_their_depth": 1,
    "least_weight_saturated": 0,
    "sums_taken_for_moderate": 16,
    "packs_left_in_the_order_of_registers": 45,
    "shared_rows_without_their_shift": 39,
    "joined_taps_one_off": 48,
    "last_row_missing": 5,
    "concat_off_by_one": 3,
    "permutation_inverted": 1,
    "memory_reused_a_step_too_early": 5,
}
"""A seed for each fault; ``python -m tests.promise.test_faults`` finds others after a change of the generator."""
ISA = {"packs_left_in_the_order_of_registers": ("avx512_vnni", "avx512vbmi")}
"""Faults in code for these instruction sets alone."""


@pytest.fixture(autouse=True)
def no_objects_are_reused() -> Iterator[None]:
    """Kernels with a fault have the names of those without."""
    build._objects.clear()
    yield
    build._objects.clear()


def is_caught(name: str, seed: int) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        return check(seed, Setting.of(seed)) != []


def test_every_fault_has_a_seed() -> None:
    assert FAULTS.keys() == CAUGHT_BY.keys()
    assert len(FAULTS) >= 10


@pytest.mark.parametrize("seed", sorted(set(CAUGHT_BY.values())))
def test_without_a_fault_nothing_differs(seed: int) -> None:
    assert check(seed, Setting.of(seed)) == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.isa(*ISA[name])) if name in ISA else name for name in FAULTS]
)
def test_fault_is_caught(name: str) -> None:
    assert is_caught(name, CAUGHT_BY[name])


def main() -> None:
    """Print for each fault the first seed of a hundred that catches it."""
    for name in FAULTS:
        for seed in range(100):
            build._objects.clear()
            if is_caught(name, seed):
                print(f'    "{name}": {seed},', flush=True)
                break


if __name__ == "__main__":
    main()
