"""Mixed precision with a goal: the fewest layers in float with which a network loses no more than it may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.accuracy.metrics import agreement, top1
from sqc.accuracy.noise import Noise, measure
from sqc.accuracy.running import named, predict
from sqc.bench.measure import interleave
from sqc.calibration import DEFAULT_SEARCH, Calibration, RangesLike
from sqc.compiler import CompiledModel, compile
from sqc.errors import InputError
from sqc.ir import Graph
from sqc.quantizing import quantize_beside_float
from sqc.recipe import DEFAULT_PRESET, Preset

if TYPE_CHECKING:
    from sqc.tuning.records import Records

Outputs = dict[str, np.ndarray]
Metric = Callable[[Outputs, Outputs], float]
"""How good outputs {name: array [samples, ...]} are, given those of the float network: more is better."""

RANKING_SAMPLES = 32
"""Layers are ranked on so many of the samples; goals are judged on all."""
HELD_BACK = 4
"""Every so many-th sample of the calibration data judges where there are no data for that."""


@dataclass(frozen=True)
class Candidate:
    """Nodes that go to float together, and their part in the noise at the outputs, by which they are tried."""

    nodes: tuple[str, ...]
    damage: float


@dataclass(frozen=True)
class Trial:
    """What the network loses with these nodes in float, in points of the metric."""

    exclude: tuple[str, ...]
    drop: float


@dataclass(frozen=True)
class MixedPrecision:
    """The outcome: ``compiled`` with the nodes ``exclude`` in float.

    ``drop`` is what it loses against float, ``int8_drop`` what the model with all layers in int8 loses, both in points
    of the metric on ``samples`` samples; ``trials`` are all that was tried, in order. ``seconds`` and ``int8_seconds``
    are the times of one run on one thread, mixed and all-int8, measured in turns. ``ranking`` holds the layers by
    damage.
    """

    compiled: CompiledModel
    exclude: tuple[str, ...]
    goal: float
    drop: float
    int8_drop: float
    samples: int
    seconds: float
    int8_seconds: float
    ranking: tuple[Candidate, ...]
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, without the compiled model."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "compiled"}
        plain.update({name: [asdict(item) for item in plain[name]] for name in ("ranking", "trials")})
        return plain


def compile_within(
    graph: Graph,
    calibration: Calibration,
    max_drop: float,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    labels: np.ndarray | None = None,
    metric: Metric | None = None,
    target: str = "native",
    batch: int | Sequence[int] = 1,
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    records: Records | None = None,
) -> MixedPrecision:
    """Compile a model with the fewest layers in float that keep it within ``max_drop`` of the float model.

    ``max_drop`` is in points of the metric: by default percentage points of top-1 accuracy with ``labels`` [samples],
    else of agreement with the float model's top-1, both on the first output. An own ``metric`` takes all outputs and
    the float model's. ``inputs`` [samples, ...] judge; keep them apart from the calibration data. The other arguments
    are those of :func:`sqc.compile`; nodes in ``exclude`` stay in float in any case.

    Layers are ranked by what their noise does to the outputs (see `sqc.accuracy.noise`). The search halves the number
    of the worst layers that go to float until it is the least that meets the goal, then takes back single ones, the
    least harmful first, as long as the goal holds. It is deterministic.

    Raises InputError for data or labels that do not fit, or a goal that is no number of at least zero.
    """
    if not max_drop >= 0.0:
        raise InputError(f"the goal must be a number of points of at least 0, not {max_drop}")
    inputs = named(graph, inputs)
    samples = len(next(iter(inputs.values())))
    if labels is not None and len(labels) != samples:
        raise InputError(f"there are {len(labels)} labels for {samples} samples")
    score = metric or (_agreement if labels is None else _top1(labels))
    always = frozenset(exclude)
    reference = predict(compile(graph, target=target, batch=batch).load(0), inputs)
    best = score(reference, reference)

    def build(nodes: frozenset[str]) -> CompiledModel:
        return compile(
            graph,
            calibration,
            target=target,
            batch=batch,
            preset=preset,
            ranges=ranges,
            exclude=always | nodes,
            records=records,
        )

    trials: dict[frozenset[str], float] = {}

    def drop(candidates: Iterable[Candidate]) -> float:
        nodes = frozenset(node for candidate in candidates for node in candidate.nodes)
        if nodes not in trials:
            trials[nodes] = best - score(predict(build(nodes).load(0), inputs), reference)
        return trials[nodes]

    ranking: tuple[Candidate, ...] = ()
    chosen: list[Candidate] = []
    if drop([]) > max_drop:
        both = quantize_beside_float(graph, calibration, preset=preset, ranges=ranges, exclude=always, target=target)
        ranked_on = {name: array[:RANKING_SAMPLES] for name, array in inputs.items()}
        ranking = rank(measure(both.float_graph, both.graph, ranked_on, target))
        chosen = _fewest(ranking, lambda candidates: drop(candidates) <= max_drop)
    nodes = frozenset(node for candidate in chosen for node in candidate.nodes)
    compiled = build(nodes)
    seconds, int8_seconds = _times(compiled, build(frozenset()), inputs)
    return MixedPrecision(
        compiled,
        tuple(dict.fromkeys(node for candidate in chosen for node in candidate.nodes)),
        max_drop,
        drop(chosen),
        drop([]),
        samples,
        seconds,
        int8_seconds,
        ranking,
        tuple(Trial(tuple(sorted(nodes)), lost) for nodes, lost in trials.items()),
    )


def hold_back(graph: Graph, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Divide samples into those to calibrate on and those to judge by: every fourth, or every fourth fixed batch.

    Raises InputError where there are too few.
    """
    unit = 1 if graph.dynamic_batch else graph.inputs[0].type.shape[0]
    index = np.arange(len(next(iter(inputs.values())))) // unit
    judging = index % HELD_BACK == HELD_BACK - 1
    if not judging.any():
        raise InputError(f"a goal needs at least {HELD_BACK * unit} calibration samples, some of which are held back")
    rest, held = ({name: array[mask] for name, array in inputs.items()} for mask in (~judging, judging))
    return rest, held


