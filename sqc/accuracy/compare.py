"""A quantized model beside the float one on the same data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sqc.accuracy.metrics import agreement, relative_error, top1
from sqc.accuracy.running import named, predict
from sqc.accuracy.yardstick import decibels
from sqc.compiler import compile
from sqc.errors import InputError
from sqc.ir import Graph
from sqc.runtime import Model


@dataclass(frozen=True)
class OutputComparison:
    """One output beside the float model's.

    ``agreement`` is how often the largest entries are at the same place, ``relative_error`` the root mean square error
    over that of the output, ``snr`` the same in decibels. With labels there is the top-1 accuracy of both.
    """

    name: str
    agreement: float
    relative_error: float
    snr: float
    largest_error: float
    top1: float | None
    float_top1: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; null stands for an infinite ratio."""
        return {**asdict(self), "snr": None if self.snr == float("inf") else self.snr}


def compare(
    graph: Graph,
    model: Model,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
    *,
    target: str = "native",
) -> list[OutputComparison]:
    """Run a compiled ``model`` and the float ``graph`` that it was made from over ``inputs`` [samples, ...].

    ``labels`` int[samples] go with the first output. Raises InputError for data that do not fit.
    """
    inputs = named(graph, inputs)
    samples = len(next(iter(inputs.values())))
    if labels is not None and labels.shape != (samples,):
        raise InputError(f"labels must be one for each of {samples} samples, not of shape {list(labels.shape)}")
    size = model.inputs[0].shape[0] if model.inputs[0].shape else 1
    references = predict(compile(graph, target=target, batch=size).load(0), inputs)
    outputs = predict(model, inputs)
    result = []
    for index, (name, reference) in enumerate(references.items()):
        output = outputs[name]
        error = relative_error(output, reference)
        first = labels if index == 0 else None
        result.append(
            OutputComparison(
                name,
                agreement(output, reference),
                error,
                decibels(error**2),
                float(np.abs(output - reference).max()),
                top1(output, first) if first is not None else None,
                top1(reference, first) if first is not None else None,
            )
        )
    return result
