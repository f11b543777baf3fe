"""Mixed precision meets its goal with few layers in float."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

import sqc
from sqc.accuracy.compare import compare
from sqc.accuracy.mixed import Candidate, MixedPrecision, Outputs, _fewest, compile_within, hold_back
from sqc.accuracy.running import predict
from sqc.errors import InputError
from tests.accuracy.conftest import Case


def closeness(outputs: Outputs, references: Outputs) -> float:
    """Less than 0 by the relative error in percent."""
    error, reference = outputs["y"] - references["y"], references["y"]
    return -100.0 * float(np.sqrt(np.mean(error**2) / np.mean(reference**2)))


@pytest.fixture(scope="module")
def mixed(first: Case) -> MixedPrecision:
    return compile_within(first.graph, first.calibration, 0.5, first.inputs, metric=closeness)


def test_the_goal_is_met_by_some_layers(first: Case, mixed: MixedPrecision) -> None:
    assert mixed.int8_drop > 0.5 >= mixed.drop
    assert 0 < len(mixed.exclude) < len({op.source for op in first.graph.ops})
    exact = predict(sqc.compile(first.graph).load(), {"x": first.inputs})
    assert -closeness(predict(mixed.compiled.load(), {"x": first.inputs}), exact) == pytest.approx(mixed.drop)
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
    assert mixed.seconds > 0 and mixed.int8_seconds > 0
    damages = [candidate.damage for candidate in mixed.ranking]
    assert damages == sorted(damages, reverse=True)


def test_the_same_data_give_the_same_bytes(first: Case, mixed: MixedPrecision) -> None:
    again = compile_within(first.graph, first.calibration, 0.5, first.inputs, metric=closeness)
    assert again.trials == mixed.trials and again.compiled.library == mixed.compiled.library


def test_a_goal_that_int8_meets(first: Case) -> None:
    easy = compile_within(first.graph, first.calibration, 100.0, first.inputs)
    assert easy.exclude == () and easy.ranking == () and easy.drop == easy.int8_drop
    assert easy.compiled.report.int8_share == 1.0


def test_a_goal_that_all_layers_in_float_meet(first: Case) -> None:
    nothing = compile_within(first.graph, first.calibration, 0.0, first.inputs, metric=closeness)
    assert nothing.drop <= 0.0 and nothing.compiled.report.int8_share == 0.0


@pytest.mark.parametrize("preset", ["accurate", "best"])
@pytest.mark.parametrize("goal", [0.0, 0.5])
def test_presets_that_refine(first: Case, mixed: MixedPrecision, preset: str, goal: float) -> None:
    """What is left in int8 is refined; that may be nothing."""
    refined = compile_within(first.graph, first.calibration, goal, first.inputs, metric=closeness, preset=preset)
    assert refined.drop <= goal and refined.int8_drop < mixed.int8_drop
    expected = sqc.compile(first.graph, first.calibration, preset=preset, exclude=refined.exclude)
    assert refined.compiled.library == expected.library


def test_labels_count_where_they_are_given(first: Case) -> None:
    scores = predict(sqc.compile(first.graph, first.calibration).load(), {"x": first.inputs})["y"]
    labels = scores.argmax(axis=1)  # int8 is right everywhere
    result = compile_within(first.graph, first.calibration, 0.0, first.inputs, labels=labels)
    assert result.exclude == () and result.int8_drop <= 0.0


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
    chosen = _fewest(ranking, lambda candidates: set(needed) <= {int(c.nodes[0]) for c in candidates})
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
