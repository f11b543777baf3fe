"""Kernels of generated graphs: compiled without the driver, all together or each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

import sqc
from sqc.codegen.build import Build, build_program
from sqc.codegen.library import build_library
from sqc.codegen.plan import Plan
from sqc.codegen.stages import Variant
from sqc.ir import Graph, Op
from sqc.passes import pipeline
from sqc.passes.pad_channels import PadChannels
from sqc.runtime import Model, load_bytes
from sqc.schedules import Target

Arrays = Mapping[str, np.ndarray]

VNNI = "icelake-server" if Target.parse("icelake-server").runs_here() else "avx512vnni-emulated"
LESSER = [name for name in ("x86-64-v4", "avxvnni-evex") if Target.parse(name).runs_here()]
TARGETS = ("x86-64-v3", VNNI, *LESSER)
"""The instruction sets that run here, AVX-512 VNNI emulated where the processor lacks it."""


class Setting(NamedTuple):
    """How a graph is compiled. Without ``padded`` kernels get the channels as they are, however odd."""

    target: str
    padded: bool

    @staticmethod
    def of(seed: int) -> Setting:
        """All combinations in turn."""
        turn, target = divmod(seed, len(TARGETS))
        return Setting(TARGETS[target], turn % 4 > 0)


def reference(graph: Graph, arrays: Arrays) -> dict[str, np.ndarray]:
    """What the graph means. Multipliers overflow, infinities cancel, logarithms of 0 are infinite, as they should."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return dict(graph.run(arrays))


def fuse(graph: Graph, padded: bool = True) -> Graph:
    """The graph whose ops are kernels."""
    return pipeline.run([step for step in pipeline.FUSION if padded or not isinstance(step, PadChannels)], graph)


def load_kernels(fused: Graph, setting: Setting) -> Model:
    """The model of a graph whose ops are kernels."""
    build = Build(Target.parse(setting.target))
    program = build_program(Variant.of(fused), build)
    plan = Plan(
        (program,), build.constants.bytes(), build.objects, build.target.cpu_features, sqc.NUMBER_RULES,
        {"model": fused.name, "target": setting.target},
    )  # fmt: skip
    return load_bytes(build_library(plan), 1)


@dataclass(frozen=True)
class Alone:
    """One kernel of a larger graph: a graph of it, the operands it gets there, and the result it must give."""

    op: Op
    graph: Graph
    operands: dict[str, np.ndarray]
    expected: np.ndarray


def kernels_alone(graph: Graph, arrays: Arrays, setting: Setting) -> Iterator[Alone]:
    """Every kernel of a graph that runs on ``arrays``."""
    fused = fuse(graph, setting.padded)
    everything = {op.result.name: op.result for op in fused.ops}
    known = {**arrays, **reference(replace(fused, outputs=everything), arrays)}
    for op in fused.ops:
        if op.kind == "reshape":  # a view, no kernel
            continue
        constants = {value: fused.constants[value] for value in op.operands if value in fused.constants}
        given = tuple(value for value in dict.fromkeys(op.operands) if value not in constants)
        graph = Graph(op.kind, given, {"y": op.result}, constants, (op,))
        yield Alone(op, graph, {value.name: known[value.name] for value in given}, known[op.result.name])
