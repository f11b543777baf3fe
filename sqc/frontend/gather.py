"""Gather: by indices that a slice can express, by other known ones, by computed ones; or from a table of 256 levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sqc.frontend.node import Node, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value


@handler("Gather")
def gather(node: Node) -> Value:
    if isinstance(levels := node.tensor(1), Value) and levels.type.dtype == "uint8":
        return _lookup(node, levels)
    x, indices = node.value(0), node.tensor(1)
    (axis,) = node.axes([node.integer("axis")], x.type.rank)
    if isinstance(indices, Value):
        if indices.type.dtype not in ("int32", "int64"):
            raise Unsupported(f"its indices are of type {indices.type.dtype}", "int32 or int64")
        return node.result("gather", x, indices, axis=axis)
    extent = x.type.shape[axis]
    if indices.size == 0 or not ((-extent <= indices) & (indices < extent)).all():
        raise Unsupported(f"indices that are not inside an axis of {extent}", "indices in range")
    places = np.where(indices < 0, indices + extent, indices).astype(np.int32)
    part = _as_slice(axis, places)
    if part is None:
        return node.result("gather", x, node.constant(places, f"{node.operand_name(1)}/places"), axis=axis)
    if indices.ndim:
        return node.result("slice", x, **part)
    y = node.step("slice", x, **part)
    return node.result("reshape", y, shape=x.type.shape[:axis] + x.type.shape[axis + 1 :])


def take(node: Node, x: Value, places: Mapping[int, np.ndarray]) -> Value:
    """The node's result: of each axis in ``places`` the elements of these known numbers, in their order."""
    for axis, numbers in places.items():
        emit = node.result if axis == list(places)[-1] else node.step
        x = emit("gather", x, node.constant(numbers.astype(np.int32), f"places{axis}"), axis=axis)
    return x


def _lookup(node: Node, levels: Value) -> Value:
    table = node.known(0)
    if table.dtype != np.uint8 or table.shape != (256,) or node.integer("axis"):
        raise Unsupported(f"it looks levels up in {table.dtype.name}{list(table.shape)}", "uint8[256]")
    return node.result("lookup", levels, node.value(0), scale=1.0, zero_point=0)


def _as_slice(axis: int, places: np.ndarray) -> dict[str, Any] | None:
    """The attributes of the slice that takes one place, or ascending and equally spaced ones; else None."""
    if places.ndim > 1:
        return None
    listed = [int(place) for place in places.reshape(-1)]
    step = listed[1] - listed[0] if len(listed) > 1 else 1
    if step < 1 or listed != list(range(listed[0], listed[-1] + 1, step)):
        return None
    return {"axes": (axis,), "starts": (listed[0],), "ends": (listed[-1] + 1,), "steps": (step,)}
