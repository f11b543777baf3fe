"""Which parameters values get: rules, bounds by what follows, few bits, the search by output error."""

from __future__ import annotations

import math

import numpy as np
import pytest

import sqc
from sqc.calibration import Calibration, Histogram, Ranges, Settings, Statistics, TensorStatistics, accumulate
from sqc.errors import CalibrationError
from sqc.ir import Builder, Graph, TensorType, Value, evaluate_op, same_bits
from sqc.passes import FLOAT, observed_values, quantization, run
from sqc.passes.choose_parameters import choose_parameters
from sqc.passes.output_error import choose_by_output_error, least_output_error
from sqc.passes.rounding import place, rounding_names, useful_range
from tests.passes.random_graphs import random_graph, random_inputs

F32 = "float32"


def calibrated(graph: Graph, inputs: dict[str, np.ndarray]) -> Calibration:
    """On one batch, through the reference."""
    environment = dict(graph.constants)
    environment.update({value: inputs[value.name] for value in graph.inputs})
    for op in graph.ops:
        environment[op.result] = evaluate_op(op, [environment[operand] for operand in op.operands])
    statistics = Statistics()
    accumulate(statistics, {value.name: environment[value] for value in observed_values(graph)})
    return Calibration(statistics)


def functions(*kinds: str) -> tuple[Graph, Value]:
    """The functions of ``kinds`` of one sum, each result read by a product."""
    builder = Builder("functions")
    x = builder.input("x", TensorType((1, 8), F32))
    total = builder.emit("add", [x, builder.emit("mul", [x, x], name="square")], name="total")
    for kind in kinds:
        y = builder.emit(kind, [total], {"min": -1.0, "max": 2.0} if kind == "clip" else {}, name=kind)
        builder.outputs[kind] = builder.emit("mul", [y, x], name=f"{kind}.product")
    return builder.finish(), total


@pytest.mark.parametrize(
    ("kinds", "low", "high"),
    [
        (("relu", "clip"), -1.0, math.inf),
        (("sigmoid",), -math.log(509), math.log(509)),
        (("tanh",), -math.atanh(253 / 255), math.atanh(253 / 255)),
        (("sigmoid", "clip"), -math.log(509), math.log(509)),
        (("sigmoid", "hard_swish"), -math.log(509), math.inf),
        (("sigmoid", "abs"), -math.inf, math.inf),
        (("gelu",), -4.0, math.inf),
        (("gelu_tanh", "silu"), -10.0, math.inf),
        (("mish", "relu"), -10.0, math.inf),
    ],
)
def test_what_the_readers_tell_apart(kinds: tuple[str, ...], low: float, high: float) -> None:
    graph, total = functions(*kinds)
    assert useful_range(graph, total, place(graph)) == (low, high)


@pytest.mark.parametrize("kind", ["gelu", "gelu_tanh", "silu", "mish"])
def test_tails_are_within_half_a_level_of_zero(kind: str) -> None:
    graph, total = functions(kind)
    low, _ = useful_range(graph, total, place(graph))
    op = next(op for op in graph.ops if op.kind == kind)
    x = np.linspace(-40, 0, 8).astype(np.float32)
    assert evaluate_op(op, [np.linspace(-3, 0, 1000).astype(np.float32)]).min() < -0.16
    depth = -evaluate_op(op, [np.linspace(-3, 0, 1000).astype(np.float32)]).min()
    assert np.abs(evaluate_op(op, [np.minimum(x, np.float32(low))])).max() <= depth / (2 * 255)


@pytest.mark.parametrize(("search", "whole"), [("auto", True), ("minmax", True), ("l2", False)])
def test_rows_of_a_normalized_sum_are_not_cut_off(search: str, whole: bool) -> None:
    builder = Builder("normalized")
    x, y = (builder.input(name, TensorType((1, 8), F32)) for name in "xy")
    ones = builder.constant(np.ones(8, np.float32), "ones")
    sums = builder.emit("add", [x, y], name="sum")
    norm = builder.emit("normalize", [sums, ones, ones], {"axes": (1,), "epsilon": 1e-5}, name="norm")
    weights = builder.constant(np.ones((4, 8), np.float32), "weights")
    builder.outputs["z"] = builder.emit("fully_connected", [norm, weights], name="z")
    seen = np.append(np.random.default_rng(0).uniform(-1, 1, 100_000), [-1.0, 90.0]).astype(np.float32)
    calibration = Calibration(Statistics({"norm": TensorStatistics.of(seen)}))
    scale, zero_point = choose_parameters(builder.finish(), calibration, Ranges(search))["norm"]
    assert (scale * (255 - zero_point) > 89.0) == whole


@pytest.mark.parametrize(("kind", "last"), [("sigmoid", (0, 255)), ("tanh", (1, 255))])
def test_beyond_the_bounds_tables_are_constant(kind: str, last: tuple[int, int]) -> None:
    graph, total = functions(kind)
    low, high = useful_range(graph, total, place(graph))
    op = next(op for op in graph.ops if op.kind == kind)
    scale, zero_point = {"sigmoid": (1 / 255, 0), "tanh": (2 / 255, 128)}[kind]
    x = np.array([-15, low - 1e-3, low + 1e-2, high - 1e-2, high + 1e-3, 15], np.float64)
    y = 1 / (1 + np.exp(-x)) if kind == "sigmoid" else np.tanh(x)
    levels = (np.rint(y / scale) + zero_point).tolist()
    assert op.result.name == kind
    assert levels == [last[0], last[0], last[0] + 1, last[1] - 1, last[1], last[1]]


