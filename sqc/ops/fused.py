"""The fused op: several ops that one kernel computes. Its meaning is that of its body, run op by op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Graph, Op, Required, TensorType, define, evaluate


def _infer(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    body = attributes["body"]
    if [value.type for value in body.inputs] != list(types):
        raise ValueError("the operands are not of the types that the body takes")
    if body.constants or len(body.outputs) != 1:
        raise ValueError("a body has one output and no constants of its own")
    (output,) = body.outputs.values()
    return output.type  # type: ignore[no-any-return]


def _reference(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    inputs = {value.name: array for value, array in zip(op.body.inputs, arrays, strict=True)}
    (result,) = evaluate(op.body, inputs).values()
    return result


define("fused", arity=(1, None), attributes={"body": Required(Graph)}, infer=_infer, reference=_reference)
