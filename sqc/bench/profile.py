"""Where a model's time goes: each kernel beside the limit that binds it, and layers beside those of other engines."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sqc.bench.compare import OWN, Rival
from sqc.bench.limits import Limits, Probe
from sqc.bench.peers import Feeds
from sqc.codegen.plan import Work
from sqc.errors import InputError
from sqc.report import Report
from sqc.runtime import Model

COMPUTE = "compute"

ROUNDS = 5
"""How often the limits, the model and other engines take turns."""
FEWEST_RUNS = 10
MOST_RUNS = 500
TICK = 1e-9
"""Seconds that the clock can tell apart, at best."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a kernel cannot be quicker than.

    ``limit`` is ``compute`` or a level of memory; ``amount`` what it has to do there, in multiply-accumulates or in
    bytes; ``rate`` how much of that a second the limit allows.
    """

    limit: str
    amount: int
    rate: float

    @property
    def seconds(self) -> float:
        return self.amount / self.rate


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One kernel of a model: its work, what it took (seconds), what binds it, why it is in float or unfused."""

    work: Work
    seconds: float
    bound: Bound
    reason: str

    @property
    def rate(self) -> float:
        """What it reached of what binds it: multiply-accumulates or bytes a second."""
        return self.bound.amount / self.seconds

    @property
    def share(self) -> float:
        """The share of the limit that it reached."""
        return self.bound.seconds / self.seconds

    @property
    def intensity(self) -> float:
        """Multiply-accumulates for each byte that it reads or writes."""
        return self.work.multiply_accumulates / max(1, self.work.moved_bytes)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            **self.work.to_dict(),
            "seconds": self.seconds,
            "multiply_accumulates_per_second": self.work.multiply_accumulates / self.seconds,
            "bytes_per_second": self.work.moved_bytes / self.seconds,
            "limit": self.bound.limit,
            "limit_rate": self.bound.rate,
            "limit_seconds": self.bound.seconds,
            "share_of_limit": self.share,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that other engines run too: seconds by engine, of those whose profile names it."""

    work: Work
    seconds: Mapping[str, float]

    @property
    def outputs(self) -> int:
        """Elements of its result that the model asks for: padded channels do not count."""
        return self.work.multiply_accumulates // math.prod(self.work.window)

    def cycles(self, clock: float) -> dict[str, float]:
        """Cycles for each element of the result, by engine, at ``clock`` Hz."""
        return {name: seconds * clock / self.outputs for name, seconds in self.seconds.items()}

    def to_dict(self, clock: float) -> dict[str, Any]:
        """As plain data, for JSON."""
        cycles = self.cycles(clock)
        return {
            "node": self.work.node,
            "op": self.work.op,
            "shape": list(self.work.output.shape),
            "outputs": self.outputs,
            "seconds": dict(self.seconds),
            "cycles_per_output": cycles,
        }


@dataclass(frozen=True)
class Profile:
    """A model's kernels in order, the limits of this machine, and by engine the seconds of each layer of its own."""

    kernels: tuple[KernelTime, ...]
    limits: Limits
    engines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The sum of the kernels' times."""
        return sum(kernel.seconds for kernel in self.kernels)

    @property
    def multiply_accumulates(self) -> int:
        return sum(kernel.work.multiply_accumulates for kernel in self.kernels)

    @property
    def share(self) -> float:
        """The sum of what the limits allow over the sum of the times."""
        return sum(kernel.bound.seconds for kernel in self.kernels) / self.seconds

    @property
    def compute_share(self) -> float:
        """The time that the multiply-accumulates alone need over the sum of the times."""
        needed = sum(_compute(kernel.work, self.limits).seconds for kernel in self.kernels)
        return needed / self.seconds

    def depthwise(self) -> list[Layer]:
        """The depthwise convolutions that are kernels of their own, beside the same nodes of other engines."""
        known = {source for kernel in self.kernels for source in kernel.work.sources}
        shared = {name: by_node(layers, known) for name, layers in self.engines.items()}
        result = []
        for kernel in self.kernels:
            convolutions = sum(part.endswith("conv2d") for part in kernel.work.parts)
            if convolutions != 1 or not kernel.work.op.startswith("depthwise"):
                continue
            seconds = {OWN: kernel.seconds}
            for name, nodes in shared.items():
                if took := sum(nodes.get(source, 0.0) for source in kernel.work.sources):
                    seconds[name] = took
            result.append(Layer(kernel.work, seconds))
        return result

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "limits": self.limits.to_dict(),
            "kernels": [kernel.to_dict() for kernel in self.kernels],
            "seconds": self.seconds,
            "multiply_accumulates": self.multiply_accumulates,
            "share_of_limits": self.share,
            "share_of_compute": self.compute_share,
            "depthwise": [layer.to_dict(self.limits.clock) for layer in self.depthwise()],
            "engines": {name: dict(layers) for name, layers in self.engines.items()},
        }


