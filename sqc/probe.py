"""Graphs compiled as they are, to look at the values inside a model while it runs."""

from __future__ import annotations

from sqc.codegen.build import Build, build_program
from sqc.codegen.library import build_library
from sqc.codegen.objects import ObjectStore
from sqc.codegen.stages import Variant
from sqc.ir import Graph
from sqc.passes import pipeline
from sqc.runtime import Model, load_bytes
from sqc.schedules import Target


def load_graph(graph: Graph, target: str = "native", store: ObjectStore | None = None) -> Model:
    """A float or integer graph, compiled and loaded on all cores. Values keep their names; a ``store`` serves many."""
    build = Build(Target.parse(target), store=store or ObjectStore())
    program = build_program(Variant.of(pipeline.run(pipeline.FUSION, graph)), build)
    return load_bytes(build_library(build.plan([program], graph.name)), threads=0)
