"""Arbitrary graphs for hypothesis: odd names, all element types, all kinds of attributes. They need not make sense."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sqc.ir import DTYPES, Attribute, Graph, Op, Quantization, TensorType, Value

names = st.one_of(st.from_regex(r"[A-Za-z0-9_.$/\-]{1,6}", fullmatch=True), st.text(max_size=6))
words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
scales = st.floats(2.0**-126, 2.0**100, width=32)
finite = st.floats(allow_nan=False)


@st.composite
def quantizations(draw: st.DrawFn, rank: int) -> Quantization:
    axis = draw(st.none() | st.integers(0, rank - 1)) if rank else None
    pairs = draw(st.lists(st.tuples(scales, st.integers(-300, 300)), min_size=1, max_size=1 if axis is None else 3))
    return Quantization(tuple(scale for scale, _ in pairs), tuple(zero for _, zero in pairs), axis)


@st.composite
def types(draw: st.DrawFn) -> TensorType:
    shape = draw(shapes)
    return TensorType(shape, draw(st.sampled_from(DTYPES)), draw(st.none() | quantizations(len(shape))))


def attributes(depth: int) -> st.SearchStrategy[dict[str, Attribute]]:
    numbers = st.lists(st.integers(), max_size=3).map(tuple) | st.lists(finite, min_size=1, max_size=3).map(tuple)
    value: st.SearchStrategy[Any] = st.one_of(st.integers(), finite, st.booleans(), st.text(max_size=8), numbers)
    if depth:
        value |= graphs(depth - 1)
    return st.dictionaries(words, value, max_size=3)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 1) -> Graph:
    """Any graph in SSA form."""
    pool = [Value(name, draw(types())) for name in draw(st.lists(names, unique=True, min_size=1, max_size=6))]
    inputs = draw(st.integers(0, len(pool)))
    constants = draw(st.integers(0, len(pool) - inputs))
    defined, rest = pool[: inputs + constants], pool[inputs + constants :]
    data = {value: draw(arrays.arrays(np.dtype(value.type.dtype), value.type.shape)) for value in defined[inputs:]}
    ops = []
    while rest:
        count = draw(st.integers(1, 2))
        results, rest = rest[:count], rest[count:]
        operands = draw(st.lists(st.sampled_from(defined), max_size=3)) if defined else []
        ops.append(Op(draw(words), tuple(operands), tuple(results), draw(attributes(depth)), draw(st.text(max_size=6))))
        defined = [*defined, *results]
    outputs = draw(st.dictionaries(st.text(max_size=6), st.sampled_from(defined), max_size=2)) if defined else {}
    return Graph(draw(st.text(max_size=6)), tuple(pool[:inputs]), outputs, data, tuple(ops), draw(st.booleans()))
