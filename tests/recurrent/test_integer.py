"""Quantized LSTM, GRU and RNN: the compiled steps equal the reference bit for bit, and both stay close to float."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import sqc
from sqc.ir import Builder, Graph, Op, Quantization, TensorType, evaluate_op
from sqc.ops.recurrent import gate_tables
from tests.recurrent.models import LAYERS, Layer
from tests.targets import EVERYWHERE, TARGETS


def quantized(layer: Layer) -> Graph:
    graph = sqc.import_onnx(layer.model())
    return sqc.quantize(graph, sqc.calibrate(graph, [layer.feeds(seed) for seed in range(8)]))


def assert_same_bits(graph: Graph, feeds: dict[str, np.ndarray], target: str, **options: object) -> None:
    expected = graph.run(feeds)
    actual = sqc.compile(graph, target=target, **options).run(feeds)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


@given(layer=LAYERS, target=st.sampled_from(EVERYWHERE))
@settings(max_examples=12, deadline=None)
def test_any_layer(layer: Layer, target: str) -> None:
    graph = quantized(layer)
    cell = {"LSTM": "qlstm_cell", "GRU": "qgru_state", "RNN": "qfully_connected"}[layer.kind]
    kinds = {op.kind for op in graph.ops}
    assert cell in kinds
    if "tanh" not in kinds:
        assert_same_bits(graph, layer.feeds(99), target)
        return
    # Of a single step nothing but the output is left behind the product: a float function of the rounded operands.
    feeds = layer.feeds(99)
    actual = sqc.compile(graph, target=target).run(feeds)
    for name, array in graph.run(feeds).items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "layer",
    [
        Layer("LSTM", direction="bidirectional", width=16),
        Layer("GRU", states=True, width=12),
        Layer("GRU", direction="reverse", before=True, width=16),
        Layer("GRU", before=True, width=33, batch=5),
        Layer("RNN", direction="bidirectional", width=16),
        Layer("LSTM", direction="reverse", batch=3, lengths=(2, 4, 2)),
    ],
    ids=["lstm", "gru", "gru_linear", "gru_linear_rows", "rnn", "lstm_lengths"],
)
def test_targets(layer: Layer, target: str) -> None:
    assert_same_bits(quantized(layer), layer.feeds(99), target)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_close_to_float(kind: str) -> None:
    """No drift: states of many steps stay within a few of the 256 levels."""
    layer = Layer(kind, steps=60, width=32, features=16)
    graph = sqc.import_onnx(layer.model(("Y",)))
    integer = sqc.quantize(graph, sqc.calibrate(graph, [layer.feeds(seed) for seed in range(8)]))
    feeds = layer.feeds(99)
    error = np.abs(integer.run(feeds)["Y"] - graph.run(feeds)["Y"])
    assert error.mean() < 0.01
    assert error[-1].mean() < 2 * error[:10].mean()


def test_excluded_layer_stays_in_float() -> None:
    layer = Layer("LSTM")
    graph = sqc.import_onnx(layer.model(("Y",)))
    calibration = sqc.calibrate(graph, [layer.feeds(0)])
    feeds = layer.feeds(1)
    model = sqc.compile(graph, calibration, exclude=["rnn"])
    np.testing.assert_allclose(model.run(feeds)["Y"], graph.run(feeds)["Y"], atol=1e-5)
    assert model.report.int8_share == 0


def test_open_batch() -> None:
    """A model that takes samples first is compiled for any batch."""
    model = Layer("GRU", batch=1, width=16).model(("Y",), layout=1)
    model.graph.node[0].input[0] = "by_sample"
    model.graph.node.insert(0, helper.make_node("Identity", ["samples"], ["by_sample"]))
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["N", 4, 5]))
    graph = sqc.import_onnx(model)
    x = np.random.default_rng(0).uniform(-1, 1, (11, 4, 5)).astype(np.float32)
    integer = sqc.quantize(graph, sqc.calibrate(graph, [x]))
    compiled = sqc.compile(integer, batch=[1, 3])
    together = compiled(x[:3])
    for i in range(3):
        np.testing.assert_array_equal(compiled(x[i : i + 1])[0], together[i])
        np.testing.assert_array_equal(integer.run({"samples": x[i : i + 1]})["Y"][0], together[i])


CELLS = {"qlstm_cell": (4, 4), "qlstm_hidden": (4, 4), "qgru_reset": (3, 2), "qgru_state": (3, 3)}
"""How many gates the inputs and the hidden state of each cell contribute to."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str, target: str) -> None:
    """Each cell as an operator, over all levels of its gates, saturated ones and infinite states included."""
    rng = np.random.default_rng(3)
    batch, width = 2, 24
    own, other = (gates * width for gates in CELLS[kind])
    accumulators = [rng.integers(-60_000, 60_000, (batch, n)).astype(np.int32) for n in (own, other)]
    multipliers = [rng.uniform(1e-4, 3e-3, own).astype(np.float32) for _ in range(2)]
    state = (10 ** rng.uniform(-3, 2, (batch, width)) * rng.choice([-1, 1], (batch, width))).astype(np.float32)
    state[0, :2] = np.inf, -np.inf
    levels = rng.integers(0, 256, (batch, width)).astype(np.uint8)
    states = {"qgru_reset": [levels], "qgru_state": [accumulators[1], state]}.get(kind, [state])
    activations = [*accumulators, *states]
    arrays = [*activations, *multipliers, *gate_tables()]
    attributes = {"scale": float(np.float32(1 / 140)), "zero_point": 131} if kind == "qlstm_hidden" else {}
    types = [TensorType(array.shape, array.dtype.name) for array in activations]
    if kind == "qgru_reset":
        types[2] = TensorType(levels.shape, "uint8", Quantization.per_tensor(1 / 128, 120))
    kernel = sqc.lower(kind, *types, *arrays[len(types) :], target=target, **attributes)
    np.testing.assert_array_equal(kernel(*activations), evaluate_op(kernel.op, arrays))


def test_tables_hold_the_ends_of_their_functions() -> None:
    sigmoid, tanh = gate_tables()
    assert (sigmoid[0], sigmoid[128], sigmoid[255]) == (0, 128, 255)
    assert (tanh[0], tanh[128], tanh[255]) == (1, 128, 255)
    assert (np.diff(sigmoid.astype(int)) >= 0).all() and (np.diff(tanh.astype(int)) >= 0).all()


def built(kind: str, *types: TensorType, **attributes: object) -> Op:
    builder = Builder()
    builder.emit(kind, [builder.input(f"x{i}", type) for i, type in enumerate(types)], attributes, name="y")
    return builder.ops[0]


def test_shapes_that_do_not_fit() -> None:
    p, r = TensorType((6, 8), "float32"), TensorType((8, 2), "float32")
    assert built("lstm", p, r, steps=3).result.type.shape == (3, 2, 2)
    with pytest.raises(sqc.SqcError, match="6 rows are not those of 4 steps"):
        built("lstm", p, r, steps=4)
    with pytest.raises(sqc.SqcError, match="initial states come both or not at all"):
        built("lstm", p, r, TensorType((2, 2), "float32"), steps=3)
