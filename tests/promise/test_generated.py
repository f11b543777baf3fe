"""The promise on generated graphs: the compiled library equals the numpy reference bit for bit.

``python -m tests.promise.harness --seeds 0:1000`` checks more of them and counts what they hold.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sqc.schedules import Target
from tests.promise.counts import kernels, kinds
from tests.promise.generator import generate, inputs
from tests.promise.harness import check
from tests.promise.kernels import Setting, reference

NATIVE = Target.parse("native").name


@pytest.mark.parametrize("seed", range(56))
def test_compiled_graphs_equal_the_reference(seed: int) -> None:
    assert check(seed, Setting.of(seed)) == []


@pytest.mark.parametrize("seed", range(56, 64))
def test_compiled_graphs_equal_the_reference_on_this_machine(seed: int) -> None:
    assert check(seed, Setting(NATIVE, seed % 4 > 0)) == []


OPS = {
    "quantize", "dequantize uint8", "dequantize int32", "lookup", "qconv2d dense", "qconv2d pointwise",
    "qconv2d depthwise", "qconv2d grouped", "qfully_connected", "qmul", "qsum_pool", "qreduce_sum", "max_pool",
    "qmatmul", "qnormalize", "qsoftmax", "gather", "qinterpolate", "qprelu",
    "concat", "slice", "reshape", "transpose", "pad", "requantize int32", "requantize int32 clamped",
    "requantize int32+uint8", "requantize int32+uint8 clamped", "requantize uint8", "requantize uint8 clamped",
    "requantize uint8+uint8", "requantize uint8+uint8 clamped", "requantize uint8+uint8+uint8",
    "requantize uint8+int32", "requantize int32+int32",
}  # fmt: skip
ANCHORS = ("qconv2d dense", "qconv2d pointwise", "qconv2d depthwise", "qconv2d grouped", "qfully_connected")
EPILOGUES = ("requantize int32", "requantize int32 clamped", "requantize int32 -> lookup")


def test_generated_graphs_hold_everything() -> None:
    """Every op, each anchor with each epilogue, nearly every number of channels, and the ends of all ranges."""
    ops: Counter[str] = Counter()
    fused: Counter[str] = Counter()
    channels: set[int] = set()
    zero_points: Counter[int] = Counter()
    windows: set[tuple[str, object]] = set()
    largest = 0
    for seed in range(800):
        graph = generate(seed)
        assert len(graph.ops) >= 3
        ops += kinds(graph)
        for op in graph.ops:
            if op.kind == "qconv2d":
                channels |= {op.operands[0].type.shape[3], op.result.type.shape[3]}
                windows |= {(name, pair) for name in ("strides", "dilations", "pads") for pair in op.integers(name)}
                bias = graph.constants[op.operands[2]].astype(np.int64)
                weights = np.abs(graph.constants[op.operands[1]].astype(np.int64)).reshape(len(bias), -1).sum(axis=1)
                largest = max(largest, int((np.abs(bias) + 255 * weights).max()))
            elif op.result.type.quantization is not None:
                zero_points[op.result.type.zero_point] += 1
        if seed < 150:
            fused += kernels(graph)
    assert ops.keys() >= OPS
    missing = {f"{anchor} -> {epilogue}" for anchor in ANCHORS for epilogue in EPILOGUES} - fused.keys()
    assert missing == set()
    assert len(channels & set(range(1, 131))) > 120
    assert zero_points[0] > 100 and zero_points[255] > 100
    assert windows >= {
        (name, n) for name, most in (("strides", 3), ("dilations", 3), ("pads", 4)) for n in range(1, most)
    }
    assert largest == 2**31 - 1


def test_inputs_hold_everything() -> None:
    """Not only numbers that quantize well, and outputs that depend on them."""
    graph = generate(3)
    arrays = inputs(graph, 3)
    floats = np.concatenate([array.reshape(-1) for array in arrays.values() if array.dtype == np.float32])
    assert np.isnan(floats).any() and np.isposinf(floats).any() and np.isneginf(floats).any()
    assert any(len(np.unique(array)) > 2 for array in reference(graph, arrays).values())
