"""Every operator, in every version from operator set 9 on, against onnx's own evaluator."""

from __future__ import annotations

import inspect

import numpy as np
import onnx
import pytest

from sqc.frontend.table import HANDLERS
from tests.frontend.nodes import NEWEST, Case, check, evaluate, ints, onnxruntime_oracle, seeded

IMAGE = (2, 4, 7, 9)
LINE = (2, 4, 11)
VOLUME = (2, 4, 5, 6, 7)
W3 = seeded(6, 4, 3, 3, 3, seed=9)
W2 = seeded(6, 4, 3, 3, seed=9)
W1 = seeded(6, 4, 3, seed=9)
BIAS = seeded(6, seed=8)

CONVOLUTION = [
    Case("Conv", [IMAGE, W2]),
    Case("Conv", [IMAGE, W2, BIAS], {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    Case("Conv", [IMAGE, W2], {"dilations": [2, 3], "pads": [2, 2, 2, 2]}),
    Case("Conv", [IMAGE, W2], {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    Case("Conv", [IMAGE, W2], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Case("Conv", [IMAGE, W2], {"auto_pad": "VALID"}),
    Case("Conv", [IMAGE, seeded(6, 2, 3, 3)], {"group": 2}),
    Case("Conv", [IMAGE, seeded(4, 1, 3, 3)], {"group": 4, "pads": [1, 1, 1, 1]}),
    Case("Conv", [LINE, W1, BIAS], {"pads": [1, 2], "strides": [2], "dilations": [2]}),
    Case("Conv", [LINE, W1], {"auto_pad": "SAME_UPPER", "strides": [2]}),
    Case("Conv", [LINE, seeded(4, 1, 5)], {"group": 4}),
    Case("Conv", [VOLUME, W3, BIAS], {"pads": [1, 1, 0, 1, 0, 1], "strides": [1, 2, 1]}),
    Case("Conv", [VOLUME, W3], {"strides": [2, 1, 1], "dilations": [2, 1, 2], "pads": [2, 0, 2, 1, 0, 0]}),
    Case("Conv", [VOLUME, seeded(6, 2, 1, 3, 3)], {"group": 2}),
    Case("Conv", [VOLUME, seeded(4, 1, 3, 3, 3)], {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2, 2]}),
    Case("Conv", [VOLUME, seeded(4, 1, 3, 3, 3)], {"group": 4, "pads": [2, 2, 1, 1, 2, 1], "dilations": [1, 2, 1]}),
    Case("Conv", [VOLUME, seeded(6, 2, 2, 3, 2)], {"group": 2, "pads": [1, 1, 0, 1, 1, 1], "dilations": [2, 1, 2]}),
    Case("ConvTranspose", [IMAGE, seeded(4, 6, 3, 3), BIAS], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Case("ConvTranspose", [IMAGE, seeded(4, 6, 2, 4)], {"strides": [2, 3], "output_padding": [1, 2]}),
    Case("ConvTranspose", [IMAGE, seeded(4, 3, 3, 2), BIAS], {"group": 2, "strides": [3, 1], "pads": [0, 1, 1, 0]}),
    Case("ConvTranspose", [IMAGE, seeded(4, 6, 3, 3)], {"dilations": [2, 1], "strides": [2, 1]}),
    Case("ConvTranspose", [IMAGE, seeded(4, 6, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, oldest=11),
    Case("ConvTranspose", [IMAGE, seeded(4, 6, 3, 3)], {"strides": [2, 2], "output_shape": [15, 18]}),
    Case("ConvTranspose", [IMAGE, seeded(4, 6, 1, 1)], {"strides": [2, 2], "output_padding": [1, 1]}),
    Case("ConvTranspose", [LINE, seeded(4, 6, 4)], {"strides": [2], "pads": [1, 1]}),
    Case(
        "ConvTranspose", [VOLUME, seeded(4, 2, 3, 2, 2), BIAS[:2]], {"strides": [2, 2, 1], "pads": [1, 0, 0, 1, 0, 0]}
    ),
]

POOLING = [
    Case("MaxPool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    Case("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Case("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, oldest=10),
    Case("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "dilations": [2, 3]}, oldest=10),
    Case("MaxPool", [LINE], {"kernel_shape": [3], "strides": [2], "storage_order": 0}),
    Case("AveragePool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    Case("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, oldest=10),
    Case(
        "AveragePool",
        [(2, 4, 6, 9)],
        {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [0, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
        oldest=19,
    ),
    Case("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "dilations": [2, 2]}, oldest=19),
    Case("AveragePool", [LINE], {"kernel_shape": [3], "pads": [1, 1]}),
    Case("MaxPool", [VOLUME], {"kernel_shape": [3, 2, 2], "strides": [2, 1, 2], "pads": [1, 0, 1, 1, 1, 0]}),
    Case("MaxPool", [VOLUME], {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1}, oldest=10),
    Case("MaxPool", [VOLUME], {"kernel_shape": [2, 2, 2], "dilations": [2, 1, 3]}, oldest=10),
    Case("AveragePool", [VOLUME], {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2]}),
    Case("AveragePool", [VOLUME], {"kernel_shape": [3, 2, 3], "strides": [2, 1, 2], "pads": [1, 0, 1, 1, 1, 1]}),
    Case("AveragePool", [VOLUME], {"kernel_shape": [3, 3, 3], "pads": [1] * 6, "count_include_pad": 1}),
    Case("AveragePool", [VOLUME], {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1}, oldest=10),
    Case("AveragePool", [VOLUME], {"kernel_shape": [2, 2, 2], "dilations": [2, 2, 1]}, oldest=19),
    Case("GlobalAveragePool", [VOLUME]),
    Case("GlobalMaxPool", [VOLUME]),
    Case("GlobalAveragePool", [IMAGE]),
    Case("GlobalAveragePool", [LINE]),
    Case("GlobalMaxPool", [IMAGE]),
    Case("GlobalMaxPool", [LINE]),
    Case("ReduceMean", [IMAGE], {"axes": [2, 3]}, newest=17),
    Case("ReduceMean", [IMAGE], {"axes": [-1], "keepdims": 0}, newest=17),
    Case("ReduceMean", [IMAGE, ints(2, -1)], {"keepdims": 0}, oldest=18),
    Case("ReduceMean", [IMAGE], {"noop_with_empty_axes": 1}, oldest=18),
    Case("ReduceMean", [IMAGE]),
    Case("ReduceSum", [IMAGE], {"axes": [1]}, newest=12),
    Case("ReduceSum", [IMAGE, ints(1, 2)], {"keepdims": 0}, oldest=13),
    Case("ReduceMax", [IMAGE], {"axes": [2, 3], "keepdims": 0}, newest=17),
    Case("ReduceMax", [LINE, ints(-1)], oldest=18),
    Case("ReduceMax", [IMAGE], {"axes": [1, -1]}, newest=17),
]

LINEAR = [
    Case("Gemm", [(2, 5), seeded(5, 3)], oldest=11),
    Case("Gemm", [(2, 5), seeded(3, 5), seeded(3)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", [(2, 5), seeded(3, 5), seeded(1, 3)], {"transB": 1}),
    Case("Gemm", [(2, 5), seeded(5, 3), seeded(1)]),
    Case("Gemm", [(2, 5), seeded(5, 3), (2, 3)], {"beta": 0.25}),
    Case("MatMul", [(2, 5), seeded(5, 3)]),
    Case("MatMul", [(2, 3, 4, 5), seeded(5, 3)]),
    Case("MatMul", [(2, 4, 5), seeded(5)]),
    Case("MatMul", [(2, 5), seeded(1, 1, 5, 3)]),
    Case("MatMul", [(2, 4, 5), seeded(1, 5, 3)]),
    Case("MatMul", [seeded(3, 4), (2, 4, 5)]),
    Case("MatMul", [(2, 3, 4, 5), (2, 3, 5, 6)]),
    Case("MatMul", [(2, 1, 4, 5), (2, 3, 5, 6)]),
    Case("MatMul", [(2, 4, 5), seeded(3, 1, 5, 3)]),
]

FIXED_BATCH = [
    Case("Gemm", [(5, 2), seeded(5, 3), seeded(2, 1)], {"transA": 1}),
    Case("MatMul", [(5,), seeded(5, 3)]),
    Case("MatMul", [(5,), (5, 3)]),
    Case("MatMul", [(2, 3, 5), (5,)]),
    Case("MatMul", [(5,), (5,)]),
    Case("MatMul", [seeded(2, 3, 4), (2, 4, 5)]),
    Case("MatMul", [(2, 4, 5), seeded(2, 5, 3)]),
    Case("Gemm", [(2, 5), (3, 5), (2, 3)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", [(5, 2), (5, 3)], {"transA": 1}, oldest=11),
    Case("MatMul", [seeded(3, 4), (4, 5)]),
    Case("Concat", [(2, 3), (1, 3)], {"axis": 0}),
    Case("Squeeze", [(1, 4, 1)]),
    Case("Unsqueeze", [(2, 3), ints(0)], oldest=13),
    Case("Transpose", [(2, 3, 4)]),
    Case("Slice", [(5, 3), ints(1), ints(-1), ints(0)], oldest=10),
    Case("Split", [(6, 2), ints(1, 5)], oldest=13, outputs=2),
    Case("ReduceMean", [(2, 3)], {"axes": [0]}, newest=17),
    Case("Pad", [(2, 3), ints(1, 0, 2, 1)], oldest=11),
    Case("Gather", [(5, 3), ints(1, 3)], {"axis": 0}),
]

ELEMENTWISE = [
    *(Case(op_type, [IMAGE]) for op_type in ("Abs", "Exp", "Neg", "Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu")),
    *(Case(op_type, [IMAGE]) for op_type in ("Ceil", "Erf", "Floor", "Selu", "Sign", "Softplus", "Softsign")),
    Case("Round", [IMAGE], oldest=11),
    Case("Log", [IMAGE], low=0.1),
    Case("Celu", [IMAGE], oldest=12),
    Case("Celu", [IMAGE], {"alpha": 2.0}, oldest=12),
    Case("Selu", [IMAGE], {"alpha": 1.5, "gamma": 1.2}),
    Case("ThresholdedRelu", [IMAGE], oldest=10),
    Case("ThresholdedRelu", [IMAGE], {"alpha": 0.5}, oldest=10),
    Case("Mish", [IMAGE], oldest=18),
    Case("Gelu", [IMAGE], oldest=20),
    Case("Gelu", [IMAGE], {"approximate": "tanh"}, oldest=20),
    Case("Sqrt", [IMAGE], low=0.1),
    Case("Reciprocal", [IMAGE], low=0.5),
    Case("HardSigmoid", [IMAGE]),
    Case("HardSigmoid", [IMAGE], {"alpha": 0.3, "beta": 0.4}),
    Case("HardSwish", [IMAGE], oldest=14),
    Case("Elu", [IMAGE], {"alpha": 0.5}),
    Case("LeakyRelu", [IMAGE], {"alpha": 0.2}),
    Case("PRelu", [IMAGE, np.array([0.3], np.float32)]),
    Case("PRelu", [IMAGE, seeded(4, 1, 1)]),
    Case("Swish", [IMAGE], oldest=24),
    Case("Swish", [IMAGE], {"alpha": 1.5}, oldest=24),
    Case("Clip", [IMAGE], {"min": -1.0, "max": 0.5}, newest=10),
    Case("Clip", [IMAGE], newest=10),
    Case("Clip", [IMAGE, np.array(-1, np.float32), np.array(0.5, np.float32)], oldest=11),
    Case("Clip", [IMAGE, None, np.array(0.5, np.float32)], oldest=11),
    Case("Clip", [IMAGE], oldest=11),
    Case("Max", [IMAGE, np.array(0.25, np.float32)]),
    Case("Max", [IMAGE, (2, 4, 1, 1), seeded(7, 1)]),
    Case("Min", [IMAGE, IMAGE]),
    Case("Min", [np.array(0.25, np.float32), IMAGE]),
    *(Case(op_type, [IMAGE, IMAGE]) for op_type in ("Add", "Sub", "Mul")),
    *(Case(op_type, [IMAGE, seeded(4, 1, 1)]) for op_type in ("Add", "Sub", "Mul")),
    Case("Sub", [np.array(1, np.float32), IMAGE]),
    Case("Div", [IMAGE, seeded(4, 1, 1, low=0.5)]),
    Case("Div", [seeded(4, 1, 1), IMAGE], low=0.5),
    Case("Sum", [IMAGE]),
    Case("Sum", [IMAGE, IMAGE, (2, 4, 1, 1)]),
    Case("Mean", [IMAGE, IMAGE, IMAGE]),
    *(Case("Pow", [IMAGE, np.array(p, np.float32)], low=0.1) for p in (-1.5, 0.5, 1, 2, 3, 4)),
]

NORMALIZATION = [
    Case("BatchNormalization", [IMAGE, *(seeded(4, seed=i, low=0.5) for i in range(4))], newest=14),
    Case("BatchNormalization", [IMAGE, *(seeded(4, seed=i, low=0.5) for i in range(4))], {"epsilon": 0.1}, oldest=14),
    Case("BatchNormalization", [(2, 4), *(seeded(4, seed=i, low=0.5) for i in range(4))], {"momentum": 0.5}),
    Case("LayerNormalization", [(2, 3, 5), seeded(5), seeded(5, seed=1)], oldest=17),
    Case("LayerNormalization", [(2, 3, 5), seeded(3, 5)], {"axis": 1, "epsilon": 0.1}, oldest=17),
    Case("LayerNormalization", [IMAGE, seeded(9), seeded(1)], {"stash_type": 1}, oldest=17),
    Case("InstanceNormalization", [IMAGE, seeded(4), seeded(4, seed=1)]),
    Case("InstanceNormalization", [LINE, seeded(4), seeded(4, seed=1)], {"epsilon": 0.1}),
    Case("InstanceNormalization", [VOLUME, seeded(4), seeded(4, seed=1)]),
    Case("GroupNormalization", [IMAGE, seeded(4), seeded(4, seed=1)], {"num_groups": 2}, oldest=21),
    Case("GroupNormalization", [IMAGE, seeded(4), seeded(4, seed=1)], {"num_groups": 4, "epsilon": 0.1}, oldest=21),
    Case("Softmax", [(2, 5)]),
    Case("Softmax", [(2, 3, 4, 5)], {"axis": 2}),
    Case("Softmax", [(2, 3, 4, 5)], {"axis": -1}),
    Case("Softmax", [(2, 3, 1, 1)], {"axis": 1}),
    Case("Softmax", [(2, 3, 4)]),
    Case("Dropout", [IMAGE], {"ratio": 0.25}, newest=11),
    Case("Dropout", [IMAGE, np.array(0.5, np.float32), np.array(False)], {"seed": 3}, oldest=12),
    Case("Identity", [IMAGE]),
    Case("Cast", [IMAGE], {"to": onnx.TensorProto.FLOAT}),
]


def resized(scales: list[float], oldest: int = 11, shape: tuple[int, ...] = IMAGE, **attributes: object) -> Case:
    return Case("Resize", [shape, EMPTY, np.array(scales, np.float32)], attributes, oldest=oldest)


def sized(*sizes: int, oldest: int = 11, shape: tuple[int, ...] = IMAGE, **attributes: object) -> Case:
    return Case("Resize", [shape, EMPTY, EMPTY, ints(*sizes)], attributes, oldest=oldest)


EMPTY = np.zeros(0, np.float32)
HALVES = [1, 1, 2.0, 1.5]
RESIZE = [
    Case("Upsample", [IMAGE, np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"}, newest=9),
    Case("Upsample", [IMAGE, np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}, newest=9),
    Case("Resize", [IMAGE, np.array([1, 1, 2, 0.5], np.float32)], {"mode": "nearest"}, oldest=10, newest=10),
    Case("Resize", [IMAGE, np.array(HALVES, np.float32)], {"mode": "linear"}, oldest=10, newest=10),
    resized(HALVES, mode="nearest"),
    resized([1, 1, 0.6, 0.6], mode="nearest"),
    resized([1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resized(HALVES, mode="nearest", coordinate_transformation_mode="align_corners", nearest_mode="round_prefer_ceil"),
    resized(HALVES, mode="nearest", coordinate_transformation_mode="pytorch_half_pixel", nearest_mode="ceil"),
    resized([1, 1, 2, 2, 3], shape=VOLUME, mode="nearest"),
    resized([1, 1, 2.5], shape=LINE, mode="nearest"),
    resized(HALVES, mode="linear"),
    resized([1, 1, 0.6, 0.6], mode="linear"),
    resized(HALVES, mode="linear", coordinate_transformation_mode="align_corners"),
    resized(HALVES, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    resized([1, 1, 2.5], shape=LINE, mode="linear"),
    resized([1, 1, 2, 2, 1.5], shape=VOLUME, mode="linear"),
    resized(HALVES, mode="cubic"),
    resized(HALVES, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    resized(HALVES, mode="linear", coordinate_transformation_mode="half_pixel_symmetric", oldest=19),
    resized([2.0, 3.0], mode="nearest", axes=[3, 2], oldest=18),
    resized([2.0, 1.5], mode="linear", axes=[2, 3], antialias=0, oldest=18),
    resized([0.6, 0.4], mode="linear", axes=[2, 3], antialias=1, oldest=18),
    resized([0.6, 1.5], mode="cubic", axes=[2, 3], antialias=1, oldest=18),
    sized(14, 11, mode="nearest", axes=[2, 3], keep_aspect_ratio_policy="not_larger", oldest=18),
    sized(14, 11, mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_smaller", oldest=18),
]
FIXED_RESIZE = [
    sized(2, 4, 3, 20, mode="nearest"),
    sized(2, 4, 3, 20, mode="linear"),
]

MOVEMENT = [
    Case("Flatten", [IMAGE]),
    Case("Flatten", [IMAGE], {"axis": 3}),
    Case("Flatten", [IMAGE], {"axis": -2}, oldest=11),
    Case("Reshape", [IMAGE, ints(0, -1)]),
    Case("Reshape", [IMAGE, ints(-1, 4, 63)]),
    Case("Reshape", [IMAGE, ints(-1, 4, 63)], {"allowzero": 1}, oldest=14),
    Case("Squeeze", [(2, 1, 3, 1)], {"axes": [1, -1]}, oldest=11, newest=12),
    Case("Squeeze", [(2, 1, 3, 1)], {"axes": [1]}, newest=12),
    Case("Squeeze", [(2, 1, 3, 1), ints(-1)], oldest=13),
    Case("Unsqueeze", [(2, 3)], {"axes": [1, 3]}, newest=12),
    Case("Unsqueeze", [(2, 3), ints(-1, 1)], oldest=13),
    Case("Transpose", [IMAGE], {"perm": [0, 2, 3, 1]}),
    Case("Concat", [(2, 3, 4), (2, 2, 4), seeded(2, 1, 4)[:1].repeat(2, 0)], {"axis": 1}),
    Case("Concat", [(2, 3, 4), (2, 3, 1)], {"axis": -1}, oldest=11),
    Case("Concat", [(2, 3)], {"axis": 1}),
    Case("Pad", [IMAGE], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 0.5}, newest=10),
    Case("Pad", [IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "constant"}, oldest=11),
    Case("Pad", [IMAGE, ints(0, 1, 1, 2, 0, 0, 3, 0), np.array(0.5, np.float32)], oldest=11),
    Case("Pad", [IMAGE, ints(1, 2, 3, 4), np.array(0.5, np.float32), ints(-1, 2)], oldest=18),
    Case("Slice", [IMAGE], {"starts": [1, -4], "ends": [1000, -1], "axes": [1, 3]}, newest=9),
    Case("Slice", [IMAGE], {"starts": [0, 1], "ends": [10, 3]}, newest=9),
    Case("Slice", [IMAGE, ints(-3, 1), ints(2**62, -1), ints(-1, 2)], oldest=10),
    Case("Slice", [IMAGE, ints(0, 1), ints(7, 9), ints(2, 3), ints(2, 3)], oldest=10),
    Case("Slice", [IMAGE, ints(0), ints(4), ints(1)], oldest=10),
    Case("Slice", [IMAGE, ints(-1, 1), ints(0, 9), ints(2, 3), ints(-2, 2)], oldest=10),
    Case("Pad", [IMAGE, ints(0, 0, 1, 2, 0, 0, 2, 0)], {"mode": "reflect"}, oldest=11),
    Case("Pad", [IMAGE, ints(0, 1, 1, 2, 0, 0, 2, 0)], {"mode": "edge"}, oldest=11),
    Case("Split", [IMAGE], {"axis": 1}, newest=12, outputs=2),
    Case("Split", [IMAGE], {"axis": 1, "split": [1, 3]}, newest=12, outputs=2),
    Case("Split", [IMAGE, ints(1, 3)], {"axis": 1}, oldest=13, outputs=2),
    Case("Split", [IMAGE], {"axis": 3, "num_outputs": 2}, oldest=18, outputs=2),
    Case("Gather", [IMAGE, np.array(-1, np.int64)], {"axis": 1}),
    Case("Gather", [IMAGE, ints(0, 2)], {"axis": 1}),
    Case("Gather", [IMAGE, ints(3, 0, -2, 0)], {"axis": 1}),
    Case("Gather", [IMAGE, np.array([[0, 2], [5, -1]], np.int32)], {"axis": 2}),
    *RESIZE,
    Case("Expand", [(2, 3, 1), ints(2, 3, 4)]),
    Case("Expand", [(2, 3, 1), ints(1, 1, 1)]),
    Case("DepthToSpace", [(2, 8, 2, 3)], {"blocksize": 2}),
    Case("DepthToSpace", [(2, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}, oldest=11),
    Case("SpaceToDepth", [(2, 3, 4, 6)], {"blocksize": 2}),
]

OPEN_BATCH = [*CONVOLUTION, *POOLING, *LINEAR, *ELEMENTWISE, *NORMALIZATION, *MOVEMENT]


ALL = [*OPEN_BATCH, *FIXED_BATCH, *FIXED_RESIZE]
EVERY_VERSION = [
    pytest.param(case, opset, id=f"{case.op_type}-{i}-opset{opset}")
    for i, case in enumerate(ALL)
    for opset in case.opsets()
]


def _evaluator_is_wrong(case: Case, opset: int) -> bool:
    """Where onnx's own evaluator does not follow the specification; ONNX Runtime judges these."""
    return (
        (case.op_type == "Softmax" and opset < 13)
        or (case.op_type in ("Resize", "Upsample") and opset < 11)
        or case.attributes.get("coordinate_transformation_mode") == "align_corners"
        or (case.op_type == "BatchNormalization" and opset < 14)
        or (case.op_type == "GlobalMaxPool" and len(case.inputs[0]) != 4)
        or (
            case.op_type == "ConvTranspose"
            and (case.attributes.get("group", 1) > 1 or "output_shape" in case.attributes or len(case.inputs[0]) == 5)
        )
        or case.attributes.get("auto_pad") == "SAME_LOWER"
    )


@pytest.mark.parametrize(("case", "opset"), EVERY_VERSION)
def test_operator(case: Case, opset: int) -> None:
    if _evaluator_is_wrong(case, opset):
        pytest.skip("onnx evaluates this form wrongly")
    check(case.model(opset), low=case.low)


@pytest.mark.parametrize(("case", "opset"), EVERY_VERSION)
def test_operator_against_onnxruntime(case: Case, opset: int) -> None:
    check(case.model(opset), low=case.low, oracle=onnxruntime_oracle())


def _knows_batch(case: Case) -> bool:
    """Cases that write the batch of 2 into a constant cannot have another."""
    return case.op_type not in ("Concat", "Expand") and not (case.op_type == "ReduceMean" and len(case.attributes) == 0)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.op_type) for case in OPEN_BATCH if _knows_batch(case)])
def test_operator_with_open_batch(case: Case) -> None:
    opset = case.opsets()[-1]
    oracle = onnxruntime_oracle() if _evaluator_is_wrong(case, opset) else evaluate
    graph = check(case.model(opset, batch="N"), batch=3, low=case.low, oracle=oracle)
    assert graph.dynamic_batch


def test_all_operators_have_a_case() -> None:
    tested = {case.op_type for case in ALL}
    rounding = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"}  # in tests/qdq, tests/conformance
    dynamic = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"}  # in tests/conformance
    recurrent = {"LSTM", "GRU", "RNN"}  # in tests/recurrent
    logic = {handled for handled, handler in HANDLERS.items() if handler.function.__module__.endswith(".logic")}
    assert HANDLERS.keys() - tested == {
        "CastLike",
        *rounding,
        *dynamic,
        *recurrent,
        *logic,
    }  # tests/frontend/test_logic


@pytest.mark.parametrize("op_type", HANDLERS)
def test_no_attribute_is_forgotten(op_type: str) -> None:
    """Each attribute of each version of an operator is named in the file of its handler, or declared to be ignored."""
    handler = HANDLERS[op_type]
    module = inspect.getmodule(handler.function)
    assert module is not None
    source = inspect.getsource(module)
    if op_type in ("Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool"):
        import sqc.frontend.windows

        source += inspect.getsource(sqc.frontend.windows)
    if op_type in ("ConvInteger", "QLinearConv"):
        import sqc.frontend.convolution

        source += inspect.getsource(sqc.frontend.convolution)
    for opset in range(9, NEWEST + 1):
        try:
            schema = onnx.defs.get_schema(op_type, opset, "")
        except onnx.defs.SchemaError:
            continue
        forgotten = [n for n in schema.attributes if n not in handler.ignores and f'"{n}"' not in source]
        assert not forgotten, opset
