"""Which part of a float graph each rounding of the quantized one stands for.

Quantizing keeps names: the op that rounds a value to eight bits, or that takes accumulators to float, is named after
the float value that it approximates. Cut at these values, both graphs fall into the same layers, and a layer of one can
be held against the same layer of the other on equal inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqc.errors import CompileError
from sqc.ir import Builder, Graph, Op, Value, cut
from sqc.passes.rounding import CLAMPS, MATRIX, MOVEMENT, place, useful_range

_INTEGER_MATRIX = ("qconv2d", "qfully_connected")


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a float graph between the values that stand for something in the quantized one.

    ``graph`` computes one output; ``feeds`` names for each of its inputs the value of the quantized graph that stands
    for it: a rounding, or an input of the model.
    """

    graph: Graph
    feeds: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class Layer:
    """What lies between some roundings and the next one, in both graphs.

    ``stand`` of the quantized graph stands for ``value`` of the float one; ``integer_ops`` compute it from ``reads``,
    which are other stands or inputs, as ``part`` computes ``value``. ``useful`` is the interval outside of which no
    reader of the value tells numbers apart. ``owner`` is the concatenation whose range the rounding has to share, if
    there is one.
    """

    stand: Value
    value: Value
    reads: tuple[Value, ...]
    integer_ops: tuple[Op, ...]
    part: Part
    useful: tuple[float, float]
    owner: Value | None

    @property
    def ops(self) -> tuple[Op, ...]:
        """The float ops, in order."""
        return self.part.graph.ops

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of the model that compute something here: what to exclude to have the layer in float."""
        skipped = (*CLAMPS, *MOVEMENT, "max_pool")
        return tuple(dict.fromkeys(op.source for op in self.ops if op.kind not in skipped and op.source))

    @property
    def name(self) -> str:
        """The node that is the heart of the layer; an input's own name."""
        for op in self.ops:
            if op.kind in MATRIX and op.source:
                return op.source
        return self.nodes[-1] if self.nodes else self.value.name

    @property
    def computes(self) -> str:
        """The kinds of its ops, without movement."""
        return " + ".join(op.kind for op in self.ops if op.kind not in MOVEMENT) or "input"

    def matrices(self) -> list[tuple[Op, Op]]:
        """Each convolution or fully connected layer with its integer form."""
        integer = {op.source: op for op in self.integer_ops if op.kind in _INTEGER_MATRIX}
        return [(op, integer[op.source]) for op in self.ops if op.kind in MATRIX and op.source in integer]


@dataclass(frozen=True, eq=False)
class End:
    """Where the networks are compared: an output or, if that is a softmax, its operand (``axis`` is the softmax's).

    A softmax hides errors where it saturates. It ignores a shift of its operand along ``axis``, and so do comparisons.
    """

    name: str
    stand: Value
    axis: int | None
    part: Part


def match(graph: Graph, quantized: Graph) -> tuple[list[Layer], list[End]]:
    """Cut both graphs into layers, in order, and find the ends.

    ``graph`` is the float graph that was quantized. Raises CompileError if the quantized graph is of another model, or
    all in float.
    """
    if not any(op.result.type.dtype == "uint8" for op in quantized.ops):
        raise CompileError(f"graph '{quantized.name}' computes in float alone: there is nothing to hold against float")
    stands = _stands(graph, quantized)
    if not stands or set(graph.outputs) != set(quantized.outputs):
        raise CompileError(
            f"the quantized graph '{quantized.name}' was not made from '{graph.name}': its roundings are not named "
            "after values of that model; give the model that was quantized"
        )
    owners, placement = _owners(quantized, stands), place(graph)
    layers = []
    for op in quantized.ops:
        if op.result in stands:
            value = stands[op.result]
            integer = cut(quantized, {op.result.name: op.result}, stands.keys() - {op.result})
            reads = integer.inputs
            part = _part(graph, value, {stands[read]: read for read in reads if read in stands}, quantized)
            useful, owner = useful_range(graph, value, placement), owners.get(op.result)
            layers.append(Layer(op.result, value, reads, integer.ops, part, useful, owner))
    ends = []
    for name, value, stand, axis in compared_ends(graph, quantized):
        reads = cut(quantized, {name: stand}, stands).inputs
        part = _part(graph, value, {stands[read]: read for read in reads if read in stands}, quantized)
        ends.append(End(name, stand, axis, part))
    return layers, ends


def integer_parts(quantized: Graph, layers: Sequence[Layer]) -> Graph:
    """The layers of the quantized graph side by side: ``reads`` are inputs, ``stand`` is an output, by name."""
    builder = Builder(quantized.name)
    inputs = dict.fromkeys(read for layer in layers for read in layer.reads)
    given = {value: builder.input(value.name, value.type) for value in inputs}
    for layer in layers:
        known = dict(given)
        for op in layer.integer_ops:
            for operand in op.operands:
                if operand in quantized.constants:
                    array = quantized.constants[operand]
                    known[operand] = builder.constant(array, operand.name, operand.type.quantization)
            operands = [known[operand] for operand in op.operands]
            known[op.result] = builder.emit(op.kind, operands, op.attributes, name=op.result.name, source=op.source)
        builder.outputs[layer.stand.name] = known[layer.stand]
    return builder.finish()


def _stands(graph: Graph, quantized: Graph) -> dict[Value, Value]:
    """The values of the quantized graph that approximate values of the float graph, mapped to those."""
    values = {value.name: value for value in graph.values() if not graph.is_constant(value)}
    stands: dict[Value, Value] = {}
    for op in quantized.ops:
        rounds = op.kind in ("quantize", "requantize", "lookup")
        copies = op.kind == "concat" and op.result.type.dtype == "uint8"
        widens = op.kind == "dequantize" and op.operands[0].type.dtype == "int32"
        if rounds or copies or widens:
            name = op.operands[0].name if op.kind == "quantize" else op.result.name
            value = values.get(name)
            if value is not None and value.type.shape == op.result.type.shape:
                stands[op.result] = value
    return stands


def _part(graph: Graph, value: Value, stands: Mapping[Value, Value], quantized: Graph) -> Part:
    """The float ops behind ``value``; ``stands`` maps the values where they start to what stands for them."""
    inputs = {value.name: value for value in quantized.inputs}
    part = cut(graph, {value.name: value}, stands)
    return Part(part, {read.name: stands[read] if read in stands else inputs[read.name] for read in part.inputs})


def _owners(quantized: Graph, stands: Collection[Value]) -> dict[Value, Value]:
    """Roundings that were given the range of the concatenation which alone reads them, and that concatenation."""
    owners: dict[Value, Value] = {}
    for op in quantized.ops:
        value = op.result
        if value not in stands or value.type.quantization is None:
            continue
        while (
            user := quantized.only_user(value)
        ) is not None and user.result.type.quantization == value.type.quantization:
            value = user.result
            if user.kind == "concat" and value in stands:
                owners[op.result] = value
            elif user.kind not in (*MOVEMENT, "max_pool"):
                break
    return owners


def compared_ends(graph: Graph, quantized: Graph) -> list[tuple[str, Value, Value, int | None]]:
    """For each output its name, what of both graphs is compared, and the axis of the softmax behind it, if any."""
    ends: list[tuple[str, Value, Value, int | None]] = []
    for name, value in graph.outputs.items():
        stand, axis = quantized.outputs[name], None
        first, second = graph.producer(value), quantized.producer(stand)
        if first is not None and second is not None and first.kind == second.kind == "softmax":
            value, stand, axis = first.operands[0], second.operands[0], first.integer("axis")
        ends.append((name, value, stand, axis))
    return ends