def test_ranges_stay_within_what_readers_tell_apart() -> None:
    graph, _ = functions("sigmoid", "clip")
    calibration = calibrated(graph, {"x": np.linspace(-9, 9, 8, dtype=np.float32)[None]})
    for search in ("minmax", "l2", "kl", "p99"):
        scale, zero_point = choose_parameters(graph, calibration, Ranges(search))["total"]
        assert scale * (255 - zero_point) <= math.log(509) + scale


def test_rules_reach_what_is_computed_before_the_rounding() -> None:
    builder = Builder("layer")
    x = builder.input("x", TensorType((1, 4), F32))
    weights = builder.constant(np.eye(4, dtype=np.float32), "w")
    y = builder.emit("fully_connected", [x, weights], name="fc", source="/head/fc")
    y = builder.emit("relu", [y], name="relu", source="/head/relu")
    builder.outputs["y"] = builder.emit("fully_connected", [y, weights], name="last", source="/tail")
    graph = builder.finish()
    names = {value.name: rounding_names(graph, value, place(graph)) for value in place(graph).rounded}
    assert names["x"] == {"x", "input"}
    assert names["relu"] == {"relu", "fc", "fully_connected", "/head/fc", "/head/relu"}
    calibration = calibrated(graph, {"x": np.array([[-1, 0, 2, 8]], np.float32)})
    wide = choose_parameters(graph, calibration, Ranges("minmax"))
    for pattern in ("fully_connected", "/head/*", "/head/relu", "relu"):
        chosen = choose_parameters(graph, calibration, Ranges("minmax", [(pattern, "bits:2,minmax")]))
        assert chosen["x"] == wide["x"]
        assert chosen["relu"] == (np.float32(8 / 3), 0)
    with pytest.raises(CalibrationError, match="rule for '/body/\\*' matches no kind of op"):
        choose_parameters(graph, calibration, Ranges("l2", [("/body/*", "kl")]))
    integer = sqc.quantize(graph, calibration, ranges=Ranges("l2", [("/tail", "weight-bits:3")]))
    limits = {int(array.max()) for value, array in integer.constants.items() if value.type.dtype == "int8"}
    assert limits == {127, 3}


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("text", ["minmax,bits:4,weight-bits:4", "l2,symmetric,bits:7", "minmax,power-of-two"])
def test_random_graphs_keep_to_their_levels(seed: int, text: str) -> None:
    graph = run(FLOAT, random_graph(seed))
    inputs = random_inputs(graph, seed)
    settings = Settings.parse(text)
    ranges = Ranges(settings)
    parameters = choose_parameters(graph, calibrated(graph, inputs), ranges)
    after: dict[str, Graph] = {}
    integer = run(quantization(parameters, ranges=ranges), graph, after=lambda step, g: after.update({step.name: g}))
    environment = dict(integer.constants)
    environment.update({value: inputs[value.name] for value in integer.inputs})
    for op in integer.ops:
        environment[op.result] = evaluate_op(op, [environment[operand] for operand in op.operands])
        quantization_ = op.result.type.quantization
        negated = op.result.name.endswith(".negated")  # level q of another value as 255 - q
        if op.result.type.dtype == "uint8" and quantization_ is not None and not negated:
            assert environment[op.result].max() <= settings.grid.steps
            if settings.power_of_two:
                assert all(math.frexp(scale)[0] == 0.5 for scale in quantization_.scale)
    for value, array in integer.constants.items():
        if value.type.dtype == "int8":
            assert np.abs(array.astype(int)).max(initial=0) < 2 ** (settings.weights.bits - 1)
    folded = after["fold-qparams"].run(inputs)
    assert all(same_bits(y, folded[name]) for name, y in integer.run(inputs).items())


def test_the_best_candidate_by_output_error() -> None:
    assert choose_by_output_error([(1.0, 0), (2.0, 0), (3.0, 0)], lambda pair: abs(pair[0] - 2.5)) == (2.0, 0)


def test_the_reader_decides_which_range_is_best() -> None:
    """A channel of outliers that the reader ignores may be clipped; one that it reads may not."""
    samples = np.random.default_rng(0).standard_normal((32, 2)).astype(np.float32)
    samples[:, 1] *= 1000
    fine, coarse = (1 / 32, 128), (32.0, 128)
    for row, best in (([1, 0], fine), ([0, 1], coarse)):
        builder = Builder("layer")
        x = builder.input("x", TensorType((32, 2), F32))
        weights = builder.constant(np.array([row], np.float32), "w")
        builder.outputs["y"] = builder.emit("fully_connected", [x, weights], name="fc")
        graph = builder.finish()
        chosen = least_output_error(graph, {x: [fine, coarse]}, {x: 8}, {"x": samples})
        assert chosen == {"x": best}
        with pytest.raises(CalibrationError, match="this calibration keeps none"):
            least_output_error(graph, {x: [fine, coarse]}, {x: 8}, {})


def test_histograms_of_other_models_are_refused() -> None:
    graph, _ = functions("relu")
    calibration = Calibration(Statistics({"y": TensorStatistics(Histogram.of([1.0]))}, 1))
    with pytest.raises(CalibrationError, match="is not in the calibration"):
        choose_parameters(graph, calibration, Ranges())
