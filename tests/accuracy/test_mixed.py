"""Mixed precision meets its goal with few layers in float."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pytest

import sqc
from sqc.accuracy.candidates import Candidate, fewest
from sqc.accuracy.compare import compare
from sqc.accuracy.mixed import MixedPrecision, Outputs, compile_within, hold_back
from sqc.accuracy.running import predict
from sqc.calibration import Calibration, Ranges
from sqc.errors import InputError
from sqc.ir import Builder, Graph, TensorType
from tests.accuracy.conftest import Case


class Heavy(NamedTuple):
    """A network whose weights exceed the caches near a core, with data."""

    graph: Graph
    calibration: Calibration
    inputs: np.ndarray


def closeness(outputs: Outputs, references: Outputs) -> float:
    """Less than 0 by the relative error in percent."""
    error, reference = outputs["y"] - references["y"], references["y"]
    return -100.0 * float(np.sqrt(np.mean(error**2) / np.mean(reference**2)))


@pytest.fixture(scope="module")
def mixed(first: Case) -> MixedPrecision:
    return compile_within(first.graph, first.calibration, 0.5, first.inputs, metric=closeness)


def test_the_goal_is_met_by_some_layers(first: Case, mixed: MixedPrecision) -> None:
    assert mixed.int8.drop > 0.5 >= mixed.mixed.drop
    assert 0 < len(mixed.exclude) < len({op.source for op in first.graph.ops})
    exact = predict(sqc.compile(first.graph).load(), {"x": first.inputs})
    assert -closeness(predict(mixed.compiled.load(), {"x": first.inputs}), exact) == pytest.approx(mixed.mixed.drop)
    in_float = {row.name for row in mixed.compiled.report.rows if row.precision == "float32"}
    assert set(mixed.exclude) & {"stem", "depthwise", "project", "left", "right", "last", "classes"} <= in_float


def test_no_single_layer_can_be_taken_back(mixed: MixedPrecision) -> None:
    tried = {frozenset(trial.exclude): trial.drop for trial in mixed.trials}
    groups = [candidate.nodes for candidate in mixed.ranking if set(candidate.nodes) <= set(mixed.exclude)]
    for group in groups[:-1]:
        assert tried.get(frozenset(mixed.exclude) - set(group), 1.0) > 0.5


def test_what_is_reported(mixed: MixedPrecision) -> None:
    plain = mixed.to_dict()
    assert plain["exclude"] == mixed.exclude and plain["samples"] == 24
    assert mixed.mixed.seconds > 0 and mixed.int8.seconds > 0
    damages = [candidate.damage for candidate in mixed.ranking]
    assert damages == sorted(damages, reverse=True)


def test_the_same_data_give_the_same_bytes(first: Case, mixed: MixedPrecision) -> None:
    again = compile_within(first.graph, first.calibration, 0.5, first.inputs, metric=closeness)
    assert again.trials == mixed.trials and again.compiled.library == mixed.compiled.library


def test_a_goal_that_int8_meets(first: Case) -> None:
    easy = compile_within(first.graph, first.calibration, 100.0, first.inputs)
    assert easy.exclude == () and easy.ranking == () and easy.mixed == easy.int8
    assert easy.compiled.report.int8_share == 1.0


def test_a_goal_that_all_layers_in_float_meet(first: Case) -> None:
    nothing = compile_within(first.graph, first.calibration, 0.0, first.inputs, metric=closeness)
    assert nothing.mixed.drop <= 0.0 and nothing.compiled.report.int8_share == 0.0


@pytest.mark.parametrize("preset", ["accurate", "best"])
@pytest.mark.parametrize("goal", [0.0, 0.5])
def test_presets_that_refine(first: Case, mixed: MixedPrecision, preset: str, goal: float) -> None:
    """What is left in int8 is refined; that may be nothing."""
    refined = compile_within(first.graph, first.calibration, goal, first.inputs, metric=closeness, preset=preset)
    assert refined.mixed.drop <= goal and refined.int8.drop < mixed.int8.drop
    expected = sqc.compile(first.graph, first.calibration, preset=preset, exclude=refined.exclude)
    assert refined.compiled.library == expected.library


def test_labels_count_where_they_are_given(first: Case) -> None:
    scores = predict(sqc.compile(first.graph, first.calibration).load(), {"x": first.inputs})["y"]
    labels = scores.argmax(axis=1)  # int8 is right everywhere
    result = compile_within(first.graph, first.calibration, 0.0, first.inputs, labels=labels)
    assert result.exclude == () and result.int8.drop <= 0.0


@pytest.mark.parametrize(
    ("goal", "labels", "message"), [(-1.0, None, "at least 0"), (1.0, np.zeros(3, int), "3 labels")]
)
def test_bad_arguments(first: Case, goal: float, labels: np.ndarray | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_within(first.graph, first.calibration, goal, first.inputs, labels=labels)


def test_samples_held_back(first: Case) -> None:
    rest, held = hold_back(first.graph, {"x": first.inputs})
    assert len(rest["x"]) == 18 and len(held["x"]) == 6
    np.testing.assert_array_equal(held["x"][1], first.inputs[7])
    with pytest.raises(InputError, match="at least 4"):
        hold_back(first.graph, {"x": first.inputs[:3]})


@pytest.mark.parametrize("needed", list(combinations(range(6), 2)))
def test_the_search_finds_what_is_needed(needed: tuple[int, ...]) -> None:
    """Where some layers must be in float and the rest don't matter, exactly those are chosen."""
    ranking = [Candidate((str(i),), 6.0 - i) for i in range(6)]
    chosen = fewest(ranking, lambda candidates: set(needed) <= {int(c.nodes[0]) for c in candidates})
    assert [int(candidate.nodes[0]) for candidate in chosen] == list(needed)


