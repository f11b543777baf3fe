"""The arena planner: no two live buffers overlap, and the arena is close to its lower bound."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.codegen import memory
from sqc.codegen.memory import ALIGNMENT, Buffer, lower_bound, plan_arena

INTERVALS = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 6)), max_size=30)


@given(INTERVALS)
@settings(max_examples=200, deadline=None)
def test_live_buffers_never_overlap(intervals: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(str(i), size, first, first + length) for i, (size, first, length) in enumerate(intervals)]
    offsets, total = plan_arena(buffers)
    assert total >= lower_bound(buffers)
    assert total <= memory._place(sorted(buffers, key=lambda item: (-item.size, item.first, item.name)))[1]
    assert (offsets, total) == plan_arena(buffers)
    for i, a in enumerate(buffers):
        assert offsets[a.name] % ALIGNMENT == 0
        assert offsets[a.name] + a.size <= total
        for b in buffers[:i]:
            if a.meets(b):
                assert offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]


def test_a_chain_needs_two_buffers() -> None:
    chain = [Buffer(str(i), 1024, i, i + 1) for i in range(10)]
    assert plan_arena(chain)[1] == 2048


@given(st.integers(1, 64), st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.booleans()), max_size=20))
@settings(max_examples=200, deadline=None)
def test_networks_need_little_more_than_their_largest_step(width: int, blocks: list[tuple[int, bool, bool]]) -> None:
    """Blocks as in MobileNetV2: expand, transform, project, with or without a shortcut around them."""
    buffers: list[Buffer] = []
    size = 4096 * width

    def add(size: int, life: int = 1) -> None:
        step = len(buffers)
        buffers.append(Buffer(str(step), size, step, step + life))

    for expansion, shortcut, shrinks in blocks:
        add(size, 3 if shortcut and not shrinks else 1)
        add(size * expansion)
        size //= 4 if shrinks and size >= 256 else 1
        add(size * expansion)
    add(size)
    assert plan_arena(buffers)[1] <= 1.05 * lower_bound(buffers)
