"""Properties of the integer passes on random graphs, and graphs with odd corners."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sqc.errors import CompileError
from sqc.ir import Builder, Graph, Quantization, TensorType, Value, rebatch, same_bits
from sqc.passes import FUSION, Notes, Pass, observed_values, quantization, run
from sqc.passes.integer_parameters import slope_multiplier
from tests.passes.random_graphs import NHWC, RandomGraph, random_graph, random_inputs, ranges

SEEDS = range(120)
F32 = "float32"


def quantized(graph: Graph, exclude: frozenset[str] = frozenset(), seed: int = 0, notes: Notes | None = None) -> Graph:
    inputs = random_inputs(graph, seed)
    qparams = ranges(graph, inputs, observed_values(graph, exclude))
    return run(quantization(qparams, exclude), graph, notes)


def all_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


def noise(reference: np.ndarray, result: np.ndarray) -> float:
    """The error's share of the reference's spread, as root mean squares."""
    spread = float(np.sqrt(np.mean(reference.astype(np.float64) ** 2))) + 1e-6
    return float(np.sqrt(np.mean((reference.astype(np.float64) - result) ** 2))) / spread


@pytest.mark.parametrize("seed", SEEDS)
def test_no_pass_changes_a_bit_after_folding(seed: int) -> None:
    graph = random_graph(seed)
    random = np.random.default_rng(seed)
    sources = [op.source for op in graph.ops]
    exclude = frozenset(random.choice(sources, 2)) if seed % 3 == 0 else frozenset()
    inputs = random_inputs(graph, seed)
    qparams = ranges(graph, inputs, observed_values(graph, exclude))
    results: list[tuple[str, dict[str, np.ndarray]]] = []

    def record(step: Pass, after: Graph) -> None:
        results.append((step.name, after.run(inputs)))

    integer = run(quantization(qparams, exclude), graph, after=record)
    folded = next(i for i, (name, _) in enumerate(results) if name == "fold-qparams")
    fused = run(FUSION, integer, after=record)
    for name, result in results[folded + 1 :]:
        if exclude and name in (step.name for step in FUSION):  # padding reorders the sums of float convolutions
            assert all(noise(results[folded][1][key], result[key]) < 0.05 for key in result), name
        else:
            assert all_equal(result, results[folded][1]), f"{name} changed bits"
    if not exclude:
        batch = random_inputs(rebatch(fused, 3), seed)
        assert all_equal(rebatch(fused, 3).run(batch), rebatch(integer, 3).run(batch))
    for name, reference in graph.run(inputs).items():
        assert noise(reference, results[folded][1][name]) < 0.06, name


def test_random_graphs_cover_every_kind() -> None:
    drawn = Counter[str]()
    for seed in SEEDS:
        graph = RandomGraph(seed)
        graph.grow(3 + seed % 10)
        drawn.update(graph.kinds)
    for kind in ("conv2d", "add", "sub", "mul", "concat", "max_pool", "average_pool", "reduce_mean", "pad", "slice"):
        assert drawn[kind] > 10, kind


@pytest.mark.parametrize("seed", range(20))
def test_padding_keeps_float_graphs(seed: int) -> None:
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    padded = run(FUSION, graph).run(inputs)
    for name, reference in graph.run(inputs).items():
        np.testing.assert_allclose(padded[name], reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_folding_equals_the_rounded_float_graph(seed: int) -> None:
    """Integer arithmetic and float arithmetic between the same roundings differ by rare single steps only."""
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    steps = quantization(ranges(graph, inputs, observed_values(graph)))
    before = run(steps[:3], graph).run(inputs)
    after = run(steps, graph).run(inputs)
    for name in before:
        assert noise(before[name], after[name]) < 0.05, name


def image(*shape: int) -> tuple[Builder, Value]:
    builder = Builder("case")
    return builder, builder.input("x", TensorType(shape, F32))


def check(builder: Builder, exclude: frozenset[str] = frozenset(), tolerance: float = 0.05) -> Graph:
    """Quantize and fuse; compare with float, and the fused graph with the unfused one bit by bit."""
    graph = builder.finish()
    inputs = random_inputs(graph)
    integer = quantized(graph, exclude)
    fused = run(FUSION, integer)
    result = integer.run(inputs)
    assert all_equal(fused.run(inputs), result)
    for name, reference in graph.run(inputs).items():
        assert noise(reference, result[name]) < tolerance, name
    return fused


def conv(builder: Builder, x: Value, outputs: int, name: str) -> Value:
    random = np.random.default_rng(len(builder.ops))
    weights = builder.constant(random.standard_normal((outputs, x.type.shape[3], 1, 1)).astype(np.float32), f"{name}.w")
    return builder.emit("conv2d", [x, weights], NHWC, name=name, source=name)


def kinds(graph: Graph) -> list[str]:
    return [op.body.name if op.kind == "fused" else op.kind for op in graph.ops]


def test_an_input_that_is_an_output_stays() -> None:
    builder, x = image(1, 2, 2, 3)
    builder.outputs = {"same": x, "y": conv(builder, x, 4, "conv")}
    graph = builder.finish()
    inputs = random_inputs(graph)
    assert same_bits(quantized(graph).run(inputs)["same"], inputs["x"])


def test_a_convolution_that_is_an_output_and_read_again_is_rounded_once() -> None:
    builder, x = image(1, 2, 2, 3)
    y = conv(builder, x, 16, "first")
    builder.outputs = {"y": y, "z": conv(builder, builder.emit("relu", [y], name="relu"), 16, "second")}
    fused = check(builder)
    assert kinds(fused).count("qconv2d+requantize") == 1
    assert "qconv2d" not in kinds(fused)


def test_the_sum_of_a_value_with_itself() -> None:
    builder, x = image(1, 2, 2, 16)
    y = conv(builder, x, 16, "conv")
    builder.outputs = {"y": builder.emit("add", [y, y], name="add")}
    assert "requantize" in kinds(check(builder))


def test_of_two_convolutions_the_later_takes_the_sum() -> None:
    builder, x = image(1, 2, 2, 16)
    total = builder.emit("add", [conv(builder, x, 16, "a"), conv(builder, x, 16, "b")], name="add")
    builder.outputs = {"y": builder.emit("relu", [total], name="relu")}
    fused = check(builder)
    assert [len(op.operands) for op in fused.ops if op.kind == "fused" and op.source in "ab"] == [4, 6]


def test_a_residual_that_broadcasts_is_not_fused() -> None:
    builder, x = image(1, 2, 2, 16)
    mean = builder.emit("reduce_mean", [x], {"axes": (1, 2), "keepdims": True}, name="mean")
    builder.outputs = {"y": builder.emit("add", [conv(builder, mean, 16, "conv"), x], name="add")}
    assert "requantize" in kinds(check(builder))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 5), (2, 3, 5)])
def test_elementwise_ops_of_any_rank(shape: tuple[int, ...]) -> None:
    builder, x = image(*shape)
    y = builder.emit("add", [x, builder.constant(np.float32(2), "two")], name="add")
    z = builder.emit("mul", [x, builder.emit("sigmoid", [y], name="sigmoid")], name="mul")
    builder.outputs = {"y": builder.emit("sub", [builder.emit("relu", [z], name="relu"), x], name="sub")}
    check(builder)


def test_relu_on_an_input() -> None:
    builder, x = image(1, 2, 2, 16)
    builder.outputs = {"y": conv(builder, builder.emit("relu", [x], name="relu"), 3, "conv")}
    check(builder)


def test_everything_excluded_leaves_the_graph_in_float() -> None:
    builder, x = image(1, 2, 2, 3)
    builder.outputs = {"y": conv(builder, builder.emit("relu", [conv(builder, x, 3, "a")], name="relu"), 3, "b")}
    graph = builder.finish()
    assert quantized(graph, frozenset({"a", "b"})) == graph


def test_notes_tell_each_precision_and_why() -> None:
    builder, x = image(1, 2, 2, 3)
    y = conv(builder, builder.emit("relu", [conv(builder, x, 3, "a")], name="r", source="r"), 3, "b")
    builder.outputs = {"y": builder.emit("softmax", [y], name="s", source="s")}
    notes = Notes()
    quantized(builder.finish(), frozenset({"a"}), notes=notes)
    said = {note.subject: note.message for note in notes.of("insert-quantization")}
    assert said["conv2d 'a'"] == "float: excluded by the user"
    assert said["conv2d 'b'"].startswith("int8")
    assert said["softmax 's'"].startswith("float: ")


def test_weak_and_empty_channels_stay_finite() -> None:
    builder, x = image(1, 4)
    weights = np.array([[1e-30, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4], [1e-3, 0, 0, 0]], np.float32)
    bias = builder.constant(np.array([1e4, -1e4, 0, 1], np.float32), "bias")
    y = builder.emit("fully_connected", [x, builder.constant(weights, "w"), bias], name="fc")
    builder.outputs = {"y": builder.emit("relu", [builder.emit("tanh", [y], name="tanh")], name="relu")}
    graph = quantized(builder.finish())
    for value, array in graph.constants.items():
        if value.type.dtype == F32:
            assert np.isfinite(array).all() and (array >= np.finfo(np.float32).tiny).all()


def test_a_sum_too_large_for_32_bits_is_refused() -> None:
    builder, x = image(1, 3000, 3000)
    builder.outputs = {"y": builder.emit("reduce_mean", [x], {"axes": (1, 2)}, name="mean", source="Mean_3")}
    graph = builder.finish()
    with pytest.raises(CompileError, match="reduce_mean 'Mean_3' sums 9000000 elements"):
        run(quantization({"x": (0.5, 0), "mean": (0.5, 0)}), graph)


def test_already_quantized_graphs_fold() -> None:
    builder = Builder("case")
    x = builder.input("x", TensorType((1, 4), "uint8", Quantization.per_tensor(0.5, 7)))
    real = builder.emit("relu", [builder.emit("dequantize", [x], name="d")], name="r")
    builder.outputs = {"y": builder.emit("quantize", [real], {"scale": 0.25, "zero_point": 0}, name="q")}
    graph = run(quantization({}), builder.finish())
    assert kinds(graph) == ["requantize"]


def test_padding_by_zero_is_exact() -> None:
    builder, x = image(1, 2, 2, 3)
    pads = {"pads": (0, 1, 0, 1, 0, 0, 0, 2), "value": 0.0}
    builder.outputs = {"y": builder.emit("pad", [builder.emit("tanh", [x], name="tanh")], pads, name="pad")}
    graph = builder.finish()
    y = run(FUSION, quantized(graph)).run(random_inputs(graph))["y"]
    assert (y[0, 0] == 0).all() and (y[..., 0] == 0).all() and (y[..., 4:] == 0).all()


def test_channels_with_padding_in_between_reach_a_depthwise_convolution() -> None:
    builder, x = image(1, 3, 3, 16)
    parts = [conv(builder, x, 3, "a"), conv(builder, x, 5, "b"), conv(builder, x, 18, "c")]
    both = builder.emit("concat", parts, {"axis": 3}, name="concat")
    weights = builder.constant(np.linspace(-1, 1, 26 * 9, dtype=np.float32).reshape(26, 1, 3, 3), "w")
    attributes = {**NHWC, "groups": 26, "pads": (1, 1, 1, 1)}
    y = builder.emit(
        "clip", [builder.emit("conv2d", [both, weights], attributes, name="dw")], {"min": 0.0}, name="clip"
    )
    z = builder.emit("add", [y, both], name="add")
    flat = builder.emit("reshape", [z], {"shape": (1, -1)}, name="flat")
    head = builder.constant(np.linspace(-1, 1, 26 * 9 * 2, dtype=np.float32).reshape(2, -1), "head")
    builder.outputs = {"y": builder.emit("fully_connected", [flat, head], name="fc")}
    fused = check(builder)
    assert [op.result.type.shape[-1] for op in fused.ops if op.source in "abc" and op.source] == [4, 16, 32]
    expected = ["concat", "qconv2d+requantize", "requantize", "reshape", "qfully_connected+dequantize", "slice"]
    assert kinds(fused)[-6:] == expected


def test_weights_with_one_scale_and_a_quantized_bias_fold() -> None:
    builder = Builder("case")
    x = builder.input("x", TensorType((1, 2), "uint8", Quantization.per_tensor(0.5, 7)))
    weights = builder.constant(np.array([[1, 2], [3, 4]], np.int8), "w", Quantization.per_tensor(0.25, 0))
    bias = builder.constant(np.array([9, -9], np.int32), "b", Quantization.per_tensor(0.125, 0))
    operands = [builder.emit("dequantize", [value], name=f"{value.name}.real") for value in (x, weights, bias)]
    builder.outputs = {"y": builder.emit("fully_connected", operands, name="fc")}
    graph = run(quantization({}), builder.finish())
    assert kinds(graph) == ["qfully_connected", "dequantize"]
    folded = next(array for value, array in graph.constants.items() if value.type.dtype == "int32")
    assert folded.tolist() == [9 - 7 * 3, -9 - 7 * 7]


def test_slopes_are_scaled_in_float64() -> None:
    """Rounded once to float32, as sqc/NUMERICS.md has it."""
    random = np.random.default_rng(0)
    slope = random.normal(size=10_000).astype(np.float32)
    scale, result_scale = (float(np.float32(number)) for number in (0.0173, 0.0391))
    x = TensorType((1,), "uint8", Quantization.per_tensor(scale, 3))
    exact = slope.astype(np.float64) * scale / result_scale
    assert same_bits(slope_multiplier(slope, x, result_scale), exact.astype(np.float32))
