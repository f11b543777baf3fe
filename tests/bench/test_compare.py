"""Comparing a model with engines, on stand-ins that do no work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np

from sqc.bench.compare import Comparison, Rival, SqcRunner, compare, random_samples
from sqc.bench.measure import Timing
from sqc.bench.peers import Feeds, Runner
from sqc.runtime import Model, StepTime, TensorSpec

SPEC = TensorSpec("x", np.dtype(np.float32), (2, 3))


class FakeModel:
    """Doubles its input."""

    inputs = (SPEC,)
    outputs = (TensorSpec("y", np.dtype(np.float32), (2, 3)),)
    description: ClassVar = {"versions": {"sqc": "0"}}
    threads = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x * 2

    def profile(self, x: np.ndarray) -> list[StepTime]:
        return [StepTime("conv first", 2e-3), StepTime("pool", 1e-3)]


class FakeRunner:
    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.samples: Sequence[Feeds] = ()

    def bind(self, samples: Sequence[Feeds]) -> None:
        self.samples = samples

    def step(self, index: int) -> None:
        assert 0 <= index < len(self.samples)

    def outputs(self) -> dict[str, np.ndarray]:
        return {}


class FakePeer:
    name = "fake"
    version = "1.2"

    def quantize(self, model: bytes, calibration: Sequence[Feeds]) -> Any:
        return f"{model.decode()} on {len(calibration)}"

    def load(self, model: Any, threads: int) -> Runner:
        return FakeRunner(threads)


def test_comparison_has_everything_for_json() -> None:
    model = FakeModel()
    rival = Rival.prepare(FakePeer(), b"model", [{}, {}])
    assert rival.models == {"float": b"model", "int8": "model on 2"}
    samples = random_samples(model.inputs, 2)
    comparison = compare(
        cast(Model, model),
        samples,
        [rival],
        name="m.onnx",
        threads=2,
        own={"sqc float": cast(Model, model)},
        seconds=1e-6,
        rounds=2,
    )
    assert model.threads == 2
    assert list(comparison.timings) == ["sqc int8", "sqc float", "fake float", "fake int8"]
    assert set(comparison.ratios()) == {"sqc float", "fake float", "fake int8"}
    figures = comparison.to_dict()
    assert (figures["model"], figures["batch"], figures["threads"]) == ("m.onnx", 2, 2)
    assert figures["versions"] == {"sqc": "0", "fake": "1.2"}
    assert figures["profile"] == [{"step": "conv first", "ms": 2.0}, {"step": "pool", "ms": 1.0}]


def test_ratio_below_one_is_quicker() -> None:
    timings = {"sqc int8": Timing(((1.0,),)), "fake int8": Timing(((4.0,),))}
    assert Comparison("m", 1, 1, timings, {}).ratios() == {"fake int8": 0.25}


def test_sqc_runner_calls_the_model() -> None:
    runner = SqcRunner(cast(Model, FakeModel()))
    x = np.ones((2, 3), np.float32)
    runner.bind([{"x": x}, {"x": x * 5}])
    runner.step(1)
    np.testing.assert_array_equal(runner.outputs()["y"], x * 10)


def test_random_samples_are_always_the_same() -> None:
    first, second = random_samples([SPEC], 3), random_samples([SPEC], 3)
    assert len(first) == 3
    for a, b in zip(first, second, strict=True):
        assert a["x"].dtype == np.float32
        np.testing.assert_array_equal(a["x"], b["x"])
