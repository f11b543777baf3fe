"""Windows over three axes and transposed convolutions end to end: all of it eight bits, equal to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import sqc
from sqc.ir import rebatch, same_bits
from tests.frontend.nodes import model, seeded


def chain(*steps: tuple[str, Sequence[np.ndarray], dict[str, Any]]) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """Nodes one behind the other, from ``x`` to ``y``, and their constants."""
    nodes, constants = [], {}
    last = "x"
    for i, (op_type, arrays, attributes) in enumerate(steps):
        names = [f"c{i}_{j}" for j in range(len(arrays))]
        constants.update(zip(names, arrays, strict=True))
        result = "y" if i == len(steps) - 1 else f"t{i}"
        nodes.append(helper.make_node(op_type, [last, *names], [result], name=f"{op_type}_{i}", **attributes))
        last = result
    return nodes, constants


def norm(channels: int) -> tuple[str, Sequence[np.ndarray], dict[str, Any]]:
    positive = seeded(channels, low=0.5)
    return "BatchNormalization", [positive, seeded(channels), seeded(channels, seed=1), positive], {}


VIDEO = chain(
    ("Conv", [seeded(8, 3, 3, 3, 3)], {"pads": [1] * 6}),
    norm(8),
    ("Relu", [], {}),
    ("MaxPool", [], {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}),
    ("Conv", [seeded(8, 1, 3, 3, 3), seeded(8)], {"pads": [1] * 6, "group": 8}),
    ("Relu", [], {}),
    ("AveragePool", [], {"kernel_shape": [2, 2, 2], "pads": [1, 0, 0, 0, 0, 0]}),
    ("ConvTranspose", [seeded(8, 4, 2, 2, 2)], {"strides": [1, 2, 2]}),
    norm(4),
    ("Relu", [], {}),
    ("GlobalAveragePool", [], {}),
)
DECODER = chain(
    ("Conv", [seeded(8, 3, 3, 3)], {"strides": [2, 2]}),
    ("ConvTranspose", [seeded(8, 6, 3, 3), seeded(6)], {"strides": [2, 2], "output_padding": [1, 0]}),
    norm(6),
    ("Relu", [], {}),
    ("ConvTranspose", [seeded(6, 2, 4, 4)], {"strides": [2, 2], "pads": [1] * 4, "group": 2}),
    ("Conv", [seeded(4, 4, 1, 1)], {}),
)


@pytest.mark.parametrize(
    ("network", "shape"), [(VIDEO, (3, 6, 8, 10)), (DECODER, (3, 9, 11))], ids=["video", "decoder"]
)
def test_compiled_equals_reference(network: tuple[list[onnx.NodeProto], dict[str, Any]], shape: Sequence[int]) -> None:
    nodes, constants = network
    graph = sqc.import_onnx(model(nodes, {"x": ["N", *shape]}, ["y"], constants))
    samples = seeded(4, *shape)
    calibration = sqc.calibrate(graph, [samples])
    compiled = sqc.compile(graph, calibration, batch=2)
    assert compiled.report.int8_share == 1.0
    last = nodes[-1].name  # its accumulators may go to float
    assert {row.precision for row in compiled.report.rows if row.name != last and "dequantize" not in row.parts} == {
        "int8"
    }
    reference = rebatch(sqc.quantize(graph, calibration), 2).run({"x": samples[:2]})["y"]
    assert same_bits(compiled(samples[:2]), reference)
