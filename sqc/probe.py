"""Reading values inside a float graph while it runs, compiled, over samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sqc.codegen.build import Build, build_program
from sqc.codegen.library import build_library
from sqc.ir import Graph, Value, rebatch
from sqc.passes import pipeline
from sqc.runtime import load_bytes
from sqc.schedules import Target

_BYTES = 64 << 20
"""Bound on the activations that one run holds; it sets how many samples run at once."""


def probe(
    graph: Graph, values: Sequence[Value], inputs: Mapping[str, np.ndarray], target: str = "native"
) -> Iterator[dict[str, np.ndarray]]:
    """Run a graph over ``inputs`` {input: array of many samples} and yield ``values`` {name: array}, a part at a time.

    Parts are as large as a bound on memory allows, the same on every machine; the last one has the rest.
    """
    given = [value for value in values if value in graph.inputs]
    computed = [value for value in values if value not in graph.inputs]
    cut = replace(graph, outputs={value.name: value for value in computed})
    size = graph.inputs[0].type.shape[0]
    if graph.dynamic_batch:
        size = max(1, min(8, _BYTES // (sum(value.type.bytes for value in computed) or 1)))
        cut = rebatch(cut, size)
    model = None
    if computed:
        build = Build(Target.parse(target))
        program = build_program(pipeline.run(pipeline.FUSION, cut), build)
        model = load_bytes(build_library(build.plan([program], graph.name)), threads=0)
    for start in range(0, len(next(iter(inputs.values()))), size):
        sample = {name: array[start : start + size] for name, array in inputs.items()}
        count = len(next(iter(sample.values())))
        tensors = {value.name: sample[value.name] for value in given}
        if model is not None:
            full = {name: np.concatenate([x, *[x[-1:]] * (size - count)]) for name, x in sample.items()}
            tensors.update({name: y[: len(y) * count // size] for name, y in model.run(full).items()})
        yield tensors
