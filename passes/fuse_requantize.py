"""Join ops that one kernel computes, so that accumulators never go to memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqc.ir import Builder, Graph, Op, Rewriter, Value
from sqc.ops.elementwise import BINARY, COMPARISONS, UNARY
from sqc.ops.movement import moved_axes, turned_axes
from sqc.passes.base import Notes

ANCHORS = ("qconv2d", "qfully_connected", "qmatmul", "qmul", "qsum_pool", "qreduce_sum", "qinterpolate")
"""Kinds whose accumulators an epilogue consumes."""

MOVEMENT = ("transpose", "pad", "slice", "reshape", "gather")
INJECTIVE = ("quantize", "dynamic_quantize", "dequantize", "requantize", "lookup", "qprelu", *UNARY, *MOVEMENT)
"""Kinds that compute each element from one element; chains of them are one kernel."""

FUNCTIONS = frozenset(UNARY) | {"maximum", "minimum", "prelu"}
"""Float kinds whose formulas are more than an operation."""

SERIES = frozenset({
    "sigmoid", "tanh", "elu", "celu", "selu", "silu", "gelu", "gelu_tanh", "mish", "softplus", "erf", "exp", "log",
    "power",
})  # fmt: skip
"""Those that are polynomials, or contain some."""

PAIRED = (*BINARY, *COMPARISONS, "where")
"""Float kinds that compute each element from one element of each operand; chains go through one of these."""


@dataclass(frozen=True)
class FuseRequantize:
    """Put an op and what follows it elementwise into one ``fused`` op.

    requantize(qconv2d(x, w, b), M), with or without a residual term, and a lookup behind it  ->  fused
    pad(requantize(qconv2d(x, w, b), M)) of height and width                                  ->  fused
    dequantize(qfully_connected(x, w, b), M)                                                  ->  fused
    lookup(requantize(x, y, M, N))                                                            ->  fused
    fully_connected(x, restore_weights(w, s), b)                                              ->  fused
    chains such as pad(transpose(quantize(x))), or quantize(relu(dequantize(x)) * y + d)       ->  fused

    Constants become operands. Weights lose their scales, which are in the multipliers already.
    """

    name: ClassVar[str] = "fuse-requantize"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        chains = self._chains(graph, notes)
        last = {chain[-1].result: chain for chain in chains}
        inner = {op.result for chain in chains for op in chain[:-1]}
        rewriter = Rewriter(graph)
        for op in graph.ops:
            if op.result in last:
                rewriter.replace(op, _fuse(rewriter, last[op.result]))
            elif op.result not in inner:
                rewriter.keep(op)
        return rewriter.finish()

    def _chains(self, graph: Graph, notes: Notes) -> list[list[Op]]:
        """Disjoint chains of ops, each op read by the next alone; anchors have the first choice."""
        chains = []
        for op in graph.ops:
            if op.kind in ANCHORS and len(chain := self._epilogue(graph, op, notes)) > 1:
                chains.append(chain)
        for op in graph.ops:
            reader = graph.only_user(op.result) if op.kind == "restore_weights" else None
            if reader is not None and reader.kind == "fully_connected" and reader.operands[1] == op.result:
                chains.append([op, reader])
        taken = {op.result for chain in chains for op in chain}
        for op in graph.ops:
            if op.result in taken:
                continue
            if op.kind == "requantize" and not _is_injective(graph, op):
                chain = [op, *_table_behind(graph, op)]
            else:
                chain = _injective(graph, op, taken)
            if len(chain) > 1:
                chains.append(chain)
                taken.update(member.result for member in chain)
                notes.add(self, op, f"one kernel with {_listing(chain[1:])}")
        return chains

    def _epilogue(self, graph: Graph, anchor: Op, notes: Notes) -> list[Op]:
        """The anchor and what is computed from its accumulators before they would go to memory."""
        user = graph.only_user(anchor.result)
        obstacle = ""
        if user is None:
            obstacle = "several ops read its accumulators"
        elif user.kind == "requantize":
            terms = user.operands[: len(user.operands) // 2]
            if terms[0] != anchor.result or any(term.type.dtype != "uint8" for term in terms[1:]):
                obstacle = "the sum that it enters has other accumulators before it"
            elif any(term.type.shape != user.result.type.shape for term in terms):
                obstacle = "it is added to a term of another shape"
        elif user.kind not in ("dequantize", "dynamic_dequantize"):
            obstacle = f"{user.label()} reads its accumulators"
        if user is None or obstacle:
            notes.add(self, anchor, f"not fused with what follows: {obstacle}")
            return [anchor]
        chain = [user, *(_table_behind(graph, user) if user.kind == "requantize" else [])]
        chain += _margins_behind(graph, anchor, chain[-1])
        added = ", its residual addition in the epilogue" if len(user.operands) >= 4 else ""
        notes.add(self, anchor, f"one kernel with {_listing(chain)}{added}")
        return [anchor, *chain]


def _is_injective(graph: Graph, op: Op) -> bool:
    """Whether the op reads a tensor of its size (and others, or constants of its own) element by element."""
    if op.kind in PAIRED:
        return True
    terms = len(op.operands) // 2 if op.kind == "requantize" else 1
    return op.kind in INJECTIVE and terms == 1 and op.operands[0].type.dtype != "int32"


def _table_behind(graph: Graph, op: Op) -> list[Op]:
    user = graph.only_user(op.result)
    return [user] if user is not None and user.kind == "lookup" and user.operands[0] == op.result else []


def _margins_behind(graph: Graph, anchor: Op, op: Op) -> list[Op]:
    """The pad of height and width of images that a convolution computes."""
    user = graph.only_user(op.result)
    if anchor.kind != "qconv2d" or anchor.string("layout") != "NHWC" or user is None or user.kind != "pad":
        return []
    pads = user.integers("pads")
    return [] if any(pads[axis] for axis in (0, 3, 4, 7)) or op.result.type.dtype != "uint8" else [user]


def _injective(graph: Graph, op: Op, taken: set[Value]) -> list[Op]:
    """The longest chain of injective ops from ``op`` on. Reshapes at its ends stay outside: they move no data."""
    chain: list[Op] = []
    user: Op | None = op
    while user is not None and user.result not in taken and _is_injective(graph, user):
        if chain and not (_continues(user, chain[-1]) and _goes_with(user, chain)):
            break
        chain.append(user)
        user = graph.only_user(user.result)
    while chain and chain[-1].kind == "reshape":
        chain.pop()
    return [] if chain and chain[0].kind == "reshape" else chain


def _continues(op: Op, last: Op) -> bool:
    """Whether ``op``, which alone reads what ``last`` computes, reads each element of it once."""
    if op.kind in PAIRED:
        return op.result.type.shape == last.result.type.shape
    return op.operands[0] == last.result


def _goes_with(op: Op, chain: Sequence[Op]) -> bool:
    """Whether one kernel does well for both.

    Not a gather of what was computed, as it may read that several times. Not tables of tables behind levels that hold
    bindings, which may stand in the index of one read alone. Functions, tables and divisions bind what they read
    several times; of those one within another the code takes TVM ever longer: so a series has a kernel of its own, and
    so has any other function but for a division behind it. Tiles of bytes go through registers, and nothing else does
    with them.
    """
    together = [*chain, op]
    kinds = [member.kind for member in together]
    if op.kind == "gather" and not all(kind in MOVEMENT for kind in kinds):
        return False
    if op.kind == "lookup" and kinds.count("lookup") > 1 and not {"quantize", "qprelu"}.isdisjoint(kinds):
        return False
    functions = [kind for kind in kinds if kind in FUNCTIONS]
    binding = len(functions) + kinds.count("lookup") + kinds.count("qprelu")
    if not SERIES.isdisjoint(functions):
        binding += kinds.count("quantize")
    if functions and binding > 1:
        return False
    if not any(turned_axes([member]) for member in together):
        return True
    axes = moved_axes(together)
    return axes is not None and (not axes or axes[-1][1] == 1 or turned_axes(together) is not None)


def _listing(ops: Sequence[Op]) -> str:
    return ", ".join(op.label() for op in ops)


def _fuse(rewriter: Rewriter, chain: Sequence[Op]) -> Value:
    body = Builder("+".join(op.kind for op in chain))
    inside: dict[Value, Value] = {}
    operands: list[Value] = []
    for op in chain:
        for operand in op.operands:
            if operand not in inside:
                operands.append(_operand(rewriter, operand))
                inside[operand] = body.input(operand.name, operands[-1].type)
        terms = [inside[operand] for operand in op.operands]
        inside[op.result] = body.emit(op.kind, terms, op.attributes, name=op.result.name, source=op.source)
    body.outputs = {"result": inside[chain[-1].result]}
    source = next((op.source for op in chain if op.source), "")
    return rewriter.emit("fused", operands, {"body": body.finish()}, name=chain[-1].result.name, source=source)


def _operand(rewriter: Rewriter, value: Value) -> Value:
    quantization = value.type.quantization
    if quantization is not None and quantization.axis is not None and rewriter.graph.is_constant(value):
        return rewriter.constant(rewriter.graph.constants[value], value.name)
    return rewriter.map(value)