def profile(
    model: Model,
    sample: Feeds,
    probe: Probe,
    rivals: Sequence[Rival] = (),
    *,
    threads: int = 1,
    seconds: float = 1.0,
    rounds: int = ROUNDS,
) -> Profile:
    """Profile ``model`` and its rivals' int8 models on one ``sample``, a batch by input name.

    Limits, model and engines take turns, ``rounds`` of them, ``seconds`` in all for each. In a round a kernel's time is
    the median of its runs (for other engines the mean of the middle half); of the rounds the quickest counts, as other
    work on the machine only adds to a time.

    Raises InputError for a library that does not describe its kernels.
    """
    inputs = [np.array(sample[spec.name], order="C") for spec in model.inputs]
    variant = _variant(model, tuple(array.shape for array in inputs))
    works = _works(variant)
    model.threads = threads
    once = sum(step.seconds for step in model.profile(*inputs, repeat=3))
    runs = max(FEWEST_RUNS, min(MOST_RUNS, int(seconds / rounds / max(once, 1e-9))))
    times = [math.inf] * len(works)
    engines: dict[str, dict[str, float]] = {f"{rival.peer.name} int8": {} for rival in rivals}
    for _ in range(rounds):
        probe.run(seconds / rounds)
        steps = model.profile(*inputs, repeat=runs)
        times = [min(best, max(step.seconds, TICK)) for best, step in zip(times, steps, strict=True)]
        for rival in rivals:
            seen = engines[f"{rival.peer.name} int8"]
            for name, took in rival.peer.profile(rival.models["int8"], sample, threads, runs).items():
                seen[name] = min(seen.get(name, math.inf), took)
    limits = probe.limits
    between = _touched(model, variant)
    report = Report.from_dict(model.description["report"]) if "report" in model.description else Report((), ())
    kernels = [
        KernelTime(work, took, bound(work, limits, between), report.why(work.node, work.parts))
        for work, took in zip(works, times, strict=True)
    ]
    return Profile(tuple(kernels), limits, engines)


def bound(work: Work, limits: Limits, between: int) -> Bound:
    """The limit that binds a kernel: the one that alone would take longest.

    Its products run at the peak of their precision. Its activations come from, and go to, the smallest level that holds
    those of a round; its constants come from the level that holds the ``between`` bytes that the model touches from one
    run to the next. Every byte moves once, and what is written counts like what is read.
    """
    moved: Counter[str] = Counter()
    rates = {level.name: level.bandwidth for level in limits.levels}
    activations = work.read_bytes + work.written_bytes
    moved[limits.level(activations // work.rounds).name] += activations
    moved[limits.level(between).name] += work.constant_bytes
    bounds = [Bound(name, amount, rates[name]) for name, amount in moved.items()]
    return max([_compute(work, limits), *bounds], key=lambda bound: bound.seconds)


def least_seconds(model: Model, inputs: Sequence[np.ndarray], limits: Limits) -> float:
    """What the limits allow for one run on arrays like ``inputs``: the sum over all kernels of what binds each.

    Raises InputError for a library that does not describe its kernels.
    """
    variant = _variant(model, tuple(array.shape for array in inputs))
    between = _touched(model, variant)
    return sum(bound(work, limits, between).seconds for work in _works(variant))


def arithmetic(work: Work) -> str:
    """Which peak of :class:`Limits` a kernel's products are held against."""
    return "float32" if work.precision == "float32" else "int8"


def by_node(layers: Mapping[str, float], nodes: set[str]) -> dict[str, float]:
    """Seconds by node of the model, of layers whose names start with the name of a node.

    Engines append to a node's name what they made of it (``Conv_2_token_4``, ``Conv_2/WithoutBiases``), also for
    conversions of its result, which count for it.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for name, took in layers.items():
        starts = [node for node in nodes if name.startswith(node) and not name[len(node) : len(node) + 1].isalnum()]
        if starts:
            seconds[max(starts, key=len)] += took
    return dict(seconds)


def _compute(work: Work, limits: Limits) -> Bound:
    return Bound(COMPUTE, work.multiply_accumulates, limits.products[arithmetic(work)])


def _variant(model: Model, shapes: tuple[tuple[int, ...], ...]) -> Mapping[str, Any]:
    """The description of the variant that takes inputs of these shapes."""
    index = next(i for i, variant in enumerate(model.variants) if variant.shapes == shapes)
    result: Mapping[str, Any] = model.description["variants"][index]
    return result


def _works(variant: Mapping[str, Any]) -> list[Work]:
    try:
        return [Work.from_dict(step) for step in variant["steps"]]
    except KeyError as error:
        raise InputError(
            "the library does not tell what its kernels do; compile it with this version of sqc"
        ) from error


def _touched(model: Model, variant: Mapping[str, Any]) -> int:
    """Bytes that a run touches: constants, arena, inputs and outputs."""
    tensors = [*variant["inputs"], *variant["outputs"]]
    outside: int = sum(math.prod(tensor["shape"]) * np.dtype(tensor["dtype"]).itemsize for tensor in tensors)
    return outside + int(model.description["constants_bytes"]) + int(variant["arena_bytes"])