def test_compare(first: Case) -> None:
    model = sqc.compile(first.graph, first.calibration, batch=4).load()
    scores = predict(model, {"x": first.inputs})["y"]
    exact = predict(sqc.compile(first.graph).load(), {"x": first.inputs})["y"]
    (row,) = compare(first.graph, model, first.inputs, exact.argmax(axis=1))
    assert row.name == "y" and row.float_top1 == 1.0 and row.top1 == row.agreement
    assert row.agreement == np.mean(scores.argmax(axis=1) == exact.argmax(axis=1))
    assert row.snr == pytest.approx(-20 * np.log10(row.relative_error))
    with pytest.raises(InputError, match="labels must be one for each of 24"):
        compare(first.graph, model, first.inputs, np.zeros(3, int))


@pytest.fixture(scope="module")
def heavy() -> Heavy:
    """Layers of 256 Ki weights and more, of which the first one suffers most from few bits."""
    random = np.random.default_rng(3)
    builder = Builder("heavy", dynamic_batch=True)
    value = builder.input("x", TensorType((1, 512), "float32"))
    for name, outputs in (("first", 1024), ("middle", 1024), ("last", 512), ("classes", 16)):
        shape = (outputs, value.type.shape[1])
        weights = random.normal(0, np.sqrt(2 / shape[1]), shape)
        if name == "first":
            weights *= random.lognormal(0, 1, shape)
        constants = [builder.constant(weights.astype(np.float32), f"{name}_w")]
        value = builder.emit("fully_connected", [value, *constants], name=f"{name}_y", source=f"/[{name}]")
        if name != "classes":
            value = builder.emit("relu", [value], name=f"{name}_relu_y", source=f"{name}_relu")
    builder.outputs = {"y": value}
    graph = builder.finish()
    inputs = random.normal(size=(48, 512)).astype(np.float32)
    return Heavy(graph, sqc.calibrate(graph, [inputs[:24]]), inputs[24:])


def layers_of(heavy: Heavy, goal: float, **options: Any) -> MixedPrecision:
    return compile_within(heavy.graph, heavy.calibration, goal, heavy.inputs, metric=closeness, **options)


def test_weights_of_four_bits_where_the_goal_allows(heavy: Heavy) -> None:
    all_of_them = layers_of(heavy, 90.0)
    assert all_of_them.four_bits == ("/[first]", "/[middle]", "/[last]") and all_of_them.exclude == ()
    assert all_of_them.int8 == all_of_them.eight_bits
    saved = (512 * 1024 + 1024 * 1024 + 1024 * 512) // 2
    assert all_of_them.int8.bytes - all_of_them.mixed.bytes == pytest.approx(saved, rel=0.05)
    goal = (all_of_them.int8.drop + all_of_them.mixed.drop) / 2
    some = layers_of(heavy, goal)
    assert 0 < len(some.four_bits) < 3 and some.int8.drop < some.mixed.drop <= goal
    tried = {frozenset(trial.four_bits): trial.drop for trial in some.trials}
    for node in set(all_of_them.four_bits) - set(some.four_bits):
        assert tried.get(frozenset({*some.four_bits, node}), np.inf) > goal
    plain = json.loads(json.dumps(some.to_dict()))
    assert plain["four_bits"] == list(some.four_bits) and plain["eight_bits"]["bytes"] == some.eight_bits.bytes


def test_four_bits_change_the_weights_of_their_layer_alone(heavy: Heavy) -> None:
    ranges = layers_of(heavy, 90.0, ranges=Ranges("l2", [("relu", "kl")])).ranges
    wide = sqc.quantize(heavy.graph, heavy.calibration, ranges=Ranges("l2", [("relu", "kl")]))
    packed = sqc.quantize(heavy.graph, heavy.calibration, ranges=ranges)
    for before, after in zip(wide.ops, packed.ops, strict=True):
        assert before.kind == after.kind and before.result.type == after.result.type
        if before.kind == "qfully_connected":
            most = np.abs(packed.constants[after.operands[1]]).max()
            assert most == 127 if "classes" in before.source else most <= 7


def test_the_compiled_model_is_what_its_ranges_give(heavy: Heavy) -> None:
    mixed = layers_of(heavy, 90.0, preset="accurate")
    again = sqc.compile(heavy.graph, heavy.calibration, preset="accurate", ranges=mixed.ranges)
    assert mixed.compiled.library == again.library
    integers = sqc.quantize(heavy.graph, heavy.calibration, preset="accurate", ranges=mixed.ranges)
    x = heavy.inputs[:1]
    np.testing.assert_array_equal(mixed.compiled.load()(x), integers.run({"x": x})["y"])


@pytest.mark.parametrize("batch", [8, (8, 32)])
def test_layers_of_many_rows_are_not_bound_by_memory(heavy: Heavy, batch: int | tuple[int, ...]) -> None:
    assert layers_of(heavy, 90.0, batch=batch).four_bits == ()


def test_several_targets(first: Case) -> None:
    """One that runs here judges; the library holds all."""
    targets = "x86-64-v3,avx512vnni-emulated"
    both = compile_within(first.graph, first.calibration, 0.5, first.inputs, metric=closeness, target=targets)
    expected = sqc.compile(first.graph, first.calibration, exclude=both.exclude, target=targets)
    assert both.compiled.library == expected.library
    assert [plan.target for plan in both.compiled.plan.candidates] == ["avx512vnni-emulated", "x86-64-v3"]
