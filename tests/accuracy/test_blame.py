"""Layers, their noise, and what blame says about them."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest

import sqc
from sqc.accuracy.blame import BlameReport, blame
from sqc.accuracy.layers import match
from sqc.accuracy.plots import histogram_svg, weights_svg
from sqc.accuracy.running import levels, real
from sqc.accuracy.tables import blame_page, blame_table
from sqc.errors import CompileError, InputError
from sqc.frontend.node import UNIT
from sqc.ir import evaluate
from sqc.quantizing import quantize_beside_float
from tests.accuracy.conftest import Case, case


@pytest.fixture(scope="module")
def report(first: Case) -> BlameReport:
    def requantize(exclude: frozenset[str]) -> sqc.ir.Graph:
        return sqc.quantize(first.graph, first.calibration, exclude=exclude)

    return blame(first.graph, first.quantized, first.inputs, requantize=requantize)


def test_layers_of_both_graphs(first: Case) -> None:
    layers, ends = match(first.graph, first.quantized)
    nodes = {layer.name: layer.nodes for layer in layers}
    assert nodes["stem"] == ("stem",)
    assert nodes["project"] == ("project", "sum")
    assert nodes["x"] == ()
    assert [layer.name for layer in layers if layer.owner] == ["left", "right"]
    assert sorted({node for names in nodes.values() for node in names}) == sorted(
        ["stem", "depthwise", "swish", "project", "sum", "left", "right", "join", "last", "pool", "classes"]
    )
    (end,) = ends
    assert (end.name, end.stand.name, end.axis) == ("y", "classes_y", 1)


def test_a_layer_computes_what_the_graph_does(small: Case) -> None:
    """Chained, the float parts give the network's own values."""
    sample = small.inputs[:1]
    layers, _ = match(small.graph, small.quantized)
    shown = {layer.value.name: layer.value for layer in layers}
    expected = evaluate(
        sqc.ir.Graph("all", small.graph.inputs, shown, small.graph.constants, small.graph.ops), {"x": sample}
    )
    arrays = {small.quantized.inputs[0]: sample}
    for layer in layers:
        fed = {name: arrays[value] for name, value in layer.part.feeds.items()}
        (arrays[layer.stand],) = layer.part.graph.run(fed).values()
        np.testing.assert_array_equal(arrays[layer.stand], expected[layer.value.name])


def test_noise_of_a_layer_by_the_reference(first: Case, report: BlameReport) -> None:
    """The first convolution's own noise, computed through the numpy references."""
    layers, _ = match(first.graph, first.quantized)
    layer = next(layer for layer in layers if layer.name == "stem")
    (read,) = layer.reads
    signal = noise = 0.0
    for x in first.inputs:
        fed = levels(x.transpose(1, 2, 0)[None] if read.type.shape[-1] == 3 else x[None], read)
        integer = {read: fed, **first.quantized.constants}
        for op in layer.integer_ops:
            integer[op.result] = sqc.ir.evaluate_op(op, [integer[operand] for operand in op.operands])
        (name,) = layer.part.feeds
        (exact,) = layer.part.graph.run({name: real(fed, read)}).values()
        (true,) = layer.part.graph.run(
            {name: x.transpose(1, 2, 0)[None] if read.type.shape[-1] == 3 else x[None]}
        ).values()
        signal += float((true.astype(np.float64) ** 2).sum())
        noise += float(((real(integer[layer.stand], layer.stand) - exact).astype(np.float64) ** 2).sum())
    row = next(row for row in report.layers if row.node == "stem")
    assert row.own_snr == pytest.approx(10 * math.log10(signal / noise), abs=0.02)


def test_rows_are_ranked_and_add_up(report: BlameReport) -> None:
    shares = [row.share for row in report.layers]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1.0)
    for row in report.layers:
        assert row.weights + row.rounding + row.clipping == pytest.approx(1.0) or row.own_snr == math.inf
        assert 0 <= row.clipped <= 1 and 0 <= row.shift <= 1
        assert row.scale == 0.0 or row.low <= 0.0 <= row.high
    together = -10 * math.log10(sum(10 ** (-row.output_snr / 10) for row in report.layers))
    assert report.output_snr == pytest.approx(together, abs=3.0)  # noises of layers are nearly independent
    assert report.samples == 24


def test_what_mends_the_worst_layer_gains(report: BlameReport) -> None:
    worst = report.layers[0]
    assert worst.exclude and worst.gain is not None and worst.gain > 0.0
    assert all(row.gain is None for row in report.layers[3:])


def test_a_concatenation_owns_its_range(report: BlameReport) -> None:
    rows = {row.node: row for row in report.layers}
    assert rows["join"].weights == 0.0 and rows["join"].exclude == ("last",)
    assert rows["left"].weights == 1.0 and rows["left"].exclude == ("left",)
    assert rows["left"].scale == rows["join"].scale


def test_the_same_data_give_the_same_figures(first: Case, report: BlameReport) -> None:
    again = blame(first.graph, first.quantized, first.inputs, mended=0)
    assert [row.output_snr for row in again.layers] == [row.output_snr for row in report.layers]


