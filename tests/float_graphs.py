"""Random float graphs as a model's importer yields them, for hypothesis: small images, most operators, any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from sqc.ir import Builder, Graph, TensorType, Value


class Grower:
    """Appends steps to a graph; every step takes the last value and leaves another."""

    def __init__(self, seed: int, dynamic_batch: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = Builder("random", dynamic_batch)
        shape = (1, int(self.random.integers(1, 7)), *self.random.integers(5, 9, 2).tolist())
        self.last = self.builder.input("x", TensorType(shape, "float32"))
        self.images = [self.last]

    def finish(self) -> Graph:
        outputs = [self.last, *self.random.permutation(np.array(self.images, dtype=object))[:1]]
        self.builder.outputs = {f"y{i}": value for i, value in enumerate(outputs)}
        return self.builder.finish()

    def step(self, name: str) -> None:
        """Take a step unless it doesn't fit the last value."""
        if self.last.type.rank == 4 or name in ANY_RANK:
            getattr(self, name)()
            if self.last.type.rank == 4:
                self.images.append(self.last)

    # Draws

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.random.random() < probability)

    def draw(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def constant(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Value:
        array = self.random.uniform(low, high, shape).astype(np.float32)
        return self.builder.constant(array, self.builder.unique("c"))

    def emit(self, kind: str, *operands: Value, **attributes: Any) -> Value:
        name = self.builder.unique(kind)
        self.last = self.builder.emit(kind, operands, attributes, name=f"{name}_y", source=name)
        return self.last

    # Steps on images

    def conv2d(self, depthwise: bool = False) -> None:
        channels, height, width = self.last.type.shape[1:]
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = channels if depthwise else divisors[self.draw(0, len(divisors) - 1)]
        outputs = groups * self.draw(1, 2 if groups > 1 else 6)
        kernel = (self.draw(1, min(3, height)), self.draw(1, min(3, width)))
        bound = (channels // groups * kernel[0] * kernel[1]) ** -0.5 * 2
        operands = [self.constant(outputs, channels // groups, *kernel, low=-bound, high=bound)]
        if self.chance():
            operands.append(self.constant(outputs))
        x = self.last
        nhwc = self.chance(0.2)
        if nhwc:
            x = self.emit("transpose", x, perm=(0, 2, 3, 1))
        self.emit(
            "conv2d",
            x,
            *operands,
            strides=(self.draw(1, 2), self.draw(1, 2)),
            pads=tuple(self.draw(0, 1) for _ in range(4)),
            groups=groups,
            layout="NHWC" if nhwc else "NCHW",
        )
        if nhwc:
            self.emit("transpose", self.last, perm=(0, 3, 1, 2))

    def depthwise(self) -> None:
        self.conv2d(depthwise=True)

    def conv1d(self) -> None:
        c, h, w = self.last.type.shape[1:]
        self.emit("reshape", self.last, shape=(-1, c, h * w))
        self.emit("reshape", self.last, shape=(-1, c, 1, h * w))
        bound = c**-0.5
        weights = self.constant(3, c, 1, 3, low=-bound, high=bound)
        self.emit("conv2d", self.last, weights, pads=(0, 1, 0, 1), layout="NCHW")
        self.emit("reshape", self.last, shape=(-1, 3, h * w))
        self.batch_norm()
        self.emit("relu", self.last)
        self.emit("reshape", self.last, shape=(-1, 3, h, w))

    def pool(self) -> None:
        kind = "max_pool" if self.chance() else "average_pool"
        kernel = tuple(min(extent, self.draw(1, 3)) for extent in self.last.type.shape[2:])
        attributes: dict[str, Any] = {"count_include_pad": self.chance()} if kind == "average_pool" else {}
        pads = tuple(self.draw(0, extent - 1) for extent in kernel * 2)
        strides = (self.draw(1, 2), self.draw(1, 2))
        self.emit(kind, self.last, kernel=kernel, strides=strides, pads=pads, layout="NCHW", **attributes)

    def global_pool(self) -> None:
        if self.chance():
            kernel = self.last.type.shape[2:]
            self.emit("average_pool", self.last, kernel=kernel, layout="NCHW")
        else:
            self.emit("reduce_mean", self.last, axes=(2, 3), keepdims=True)

    def pad(self) -> None:
        if self.chance(0.3):
            self.emit("relu", self.last)
        borders = [self.draw(0, 1) for _ in range(4)]
        channels = self.draw(0, 1) if self.chance(0.3) else 0
        value = 0.0 if self.chance(0.7) else -0.5
        self.emit("pad", self.last, pads=(0, channels, *borders[:2], 0, 0, *borders[2:]), value=value)

    def slice(self) -> None:
        height, width = self.last.type.shape[2:]
        if min(height, width) > 1:
            self.emit("slice", self.last, axes=(2, 3), starts=(0, 1), ends=(height, width), steps=(2, 1))

    def gate(self) -> None:
        x = self.last
        channels = x.type.shape[1]
        self.global_pool()
        weights = self.constant(channels, channels, 1, 1, low=-0.5, high=0.5)
        self.emit("conv2d", self.last, weights, layout="NCHW")
        if self.chance():
            self.emit("hard_sigmoid", self.last, alpha=1 / 6)
        else:
            self.emit("clip", self.last, min=0.0, max=6.0)
            self.emit("mul", self.last, self.builder.constant(np.float32(1 / 6), "sixth"))
        self.emit("mul", x, self.last)

    def shuffle(self) -> None:
        c, h, w = self.last.type.shape[1:]
        groups = 2 if c % 2 == 0 else 1
        self.emit("reshape", self.last, shape=(-1, groups, c // groups, h, w))
        self.emit("transpose", self.last, perm=(0, 2, 1, 3, 4))
        self.emit("reshape", self.last, shape=(-1, c, h, w))

    def tokens(self) -> None:
        c, h, w = self.last.type.shape[1:]
        self.emit("reshape", self.last, shape=(-1, c, h * w))
        self.emit("transpose", self.last, perm=(0, 2, 1))
        self.emit("softmax", self.last, axis=self.draw(1, 2))
        self.emit("transpose", self.last, perm=(0, 2, 1))
        self.emit("reshape", self.last, shape=(-1, c, h, w))

    def attention(self) -> None:
        c, h, w = self.last.type.shape[1:]
        keys = self.emit("reshape", self.last, shape=(-1, c, h * w))
        queries = self.emit("transpose", keys, perm=(0, 2, 1))
        if self.chance():
            self.emit("matmul", queries, keys)
        else:
            self.emit("matmul", queries, queries, perm_b=(0, 2, 1))
        self.emit("mul", self.last, self.builder.constant(np.float32(1 / c), "scale"))
        if self.chance():
            self.emit("softmax", self.last, axis=2)
        else:  # as bounded, lest several of these blow up
            self.emit("clip", self.last, min=-1.0, max=1.0)
            self.emit("mul", self.last, self.builder.constant(np.float32(1 / (h * w)), "share"))
        self.emit("matmul", self.last, queries)
        self.emit("transpose", self.last, perm=(0, 2, 1))
        self.emit("reshape", self.last, shape=(-1, c, h, w))

    def normalize(self) -> None:
        """Group, instance or layer normalization."""
        c, h, w = self.last.type.shape[1:]
        groups = (1, c, c // 2 if c % 2 == 0 else 1)[self.draw(0, 2)]
        self.emit("reshape", self.last, shape=(-1, groups, c // groups, h, w))
        parameters = [self.constant(groups, c // groups, 1, 1) for _ in range(2)]
        self.emit("normalize", self.last, *parameters, axes=(2, 3, 4))
        self.emit("reshape", self.last, shape=(-1, c, h, w))
        if self.chance(0.3):
            parameters = [self.constant(w) for _ in range(2)]
            self.emit("normalize", self.last, *parameters, axes=(3,), epsilon=0.1)

    def gather(self) -> None:
        axis = self.draw(1, 3)
        extent = self.last.type.shape[axis]
        places = self.random.integers(-extent, extent, self.draw(1, 7)).astype(np.int32)
        self.emit("gather", self.last, self.builder.constant(places, self.builder.unique("places")), axis=axis)

    def resize(self) -> None:
        """To places in between, by linear interpolation along one axis or two."""
        axes = ((2,), (3,), (2, 3))[self.draw(0, 2)]
        tables = []
        for axis in axes:
            extent = self.last.type.shape[axis]
            where = self.random.uniform(0, extent - 1, self.draw(3, 9))
            places = np.stack([np.floor(where), np.ceil(where)], axis=1).astype(np.int32)
            part = (where - np.floor(where)).astype(np.float32)
            tables.append(self.builder.constant(places, self.builder.unique("places")))
            tables.append(self.builder.constant(np.stack([1 - part, part], axis=1), self.builder.unique("weights")))
        self.emit("interpolate", self.last, *tables, axes=axes)

    def turn(self) -> None:
        self.emit("transpose", self.last, perm=(0, 1, 3, 2))

    def flatten(self) -> None:
        c, h, w = self.last.type.shape[1:]
        if self.chance(0.3):
            self.emit("reduce_mean", self.last, axes=(2, 3), keepdims=False)
        elif c * h * w <= 400:
            self.emit("reshape", self.last, shape=(-1, c * h * w))
            self.fully_connected()

    # Steps on anything

    def fully_connected(self) -> None:
        if self.last.type.rank == 2:
            depth = self.last.type.shape[1]
            bound = depth**-0.5
            operands = [self.constant(4, depth, low=-bound, high=bound)]
            self.emit("fully_connected", self.last, *operands, *([self.constant(4)] if self.chance() else []))

    def batch_norm(self) -> None:
        channels = self.last.type.shape[1]
        parameters = [self.constant(channels) for _ in range(3)]
        variance = self.constant(channels, low=0.3, high=2.0)
        self.emit("batch_norm", self.last, *parameters, variance, axis=1)

    def activation(self) -> None:
        kinds = (
            "relu", "clip", "sigmoid", "hard_sigmoid", "hard_swish", "tanh", "neg", "abs", "leaky_relu", "elu", "celu",
            "selu", "thresholded_relu", "silu", "gelu", "gelu_tanh", "mish", "softplus", "softsign", "erf", "floor",
            "ceil", "round", "sign", "power",
        )  # fmt: skip
        kind = kinds[self.draw(0, len(kinds) - 1)]
        attributes = {"min": -0.5, "max": 1.0 if self.chance() else np.inf} if kind == "clip" else {}
        self.emit(kind, self.last, **attributes)

    def hard_swish(self) -> None:
        x = self.last
        three, six = (self.builder.constant(np.float32(number), name) for number, name in ((3, "three"), (6, "six")))
        self.emit("add", x, three)
        self.emit("clip", self.last, min=0.0, max=6.0)
        if self.chance():
            self.emit("mul", x, self.last)
            self.emit("div", self.last, six)
        else:
            self.emit("div", self.last, six)
            self.emit("mul", x, self.last)

    def arithmetic(self) -> None:
        kind = ("add", "sub", "mul", "div")[self.draw(0, 3)]
        rank, channels = self.last.type.rank, self.last.type.shape[1]
        shape = () if self.chance(0.3) else (channels,) + (1,) * (rank - 2)
        c = self.constant(*shape, low=0.5, high=2.0) if self.chance() else self.constant(*shape, low=-2.0, high=-0.5)
        swapped = kind in ("add", "mul") and self.chance(0.3)
        self.emit(kind, *((c, self.last) if swapped else (self.last, c)))

    def prelu(self) -> None:
        rank, channels = self.last.type.rank, self.last.type.shape[1]
        self.emit("prelu", self.last, self.constant(channels, *[1] * (rank - 2)))

    def long_sum(self) -> None:
        same = [value for value in self.images if value.type == self.last.type]
        if same:
            self.emit("add" if self.chance() else "sub", self.last, same[0])
            self.emit("add", self.last, same[-1])

    def residual(self) -> None:
        same = [value for value in self.images if value.type == self.last.type]
        if same and self.last.type.rank == 4:
            self.emit("add", self.last, same[self.draw(0, len(same) - 1)])

    def concat(self) -> None:
        if self.last.type.rank != 4:
            return
        fits = [value for value in self.images if value.type.shape[2:] == self.last.type.shape[2:]]
        self.emit("concat", self.last, *fits[-1:], axis=1 if self.chance() else -3)


ANY_RANK = ("prelu", "fully_connected", "batch_norm", "activation", "hard_swish", "arithmetic")
STEPS = (
    "conv2d", "conv2d", "depthwise", "conv1d", "pool", "global_pool", "pad", "slice", "gate", "shuffle", "tokens",
    "attention", "normalize", "gather", "resize", "prelu", "long_sum",
    "turn", "flatten", "fully_connected", "batch_norm", "batch_norm", "activation", "hard_swish", "arithmetic",
    "arithmetic", "residual", "concat",
)  # fmt: skip


@st.composite
def float_graphs(draw: st.DrawFn, steps: tuple[str, ...] = STEPS) -> Graph:
    """A graph of up to eight steps."""
    names = draw(st.lists(st.sampled_from(steps), min_size=1, max_size=8))
    grower = Grower(draw(st.integers(0, 2**16)), draw(st.booleans()))
    for name in names:
        grower.step(name)
    return grower.finish()


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Normally distributed inputs."""
    random = np.random.default_rng(seed)
    return {value.name: random.standard_normal(value.type.shape).astype(np.float32) for value in graph.inputs}
