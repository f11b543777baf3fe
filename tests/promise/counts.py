"""What graphs consist of, in names that tell more than kinds of ops."""

from __future__ import annotations

from collections import Counter

from sqc.ir import Graph, Op
from tests.promise.kernels import fuse


def kinds(graph: Graph) -> Counter[str]:
    """How often each op occurs, convolutions by kind, requantizes by their terms."""
    return Counter(map(_kind, graph.ops))


def kernels(graph: Graph) -> Counter[str]:
    """How often each kernel with each epilogue occurs."""
    counts: Counter[str] = Counter()
    for op in fuse(graph).ops:
        parts = op.body.ops if op.kind == "fused" else (op,)
        counts[" -> ".join(map(_kind, parts))] += 1
    return counts


def _kind(op: Op) -> str:
    if op.kind == "qconv2d":
        outputs, depth, *kernel = op.operands[1].type.shape
        groups = op.integer("groups")
        if groups == 1:
            return "qconv2d pointwise" if kernel == [1, 1] else "qconv2d dense"
        return "qconv2d depthwise" if depth == 1 and outputs == groups else "qconv2d grouped"
    if op.kind == "requantize":
        terms = op.operands[: len(op.operands) // 2]
        clamped = " clamped" if (op.integer("lo"), op.integer("hi")) != (0, 255) else ""
        return f"requantize {'+'.join(value.type.dtype for value in terms)}{clamped}"
    if op.kind == "restore_weights":
        return f"restore_weights {op.string('storage')}"
    return f"dequantize {op.operands[0].type.dtype}" if op.kind == "dequantize" else op.kind
