"""Random float graphs for property tests of passes: few channels, odd shapes, values read in several places."""

from __future__ import annotations

import numpy as np

from sqc.calibration.qparams import choose_qparams
from sqc.ir import Builder, Graph, TensorType, Value, evaluate_op

NHWC = {"layout": "NHWC"}


class RandomGraph:
    """Grows a graph op by op from a seed. ``kinds`` tells the ops that were drawn."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = Builder(f"random_{seed}", dynamic_batch=True)
        self.kinds: list[str] = []
        channels = int(self.random.choice([1, 2, 3, 4, 5, 16, 20]))
        size = int(self.random.integers(3, 8))
        x = self.builder.input("x", TensorType((1, channels, size, size), "float32"))
        self.images = [self.emit("transpose", [x], perm=(0, 2, 3, 1))]
        self.vectors: list[Value] = []

    def emit(self, kind: str, operands: list[Value], **attributes: object) -> Value:
        name = f"{kind}_{len(self.builder.ops)}"
        self.kinds.append(kind)
        return self.builder.emit(kind, operands, attributes, name=name, source=name)

    def pick(self) -> Value:
        """A recent image most of the time, any other at times."""
        if self.random.random() < 0.7:
            return self.images[-1]
        return self.images[int(self.random.integers(len(self.images)))]

    def constant(self, *shape: int, scale: float = 1.0) -> Value:
        array = (self.random.standard_normal(shape) * scale).astype(np.float32)
        return self.builder.constant(array, f"c{len(self.builder.constants)}")

    def grow(self, count: int) -> None:
        steps = [self.conv, self.conv, self.conv, self.clamp, self.function, self.binary, self.pool, self.movement]
        steps += [self.concat, self.squeeze_excite, self.with_constant, self.conv_add]
        for _ in range(count):
            step = steps[int(self.random.integers(len(steps)))]
            self.images.append(step(self.pick()))

    def conv(self, x: Value) -> Value:
        c = x.type.shape[3]
        kind = self.random.choice(["dense", "depthwise", "grouped", "pointwise"])
        outputs = int(self.random.choice([1, 3, 4, 7, 16, 18]))
        groups, k = 1, 1 if kind == "pointwise" else 3
        if kind == "depthwise":
            groups, outputs = c, c
        elif kind == "grouped" and c % 2 == 0:
            groups, outputs = 2, 2 * outputs
        w = self.constant(outputs, c // groups, k, k, scale=1 / np.sqrt(c // groups * k * k))
        bias = [self.constant(outputs, scale=0.3)] if self.random.random() < 0.7 else []
        strides = (2, 2) if self.random.random() < 0.2 else (1, 1)
        pads = tuple(int(pad) for pad in self.random.integers(1, 3, 4)) if k > 1 else (0, 0, 0, 0)
        return self.emit("conv2d", [x, w, *bias], groups=groups, strides=strides, pads=pads, **NHWC)

    def clamp(self, x: Value) -> Value:
        if self.random.random() < 0.5:
            return self.emit("relu", [x])
        return self.emit("clip", [x], min=float(self.random.choice([-1.0, 0.0, 0.1])), max=1.5)

    def function(self, x: Value) -> Value:
        kinds = ["sigmoid", "tanh", "hard_sigmoid", "hard_swish", "leaky_relu", "elu", "abs", "neg"]
        return self.emit(str(self.random.choice(kinds)), [x])

    def binary(self, x: Value) -> Value:
        kind = str(self.random.choice(["add", "add", "sub", "mul"]))
        equals = [other for other in self.images if other.type == x.type]
        other = equals[int(self.random.integers(len(equals)))]
        return self.emit(kind, [x, other] if self.random.random() < 0.5 else [other, x])

    def conv_add(self, x: Value) -> Value:
        """A residual block, at times with convolutions on both sides or a relu in between."""
        c = x.type.shape[3]

        def branch() -> Value:
            weights = self.constant(c, c, 1, 1, scale=1 / np.sqrt(c))
            return self.emit("conv2d", [x, weights, self.constant(c)], **NHWC)

        left = branch()
        right = branch() if self.random.random() < 0.3 else x
        if self.random.random() < 0.2:
            left = self.emit("relu", [left])
        y = self.emit(
            str(self.random.choice(["add", "sub"])), [left, right] if self.random.random() < 0.7 else [right, left]
        )
        return self.emit("relu", [y]) if self.random.random() < 0.5 else y

    def with_constant(self, x: Value) -> Value:
        kind = str(self.random.choice(["add", "sub", "mul"]))
        shape = [(), (1,), (x.type.shape[3],), (1, 1, 1, x.type.shape[3])][int(self.random.integers(4))]
        return self.emit(kind, [x, self.constant(*shape)])

    def pool(self, x: Value) -> Value:
        if min(x.type.shape[1:3]) < 2:
            return self.clamp(x)
        kind = str(self.random.choice(["max_pool", "average_pool"]))
        pads = tuple(int(pad) for pad in self.random.integers(0, 2, 4))
        attributes = {
            "kernel": (2, 2),
            "strides": (2, 2) if self.random.random() < 0.5 else (1, 1),
            "pads": pads,
            **NHWC,
        }
        if kind == "average_pool":
            attributes["count_include_pad"] = bool(self.random.random() < 0.5)
        return self.emit(kind, [x], **attributes)

    def movement(self, x: Value) -> Value:
        _, h, w, c = x.type.shape
        kind = int(self.random.integers(5))
        if kind == 0:
            return self.emit("pad", [x], pads=(0, 1, 0, 0, 0, 0, 1, 0), value=float(self.random.choice([0.0, 0.5])))
        if kind == 1 and h > 2:
            return self.emit("slice", [x], axes=(1, 2), starts=(1, 0), ends=(h, w), steps=(1, 2))
        if kind == 2 and c > 1:
            return self.emit("slice", [x], axes=(3,), starts=(1,), ends=(c,), steps=(1,))
        if kind == 3:
            return self.emit("pad", [x], pads=(0, 0, 0, 1, 0, 0, 0, 2), value=0.0)
        return self.emit("reshape", [self.emit("transpose", [x], perm=(0, 2, 1, 3))], shape=(-1, w, h, c))

    def concat(self, x: Value) -> Value:
        others = [other for other in self.images if other.type.shape[:3] == x.type.shape[:3]]
        other = others[int(self.random.integers(len(others)))]
        if x.type.shape[3] + other.type.shape[3] > 40:
            return self.clamp(x)
        return self.emit("concat", [x, other], axis=3)

    def squeeze_excite(self, x: Value) -> Value:
        c = x.type.shape[3]
        mean = self.emit("reduce_mean", [x], axes=(1, 2), keepdims=True)
        gate = self.emit("hard_sigmoid", [self.emit("conv2d", [mean, self.constant(c, c, 1, 1)], **NHWC)])
        return self.emit("mul", [x, gate])

    def finish(self) -> Graph:
        """The graph with one to three outputs: at times a fully connected head, a softmax, an image in NCHW."""
        outputs: dict[str, Value] = {"last": self.images[-1]}
        x = self.pick()
        if self.random.random() < 0.6:
            if self.random.random() < 0.5:
                x = self.emit("reduce_mean", [x], axes=(1, 2), keepdims=False)
            else:
                x = self.emit("reshape", [x], shape=(-1, int(np.prod(x.type.shape[1:]))))
            features = x.type.shape[1]
            weights = self.constant(5, features, scale=1 / np.sqrt(features))
            x = self.emit("fully_connected", [x, weights, self.constant(5)])
            outputs["head"] = self.emit("softmax", [x]) if self.random.random() < 0.5 else x
        if self.random.random() < 0.3:
            outputs["image"] = self.emit("transpose", [self.pick()], perm=(0, 3, 1, 2))
        self.builder.outputs = outputs
        return self.builder.finish()


def random_graph(seed: int) -> Graph:
    """A random float graph of 3 to 12 steps."""
    graph = RandomGraph(seed)
    graph.grow(3 + seed % 10)
    return graph.finish()


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {value.name: random.standard_normal(value.type.shape).astype(np.float32) for value in graph.inputs}


def ranges(graph: Graph, inputs: dict[str, np.ndarray], values: list[Value]) -> dict[str, tuple[float, int]]:
    """Quantization parameters of ``values`` by their least and largest numbers on ``inputs``."""
    environment = dict(graph.constants)
    environment.update({value: inputs[value.name] for value in graph.inputs})
    for op in graph.ops:
        environment[op.result] = evaluate_op(op, [environment[operand] for operand in op.operands])
    return {
        value.name: choose_qparams(float(environment[value].min()), float(environment[value].max())) for value in values
    }
