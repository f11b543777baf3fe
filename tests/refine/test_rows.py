"""What a layer's weights meet, at the positions that are looked at."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.ir import Builder, Op, TensorType, evaluate_op
from sqc.refine.rows import Rows


def convolution(groups: int, layout: str, size: int) -> tuple[Op, list[np.ndarray]]:
    """A convolution of one sample, and its operands."""
    random = np.random.default_rng(3)
    x = random.standard_normal((1, size, size - 1, 6)).astype(np.float32)
    x = x if layout == "NHWC" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    w = random.standard_normal((12, 6 // groups, 3, 2)).astype(np.float32)
    builder = Builder()
    operands = [builder.input("x", TensorType(x.shape, "float32")), builder.constant(w, "w")]
    attributes = {"strides": (2, 1), "pads": (1, 0, 1, 1), "groups": groups, "layout": layout}
    builder.emit("conv2d", operands, attributes, name="y")
    return builder.ops[0], [x, w]


@pytest.mark.parametrize("size", [7, 300])
@pytest.mark.parametrize(("groups", "layout"), [(1, "NHWC"), (2, "NCHW"), (6, "NHWC")])
def test_rows_times_weights_are_the_outputs_at_those_positions(groups: int, layout: str, size: int) -> None:
    op, arrays = convolution(groups, layout, size)
    rows = Rows(op, batches=2)
    product = rows.inputs(arrays[0], batch=1)[0] @ arrays[1].reshape(groups, 12 // groups, -1).swapaxes(1, 2)
    expected = rows.outputs_of(evaluate_op(op, arrays), batch=1)
    actual = product.transpose(1, 0, 2).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_some_of_many_positions_are_the_same_each_time() -> None:
    op, arrays = convolution(1, "NHWC", 300)
    first, again = (Rows(op, batches=2).inputs(arrays[0], batch=1) for _ in range(2))
    assert first.shape[2] < 150 * 299
    assert (first == again).all()
