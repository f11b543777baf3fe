"""A compiled model beside other engines: the same inputs, equal threads, turns that interleave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sqc.bench.machine import machine
from sqc.bench.measure import ROUNDS, Timing, interleave
from sqc.bench.peers import Feeds, Peer, Runner
from sqc.runtime import Model, TensorSpec

SAMPLES = 8
"""Inputs that the timed runs rotate over."""

OWN = "sqc int8"


class SqcRunner:
    """A compiled model, timed as a user calls it: ``model(x)``."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._inputs: list[list[np.ndarray]] = []
        self._result: Any = None

    def bind(self, samples: Sequence[Feeds]) -> None:
        names = [spec.name for spec in self._model.inputs]
        self._inputs = [[np.array(sample[name], order="C") for name in names] for sample in samples]

    def step(self, index: int) -> None:
        self._result = self._model(*self._inputs[index])

    def outputs(self) -> dict[str, np.ndarray]:
        names = [spec.name for spec in self._model.outputs]
        results = self._result if isinstance(self._result, tuple) else (self._result,)
        return {name: np.array(result) for name, result in zip(names, results, strict=True)}


@dataclass(frozen=True)
class Rival:
    """An engine with the model that it runs: the float one, and its own quantization of it."""

    peer: Peer
    models: Mapping[str, Any]
    """By precision: ``float``, ``int8``."""

    @staticmethod
    def prepare(peer: Peer, model: bytes, calibration: Sequence[Feeds]) -> Rival:
        """Quantize ``model`` (an ONNX file of fixed batch) with the engine's own tool."""
        return Rival(peer, {"float": model, "int8": peer.quantize(model, calibration)})

    def runners(self, threads: int) -> dict[str, Runner]:
        return {
            f"{self.peer.name} {precision}": self.peer.load(model, threads) for precision, model in self.models.items()
        }


@dataclass(frozen=True)
class Comparison:
    """The timings of one model, by engine and precision; ``sqc int8`` is the model compared."""

    model: str
    batch: int
    threads: int
    timings: Mapping[str, Timing]
    versions: Mapping[str, str]
    profile: Sequence[tuple[str, float]] = field(default=())
    """Steps of sqc's model, each with its median seconds."""

    def ratios(self) -> dict[str, float]:
        """sqc's time over that of each other engine: below 1, sqc is the faster."""
        own = self.timings[OWN]
        return {name: own.ratio(timing) for name, timing in self.timings.items() if name != OWN}

    def to_dict(self) -> dict[str, object]:
        return {
            "model": self.model,
            "batch": self.batch,
            "threads": self.threads,
            "machine": machine(),
            "versions": dict(self.versions),
            "timings": {name: timing.to_dict() for name, timing in self.timings.items()},
            "sqc_time_over_peer": self.ratios(),
            "profile": [{"step": name, "ms": seconds * 1e3} for name, seconds in self.profile],
        }


def compare(
    model: Model,
    samples: Sequence[Feeds],
    rivals: Sequence[Rival] = (),
    *,
    name: str,
    threads: int = 1,
    own: Mapping[str, Model] | None = None,
    seconds: float = 1.0,
    rounds: int = ROUNDS,
) -> Comparison:
    """Time ``model`` and its rivals on ``samples``, each a batch by input name, with ``threads`` threads.

    ``own`` holds further models of sqc by name, such as the same one in float. ``seconds`` is for each runner.
    """
    mine = {OWN: model, **(own or {})}
    runners: dict[str, Runner] = {}
    for key, compiled in mine.items():
        compiled.threads = threads
        runners[key] = SqcRunner(compiled)
    for rival in rivals:
        runners.update(rival.runners(threads))
    for runner in runners.values():
        runner.bind(samples)
    steps: dict[str, Callable[[int], object]] = {key: runner.step for key, runner in runners.items()}
    timings = interleave(steps, len(samples), seconds=seconds, rounds=rounds)
    inputs = [np.array(samples[0][spec.name], order="C") for spec in model.inputs]
    profile = [(step.name, step.seconds) for step in model.profile(*inputs)]
    versions = {**model.description.get("versions", {}), **{rival.peer.name: rival.peer.version for rival in rivals}}
    batch = next(iter(samples[0].values())).shape[0]
    return Comparison(name, batch, threads, timings, versions, profile)


def random_samples(inputs: Sequence[TensorSpec], count: int = SAMPLES) -> list[dict[str, np.ndarray]]:
    """Inputs of standard normal numbers (of small whole ones for integer inputs), always the same."""
    rng = np.random.default_rng(0)
    return [
        {spec.name: (rng.standard_normal(spec.shape) * 2).astype(spec.dtype) for spec in inputs} for _ in range(count)
    ]
