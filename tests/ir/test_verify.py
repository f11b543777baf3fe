"""The verifier finds each kind of fault and names the op or value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sqc.errors import GraphError
from sqc.ir import Graph, Op, TensorType, Value, parse_graph, verify

GRAPH = parse_graph("""
    graph "g" (%x: float32[1,2]) {
      const %w: float32[3,2] = [1,2,3,4,5,6]
      %c: float32[1,3] = fully_connected(%x, %w) @"Gemm_0"
      %y: float32[1,3] = clip(%c) {min=0.0, max=6.0} @"Clip_1"
      return "y"=%y
    }""")
X, W = GRAPH.inputs[0], next(iter(GRAPH.constants))
GEMM, CLIP = GRAPH.ops


def with_clip(**changes: object) -> Graph:
    return replace(GRAPH, ops=(GEMM, replace(CLIP, **changes)))


def test_a_sound_graph() -> None:
    verify(GRAPH)


WRONG = Value("y", TensorType((1, 4), "float32"))
BODY = parse_graph('graph "body" (%a: int32[1]) { %b: int32[2] = reshape(%a) {shape=[1]} return "b"=%b }')


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (replace(GRAPH, inputs=(X, X)), "graph 'g': %x is defined twice"),
        (replace(GRAPH, inputs=()), "fully_connected 'Gemm_0' reads %x before it is defined"),
        (replace(GRAPH, ops=(CLIP, GEMM)), "clip 'Clip_1' reads %c before it is defined"),
        (replace(GRAPH, ops=(*GRAPH.ops, CLIP)), "%y is defined twice"),
        (
            replace(GRAPH, constants={W: np.zeros((3, 3), np.float32)}),
            r"constant %w holds float32\[3,3\] but is declared",
        ),
        (replace(GRAPH, constants={W: np.zeros((3, 2), np.int32)}), r"constant %w holds int32\[3,2\]"),
        (replace(GRAPH, ops=(GEMM,)), "output 'y' returns %y, which the graph does not define"),
        (replace(GRAPH, outputs={"y": WRONG}), "output 'y' returns %y"),
        (with_clip(operands=(WRONG,)), "reads %y before it is defined"),
        (with_clip(operands=(replace(WRONG, name="c"),)), r"reads %c as float32\[1,4\], but it is float32\[1,3\]"),
        (with_clip(results=(WRONG,)), r"clip 'Clip_1' is declared as float32\[1,4\], but computes float32\[1,3\]"),
        (with_clip(attributes={"min": 0.0}), r"clip 'Clip_1' lacks attributes: \['max'\]"),
        (with_clip(attributes={**CLIP.attributes, "mean": 1.0}), "clip has no attribute mean; it has min, max"),
        (with_clip(attributes={"min": 0.0, "max": "six"}), "attribute max of clip must be a float, not 'six'"),
        (with_clip(kind="clamp"), "unknown op kind 'clamp'; known: abs, add"),
        (with_clip(operands=(X, X)), "clip 'Clip_1': clip takes 1 operands, not 2"),
        (
            with_clip(kind="fully_connected", operands=(X, GEMM.result), attributes={}),
            r"fully_connected 'Clip_1': fully_connected\(float32\[1,2\], float32\[1,3\]\): needs x\[M, K\]",
        ),
    ],
)
def test_faults(graph: Graph, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(graph)


def test_faults_inside_a_body() -> None:
    x = Value("x", TensorType((1,), "int32"))
    y = Value("y", TensorType((2,), "int32"))
    graph = Graph("outer", (x,), {"y": y}, {}, (Op("fused", (x,), (y,), {"body": BODY}),))
    with pytest.raises(GraphError, match=r"reshape 'b' is declared as int32\[2\], but computes int32\[1\]"):
        verify(graph)
