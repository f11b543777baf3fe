"""The driver: calibrate, quantize and compile, on a small network with one of everything."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqc
from sqc.compiler import CompiledModel
from sqc.errors import CalibrationError, CompileError, GraphError
from sqc.ir import Builder, Graph, TensorType, Value, rebatch, same_bits
from sqc.report import Report

SHAPE = (3, 9, 10)
CLASSES = 5


def network(batch: int | None = None) -> Graph:
    """A float classifier with one of everything: its batch is open, or fixed."""
    random = np.random.default_rng(7)
    builder = Builder("network", dynamic_batch=batch is None)

    def emit(kind: str, *operands: Value, **attributes: Any) -> Value:
        name = builder.unique(kind)
        return builder.emit(kind, operands, attributes, name=f"{name}.y", source=name)

    def linear(kind: str, x: Value, *shape: int, **attributes: Any) -> Value:
        deviation = float(np.prod(shape[1:])) ** -0.5
        w = builder.constant(random.normal(0, deviation, shape).astype(np.float32), "w")
        b = builder.constant(random.normal(0, 0.1, shape[0]).astype(np.float32), "b")
        return emit(kind, x, w, b, **attributes)

    def convolution(x: Value, *shape: int, **attributes: Any) -> Value:
        return linear("conv2d", x, *shape, layout="NCHW", **attributes)

    image = builder.input("image", TensorType((batch or 1, *SHAPE), "float32"))
    first = emit("relu", convolution(image, 10, 3, 3, 3, pads=(1, 1, 1, 1)))
    depthwise = emit("clip", convolution(first, 10, 1, 3, 3, pads=(1, 1, 1, 1), groups=10), min=0.0, max=6.0)
    residual = emit("add", convolution(depthwise, 10, 10, 1, 1), first)
    gate = emit("sigmoid", convolution(emit("reduce_mean", residual, axes=(2, 3), keepdims=True), 10, 10, 1, 1))
    scaled = emit("mul", residual, gate)
    joined = emit("concat", scaled, first, axis=1)
    pooled = emit("max_pool", joined, kernel=(2, 2), strides=(2, 2), layout="NCHW")
    flat = emit("reshape", pooled, shape=(-1 if batch is None else batch, 20 * 4 * 5))
    builder.outputs = {"scores": emit("softmax", linear("fully_connected", flat, CLASSES, 400), axis=1)}
    return builder.finish()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture(scope="module")
def calibration(graph: Graph) -> sqc.Calibration:
    return sqc.calibrate(graph, [images(12)])


@pytest.fixture(scope="module")
def compiled(graph: Graph, calibration: sqc.Calibration) -> sqc.CompiledModel:
    return sqc.compile(graph, calibration)


def test_a_calibration_of_another_model(calibration: sqc.Calibration) -> None:
    builder = Builder("other")
    x = builder.input("x", TensorType((1, 4), "float32"))
    w = builder.constant(np.eye(4, dtype=np.float32), "w")
    builder.outputs = {"y": builder.emit("fully_connected", [x, w], name="y", source="fc")}
    with pytest.raises(CalibrationError, match="'x' is not in the calibration"):
        sqc.quantize(builder.finish(), calibration)


# Compiling -----------------------------------------------------------------------------------------------------------


def test_the_library_equals_the_reference(
    graph: Graph, calibration: sqc.Calibration, compiled: sqc.CompiledModel
) -> None:
    quantized = sqc.quantize(graph, calibration)
    logits = next(op for op in quantized.ops if op.kind == "softmax").operands[0]
    bare = Graph("bare", quantized.inputs, {"logits": logits}, quantized.constants, quantized.ops, True)
    x = images(1, seed=1)
    assert same_bits(sqc.compile(bare)(x), bare.run({"image": x})["logits"])
    np.testing.assert_allclose(compiled(x), quantized.run({"image": x})["scores"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(compiled(x), graph.run({"image": x})["scores"], atol=0.1)


def test_an_integer_graph_compiles_to_the_same_library(
    graph: Graph, calibration: sqc.Calibration, compiled: sqc.CompiledModel
) -> None:
    quantized = sqc.quantize(graph, calibration)
    x = images(1, seed=3)
    assert same_bits(sqc.compile(quantized)(x), compiled(x))
    with pytest.raises(CompileError, match="quantized already"):
        sqc.compile(quantized, calibration)


def test_a_graph_without_a_calibration_stays_in_float(graph: Graph) -> None:
    model = sqc.compile(graph)
    x = images(1, seed=2)
    np.testing.assert_allclose(model(x), graph.run({"image": x})["scores"], rtol=0, atol=1e-5)
    assert model.report.int8_share == 0.0


def test_batches_give_the_same_bits_in_every_row(
    graph: Graph, calibration: sqc.Calibration, compiled: sqc.CompiledModel
) -> None:
    model = sqc.compile(graph, calibration, batch=(1, 3, 8)).load()
    assert [variant.shapes for variant in model.variants] == [((n, *SHAPE),) for n in (1, 3, 8)]
    for count in (1, 3, 8):
        x = images(count, seed=count)
        expected = np.concatenate([compiled(x[i : i + 1]) for i in range(count)])
        assert same_bits(model(x), expected)


def test_any_batch_runs_in_parts_of_those_compiled(
    graph: Graph, calibration: sqc.Calibration, compiled: sqc.CompiledModel
) -> None:
    model = sqc.compile(graph, calibration, batch=(3, 8)).load()
    x = images(40, seed=9)
    expected = np.concatenate([compiled(x[i : i + 1]) for i in range(40)])
    for count in range(1, 41):
        assert same_bits(model(x[:count]), expected[:count])
    assert same_bits(compiled(x), expected)
    assert len(sqc.compile(graph, calibration, batch=(3, 8)).plan.constants) == len(compiled.plan.constants)


def test_several_targets_share_weights_and_give_the_same_bits(graph: Graph, calibration: sqc.Calibration) -> None:
    one, same = (sqc.compile(graph, calibration, target=target) for target in ("haswell", "haswell,x86-64-v3"))
    assert same.plan.constants == one.plan.constants
    both = sqc.compile(graph, calibration, target="x86-64-v3,avx512vnni-emulated,x86-64-v3", batch=(1, 4))
    assert [plan.target for plan in both.plan.candidates] == ["avx512vnni-emulated", "x86-64-v3"]
    model, x = both.load(), images(5, seed=6)
    assert model.description["target"] == "avx512vnni-emulated"
    lesser = CompiledModel(both.plan.alternatives[0], both.report).load()
    assert same_bits(model(x), one(x)) and same_bits(lesser(x), one(x))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_give_the_same_bits(graph: Graph, calibration: sqc.Calibration, threads: int) -> None:
    compiled = sqc.compile(graph, calibration, batch=8)
    x = images(8, seed=4)
    assert same_bits(compiled.load(threads)(x), compiled.load(1)(x))


def test_a_model_of_a_fixed_batch_takes_no_other() -> None:
    fixed = network(4)
    with pytest.raises(GraphError, match="fixes its batch at 4"):
        sqc.compile(fixed, sqc.calibrate(fixed, [images(4)]), batch=3)


@pytest.mark.parametrize("batch", [0, -1, (), (1, 0)], ids=str)
def test_bad_batches(graph: Graph, batch: Any) -> None:
    with pytest.raises(CompileError, match="batch must be one or more positive numbers"):
        sqc.compile(graph, batch=batch)


def test_unknown_targets_are_named_with_the_known_ones(graph: Graph) -> None:
    with pytest.raises(CompileError, match=r"unknown target 'z80'; known: native, .*cascadelake"):
        sqc.compile(graph, target="z80")


# Determinism ---------------------------------------------------------------------------------------------------------

DIGEST = """
import hashlib
from tests.test_compiler import SHAPE, images, network
import sqc
from sqc.compiler import CompiledModel
graph = network()
library = sqc.compile(graph, sqc.calibrate(graph, [images(12)])).library
print(hashlib.sha256(library).hexdigest())
"""


def test_equal_inputs_give_byte_identical_libraries(
    graph: Graph, calibration: sqc.Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a process, whether kernels are compiled or reused, and in another one with other hashes of strings."""
    from sqc.codegen import build, library
    from sqc.codegen.recent import Recent

    monkeypatch.setattr(library, "_recent", Recent(0))
    once = sqc.compile(graph, calibration).library
    again = sqc.compile(network(), calibration).library
    build._objects.clear()
    afresh = sqc.compile(graph, calibration).library
    assert once == again == afresh
    other = subprocess.run(
        [sys.executable, "-c", DIGEST],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == hashlib.sha256(once).hexdigest()


# What stays in float, and what the report says -----------------------------------------------------------------------


def row_of(report: Report, name: str) -> Any:
    return next(row for row in report.rows if row.name == name)


def test_report(compiled: sqc.CompiledModel) -> None:
    report = compiled.report
    assert report.int8_share == 1.0
    pixels = 9 * 10
    products = pixels * (10 * 3 * 9 + 10 * 9 + 10 * 10) + 10 * 10 + 400 * CLASSES
    assert report.multiply_accumulates == products
    first = row_of(report, "conv2d")
    assert (first.precision, first.parts, first.multiply_accumulates) == (
        "int8", ("qconv2d", "requantize"), pixels * 270,
    )  # fmt: skip
    softmax = row_of(report, "softmax")
    assert softmax.precision == "float32"
    assert "only float ops and outputs read it" in softmax.reason
    assert any("residual addition in the epilogue" in remark.message for remark in report.remarks)
    assert Report.from_dict(report.to_dict()) == report
    assert Report.from_dict(compiled.load().description["report"]) == report


def test_excluded_nodes_stay_in_float(graph: Graph, calibration: sqc.Calibration) -> None:
    excluded = sqc.compile(graph, calibration, exclude=["fully_connected"])
    row = row_of(excluded.report, "fully_connected")
    assert row.precision == "float32"
    assert "excluded by the user" in row.reason
    assert 0 < excluded.report.int8_share < 1
    x = images(1, seed=5)
    np.testing.assert_allclose(excluded(x), graph.run({"image": x})["scores"], atol=0.1)


def test_everything_can_be_excluded(graph: Graph) -> None:
    names = sorted({op.source for op in graph.ops})
    calibration = sqc.calibrate(graph, [images(4)], exclude=names)
    x = images(1, seed=6)
    assert same_bits(sqc.compile(graph, calibration, exclude=names)(x), sqc.compile(graph)(x))


def test_unknown_nodes_cannot_be_excluded(graph: Graph, calibration: sqc.Calibration) -> None:
    with pytest.raises(CompileError, match="cannot exclude nothing, nowhere: the model has no such node"):
        sqc.compile(graph, calibration, exclude=["nowhere", "nothing", "fully_connected"])


def test_range_searches_differ(graph: Graph, calibration: sqc.Calibration) -> None:
    with pytest.raises(CalibrationError, match="search"):
        sqc.quantize(graph, calibration, ranges="guess")
    scales = [sqc.quantize(graph, calibration, ranges=name).ops[0].number("scale") for name in ("minmax", "l2")]
    assert scales[1] <= scales[0]


def test_moving_averages_of_batches_are_within_the_extremes(graph: Graph, calibration: sqc.Calibration) -> None:
    widest = sqc.quantize(graph, calibration, ranges="minmax").ops[0].number("scale")
    assert 0 < sqc.quantize(graph, calibration, ranges="moving-average").ops[0].number("scale") <= widest


def test_ranges_chosen_by_the_output_of_readers(graph: Graph, calibration: sqc.Calibration) -> None:
    integer = sqc.quantize(graph, calibration, ranges=sqc.Ranges("output", [("input", "minmax")]))
    assert integer == sqc.quantize(graph, calibration, ranges=sqc.Ranges("output", [("input", "minmax")]))
    x = {"image": images(1, seed=6)}
    np.testing.assert_allclose(integer.run(x)["scores"], graph.run(x)["scores"], atol=0.1)


def test_passes_and_kernels_are_shown_as_they_go(graph: Graph, calibration: sqc.Calibration) -> None:
    passes: list[str] = []
    kernels: list[tuple[int, int]] = []
    sqc.compile(
        graph,
        calibration,
        after=lambda step, _: passes.append(step.name),
        progress=lambda done, total, _: kernels.append((done, total)),
    )
    assert passes.index("layout-nhwc") < passes.index("quantize-weights") < passes.index("fuse-requantize")
    assert kernels[0][0] == 0
    assert kernels[-1][0] == kernels[-1][1] > 5


def test_rebatched_graphs_compile(graph: Graph, calibration: sqc.Calibration, compiled: sqc.CompiledModel) -> None:
    x = images(2, seed=8)
    rows = [compiled(x[i : i + 1]) for i in range(2)]
    both = sqc.compile(rebatch(graph, 2), calibration, batch=2)
    assert same_bits(both(x), np.concatenate(rows))
