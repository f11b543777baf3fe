"""LSTM, GRU and RNN in float: beside onnx's evaluator, ONNX Runtime, and the package's own node tests."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

import sqc
from sqc.errors import ImportFailure
from tests.frontend.nodes import assert_close, check, onnxruntime_oracle
from tests.recurrent.models import LAYERS, Layer


@given(layer=LAYERS)
@settings(max_examples=60, deadline=None)
def test_any_layer_is_that_of_onnx(layer: Layer) -> None:
    proto = layer.model()
    feeds = layer.feeds(1)
    (expected,) = [onnxruntime_oracle()(proto, feeds)]
    assert_close(sqc.import_onnx(proto).run(feeds), expected)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_onnx_evaluator(kind: str, direction: str) -> None:
    check(Layer(kind, direction=direction, states=True).model(("Y", "Y_h")))


PEEPHOLES = "test_lstm_with_peepholes"


def node_tests() -> dict[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    return {case.name: case for case in found if case.model.graph.node[0].op_type in ("LSTM", "GRU", "RNN")}


@pytest.mark.parametrize(("name", "case"), node_tests().items(), ids=list(node_tests()))
def test_node(name: str, case: object) -> None:
    """All of the package's cases but the one with peepholes, reference and compiled in float."""
    ((arrays, expected),) = case.data_sets  # type: ignore[attr-defined]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)  # type: ignore[attr-defined]
    inputs = list(model.graph.input)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, value.name) for value, array in zip(inputs[1:], arrays[1:], strict=True)
    )
    del model.graph.input[1:]
    if name == PEEPHOLES:
        with pytest.raises(ImportFailure, match="peepholes"):
            sqc.import_onnx(model)
        return
    graph = sqc.import_onnx(model)
    feeds = {inputs[0].name: arrays[0]}
    for results in (graph.run(feeds), sqc.compile(graph).run(feeds)):
        for result, wanted in zip(results.values(), expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "attributes", "message"),
    [
        (Layer("LSTM"), {"clip": 3.0}, "clips the arguments"),
        (Layer("LSTM"), {"input_forget": 1}, "couples input and forget"),
        (Layer("GRU"), {"activations": ["Relu", "Tanh"]}, "its activations are Relu, Tanh"),
    ],
)
def test_what_is_not_supported(layer: Layer, attributes: dict[str, object], message: str) -> None:
    with pytest.raises(ImportFailure, match=message):
        sqc.import_onnx(layer.model(**attributes))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("lengths", "states"), [((3, 3, 3), False), ((2, 4, 2), True), ((4, 1, 3), False)])
def test_lengths_of_sequences(kind: str, direction: str, lengths: tuple[int, ...], states: bool) -> None:
    layer = Layer(kind, batch=3, direction=direction, states=states, lengths=lengths)
    proto, feeds = layer.model(), layer.feeds(1)
    expected = onnxruntime_oracle()(proto, feeds)
    assert_close(sqc.import_onnx(proto).run(feeds), expected)


@pytest.mark.parametrize("lengths", [(4, 5), (0, 4), (4,)])
def test_lengths_that_do_not_fit(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ImportFailure, match="sequence_lens"):
        sqc.import_onnx(Layer("GRU", lengths=lengths).model())


def test_functions_of_an_rnn() -> None:
    for names in (["Relu", "Sigmoid"], ["Tanh", "Relu"]):
        layer = Layer("RNN", direction="bidirectional")
        proto, feeds = layer.model(activations=names), layer.feeds(1)
        assert_close(sqc.import_onnx(proto).run(feeds), onnxruntime_oracle()(proto, feeds))
    with pytest.raises(ImportFailure, match="its activations are Affine; supported: the standard ones: tanh, relu"):
        sqc.import_onnx(Layer("RNN").model(activations=["Affine"]))
