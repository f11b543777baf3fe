"""A layer that was spoiled ranks first."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import sqc
from sqc.accuracy.blame import blame
from sqc.calibration import Calibration
from sqc.ir import Graph
from sqc.passes import pipeline
from tests.accuracy.conftest import Case
from tests.accuracy.spoil import KINDS, RANGES, Spoiled, spoiled
from tests.real_models import MODELS

SAMPLES = 8
LARGE = 4 << 20
"""Bytes of the model files from which on a real model is spoiled on demand alone."""
LAYERS = 3
"""So many layers of a small network are spoiled in each way, and a third as many of a real one."""


def check(
    graph: Graph,
    quantized: Graph,
    calibration: Calibration,
    inputs: np.ndarray,
    kind: str,
    random: np.random.Generator,
    count: int,
) -> None:
    """Spoil ``count`` layers, one at a time. Those count whose defect does more harm than all that was there before."""
    before = blame(graph, quantized, inputs).output_snr
    found = 0
    for defect in spoiled(kind, graph, quantized, calibration, random):
        report = blame(graph, defect.quantized, inputs)
        if report.output_snr < before - 3.1:
            worst = report.layers[0]
            assert defect.hits(worst), f"{defect} does harm, but {worst.node} ranks first"
            found += 1
            if found == count:
                return
    assert found, f"no layer takes harm from {kind}"


@pytest.mark.parametrize("kind", [*KINDS, *RANGES])
def test_small_networks(small: Case, kind: str) -> None:
    random = np.random.default_rng(0)
    check(small.graph, small.quantized, small.calibration, small.inputs, kind, random, LAYERS)


WAYS = [*KINDS, *RANGES]


@pytest.mark.slow
@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_real_models(test_data: Path, zoo: ModuleType, request: pytest.FixtureRequest, name: str, kind: str) -> None:
    model = zoo.ZOO[name]
    chosen = WAYS.index(kind) == MODELS.index(name) % len(WAYS) and model.path.stat().st_size < LARGE
    if not chosen and not request.config.getoption("--every-defect"):
        pytest.skip("small real models are spoiled in one way each; --every-defect spoils all of them in every way")
    graph = sqc.import_onnx(model.path)
    calibration = sqc.calibrate(graph, [model.inputs("calib", 32)])
    quantized = sqc.quantize(graph, calibration)
    graph = pipeline.run(pipeline.FLOAT, graph)
    check(graph, quantized, calibration, model.inputs("eval", SAMPLES), kind, np.random.default_rng(1), LAYERS // 3)


def test_two_defects(first: Case) -> None:
    """The worse one first, then the other, though one lies behind the other."""
    one = KINDS["bias"](first.quantized, "stem")
    both = KINDS["coarse weights"](one, "last")
    report = blame(first.graph, both, first.inputs)
    assert {layer.node for layer in report.layers[:2]} == {"stem", "last"}
    assert Spoiled("bias", both, node="stem").hits(report.layers[0])
