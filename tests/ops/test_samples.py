"""Samples that are told to be independent give the same bits alone as together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from sqc.ir import Builder, Graph, TensorType, rebatch
from sqc.ops.samples import samples_are_independent
from tests.float_graphs import float_graphs, random_inputs


def one_op(kind: str, **attributes: object) -> Graph:
    builder = Builder("one", dynamic_batch=True)
    x = builder.input("x", TensorType((1, 6), "float32"))
    builder.outputs = {"y": builder.emit(kind, [x], attributes, name="y")}
    return builder.finish()


@given(graph=float_graphs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_by_one(graph: Graph) -> None:
    assert samples_are_independent(graph) or not graph.dynamic_batch
    if graph.dynamic_batch:
        together = rebatch(graph, 3)
        arrays = random_inputs(together)
        expected = together.run(arrays)
        for i in range(3):
            alone = rebatch(graph, 1).run({name: array[i : i + 1] for name, array in arrays.items()})
            for name, array in alone.items():
                np.testing.assert_allclose(array, expected[name][i : i + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("independent", "graph"),
    [
        (True, one_op("softmax", axis=1)),
        (True, one_op("reshape", shape=(-1, 3, 2))),
        (False, one_op("softmax", axis=0)),
        (False, one_op("softmax", axis=-2)),
        (False, one_op("transpose", perm=(1, 0))),
        (False, one_op("pad", pads=(1, 0, 0, 0))),
        (False, one_op("reduce_mean", axes=(0,), keepdims=True)),
        (False, one_op("reduce_mean", axes=(0, 1), keepdims=False)),
        (False, one_op("slice", axes=(0,), starts=(0,), ends=(100,), steps=(1,))),
    ],
)
def test_what_mixes_samples(independent: bool, graph: Graph) -> None:
    assert samples_are_independent(graph) == independent