def test_scaled_channels_are_no_noise() -> None:
    """A layer whose channels a preset scales is held against the float layer with the same factors."""
    random = np.random.default_rng(0)
    builder = sqc.ir.Builder("scaled", dynamic_batch=True)
    x = builder.input("x", sqc.ir.TensorType((1, 6, 6, 4), "float32"))
    for name, shape, groups in (("dense", (8, 4, 1, 1), 1), ("depthwise", (8, 1, 3, 3), 8)):
        weights = random.normal(0, 1, shape) * (2.0 ** -np.arange(8.0).reshape(8, 1, 1, 1) if groups == 1 else 1.0)
        w = builder.constant(weights.astype(np.float32), f"{name}_w")
        x = builder.emit("conv2d", [x, w], {"layout": "NHWC", "groups": groups}, name=f"{name}_y", source=name)
        x = builder.emit("relu", [x], name=f"{name}_relu", source=name)
    builder.outputs = {"y": x}
    graph = builder.finish()
    inputs = random.normal(size=(32, 6, 6, 4)).astype(np.float32)
    calibration = sqc.calibrate(graph, [inputs])
    both = quantize_beside_float(graph, calibration, preset=sqc.Recipe(equalize=True))
    assert both.graph == sqc.quantize(graph, calibration, preset=sqc.Recipe(equalize=True))
    sample = {"x": inputs[:1]}
    np.testing.assert_allclose(both.float_graph.run(sample)["y"], graph.run(sample)["y"], rtol=1e-4, atol=1e-6)

    def dense(beside: sqc.ir.Graph) -> float:
        layers = sqc.blame(beside, both.graph, inputs).layers
        return next(layer.own_snr for layer in layers if layer.node == "dense")

    assert dense(both.float_graph) > 30.0 > 10.0 > dense(graph)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_indices_among_the_inputs(dtype: str) -> None:
    """Indices are no levels, also where ops on integers read them."""
    random = np.random.default_rng(0)
    builder = sqc.ir.Builder("words", dynamic_batch=True)
    tokens = builder.input("tokens", sqc.ir.TensorType((1, 6), dtype, UNIT))
    table = builder.constant(random.normal(size=(20, 8)).astype(np.float32), "table")
    x = builder.emit("gather", [table, tokens], {"axis": 0}, name="words_y", source="words")
    x = builder.emit("reshape", [x], {"shape": (-1, 48)}, name="flat_y", source="flat")
    for name, columns in (("first", 48), ("second", 16)):
        w = builder.constant((random.normal(size=(16, columns)) / 8).astype(np.float32), f"{name}_w")
        x = builder.emit("fully_connected", [x, w], name=f"{name}_y", source=name)
        x = builder.emit("relu", [x], name=f"{name}_relu", source=name)
    builder.outputs = {"y": x}
    graph = builder.finish()
    inputs = {"tokens": random.integers(0, 20, (24, 6)).astype(dtype)}
    calibration = sqc.calibrate(graph, [inputs])

    def requantize(exclude: frozenset[str]) -> sqc.ir.Graph:
        return sqc.quantize(graph, calibration, exclude=exclude)

    report = blame(graph, requantize(frozenset()), inputs, requantize=requantize)
    assert {row.node for row in report.layers} == {"first", "second"}
    assert 20.0 < report.output_snr < 60.0 and report.layers[0].gain is not None


def test_a_float_graph_is_refused(first: Case) -> None:
    everything = {op.source for op in first.graph.ops if op.source}
    quantized = sqc.quantize(first.graph, first.calibration, exclude=everything)
    with pytest.raises(CompileError, match="in float alone"):
        blame(first.graph, quantized, first.inputs)


def test_another_model_is_refused(first: Case) -> None:
    other = case(1)
    renamed = sqc.ir.parse_graph(
        str(other.quantized).replace('return "y"', 'return "z"'), sqc.ir.constant_data(other.quantized)
    )
    with pytest.raises(CompileError, match="was not made from"):
        blame(first.graph, renamed, first.inputs)


@pytest.mark.parametrize(
    "inputs", [np.zeros((0, 3, 8, 8), np.float32), {"z": np.zeros(1)}, np.full((1, 3, 8, 8), np.nan)]
)
def test_data_that_do_not_fit(first: Case, inputs: np.ndarray) -> None:
    with pytest.raises(InputError, match="evaluation data"):
        blame(first.graph, first.quantized, inputs)


def test_table_page_and_json(report: BlameReport) -> None:
    table = blame_table(report, 4)
    assert len(table.rows) == 4 and all(len(row) == len(table.columns) for row in table.rows)
    text = blame_page(report, "a <model>")
    assert "a &lt;model&gt;" in text and "http" not in text
    assert text.count("<svg") == len(report.layers) + sum(len(row.channels) for row in report.layers)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [row["node"] for row in plain["layers"]] == [row.node for row in report.layers]


def test_plots_are_well_formed(report: BlameReport) -> None:
    for row in report.layers:
        ElementTree.fromstring(histogram_svg(row.histogram, row.low, row.high))
        for weights in row.channels:
            ElementTree.fromstring(weights_svg(weights))
