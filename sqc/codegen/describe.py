"""What a step of a model does, told for profiles: the op, its shapes, its work, its schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sqc.codegen.plan import Tensor, Work
from sqc.ir import Op, Value
from sqc.ops.cost import multiply_accumulates, precision
from sqc.schedules import Kernel
from sqc.schedules.float_conv2d import FloatConvolution


def describe(
    op: Op,
    kernel: Kernel,
    read: Sequence[Value],
    constants: Sequence[np.ndarray],
    products: Mapping[str, int] | None = None,
    rounds: int = 1,
) -> Work:
    """The work of ``op`` by its ``kernel``, which reads the activations ``read`` and the packed ``constants``.

    ``products`` tells the multiply-accumulates of a run by the names of results; without it all that the op computes
    count. A run calls the kernel ``rounds`` times.
    """
    parts = op.body.ops if op.kind == "fused" else (op,)
    computed = [rounds * multiply_accumulates(part) for part in parts]
    counts = computed if products is None else [products.get(part.result.name, 0) for part in parts]
    constant_bytes = sum(array.nbytes for array in constants)
    constant_bytes += sum(value.type.bytes for value in kernel.activations if value not in read)
    return Work(
        node=op.source or op.result.name,
        parts=tuple(part.kind for part in parts),
        sources=tuple(dict.fromkeys(part.source for part in parts if part.source)),
        op=" + ".join([_anchor(parts[0]), *(part.kind for part in parts[1:])]),
        window=_window(parts[0]),
        kernel=type(kernel.problem).__name__,
        schedule=_schedule(kernel),
        precision=precision(op),
        inputs=tuple(map(_tensor, read)),
        output=_tensor(op.result),
        multiply_accumulates=sum(counts),
        read_bytes=rounds * sum(value.type.bytes for value in read),
        written_bytes=rounds * op.result.type.bytes,
        constant_bytes=constant_bytes,
        rounds=rounds,
    )


def _tensor(value: Value) -> Tensor:
    return Tensor(value.name, value.type.dtype, value.type.shape)


def _anchor(op: Op) -> str:
    """The op's kind, a depthwise convolution told from others, with its window as ``3x3/2`` (kernel / strides)."""
    window = _window(op)
    if not window:
        return op.kind
    strides = op.integers("strides")
    name = op.kind
    if op.attributes.get("groups", 1) != 1:
        outputs, depth = op.operands[1].type.shape[:2]
        name = "depthwise" if depth == 1 and outputs == op.integer("groups") else f"grouped {name}"
    by = f"/{_times(strides if len(set(strides)) > 1 else strides[:1])}" if set(strides) != {1} else ""
    return f"{name} {_times(window)}{by}"


def _window(op: Op) -> tuple[int, ...]:
    if "strides" not in op.attributes:
        return ()
    return op.integers("kernel") if "kernel" in op.attributes else op.operands[1].type.shape[2:]


def _times(extents: Sequence[int]) -> str:
    return "x".join(map(str, extents))


def _schedule(kernel: Kernel) -> str:
    """How the kernel's loops are tiled, as short text."""
    if kernel.tile is not None:
        return str(kernel.tile)
    if isinstance(kernel.problem, FloatConvolution):
        return _times(kernel.problem.tile(kernel.target))
    return ""
