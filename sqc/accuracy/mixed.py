"""Mixed precision with a goal: the fewest layers in float with which a network loses no more than it may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.accuracy.candidates import Candidate, fewest, nodes_of, rank, rank_weights
from sqc.accuracy.four_bits import bound_by_memory, with_four_bits
from sqc.accuracy.metrics import agreement, top1
from sqc.accuracy.noise import Noise, measure
from sqc.accuracy.running import named, predict
from sqc.bench.measure import Step, interleave
from sqc.calibration import DEFAULT_SEARCH, Calibration, Ranges, RangesLike
from sqc.compiler import CompiledModel, compile
from sqc.errors import InputError
from sqc.ir import Graph, rebatch
from sqc.passes import pipeline
from sqc.quantizing import quantize, quantize_beside_float
from sqc.recipe import DEFAULT_PRESET, Preset
from sqc.runtime import Model
from sqc.schedules import Target

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
class Choice:
    """Nodes in float, and nodes whose weights have four bits."""

    exclude: frozenset[str] = frozenset()
    four_bits: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Trial:
    """What the network loses with some nodes in float, and some with weights of four bits, in points of the metric."""

    exclude: tuple[str, ...]
    four_bits: tuple[str, ...]
    drop: float


@dataclass(frozen=True)
class Outcome:
    """What a choice loses against float, in points; seconds of a run on one thread; bytes of the library."""

    drop: float
    seconds: float
    bytes: int


@dataclass(frozen=True)
class MixedPrecision:
    """The outcome: ``compiled`` with the nodes ``exclude`` in float, and weights of four bits at ``four_bits``.

    ``ranges`` are those that give it these weights. ``mixed`` is what that costs, ``eight_bits`` what it costs with the
    same nodes in float and all other weights in eight bits, ``int8`` with all layers in eight bits. They are measured
    in turns, for the best target that runs here. Losses are in points of the metric on ``samples`` samples; ``trials``
    are all that was tried, in order. ``ranking`` holds the layers by the damage that float takes away,
    ``four_bit_ranking`` those bound by memory by the damage that four bits do; they are empty where none had to be
    chosen.
    """

    compiled: CompiledModel
    exclude: tuple[str, ...]
    four_bits: tuple[str, ...]
    ranges: Ranges
    goal: float
    samples: int
    mixed: Outcome
    eight_bits: Outcome
    int8: Outcome
    ranking: tuple[Candidate, ...]
    four_bit_ranking: tuple[Candidate, ...]
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, without the compiled model and its ranges."""
        names = [name for name in self.__dataclass_fields__ if name not in ("compiled", "ranges")]
        plain = {name: getattr(self, name) for name in names}
        plain.update({name: asdict(plain[name]) for name in ("mixed", "eight_bits", "int8")})
        plain.update({name: [asdict(item) for item in plain[name]] for name in _LISTS})
        return plain


