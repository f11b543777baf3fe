"""What sqc quantizes, exported as QDQ ONNX: the same integers when imported again, the same classes elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

import sqc
from sqc.errors import CompileError
from sqc.ir import Graph, same_bits
from sqc.passes import observed_values, quantization, run
from tests.cli.conftest import DIGITS
from tests.passes.random_graphs import random_graph, random_inputs, ranges

SMALL = ("anomaly_fc_ae", "kws_dscnn", "mlperf_tiny_resnet8_cifar10", "cifar10_resnet20", "vww_mobilenet_v1_0.25_96")
SAMPLES = 40


def integer_graph(seed: int) -> Graph:
    graph = random_graph(seed)
    sources = [op.source for op in graph.ops]
    exclude = frozenset(np.random.default_rng(seed).choice(sources, 2)) if seed % 3 == 0 else frozenset()
    qparams = ranges(graph, random_inputs(graph, seed), observed_values(graph, exclude))
    return run(quantization(qparams, exclude), graph)


@pytest.mark.parametrize("seed", range(60))
def test_import_of_the_export_gives_the_same_bits(seed: int) -> None:
    graph = integer_graph(seed)
    proto = sqc.export_qdq(graph)
    onnx.checker.check_model(proto, full_check=True)
    again = sqc.import_onnx(proto)
    assert [value.type for value in again.inputs] == [value.type for value in graph.inputs]
    assert again.dynamic_batch == graph.dynamic_batch
    inputs = random_inputs(graph, seed)
    expected, actual = graph.run(inputs), sqc.quantize(again).run(inputs)
    assert list(actual) == list(expected)
    for name, array in expected.items():
        if any(op.result.type.dtype == "float32" and op.kind not in ("dequantize", "quantize") for op in graph.ops):
            np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-5 * np.abs(array).max())
        else:
            assert same_bits(actual[name], array)


def test_a_float_graph_has_nothing_to_export() -> None:
    with pytest.raises(CompileError, match="no quantization to export"):
        sqc.export_qdq(sqc.import_onnx(DIGITS))


@pytest.mark.parametrize("name", SMALL)
def test_real_models(test_data: Path, zoo: ModuleType, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = zoo.ZOO[name]
    graph = sqc.import_onnx(model.path)
    quantized = sqc.quantize(graph, sqc.calibrate(graph, [model.inputs("calib", SAMPLES)]))
    proto = sqc.export_qdq(quantized)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    first, second = sqc.compile(quantized).load(), sqc.compile(sqc.import_onnx(proto)).load()
    same = 0
    for sample in np.split(model.inputs("eval", SAMPLES), SAMPLES):
        y = first(sample)
        assert same_bits(second(sample), y)
        same += int(session.run(None, {graph.inputs[0].name: sample})[0].argmax() == y.argmax())
    assert same == SAMPLES
