"""Profiles: bounds by a stated model, what kernels do, layers of other engines, tables, the HTML page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import sqc
from sqc.bench import peers
from sqc.bench.compare import Rival
from sqc.bench.limits import Level, Limits, Probe
from sqc.bench.peers import Feeds, Runner
from sqc.bench.profile import COMPUTE, KernelTime, Profile, bound, by_node, profile
from sqc.bench.static_model import static_model
from sqc.bench.tables import depthwise_table, kernels_table, limits_table
from sqc.codegen.plan import Tensor, Work
from sqc.errors import InputError
from sqc.page import page
from sqc.report import Remark, Report, Row
from sqc.schedules import Target
from tests.test_compiler import images, network

DIGITS = Path(__file__).parents[2] / "examples" / "digits.onnx"
SMALL = {"L1": 16 << 10, "L2": 32 << 10, "L3": 256 << 10}
LEVELS = (Level("L1", 1000, 4e9), Level("L2", 10_000, 2e9), Level("memory", 0, 1e9))
LIMITS = Limits("t", 1, 2e9, {"int8": 1e12, "float32": 1e11}, LEVELS)


def work(**changes: Any) -> Work:
    """A depthwise convolution of 256 outputs."""
    fields: dict[str, Any] = {
        "node": "conv",
        "parts": ("qconv2d", "requantize"),
        "sources": ("conv", "relu"),
        "op": "depthwise 3x3 + requantize",
        "window": (3, 3),
        "kernel": "Depthwise",
        "schedule": "7x1, blocks of 2 rows",
        "precision": "int8",
        "inputs": (Tensor("x", "uint8", (1, 4, 4, 16)),),
        "output": Tensor("y", "uint8", (1, 4, 4, 16)),
        "multiply_accumulates": 9 * 256,
        "read_bytes": 256,
        "written_bytes": 256,
        "constant_bytes": 160,
    }
    return Work(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "between", "limit", "seconds"),
    [
        ({"multiply_accumulates": 10**6}, 0, COMPUTE, 1e-6),
        ({"multiply_accumulates": 10**6, "precision": "float32"}, 0, COMPUTE, 1e-5),
        ({}, 0, "L1", (512 + 160) / 4e9),
        ({}, 1001, "L1", 512 / 4e9),
        ({"constant_bytes": 10**6}, 1001, "L2", 10**6 / 2e9),
        ({"constant_bytes": 10**6}, 10_001, "memory", 10**6 / 1e9),
        ({"read_bytes": 5000, "written_bytes": 5001}, 0, "memory", 10_001 / 1e9),
        ({"read_bytes": 5000, "written_bytes": 5000, "rounds": 10}, 0, "L1", (10_000 + 160) / 4e9),
    ],
)
def test_bounds(changes: dict[str, Any], between: int, limit: str, seconds: float) -> None:
    found = bound(work(**changes), LIMITS, between)
    assert found.limit == limit
    assert found.seconds == pytest.approx(seconds)


def test_work_survives_json() -> None:
    assert Work.from_dict(json.loads(json.dumps({"name": "step", **work().to_dict()}))) == work()


def test_layers_go_to_the_node_that_starts_their_name() -> None:
    layers = {
        "conv_1_token_7": 1.0,
        "conv_1/WithoutBiases": 2.0,
        "conv_10": 4.0,
        "conv_1_extra": 8.0,
        "reorder_conv_1": 16.0,
        "conv_1/WithoutBiases_bf16_u8_conv_10": 32.0,
    }
    assert by_node(layers, {"conv_1", "conv_10", "conv_1_extra"}) == {
        "conv_1": 35.0,
        "conv_10": 4.0,
        "conv_1_extra": 8.0,
    }


def test_depthwise_layers_beside_other_engines() -> None:
    dense = work(node="dense", sources=("dense",), op="qconv2d 3x3 + requantize")
    alone = work(node="alone", sources=("alone",))
    times = [KernelTime(each, 1e-6, bound(each, LIMITS, 0), "") for each in (work(), dense, alone)]
    found = Profile(tuple(times), LIMITS, {"peer": {"conv_nhwc": 2e-6, "relu": 1e-6, "dense": 1.0}})
    first, second = found.depthwise()
    assert (first.work.node, first.outputs) == ("conv", 256)
    assert first.seconds == {"sqc int8": 1e-6, "peer": pytest.approx(3e-6)}
    assert first.cycles(LIMITS.clock)["peer"] == pytest.approx(3e-6 * 2e9 / 256)
    assert second.seconds == {"sqc int8": 1e-6}
    table = depthwise_table(found)
    assert table is not None and [row[0] for row in table.rows] == ["conv", "alone", "1 layers"]
    assert depthwise_table(Profile(tuple(times[1:2]), LIMITS)) is None


def test_reasons() -> None:
    row = Row("mul", ("qmul",), (1,), "float32", "it is float", 0)
    remarks = (Remark("p", "qmul 'mul'", "not fused with what follows: so"), Remark("p", "qmul 'mul'", "else"))
    report = Report((row,), remarks)
    assert report.why("mul", ("qmul",)) == "it is float; not fused with what follows: so"
    assert report.why("other", ("qmul",)) == ""


class FakePeer:
    """An engine that names two nodes of the network."""

    name = "fake"
    version = "1"

    def quantize(self, model: bytes, calibration: Sequence[Feeds]) -> str:
        return "quantized"

    def load(self, model: Any, threads: int) -> Runner:
        raise NotImplementedError

    def profile(self, model: Any, sample: Feeds, threads: int, runs: int) -> dict[str, float]:
        assert model == "quantized" and threads == 2 and runs > 0
        return {"conv2d.1_fused": 1e-3, "softmax": 1e-3}


@pytest.fixture(scope="module")
def compiled() -> sqc.CompiledModel:
    graph = network()
    return sqc.compile(graph, sqc.calibrate(graph, [images(8)]), batch=(1, 2))


@pytest.fixture(scope="module")
def profiled(compiled: sqc.CompiledModel) -> Profile:
    probe = Probe(Target.parse("native"), 2, SMALL)
    rival = Rival(FakePeer(), {"int8": "quantized"})
    return profile(compiled.load(), {"image": images(2)}, probe, [rival], threads=2, seconds=0.01, rounds=2)


def test_a_row_for_each_kernel(compiled: sqc.CompiledModel, profiled: Profile) -> None:
    steps = compiled.plan.programs[1].steps
    assert [kernel.work for kernel in profiled.kernels] == [step.work for step in steps]
    for kernel in profiled.kernels:
        assert kernel.seconds > 0 and math.isfinite(kernel.share) and kernel.share > 0 and kernel.rate > 0
        assert kernel.work.read_bytes > 0 and kernel.work.written_bytes > 0
        assert kernel.bound.limit in (COMPUTE, "L1", "L2", "L3", "memory")
    assert profiled.seconds == pytest.approx(sum(kernel.seconds for kernel in profiled.kernels))
    assert profiled.share > profiled.compute_share > 0
    # The model's own products, at batch 2, without those of padded channels.
    assert profiled.multiply_accumulates == 2 * compiled.report.multiply_accumulates
    kernels = {kernel.work.op.partition(" ")[0]: kernel for kernel in profiled.kernels}
    assert kernels["depthwise"].work.window == (3, 3)
    assert re.fullmatch(r"\d+x\d+, blocks of \d+ rows(, \d+ parts)?", kernels["depthwise"].work.schedule)
    assert kernels["softmax"].reason.startswith("float: ")
    (layer,) = profiled.depthwise()
    assert layer.outputs == 2 * 10 * 9 * 10
    assert set(layer.seconds) == {"sqc int8", "fake int8"}


def test_everything_goes_to_json(profiled: Profile) -> None:
    figures = json.loads(json.dumps(profiled.to_dict()))
    assert set(figures) >= {"limits", "kernels", "seconds", "share_of_limits", "depthwise", "engines"}
    assert set(figures["kernels"][0]) >= {"node", "op", "schedule", "seconds", "limit", "share_of_limit", "reason"}
    assert figures["depthwise"][0]["cycles_per_output"]["fake int8"] > 0


def test_tables(profiled: Profile) -> None:
    for table in (limits_table(profiled.limits), kernels_table(profiled), depthwise_table(profiled)):
        assert table is not None and table.rows
        assert set(table.right) <= set(table.columns)
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert len(kernels_table(profiled).rows) == len(profiled.kernels) + 1


def test_a_page_that_needs_nothing_else(profiled: Profile) -> None:
    pytest.importorskip("matplotlib")
    from sqc.bench.roofline import svg

    assert svg(profiled) == svg(profiled)
    ElementTree.fromstring(svg(profiled))
    text = page("a <model>", [svg(profiled), kernels_table(profiled)])
    assert text.startswith("<!DOCTYPE html>") and "a &lt;model&gt;" in text
    assert not re.search(r"(src|href)=.https?:", text)
    for kernel in profiled.kernels:
        assert kernel.work.op in text


def test_a_plot_without_products(profiled: Profile) -> None:
    pytest.importorskip("matplotlib")
    from sqc.bench.roofline import svg

    rest = [kernel for kernel in profiled.kernels if not kernel.work.multiply_accumulates]
    assert svg(Profile(tuple(rest), profiled.limits))


def test_a_library_that_does_not_tell(compiled: sqc.CompiledModel) -> None:
    model = compiled.load()
    for variant in model.description["variants"]:
        variant["steps"] = [{"name": step["name"]} for step in variant["steps"]]
    with pytest.raises(InputError, match="compile it with this version"):
        profile(model, {"image": images(1)}, Probe(Target.parse("native"), 1, SMALL))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", peers.PEERS)
def test_engines_name_their_layers(name: str) -> None:
    for package in {"onnxruntime": ("onnxruntime",), "openvino": ("openvino", "nncf")}[name]:
        pytest.importorskip(package, exc_type=ImportError)
    rng = np.random.default_rng(0)
    samples = [{"image": rng.integers(0, 17, (1, 1, 8, 8)).astype(np.float32)} for _ in range(4)]
    rival = Rival.prepare(peers.load_peer(name), static_model(DIGITS, 1), samples)
    layers = rival.peer.profile(rival.models["int8"], samples[0], 1, 3)
    assert all(seconds >= 0 for seconds in layers.values())
    assert set(by_node(layers, {"conv1", "conv2"})) == {"conv1", "conv2"}
    assert rival.peer.profile(rival.models["float"], samples[0], 1, 3)
