"""Weights of float layers in fewer bits, for layers whose time goes into reading them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Graph, Op, Rewriter
from sqc.ops.stored_weights import STORAGES, pack_nibbles
from sqc.passes.base import Notes

GROUP = 32
"""So many weights of four bits share a scale, where they fit."""


@dataclass(frozen=True)
class StoreWeights:
    """Store the weights of fully connected layers as s8, in four bits, or as float16; activations stay in float.

    fully_connected(x, const w, b)  ->  fully_connected(x, restore_weights(const w', const scales), b)

    Eight bits have a scale for each output channel; four bits have one for each ``GROUP`` inputs of a channel, or for
    all where their number is no multiple of it. Layers whose source is in ``exclude``, and for four bits those of an
    odd number of inputs, stay as they are. Raises CompileError for weights that float16 cannot hold.
    """

    name: ClassVar[str] = "store-weights"
    storage: str = STORAGES[0]
    exclude: Collection[str] = frozenset()

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        rewriter = Rewriter(graph)
        for op in graph.ops:
            excluded = op.source in self.exclude or op.result.name in self.exclude
            if op.kind != "fully_connected" or excluded or not graph.is_constant(op.operands[1]):
                rewriter.keep(op)
                continue
            weights, name = graph.constants[op.operands[1]], op.operands[1].name
            if self.storage == "int4" and weights.shape[1] % 2:
                rewriter.keep(op)
                notes.add(self, op, "its weights stay in float32: the number of inputs is odd")
                continue
            operands = [
                rewriter.constant(array, name + suffix)
                for array, suffix in zip(_stored(op, weights, self.storage), ("", ".scales"), strict=False)
            ]
            attributes = {"storage": self.storage}
            restored = rewriter.emit("restore_weights", operands, attributes, name=f"{name}.restored", source=op.source)
            rewriter.keep(op, (rewriter.map(op.operands[0]), restored, *map(rewriter.map, op.operands[2:])))
            notes.add(self, op, f"float, its weights stored as {self.storage}")
        return rewriter.finish()


def _stored(op: Op, weights: np.ndarray, storage: str) -> list[np.ndarray]:
    """What is stored, and the scales if there are any."""
    if storage == "float16":
        with np.errstate(over="ignore"):
            half = weights.astype(np.float16)
        if not np.isfinite(half).all():
            raise CompileError(f"{op.label()} has weights beyond float16; exclude it")
        return [half]
    rows, depth = weights.shape
    most = 127 if storage == "int8" else 7
    groups = depth // GROUP if storage == "int4" and depth % GROUP == 0 else 1
    grouped = weights.reshape(rows, groups, -1).astype(np.float64)
    scales = (np.abs(grouped).max(axis=2) / most).astype(np.float32)
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    levels = np.clip(np.rint(grouped / scales[:, :, None]), -most, most).astype(np.int8).reshape(rows, depth)
    return [pack_nibbles(levels) if storage == "int4" else levels, scales]
