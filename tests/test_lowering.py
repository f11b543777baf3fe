"""``sqc.lower``: one operator as a kernel that can be called, saved and read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqc
from sqc.errors import CompileError, GraphError, InputError
from sqc.ir import Builder, Graph, Op, Quantization, TensorType, same_bits
from sqc.lowering import LoweredOp
from sqc.passes import pipeline
from tests.promise.kernels import TARGETS

RANDOM = np.random.default_rng(3)


def u8(*shape: int, scale: float = 0.5, zero_point: int = 7) -> TensorType:
    return TensorType(shape, "uint8", Quantization.per_tensor(scale, zero_point))


def f32(*shape: int) -> TensorType:
    return TensorType(shape, "float32")


def random_array(type: TensorType) -> np.ndarray:
    if type.dtype == "float32":
        return RANDOM.normal(0, 2, type.shape).astype(np.float32)
    limits = {"uint8": (0, 256), "int8": (-128, 128), "int32": (-5000, 5000)}[type.dtype]
    return RANDOM.integers(*limits, type.shape).astype(type.dtype)


def reference(lowered: LoweredOp, arrays: list[np.ndarray]) -> np.ndarray:
    op = lowered.op
    graph = Graph("reference", lowered.operands, {"y": op.result}, lowered.constants, (op,))
    return graph.run({value.name: array for value, array in zip(lowered.operands, arrays, strict=True)})["y"]


W, B = TensorType((20, 5, 3, 3), "int8"), TensorType((20,), "int32")
REQUANTIZED = {"scale": 0.25, "zero_point": 3}

CASES: dict[str, Callable[[str], LoweredOp]] = {
    "fully-connected": lambda t: sqc.lower(
        "qfully_connected", u8(4, 37), TensorType((10, 37), "int8"), TensorType((10,), "int32"), target=t
    ),
    "conv": lambda t: sqc.lower("qconv2d", u8(1, 7, 6, 5), W, B, target=t, pads=(1, 1, 1, 1), layout="NHWC"),
    "conv-constants": lambda t: sqc.lower(
        "qconv2d", u8(2, 7, 6, 5), random_array(W), random_array(B), target=t, strides=(2, 1), layout="NHWC"
    ),
    "depthwise": lambda t: sqc.lower(
        "qconv2d", u8(1, 8, 8, 20), TensorType((20, 1, 3, 3), "int8"), B, target=t, groups=20, layout="NHWC"
    ),
    "product": lambda t: sqc.lower("qmul", u8(2, 5, 21), u8(21, zero_point=200), target=t),
    "matrix-product": lambda t: sqc.lower("qmatmul", u8(3, 9, 21), u8(21, 18, zero_point=200), target=t),
    "dynamic-parameters": lambda t: sqc.lower("dynamic_parameters", f32(9, 21), target=t),
    "dynamic-quantize": lambda t: sqc.lower("dynamic_quantize", f32(9, 21), np.ones((9, 2), np.float32), target=t),
    "sum-pool": lambda t: sqc.lower("qsum_pool", u8(1, 6, 6, 18), kernel=(2, 3), layout="NHWC", target=t),
    "reduce": lambda t: sqc.lower("qreduce_sum", u8(2, 6, 6, 18), axes=(1, 2), keepdims=False, target=t),
    "max-pool": lambda t: sqc.lower("max_pool", u8(1, 6, 6, 18), kernel=(2, 2), layout="NHWC", target=t),
    "quantize": lambda t: sqc.lower("quantize", f32(3, 19), scale=0.125, zero_point=9, target=t),
    "dequantize": lambda t: sqc.lower("dequantize", u8(3, 19), target=t),
    "add": lambda t: sqc.lower(
        "requantize",
        u8(3, 19),
        u8(3, 19),
        np.array(0.3, np.float32),
        np.array(0.7, np.float32),
        **REQUANTIZED,
        target=t,
    ),
    "lookup": lambda t: sqc.lower("lookup", u8(3, 19), TensorType((256,), "uint8"), **REQUANTIZED, target=t),
    "concat": lambda t: sqc.lower("concat", u8(2, 19), u8(2, 3), axis=1, target=t),
    "transpose": lambda t: sqc.lower("transpose", u8(2, 5, 6, 7), perm=(0, 3, 1, 2), target=t),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES)
def test_lowered_ops_equal_the_reference(case: str, target: str) -> None:
    lowered = CASES[case](target)
    arrays = [random_array(value.type) for value in lowered.operands]
    result = lowered(*arrays)
    assert same_bits(result, reference(lowered, arrays))
    assert same_bits(lowered(*arrays), result)


def test_fused_ops_of_a_graph() -> None:
    """An op that the passes fused is lowered as it is, with its constants."""
    builder = Builder("fused")
    x = builder.input("x", u8(1, 5, 5, 16))
    w = builder.constant(random_array(TensorType((16, 16, 3, 3), "int8")), "w")
    bias = builder.constant(random_array(TensorType((16,), "int32")), "bias")
    acc = builder.emit("qconv2d", [x, w, bias], {"layout": "NHWC"}, name="acc")
    multiplier = builder.constant(RANDOM.uniform(1e-4, 1e-3, 16).astype(np.float32), "m")
    builder.outputs["y"] = builder.emit("requantize", [acc, multiplier], REQUANTIZED, name="y")
    graph = builder.finish()
    (op,) = pipeline.run(pipeline.FUSION, graph).ops
    assert op.kind == "fused"
    image = random_array(x.type)
    operands = [x.type, *(graph.constants[value] for value in op.operands[1:])]
    assert same_bits(sqc.lower(op, *operands)(image), graph.run({"x": image})["y"])


def test_an_op_brings_its_operand_types() -> None:
    builder = Builder("g")
    x = builder.input("x", u8(4, 9))
    builder.emit("dequantize", [x], name="y")
    op: Op = builder.ops[0]
    array = random_array(x.type)
    assert same_bits(sqc.lower(op)(array), (array.astype(np.float32) - 7) * np.float32(0.5))
    assert sqc.lower(op, u8(2, 3)).op.result.type.shape == (2, 3)


def test_saved_ops_are_models(tmp_path: Path) -> None:
    """Operands are inputs; constants given as types come packed, as the kernel reads them."""
    lowered = CASES["conv"]("native")
    arrays = [random_array(value.type) for value in lowered.operands]
    path = tmp_path / "conv.so"
    lowered.save(path)
    model = sqc.load(path)
    assert [spec.name for spec in model.inputs][:2] == ["x0", "packed0"]
    packed = lowered.kernel.pack(dict(zip(lowered.operands, arrays, strict=True)))
    inputs = {"x0": arrays[0], **{f"packed{i}": array for i, array in enumerate(packed)}}
    assert same_bits(model.run(inputs)["y"], reference(lowered, arrays))

    constant = CASES["conv-constants"]("native")
    constant.save(path)
    image = random_array(constant.operands[0].type)
    assert same_bits(sqc.load(path)(image), constant(image))
    operands = [constant.constants.get(value, value.type) for value in constant.op.operands]
    assert sqc.lower(constant.op, *operands).library == path.read_bytes()


def test_scheduled_and_assembly_can_be_read() -> None:
    lowered = CASES["fully-connected"]("cascadelake")
    assert 'def main(x: T.Buffer((4, 37), "uint8")' in str(lowered.scheduled)
    assert "vpdpbusd" in lowered.assembly


def test_wrong_arrays() -> None:
    lowered = CASES["add"]("native")
    x = random_array(u8(3, 19))
    with pytest.raises(InputError, match="requantize takes 2 arrays here, not 1"):
        lowered(x)
    with pytest.raises(InputError, match=r"operand 'x1' of requantize must be uint8\[3,19\].*, not uint8\[3, 18\]"):
        lowered(x, x[:, 1:])
    with pytest.raises(InputError, match=r"'x0' .* not float32"):
        lowered(x.astype(np.float32), x)


@pytest.mark.parametrize(
    ("error", "message", "arguments", "attributes"),
    [
        (GraphError, "no operator|unknown", ("qconv9d", u8(1, 2)), {}),
        (GraphError, "float32", ("quantize", u8(1, 2)), {"scale": 1.0, "zero_point": 0}),
        (GraphError, "zero point 256", ("quantize", f32(2)), {"scale": 1.0, "zero_point": 256}),
        (GraphError, "kernel", ("max_pool", u8(1, 4, 4, 2)), {"layout": "NHWC"}),
        (CompileError, "unknown target 'pdp11'", ("dequantize", u8(2)), {"target": "pdp11"}),
        (CompileError, "give the operand types of dequantize", ("dequantize",), {}),
    ],
)
def test_what_cannot_be_lowered(
    error: type[Exception], message: str, arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        sqc.lower(*arguments, **attributes)
