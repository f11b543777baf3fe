"""Random integer graphs over all integer operators, a graph a seed, and inputs that reach their extremes."""

from __future__ import annotations

import numpy as np

from sqc.ir import Builder, Graph, TensorType, Value

Shape = tuple[int, ...]

CHANNELS = (*range(1, 36), 40, 48, 63, 64, 65, 72, 96, 100, 127, 128, 129, 130)
_LIMIT = 2**31 - 1


class Generator:
    """Grows one graph of at least three integer ops. Equal seeds give equal graphs."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = Builder(f"seed{seed}")
        self.images: list[Value] = []
        self.vectors: list[Value] = []
        self.count = 0

    def graph(self) -> Graph:
        """The graph. Every value that no op reads is an output, as u8 or dequantized, and some that are read too."""
        batch = int(self.random.choice([1, 1, 1, 2, 3]))
        self.enter((batch, *self.pixels(), self.channels()))
        if self.chance(0.3):
            self.enter((batch, *self.pixels(), self.channels()))
        makers = [
            self.convolution, self.convolution, self.convolution, self.pointwise, self.depthwise, self.grouped,
            self.residual, self.add, self.multiply, self.squeeze, self.lookup, self.max_pool, self.average_pool,
            self.global_pool, self.concat, self.concat, self.pad, self.slice, self.transpose, self.flatten, self.dense, self.dense,
            self.rescale,
        ]  # fmt: skip
        target = int(self.random.integers(4, 9))
        for _ in range(50):
            if self.count >= target:
                break
            makers[int(self.random.integers(len(makers)))]()
        read = {operand for op in self.builder.ops for operand in op.operands}
        for i, value in enumerate([*self.images, *self.vectors]):
            if value in read and not self.chance(0.15):
                continue
            if self.chance(0.6):
                value = self.builder.emit("dequantize", [value], name=f"real{i}")
            self.builder.outputs[f"y{i}"] = value
        return self.builder.finish()

    # Draws ---------------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def draw(self, low: int, high: int) -> int:
        """A whole number in ``[low, high]``."""
        return int(self.random.integers(low, high + 1))

    def channels(self) -> int:
        return int(self.random.choice(CHANNELS))

    def pixels(self) -> Shape:
        return (self.draw(1, 17), self.draw(1, 17))

    def qparams(self) -> dict[str, float | int]:
        """A scale from tiny to huge and a zero point that is often an end of the range."""
        exponent = self.random.uniform(-6, 0) if self.chance(0.8) else self.random.uniform(-20, 12)
        zero_point = int(self.random.choice([0, 255, 128, self.draw(0, 255)]))
        return {"scale": float(np.float32(2.0**exponent * 1.1)), "zero_point": zero_point}

    def clamps(self) -> dict[str, int]:
        if self.chance(0.5):
            return {}
        lo, hi = sorted((self.draw(0, 255), self.draw(0, 255)))
        return {"lo": lo, "hi": hi}

    def weights(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """Weights, and a bias that keeps the accumulator in 32 bits, sometimes only just."""
        if self.chance(0.15):
            w = self.random.choice([-128, 127], shape).astype(np.int8)
        else:
            w = self.random.integers(-128, 128, shape).astype(np.int8)
        room = _LIMIT - 255 * np.abs(w.astype(np.int64)).reshape(shape[0], -1).sum(1)
        if self.chance(0.15):
            bias = room * self.random.choice([-1, 1], shape[0])
        else:
            bias = self.random.integers(-(2**15), 2**15, shape[0])
        return w, bias.astype(np.int32)

    def multipliers(self, spread: float, shape: Shape) -> np.ndarray:
        """Multipliers that bring values of about ``spread`` into the range of a byte, or far beyond or below it."""
        exponents = self.random.uniform(-3, 1, shape) if self.chance(0.8) else self.random.uniform(-20, 12, shape)
        return np.asarray(150.0 / spread * 2.0**exponents, np.float32)

    def image(self) -> Value:
        return self.images[self.draw(0, len(self.images) - 1)]

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    # Pieces --------------------------------------------------------------------------------------------------------

    def enter(self, shape: Shape) -> None:
        x = self.builder.input(f"x{len(self.builder.inputs)}", TensorType(shape, "float32"))
        self.images.append(self.builder.emit("quantize", [x], self.qparams(), name=f"q_{x.name}"))

    def constant(self, array: np.ndarray, stem: str) -> Value:
        return self.builder.constant(array, f"{stem}{self.count}")

    def requantize(self, acc: Value, spread: float, stem: str, others: list[Value] | None = None) -> Value:
        """Requantize an accumulator (or u8 value), with further u8 terms; a lookup may follow."""
        others = others or []
        per_channel = acc.type.dtype == "int32" and self.chance(0.8)
        multipliers = [self.multipliers(spread, acc.type.shape[-1:] if per_channel else ())]
        multipliers += [self.multipliers(255.0, ()) for _ in others]
        constants = [self.constant(m, "m") for m in multipliers]
        attributes = {**self.qparams(), **self.clamps()}
        value = self.builder.emit("requantize", [acc, *others, *constants], attributes, name=self.name(stem))
        return self.table(value) if self.chance(0.25) else value

    def table(self, x: Value) -> Value:
        table = self.constant(self.random.integers(0, 256, 256).astype(np.uint8), "table")
        return self.builder.emit("lookup", [x, table], self.qparams(), name=self.name("lookup"))

    def window(self, x: Value, most: int = 5) -> dict[str, object] | None:
        """Attributes of a window that fits ``x``, or None."""
        _, height, width, _ = x.type.shape
        kernel = (self.draw(1, most), self.draw(1, most))
        dilations = (self.draw(1, 2), self.draw(1, 2)) if self.chance(0.25) else (1, 1)
        pads = tuple(self.draw(0, kernel[i % 2] - 1) for i in range(4)) if self.chance(0.7) else (0, 0, 0, 0)
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        if spans[0] > height + pads[0] + pads[2] or spans[1] > width + pads[1] + pads[3]:
            return None
        return {
            "kernel": kernel, "strides": (self.draw(1, 3), self.draw(1, 3)), "pads": pads, "dilations": dilations,
            "layout": "NHWC",
        }  # fmt: skip

    def convolve(self, x: Value, outputs: int, groups: int, window: dict[str, object], stem: str) -> Value:
        kernel = window["kernel"]
        assert isinstance(kernel, tuple)
        shape = (outputs, x.type.shape[-1] // groups, *kernel)
        w, bias = self.weights(shape)
        attributes = {key: value for key, value in window.items() if key != "kernel"}
        acc = self.builder.emit(
            "qconv2d",
            [x, self.constant(w, "w"), self.constant(bias, "b")],
            {**attributes, "groups": groups},
            name=self.name(stem),
        )
        return acc

    def spread(self, acc: Value) -> float:
        """About how large the accumulators of a convolution or dense layer get."""
        w = self.builder.ops[-1].operands[1].type
        return 75.0 * 147.0 * float(np.sqrt(np.prod(w.shape[1:])))

    # Ops -----------------------------------------------------------------------------------------------------------

    def convolution(self) -> None:
        x = self.image()
        if window := self.window(x):
            acc = self.convolve(x, self.channels(), 1, window, "conv")
            self.images.append(self.requantize(acc, self.spread(acc), "conv_u8"))

    def pointwise(self) -> None:
        x = self.image()
        window = {"kernel": (1, 1), "strides": (self.draw(1, 2),) * 2, "layout": "NHWC"}
        acc = self.convolve(x, self.channels(), 1, window, "pointwise")
        self.images.append(self.requantize(acc, self.spread(acc), "pointwise_u8"))

    def depthwise(self) -> None:
        x = self.image()
        if window := self.window(x):
            channels = x.type.shape[-1]
            acc = self.convolve(x, channels, channels, window, "depthwise")
            self.images.append(self.requantize(acc, self.spread(acc), "depthwise_u8"))

    def grouped(self) -> None:
        x = self.image()
        channels = x.type.shape[-1]
        divisors = [g for g in range(2, channels + 1) if channels % g == 0]
        if divisors and (window := self.window(x, 3)):
            groups = int(self.random.choice(divisors))
            acc = self.convolve(x, groups * self.draw(1, max(1, 96 // groups)), groups, window, "grouped")
            self.images.append(self.requantize(acc, self.spread(acc), "grouped_u8"))

    def residual(self) -> None:
        x, other = self.image(), self.image()
        if x.type.shape[:3] != other.type.shape[:3]:
            return
        window: dict[str, object] = {"kernel": (3, 3), "pads": (1, 1, 1, 1), "layout": "NHWC"}
        acc = self.convolve(x, other.type.shape[-1], 1, window, "conv")
        self.images.append(self.requantize(acc, self.spread(acc), "residual", [other]))

    def add(self) -> None:
        x, other = self.image(), self.image()
        if x.type.shape == other.type.shape:
            others = [other, x] if self.chance(0.2) else [other]
            self.images.append(self.requantize(x, 255.0, "add", others))

    def rescale(self) -> None:
        self.images.append(self.requantize(self.image(), 255.0, "rescale"))

    def multiply(self) -> None:
        x, other = self.image(), self.image()
        if x.type.shape == other.type.shape:
            self.images.append(self.product(x, other))

    def squeeze(self) -> None:
        """A factor for each channel, as in squeeze-and-excite."""
        x = self.image()
        self.images.append(self.product(x, self.pooled(x)))

    def product(self, x: Value, other: Value) -> Value:
        acc = self.builder.emit("qmul", [x, other], name=self.name("mul"))
        return self.requantize(acc, 128.0 * 128.0, "mul_u8")

    def lookup(self) -> None:
        self.images.append(self.table(self.image()))

    def max_pool(self) -> None:
        x = self.image()
        if window := self.window(x, 3):
            self.images.append(self.builder.emit("max_pool", [x], window, name=self.name("max_pool")))

    def average_pool(self) -> None:
        x = self.image()
        if window := self.window(x, 3):
            acc = self.builder.emit("qsum_pool", [x], window, name=self.name("sum_pool"))
            self.images.append(self.requantize(acc, 500.0, "average"))

    def pooled(self, x: Value) -> Value:
        acc = self.builder.emit("qreduce_sum", [x], {"axes": (1, 2), "keepdims": True}, name=self.name("sum"))
        return self.requantize(acc, 20.0 * x.type.shape[1] * x.type.shape[2], "mean")

    def global_pool(self) -> None:
        self.images.append(self.pooled(self.image()))

    def concat(self) -> None:
        first = self.image()
        same = [v for v in self.images if v.type.shape[:3] == first.type.shape[:3]]
        if len(same) < 2:
            return
        parts = [same[self.draw(0, len(same) - 1)] for _ in range(self.draw(2, 3))]
        if sum(part.type.shape[-1] for part in parts) > 300:
            return
        qparams = self.qparams()
        moved = []
        for part in parts:
            multiplier = self.constant(self.multipliers(255.0, ()), "m")
            moved.append(self.builder.emit("requantize", [part, multiplier], qparams, name=self.name("aligned")))
        self.images.append(self.builder.emit("concat", moved, {"axis": 3}, name=self.name("concat")))

    def pad(self) -> None:
        x = self.image()
        pads = (0, self.draw(0, 2), self.draw(0, 2), 0, 0, self.draw(0, 2), self.draw(0, 2), 0)
        value = float(x.type.zero_point if self.chance(0.7) else self.draw(0, 255))
        self.images.append(self.builder.emit("pad", [x], {"pads": pads, "value": value}, name=self.name("pad")))

    def slice(self) -> None:
        x = self.image()
        axis = self.draw(1, 3)
        extent = x.type.shape[axis]
        start = self.draw(0, extent - 1)
        attributes = {"axes": (axis,), "starts": (start,), "ends": (self.draw(start + 1, extent),), "steps": (1,)}
        self.images.append(self.builder.emit("slice", [x], attributes, name=self.name("slice")))

    def transpose(self) -> None:
        x = self.image()
        perm = (0, 2, 1, 3)
        self.images.append(self.builder.emit("transpose", [x], {"perm": perm}, name=self.name("transpose")))

    def flatten(self) -> None:
        x = self.image()
        size = x.type.size // x.type.shape[0]
        if size <= 3000:
            attributes = {"shape": (x.type.shape[0], size)}
            self.vectors.append(self.builder.emit("reshape", [x], attributes, name=self.name("flat")))

    def dense(self) -> None:
        if not self.vectors:
            self.flatten()
        if not self.vectors:
            return
        x = self.vectors[self.draw(0, len(self.vectors) - 1)]
        w, bias = self.weights((self.channels(), x.type.shape[1]))
        operands = [x, self.constant(w, "w"), self.constant(bias, "b")]
        acc = self.builder.emit("qfully_connected", operands, name=self.name("dense"))
        spread = self.spread(acc)
        same = [v for v in self.vectors if v.type.shape == acc.type.shape]
        if self.chance(0.2):
            real = self.constant(self.multipliers(spread, acc.type.shape[-1:]), "m")
            self.builder.outputs[f"real_{acc.name}"] = self.builder.emit("dequantize", [acc, real], name=self.name("r"))
        else:
            self.vectors.append(self.requantize(acc, spread, "dense_u8", same[:1]))


def inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Inputs for a generated graph: ordinary numbers, values on rounding ties, huge ones, infinities and NaN."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        quantized = next(op for op in graph.ops if value in op.operands)
        scale, zero_point = quantized.number("scale"), quantized.integer("zero_point")
        levels = random.integers(0, 256, value.type.shape) - zero_point
        halves = random.choice([0.0, 0.0, 0.5, -0.5], value.type.shape)
        x = ((levels + halves) * scale).astype(np.float32)
        special = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0], np.float32)
        x = np.where(random.random(x.shape) < 0.02, random.choice(special, x.shape), x)
        arrays[value.name] = x.astype(np.float32)
    return arrays


def generate(seed: int) -> Graph:
    """The graph of a seed."""
    return Generator(seed).graph()
