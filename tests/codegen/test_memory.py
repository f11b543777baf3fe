"""The arena planner: no two live buffers overlap, and the arena is close to its lower bound."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.codegen.memory import ALIGNMENT, Buffer, lower_bound, plan_arena

INTERVALS = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 6)), max_size=30)


@given(INTERVALS)
@settings(max_examples=200, deadline=None)
def test_live_buffers_never_overlap(intervals: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(str(i), size, first, first + length) for i, (size, first, length) in enumerate(intervals)]
    offsets, total = plan_arena(buffers)
    assert total >= lower_bound(buffers)
    for i, a in enumerate(buffers):
        assert offsets[a.name] % ALIGNMENT == 0
        assert offsets[a.name] + a.size <= total
        for b in buffers[:i]:
            if a.meets(b):
                assert offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]


def test_a_chain_needs_two_buffers() -> None:
    chain = [Buffer(str(i), 1024, i, i + 1) for i in range(10)]
    assert plan_arena(chain)[1] == 2048
