"""Small ONNX models for the tests, and the comparison of what sqc imports with onnx's own evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sqc.frontend import import_onnx
from sqc.ir import Graph, rebatch, verify

NEWEST = onnx.defs.onnx_opset_version()
RTOL = 1e-4


def seeded(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def ints(*items: int) -> np.ndarray:
    return np.array(items, np.int64)


@dataclass(frozen=True)
class Case:
    """One node. A tuple among ``inputs`` is the shape of a computed input, an array a constant, None an absent one."""

    op_type: str
    inputs: Sequence[tuple[int, ...] | np.ndarray | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    oldest: int = 9
    newest: int = NEWEST
    outputs: int = 1
    low: float = -2.0

    def opsets(self) -> list[int]:
        """One operator set for each version of the operator."""
        versions: dict[int, int] = {}
        for opset in range(self.oldest, self.newest + 1):
            versions.setdefault(onnx.defs.get_schema(self.op_type, opset, "").since_version, opset)
        return list(versions.values())

    def model(self, opset: int, batch: int | str | None = None) -> onnx.ModelProto:
        """The model; ``batch`` stands for the leading extent of the computed inputs where it is given."""
        names = [f"x{i}" if item is not None else "" for i, item in enumerate(self.inputs)]
        shapes = {name: item for name, item in zip(names, self.inputs, strict=True) if isinstance(item, tuple)}
        if batch is not None:
            shapes = {name: (batch, *shape[1:]) for name, shape in shapes.items()}
        constants = {name: item for name, item in zip(names, self.inputs, strict=True) if isinstance(item, np.ndarray)}
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op_type, names, outputs, name="the_node", **self.attributes)
        return model([node], shapes, outputs, constants, opset)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    elem_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of operator set ``opset``."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, elem_type, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, elem_type, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def feeds_for(graph: Graph, low: float = -2.0) -> dict[str, np.ndarray]:
    return {
        value.name: seeded(*value.type.shape, seed=i, low=low).astype(value.type.dtype)
        for i, value in enumerate(graph.inputs)
    }


def assert_close(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Same names in the same order, shapes, and values within ``RTOL`` of the largest."""
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].shape == array.shape, name
        largest = np.abs(array[np.isfinite(array)]).max(initial=1e-6)
        np.testing.assert_allclose(actual[name], array, rtol=RTOL, atol=RTOL * largest, err_msg=name)


Oracle: TypeAlias = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def evaluate(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    results = ReferenceEvaluator(proto).run(None, dict(feeds))
    return dict(zip([output.name for output in proto.graph.output], results, strict=True))


def onnxruntime_oracle() -> Oracle:
    """Runs models in ONNX Runtime; skips the test where it is missing, or does not know the model's operator set."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1

    def run(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
        except Exception as error:
            if proto.opset_import[0].version > 21 or "NOT_IMPLEMENTED" in str(error):
                pytest.skip(f"ONNX Runtime cannot run it: {error}")
            raise
        return dict(zip([output.name for output in proto.graph.output], session.run(None, dict(feeds)), strict=True))

    return run


def check(proto: onnx.ModelProto, batch: int | None = None, low: float = -2.0, oracle: Oracle = evaluate) -> Graph:
    """Import, verify and compare; with ``batch``, also after a change of the batch. Returns the imported graph."""
    graph = import_onnx(proto)
    verify(graph)
    for size in {None, batch}:
        resized = graph if size is None else rebatch(graph, size)
        verify(resized)
        feeds = feeds_for(resized, low)
        assert_close(resized.run(feeds), oracle(proto, feeds))
    return graph
