"""The range search `output`: what the layers that read a tensor make of it decides between the other searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from sqc.errors import CalibrationError
from sqc.ir import Graph, Op, Value, evaluate_op, rebatch
from sqc.passes.rounding import CLAMPS

Parameters: TypeAlias = tuple[float, int]

CANDIDATES = ("l2", "minmax", "l1", "kl", "p99.9", "p99.99")
"""The searches whose ranges compete; the first wins ties."""

SAMPLES = 16
"""How many of the calibration's samples are run, at most; spread over those that it kept."""


def choose_by_output_error(candidates: Sequence[Parameters], evaluate: Callable[[Parameters], float]) -> Parameters:
    """The candidate with the least error, the first of those with equal ones."""
    return min(candidates, key=evaluate)


def least_output_error(
    graph: Graph,
    candidates: Mapping[Value, Sequence[Parameters]],
    bits: Mapping[Value, int],
    inputs: Mapping[str, np.ndarray],
) -> dict[str, Parameters]:
    """For each value, by name, the candidate with the least error behind its readers.

    The error of a candidate is that of a reader's result when this value alone is rounded, squared, summed over the
    samples, as a share of the result's own squares; summed over the readers. A clamp that alone reads the result
    belongs to the reader. All runs in float, through the reference.

    ``inputs`` holds samples by the names of the graph's inputs. Raises CalibrationError if there are none.
    """
    samples = _samples(graph, inputs)
    graph = rebatch(graph, len(next(iter(samples.values())))) if graph.dynamic_batch else graph
    wanted = {value.name: list(choices) for value, choices in candidates.items()}
    widths = {value.name: count for value, count in bits.items()}
    errors: dict[str, dict[Parameters, float]] = {name: dict.fromkeys(wanted[name], 0.0) for name in wanted}
    for op, operands, result in _steps(graph, samples):
        for place, operand in enumerate(op.operands):
            if operand.name not in wanted or len(wanted[operand.name]) < 2:
                continue
            exact = _clamped(graph, op, result)
            energy = float(np.square(exact, dtype=np.float64).sum()) or 1.0
            for choice in wanted[operand.name]:
                rounded = _rounded(operands[place], choice, widths[operand.name])
                y = _clamped(graph, op, evaluate_op(op, [*operands[:place], rounded, *operands[place + 1 :]]))
                errors[operand.name][choice] += float(np.square(y - exact, dtype=np.float64).sum()) / energy
    return {name: choose_by_output_error(choices, errors[name].__getitem__) for name, choices in wanted.items()}


def _samples(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not inputs or not all(value.name in inputs and len(inputs[value.name]) for value in graph.inputs):
        raise CalibrationError(
            "the range search 'output' runs samples of the calibration data, and this calibration keeps none; "
            "calibrate again, or choose another search"
        )
    kept = len(inputs[graph.inputs[0].name])
    if graph.dynamic_batch:
        index = np.unique(np.linspace(0, kept - 1, min(kept, SAMPLES)).astype(np.intp))
        return {value.name: inputs[value.name][index] for value in graph.inputs}
    if kept < graph.inputs[0].type.shape[0]:
        raise CalibrationError(f"the range search 'output' needs a batch of samples, and {kept} were kept")
    return {value.name: inputs[value.name][: value.type.shape[0]] for value in graph.inputs}


def _steps(graph: Graph, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[Op, list[np.ndarray], np.ndarray]]:
    """Each op with the arrays that it reads and yields."""
    environment: dict[Value, Any] = dict(graph.constants)
    environment.update({value: inputs[value.name] for value in graph.inputs})
    last_use = {operand: i for i, op in enumerate(graph.ops) for operand in op.operands}
    for i, op in enumerate(graph.ops):
        operands = [environment[operand] for operand in op.operands]
        environment[op.result] = evaluate_op(op, operands)
        yield op, operands, environment[op.result]
        for operand in set(op.operands):
            if last_use[operand] == i:
                del environment[operand]


def _clamped(graph: Graph, op: Op, result: np.ndarray) -> np.ndarray:
    while (reader := graph.only_user(op.result)) is not None and reader.kind in CLAMPS:
        result, op = evaluate_op(reader, [result]), reader
    return result


def _rounded(x: np.ndarray, parameters: Parameters, bits: int) -> np.ndarray:
    scale, zero_point = np.float32(parameters[0]), parameters[1]
    levels = np.clip(np.rint(x / scale), -zero_point, 2**bits - 1 - zero_point)
    return np.asarray(levels * scale, np.float32)