def rank(noise: Noise) -> tuple[Candidate, ...]:
    """What can go to float, by the damage that this takes away, the most first.

    A layer in float has exact weights and reads what it is given unrounded. So it takes away its share of the damage
    that is due to weights, and that of the roundings which it reads, in equal parts with the others that read them.
    """
    damage = {noise.layer: 0.0 for noise in noise.layers if noise.layer.nodes}
    for source in noise.layers:
        weights, rounding, clipping = source.parts
        if source.layer in damage:
            damage[source.layer] += weights * source.damage
        users = [layer for layer in damage if source.layer.stand in layer.reads]
        for user in users:
            damage[user] += (rounding + clipping) * source.damage / len(users)
    candidates = [Candidate(layer.nodes, worth) for layer, worth in damage.items()]
    return tuple(sorted(candidates, key=lambda candidate: -candidate.damage))


def _fewest(ranking: Sequence[Candidate], meets: Callable[[Sequence[Candidate]], bool]) -> list[Candidate]:
    """The fewest of the first candidates that meet the goal, less those that it can do without."""
    low, high = 0, len(ranking)  # `low` of them do not meet it, `high` do: all in float lose nothing
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(ranking[:middle]) else (middle, high)
    chosen = list(ranking[:high])
    for candidate in ranking[: high - 1][::-1]:
        fewer = [other for other in chosen if other is not candidate]
        if meets(fewer):
            chosen = fewer
    return chosen


def _times(mixed: CompiledModel, int8: CompiledModel, inputs: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Median seconds of a run of both, in turns, on one thread."""
    models = mixed.load(1), int8.load(1)
    size = models[0].inputs[0].shape[0]
    sample = {name: np.concatenate([array[:1]] * size) for name, array in inputs.items()}
    timings = interleave({"mixed": lambda _: models[0].run(sample), "int8": lambda _: models[1].run(sample)}, 1)
    return timings["mixed"].median, timings["int8"].median


def _agreement(outputs: Outputs, references: Outputs) -> float:
    first = next(iter(references))
    return 100.0 * agreement(outputs[first], references[first])


def _top1(labels: np.ndarray) -> Metric:
    return lambda outputs, _: 100.0 * top1(next(iter(outputs.values())), labels)
