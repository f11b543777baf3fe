"""One-node models, run by ONNX Runtime, by sqc's reference and by sqc's compiled kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sqc
from sqc.inspection import is_quantized

MICROSOFT = "com.microsoft"


@dataclass
class Model:
    """A model under construction: computed inputs are arrays that it is run with, constants are in the model."""

    opset: int = 21
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def input(self, array: np.ndarray) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = np.asarray(array)
        return name

    def constant(self, array: Any, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def node(self, op_type: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{op_type}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, domain=domain, **attributes))
        return names

    def proto(self, outputs: list[str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in self.inputs.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        domains = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=10)


def run_onnxruntime(proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # Each node by itself, as its definition has it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, dict(inputs))]


def run_sqc(proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray], *, compiled: bool = True) -> list[np.ndarray]:
    """What the imported graph computes, which its integer graph and its kernels equal bit for bit."""
    graph = sqc.import_onnx(proto)
    expected = list(graph.run(inputs).values())
    runs = [sqc.quantize(graph).run(inputs)] if is_quantized(graph) else []
    runs += [sqc.compile(graph).run(inputs)] if compiled else []
    for outputs in runs:
        for result, wanted in zip(outputs.values(), expected, strict=True):
            np.testing.assert_array_equal(result, wanted)
    return expected
