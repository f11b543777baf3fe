"""Every operator that sqc has in integers, exported: ONNX Runtime's levels within a step, sqc's own the same again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

import sqc
from sqc.ir import Graph, same_bits
from sqc.passes import pipeline
from tests.frontend.nodes import ints, model, onnxruntime_oracle, seeded

SHAPE = (1, 8, 6, 6)
"""Of what the operator reads: the result of a convolution."""


def network(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, np.ndarray]) -> sqc.ir.Graph:
    """``nodes`` from ``a`` to ``b``, between two convolutions, so that their operands and results are rounded."""
    first = helper.make_node("Conv", ["x", "v"], ["a"], name="first", pads=[1, 1, 1, 1])
    last = helper.make_node("Conv", ["b", "w"], ["y"], name="last")
    weights = {"v": seeded(8, 4, 3, 3, seed=1) / 4, "w": seeded(5, 8, 1, 1, seed=2)}
    proto = model([first, *nodes, last], {"x": ("N", 4, 6, 6)}, ["y"], {**weights, **constants})
    return sqc.import_onnx(proto)


def one(op_type: str, *constants: np.ndarray | None, **attributes: object) -> Graph:
    names = [f"c{i}" if array is not None else "" for i, array in enumerate(constants)]
    known = {name: array for name, array in zip(names, constants, strict=True) if array is not None}
    return network([helper.make_node(op_type, ["a", *names], ["b"], name="op", **attributes)], known)


def several(*steps: tuple[str, list[str], dict[str, object]], **constants: np.ndarray) -> Graph:
    """A chain of nodes; ``@`` stands for the result of the one before, ``a`` for what the first one reads."""
    nodes, before = [], "a"
    for i, (op_type, operands, attributes) in enumerate(steps):
        result = "b" if i == len(steps) - 1 else f"t{i}"
        inputs = [before if name == "@" else name for name in operands]
        nodes.append(helper.make_node(op_type, inputs, [result], name=f"op{i}", **attributes))
        before = result
    return network(nodes, constants)


def group_norm() -> Graph:
    return several(
        ("Reshape", ["@", "split"], {}),
        ("InstanceNormalization", ["@", "ones", "zeros"], {}),
        ("Reshape", ["@", "shape"], {}),
        ("Mul", ["@", "gamma"], {}),
        ("Add", ["@", "beta"], {}),
        split=ints(0, 2, -1),
        ones=np.ones(2, np.float32),
        zeros=np.zeros(2, np.float32),
        shape=ints(0, 8, 6, 6),
        gamma=seeded(8, 1, 1),
        beta=seeded(8, 1, 1, seed=1),
    )


def resize(mode: str, scales: tuple[float, float], **attributes: object) -> Graph:
    return one("Resize", None, np.array([1, 1, *scales], np.float32), mode=mode, **attributes)


FUNCTIONS = (
    "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Softplus", "Softsign",
    "Exp", "Erf", "Abs", "Sign",
)  # fmt: skip
GELU: tuple[tuple[str, list[str], dict[str, object]], ...] = (
    ("Mul", ["@", "root"], {}), ("Erf", ["@"], {}), ("Add", ["@", "one"], {}), ("Mul", ["@", "a"], {}),
    ("Mul", ["@", "half"], {}),
)  # fmt: skip
CASES = {
    "layer_norm": lambda: one("LayerNormalization", seeded(6), seeded(6, seed=1), axis=-1),
    "layer_norm_of_image": lambda: one("LayerNormalization", seeded(*SHAPE[1:]), seeded(*SHAPE[1:], seed=1), axis=1),
    "instance_norm": lambda: one("InstanceNormalization", seeded(8), seeded(8, seed=1)),
    "group_norm": group_norm,
    "batch_norm_behind_relu": lambda: several(
        ("Relu", ["@"], {}),
        ("BatchNormalization", ["@", "gamma", "beta", "mean", "variance"], {}),
        ("Relu", ["@"], {}),
        gamma=seeded(8),
        beta=seeded(8, seed=1),
        mean=seeded(8, seed=2),
        variance=seeded(8, low=0.5),
    ),
    "batch_norm_of_rows": lambda: several(
        ("Transpose", ["@"], {"perm": [0, 3, 1, 2]}),
        ("Softmax", ["@"], {"axis": 1}),
        ("BatchNormalization", ["@", "gamma", "beta", "mean", "variance"], {}),
        ("Transpose", ["@"], {"perm": [0, 2, 3, 1]}),
        gamma=seeded(6),
        beta=seeded(6, seed=1),
        mean=seeded(6, seed=2),
        variance=seeded(6, low=0.5),
    ),
    "softmax": lambda: one("Softmax", axis=1),
    "softmax_of_rows": lambda: one("Softmax", axis=3),
    "prelu": lambda: one("PRelu", seeded(8, 1, 1) / 4),
    "gather": lambda: one("Gather", ints(3, 1, 7, 7, 0, 2, 5, 4), axis=1),
    "nearest": lambda: resize("nearest", (2, 1.5)),
    "linear": lambda: resize("linear", (2, 1.5)),
    "linear_corners": lambda: resize("linear", (2, 2), coordinate_transformation_mode="align_corners"),
    "linear_odd_scale": lambda: resize("linear", (1.3, 0.7)),
    "cubic": lambda: resize("cubic", (2, 1.5), cubic_coeff_a=-0.5),
    "transposed_convolution": lambda: one(
        "ConvTranspose", seeded(8, 8, 3, 3) / 4, seeded(8), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    ),
    "transposed_in_groups": lambda: one("ConvTranspose", seeded(8, 4, 2, 2) / 4, strides=[2, 2], group=2),
    "matmul": lambda: several(("Transpose", ["@"], {"perm": [0, 1, 3, 2]}), ("MatMul", ["a", "@"], {})),
    "silu": lambda: several(("Sigmoid", ["@"], {}), ("Mul", ["a", "@"], {})),
    "mish": lambda: several(("Softplus", ["@"], {}), ("Tanh", ["@"], {}), ("Mul", ["a", "@"], {})),
    "gelu": lambda: several(*GELU, root=np.float32(0.5**0.5), one=np.float32(1), half=np.float32(0.5)),
    "power": lambda: one("Pow", np.float32(3)),
    "of_no_name": lambda: several(("Tanh", ["@"], {}), ("Exp", ["@"], {})),
    **{name.lower(): lambda name=name: one(name) for name in FUNCTIONS},
}
INPUTS = seeded(16, 4, 6, 6, seed=3)


def quantized(graph: Graph, *, in_float: bool = False) -> Graph:
    """All in integers, or the operator between the convolutions in float."""
    nodes = {op.source for op in pipeline.run(pipeline.FLOAT, graph).ops} - {"first", "last", "x"}
    exclude = sorted(nodes) if in_float else ()
    return sqc.quantize(graph, sqc.calibrate(graph, [INPUTS], exclude=exclude), exclude=exclude)


@pytest.mark.parametrize("in_float", [False, True], ids=["integers", "float"])
@pytest.mark.parametrize("name", CASES)
def test_levels_in_onnxruntime(name: str, in_float: bool) -> None:
    """All that the network rounds, each a step from sqc's at most; and the same bits when imported again."""
    oracle = onnxruntime_oracle()
    graph = quantized(CASES[name](), in_float=in_float)
    levels = [op.result for op in graph.ops if op.result.type.dtype == "uint8"]
    shown = replace(graph, outputs={f"level{i}": value for i, value in enumerate(levels)})
    samples = {"x": INPUTS[:2]}
    expected, actual = sqc.ir.rebatch(shown, 2).run(samples), oracle(sqc.export_qdq(shown), samples)
    assert list(actual) == list(expected)
    for key, array in expected.items():
        assert int(np.abs(actual[key].astype(np.int32) - array).max()) <= 1
    again = sqc.quantize(sqc.import_onnx(sqc.export_qdq(graph)))
    sample = {"x": INPUTS[:1]}
    assert same_bits(again.run(sample)["y"], graph.run(sample)["y"])


IN_ONNX = {
    "linear": "Resize",
    "cubic": "Resize",
    "linear_odd_scale": "MatMul",
    "sigmoid": "Sigmoid",
    "gelu": "Erf",
    "of_no_name": "Gather",
}


@pytest.mark.parametrize(("name", "op_type"), IN_ONNX.items())
def test_what_it_is_in_onnx(name: str, op_type: str) -> None:
    proto = sqc.export_qdq(quantized(CASES[name]()))
    assert op_type in {node.op_type for node in proto.graph.node}