_LISTS = ("ranking", "four_bit_ranking", "trials")


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
    least harmful first, as long as the goal holds. Then the weights of fully connected layers that are bound by memory
    get four bits (see `sqc.accuracy.four_bits`), but for the fewest that the goal needs in eight, searched in the same
    way. It is deterministic.

    Raises InputError for data or labels that do not fit, or a goal that is no number of at least zero.
    """
    if not max_drop >= 0.0:
        raise InputError(f"the goal must be a number of points of at least 0, not {max_drop}")
    inputs = named(graph, inputs)
    samples = len(next(iter(inputs.values())))
    if labels is not None and len(labels) != samples:
        raise InputError(f"there are {len(labels)} labels for {samples} samples")
    score = metric or (_agreement if labels is None else _top1(labels))
    always, ranges, here = frozenset(exclude), Ranges.of(ranges), Target.here(target).name
    float_graph = pipeline.run(pipeline.FLOAT, graph)
    reference = predict(compile(graph, target=here, batch=batch).load(0), inputs)
    best = score(reference, reference)
    ranked_on = {name: array[:RANKING_SAMPLES] for name, array in inputs.items()}

    def ranges_of(choice: Choice) -> Ranges:
        return with_four_bits(float_graph, ranges, choice.four_bits, always | choice.exclude)

    def build(choice: Choice, target: str) -> CompiledModel:
        return compile(
            graph,
            calibration,
            target=target,
            batch=batch,
            preset=preset,
            ranges=ranges_of(choice),
            exclude=always | choice.exclude,
            records=records,
        )

    def noise(choice: Choice) -> Noise:
        both = quantize_beside_float(
            graph, calibration, preset=preset, ranges=ranges_of(choice), exclude=always | choice.exclude, target=here
        )
        return measure(both.float_graph, both.graph, ranked_on, here)

    trials: dict[Choice, float] = {}

    def drop(choice: Choice) -> float:
        if choice not in trials:
            trials[choice] = best - score(predict(build(choice, here).load(0), inputs), reference)
        return trials[choice]

    ranking: tuple[Candidate, ...] = ()
    chosen: list[Candidate] = []
    if drop(Choice()) > max_drop:
        ranking = rank(noise(Choice()))
        chosen = fewest(ranking, lambda candidates: drop(Choice(nodes_of(candidates))) <= max_drop)
    in_bytes = Choice(nodes_of(chosen))
    excluded = always | in_bytes.exclude
    quantized = quantize(graph, calibration, ranges=ranges, exclude=excluded)
    light = bound_by_memory(rebatch(quantized, _least(batch)) if quantized.dynamic_batch else quantized)

    def packed(kept: Iterable[Candidate]) -> Choice:
        return replace(in_bytes, four_bits=frozenset(light) - nodes_of(kept))

    final, four_bit_ranking = packed([]), tuple[Candidate, ...]()
    if drop(final) > max_drop:
        four_bit_ranking = rank_weights(noise(final), light)
        final = packed(fewest(four_bit_ranking, lambda kept: drop(packed(kept)) <= max_drop))
    outcomes = _outcomes({choice: build(choice, here) for choice in (final, in_bytes, Choice())}, drop, inputs)
    return MixedPrecision(
        build(final, target),
        tuple(dict.fromkeys(node for candidate in chosen for node in candidate.nodes)),
        tuple(node for node in light if node in final.four_bits),
        ranges_of(final),
        max_drop,
        samples,
        outcomes[final],
        outcomes[in_bytes],
        outcomes[Choice()],
        ranking,
        four_bit_ranking,
        tuple(Trial(tuple(sorted(c.exclude)), tuple(sorted(c.four_bits)), lost) for c, lost in trials.items()),
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


def _least(batch: int | Sequence[int]) -> int:
    return batch if isinstance(batch, int) else min(batch)


def _outcomes(
    builds: Mapping[Choice, CompiledModel], drop: Callable[[Choice], float], inputs: Mapping[str, np.ndarray]
) -> dict[Choice, Outcome]:
    """What each choice costs; times are medians of runs in turns."""
    models = {choice: compiled.load(1) for choice, compiled in builds.items()}
    size = next(iter(models.values())).inputs[0].shape[0]
    sample = {name: np.concatenate([array[:1]] * size) for name, array in inputs.items()}
    calls = {str(i): _runner(model, sample) for i, model in enumerate(models.values())}
    timings = interleave(calls, 1)
    return {
        choice: Outcome(drop(choice), timings[str(i)].median, len(compiled.library))
        for i, (choice, compiled) in enumerate(builds.items())
    }


def _runner(model: Model, sample: Mapping[str, np.ndarray]) -> Step:
    return lambda _: model.run(sample)


def _agreement(outputs: Outputs, references: Outputs) -> float:
    first = next(iter(references))
    return 100.0 * agreement(outputs[first], references[first])


def _top1(labels: np.ndarray) -> Metric:
    return lambda outputs, _: 100.0 * top1(next(iter(outputs.values())), labels)
