"""ONNX models of one LSTM, GRU or RNN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OUTPUTS = {"LSTM": ("Y", "Y_h", "Y_c"), "GRU": ("Y", "Y_h"), "RNN": ("Y", "Y_h")}


@dataclass(frozen=True)
class Layer:
    """A layer over ``steps`` steps of ``batch`` samples; ``states`` tells whether initial ones are inputs.

    ``lengths`` holds a number of steps for each sample; all have ``steps`` without it.
    """

    kind: str
    steps: int = 4
    batch: int = 2
    features: int = 5
    width: int = 8
    direction: str = "forward"
    before: bool = False
    states: bool = False
    seed: int = 0
    lengths: tuple[int, ...] = ()

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def initial(self) -> list[str]:
        return ["h", "c"] if self.kind == "LSTM" else ["h"]

    def model(self, outputs: tuple[str, ...] = (), **attributes: object) -> onnx.ModelProto:
        """The model with all or some outputs, and further attributes of the node."""
        rng = np.random.default_rng(self.seed)
        gates, count, width = GATES[self.kind], self.directions, self.width

        def weights(*shape: int) -> np.ndarray:
            return (rng.uniform(-1.5, 1.5, shape) / np.sqrt(shape[-1])).astype(np.float32)

        constants = {
            "W": weights(count, gates * width, self.features),
            "R": weights(count, gates * width, width),
            "B": rng.uniform(-0.5, 0.5, (count, 2 * gates * width)).astype(np.float32),
        }
        names, inputs = ["x", "W", "R", "B"], {"x": [self.steps, self.batch, self.features]}
        if self.lengths:
            constants["lengths"] = np.array(self.lengths, np.int32)
        names.append("lengths" if self.lengths else "")
        if self.states:
            states = self.initial
            names += states
            inputs.update({name: [count, self.batch, width] for name in states})
        if self.kind == "GRU":
            attributes["linear_before_reset"] = int(self.before)
        wanted = outputs or OUTPUTS[self.kind]
        results = [name if name in wanted else "" for name in OUTPUTS[self.kind]]
        node = helper.make_node(
            self.kind, names, results, name="rnn", hidden_size=width, direction=self.direction, **attributes
        )
        graph = helper.make_graph(
            [node],
            "recurrent",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def feeds(self, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        shapes = {"x": (self.steps, self.batch, self.features)}
        if self.states:
            shapes.update(dict.fromkeys(self.initial, (self.directions, self.batch, self.width)))
        return {name: rng.uniform(-0.9, 0.9, shape).astype(np.float32) for name, shape in shapes.items()}


LAYERS = st.builds(
    Layer,
    kind=st.sampled_from(["LSTM", "GRU", "RNN"]),
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    features=st.integers(1, 9),
    width=st.sampled_from([1, 3, 4, 8, 16, 20]),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    before=st.booleans(),
    states=st.booleans(),
    seed=st.integers(0, 99),
)
