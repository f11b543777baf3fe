"""Random integer graphs over all integer operators, a graph a seed, and inputs that reach their extremes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from sqc.ir import Builder, Graph, Quantization, TensorType, Value
from sqc.ops.pooling import tap_counts
from sqc.ops.samples import samples_are_independent
from tests.promise import reals, recurrent
from tests.promise.draws import Draws, Shape

MOST_ELEMENTS = 60_000
"""No tensor is larger."""

FLOAT_TURN = 4
"""One of so many graphs has a float operator, each kind in its turn."""


class Generator:
    """Grows one graph of at least three integer ops. Equal seeds give equal graphs."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draw = Draws(seed)
        self.builder = Builder(f"seed{seed}", dynamic_batch=self.draw.chance(0.15))
        self.batch = 1 if self.builder.dynamic_batch else self.draw.one([1, 1, 1, 2, 3])
        self.images: list[Value] = []
        """NHWC, u8"""
        self.vectors: list[Value] = []
        """[N, C], u8"""
        self.count = 0

    def graph(self) -> Graph:
        """The graph. Every value that no op reads is an output, as u8 or dequantized, and some that are read too."""
        for _ in range(2 if self.draw.chance(0.3) else 1):
            self.enter((self.batch, *self.draw.pixels(), self.draw.channels()))
        makers = [
            self.convolution, self.convolution, self.convolution, self.pointwise, self.pointwise, self.depthwise,
            self.depthwise,
            self.grouped, self.residual, self.residual, self.add, self.add, self.multiply, self.squeeze, self.lookup,
            self.max_pool, self.average_pool, self.average_pool, self.global_pool, self.concat, self.concat, self.pad,
            self.slice, self.transpose, self.reshape, self.flatten, self.dense, self.dense, self.rescale, self.between,
            self.through_float, self.join_vectors, self.normalize, self.softmax, self.gather, self.interpolate,
            self.prelu, self.shuffle, self.signed, self.affine,
            *(partial(maker, self) for maker in (*recurrent.MAKERS, *reals.MAKERS)),
        ]  # fmt: skip
        target = self.draw.whole(2, 4)
        for _ in range(60):
            if self.count >= target and len(self.builder.ops) >= 3:
                break
            self.draw.one(makers)()
        if self.seed % 8 == 3:
            self.attend()
        if self.seed % 8 in (4, 7):
            self.stack()
        if self.seed % FLOAT_TURN == 0:
            kinds = tuple(reals.FLOAT_OPS)
            reals.float_op(self, kinds[self.seed // FLOAT_TURN % len(kinds)])
        read = {operand for op in self.builder.ops for operand in op.operands}
        for i, value in enumerate([*self.images, *self.vectors]):
            if value in read and not self.draw.chance(0.15):
                continue
            if self.draw.chance(0.3):
                value = self.builder.emit("dequantize", [value], name=f"real{i}")
            self.builder.outputs[f"y{i}"] = value
        graph = self.builder.finish()
        return replace(graph, dynamic_batch=samples_are_independent(graph))

    # Pieces --------------------------------------------------------------------------------------------------------

    def enter(self, shape: Shape) -> None:
        """An input: floats, channels first or last, that are quantized, or bytes."""
        name, qparams = f"x{len(self.builder.inputs)}", self.draw.qparams()
        if self.draw.chance(0.1):
            quantization = Quantization.per_tensor(float(qparams["scale"]), int(qparams["zero_point"]))
            self.images.append(self.builder.input(name, TensorType(shape, "uint8", quantization)))
            return
        channels_first = self.draw.chance(0.5)
        n, h, w, c = shape
        x = self.builder.input(name, TensorType((n, c, h, w) if channels_first else shape, "float32"))
        x = self.builder.emit("quantize", [x], qparams, name=f"q_{name}")
        if channels_first:
            x = self.builder.emit("transpose", [x], {"perm": (0, 2, 3, 1)}, name=f"nhwc_{name}")
        self.images.append(x)

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def image(self) -> Value:
        return self.draw.one(self.images)

    def constant(self, array: np.ndarray, stem: str) -> Value:
        return self.builder.constant(array, f"{stem}{self.count}")

    def keep(self, value: Value) -> None:
        """Make a value available to further ops, unless it is too large."""
        if value.type.size <= MOST_ELEMENTS:
            (self.images if value.type.rank == 4 else self.vectors).append(value)
        else:
            self.builder.outputs[f"large_{value.name}"] = value

    def requantize(self, terms: list[Value], spread: float, stem: str, multiplier: Shape | None = None) -> Value:
        """Round terms of which the first is about ``spread``; a lookup may follow.

        ``multiplier`` is the shape of its multipliers, else they are one, or for accumulators one a channel.
        """
        acc, *others = terms
        if multiplier is None:
            multiplier = acc.type.shape[-1:] if acc.type.dtype == "int32" and self.draw.chance(0.8) else ()
        arrays = [self.draw.multipliers(spread, multiplier)]
        for other in others:
            sign = -1 if self.draw.chance(0.1) else 1
            arrays.append(sign * self.draw.multipliers(255.0 if other.type.dtype == "uint8" else spread, ()))
        constants = [self.constant(array, "m") for array in arrays]
        attributes = {**self.draw.qparams(), **self.draw.clamps()}
        value = self.builder.emit("requantize", [*terms, *constants], attributes, name=self.name(stem))
        return self.table(value) if self.draw.chance(0.25) else value

    def finish(self, acc: Value, spread: float, stem: str, multiplier: Shape | None = None) -> None:
        """What becomes of accumulators: a requantize, or now and then floats that leave the graph."""
        if self.draw.chance(0.1):
            shape = acc.type.shape[-1:] if multiplier is None else multiplier
            real = self.constant(self.draw.multipliers(spread, shape), "m")
            self.builder.outputs[f"real_{acc.name}"] = self.builder.emit("dequantize", [acc, real], name=self.name("r"))
        else:
            self.keep(self.requantize([acc], spread, f"{stem}_u8", multiplier))

    def table(self, x: Value) -> Value:
        table = self.constant(self.draw.table(), "table")
        return self.builder.emit("lookup", [x, table], self.draw.qparams(), name=self.name("lookup"))

    def convolve(
        self, x: Value, outputs: int, groups: int, window: dict[str, object], stem: str
    ) -> tuple[Value, float]:
        """The accumulators of a convolution, and about how large they get."""
        kernel = window["kernel"]
        assert isinstance(kernel, tuple)
        shape = (outputs, x.type.shape[-1] // groups, *kernel)
        w, bias, spread = self.draw.weights(shape)
        attributes = {key: value for key, value in window.items() if key != "kernel"}
        operands = [x, self.constant(w, "w"), self.constant(bias, "b")]
        acc = self.builder.emit("qconv2d", operands, {**attributes, "groups": groups}, name=self.name(stem))
        return acc, spread

    # Ops -----------------------------------------------------------------------------------------------------------

    def convolution(self) -> None:
        x = self.image()
        if window := self.draw.window(x, 7 if x.type.shape[3] < 8 else 5):
            self.finish(*self.convolve(x, self.draw.channels(), 1, window, "conv"), "conv")

    def pointwise(self) -> None:
        window = {"kernel": (1, 1), "strides": (self.draw.one([1, 1, 2]),) * 2, "layout": "NHWC"}
        self.finish(*self.convolve(self.image(), self.draw.channels(), 1, window, "pointwise"), "pointwise")

    def depthwise(self) -> None:
        x = self.image()
        if window := self.draw.window(x):
            channels = x.type.shape[-1]
            self.finish(*self.convolve(x, channels, channels, window, "depthwise"), "depthwise")

    def stack(self) -> None:
        """A convolution behind one that computes its input for it alone, whose channels mostly fill vectors."""
        x, channels = self.image(), self.draw.one([self.draw.channels(), 16, 32, 64, 96])
        window: dict[str, object] | None = {"kernel": (1, 1), "layout": "NHWC"}
        if self.draw.chance(0.3):
            window = self.draw.window(x, 3)
        if window is None:
            return
        acc, spread = self.convolve(x, channels, 1, window, "first")
        y = self.requantize([acc], spread, "first_u8")
        if window := self.draw.window(y, 3):
            pads = tuple(max(pad, self.draw.whole(0, 2)) for pad in window["pads"])  # type: ignore[attr-defined]
            depthwise = self.draw.chance(0.5)
            outputs, groups = (channels, channels) if depthwise else (self.draw.channels(), 1)
            self.finish(*self.convolve(y, outputs, groups, {**window, "pads": pads}, "second"), "second")
        else:
            self.keep(y)

    def grouped(self) -> None:
        x = self.image()
        channels = x.type.shape[-1]
        divisors = [g for g in range(2, channels + 1) if channels % g == 0]
        if divisors and (window := self.draw.window(x, 3)):
            groups = self.draw.one(divisors)
            outputs = groups * self.draw.whole(1, max(1, 96 // groups))
            self.finish(*self.convolve(x, outputs, groups, window, "grouped"), "grouped")

    def residual(self) -> None:
        """A convolution, or two, plus another image of the same extent."""
        x, other = self.image(), self.image()
        if x.type.shape[:3] != other.type.shape[:3]:
            return
        kernel, pads = self.draw.one([((3, 3), (1, 1, 1, 1)), ((1, 1), (0, 0, 0, 0)), ((2, 3), (0, 1, 1, 1))])
        window: dict[str, object] = {"kernel": kernel, "pads": pads, "layout": "NHWC"}
        acc, spread = self.convolve(x, other.type.shape[-1], 1, window, "conv")
        terms = [acc, other]
        if self.draw.chance(0.2):
            terms[1], _ = self.convolve(x, other.type.shape[-1], 1, window, "conv")
        elif self.draw.chance(0.2):
            terms = [other, acc]
        self.keep(self.requantize(terms, spread if terms[0] is acc else 255.0, "residual"))

    def add(self) -> None:
        x, other = self.image(), self.image()
        if self.draw.chance(0.15):
            self.keep(self.difference(x))
        elif x.type.shape == other.type.shape:
            others = [other, x] if self.draw.chance(0.2) else [other]
            self.keep(self.requantize([x, *others], 255.0, "add"))

    def difference(self, x: Value) -> Value:
        """Large terms that almost cancel, so that the last bit of each product counts."""
        factor = self.draw.random.uniform(100, 100_000)
        second = factor * self.draw.random.uniform(-1, 1)
        factors = [factor, second, -factor - second + self.draw.random.uniform(-1, 1)]
        constants = [self.constant(np.array(m, np.float32), "m") for m in factors]
        return self.builder.emit("requantize", [x, x, x, *constants], self.draw.qparams(), name=self.name("difference"))

    def rescale(self) -> None:
        self.keep(self.requantize([self.draw.one([*self.images, *self.vectors])], 255.0, "rescale"))

    def between(self) -> None:
        """An addition whose second term is a factor for each channel, or one for all."""
        x = self.image()
        shape = self.draw.one([x.type.shape[-1:], (), (1, *x.type.shape[1:])])
        qparams = self.draw.qparams()
        quantization = Quantization.per_tensor(float(qparams["scale"]), int(qparams["zero_point"]))
        levels = self.draw.random.integers(0, 256, shape).astype(np.uint8)
        other = self.builder.constant(levels, f"levels{self.count}", quantization)
        if self.draw.chance(0.5):
            self.keep(self.requantize([x, other], 255.0, "add_constant"))
        else:
            self.keep(self.product(x, other))

    def multiply(self) -> None:
        x, other = self.image(), self.image()
        if x.type.shape == other.type.shape:
            self.keep(self.product(x, other))

    def affine(self) -> None:
        """A factor and an offset for each channel, as of a batch normalization that stands alone."""
        x = self.image()
        shape = x.type.shape[-1:] if self.draw.chance(0.8) else ()
        factors = self.draw.multipliers(128.0, shape) * self.draw.random.choice([-1, 1], shape).astype(np.float32)
        offset = self.constant(self.draw.random.integers(-(2**20), 2**20, shape).astype(np.int32), "offset")
        operands = [x, offset, self.constant(factors, "m"), self.constant(self.draw.multipliers(2.0**20, ()), "m")]
        attributes = {**self.draw.qparams(), **self.draw.clamps()}
        self.keep(self.builder.emit("requantize", operands, attributes, name=self.name("affine")))

    def squeeze(self) -> None:
        """A factor for each channel of each image, as in squeeze-and-excite."""
        x = self.image()
        operands = [x, self.pooled(x)]
        self.keep(self.product(*(operands if self.draw.chance(0.7) else operands[::-1])))

    def product(self, x: Value, other: Value) -> Value:
        acc = self.builder.emit("qmul", [x, other], name=self.name("mul"))
        return self.requantize([acc], 128.0 * 128.0, "mul_u8", ())

    def lookup(self) -> None:
        self.keep(self.table(self.draw.one([*self.images, *self.vectors])))

    def through_float(self) -> None:
        """To float and back, as where two models meet."""
        real = self.builder.emit("dequantize", [self.image()], name=self.name("float"))
        self.keep(self.builder.emit("quantize", [real], self.draw.qparams(), name=self.name("again")))

    def max_pool(self) -> None:
        x = self.image()
        if window := self.draw.window(x, 7 if self.draw.chance(0.2) else 3):
            self.keep(self.builder.emit("max_pool", [x], window, name=self.name("max_pool")))

    def average_pool(self) -> None:
        """A sum over windows; its multipliers are one, one a channel, or, without the border, one a pixel."""
        x = self.image()
        if window := self.draw.window(x, 7 if self.draw.chance(0.2) else 3):
            acc = self.builder.emit("qsum_pool", [x], window, name=self.name("sum_pool"))
            counts = tap_counts(x.type.shape[1], x.type.shape[2], window)
            by_pixel = self.draw.chance(0.4) and int(counts.min()) > 0
            self.finish(acc, 60.0 * max(1, int(counts.max())), "average", (*counts.shape, 1) if by_pixel else None)

    def pooled(self, x: Value) -> Value:
        acc = self.builder.emit("qreduce_sum", [x], {"axes": (1, 2), "keepdims": True}, name=self.name("sum"))
        return self.requantize([acc], 20.0 * x.type.shape[1] * x.type.shape[2], "mean")

    def global_pool(self) -> None:
        x = self.image()
        if self.draw.chance(0.5):
            self.keep(self.pooled(x))
            return
        axes = self.draw.one([(1, 2), (1, 2), (2, 3), (1, 3)])
        acc = self.builder.emit("qreduce_sum", [x], {"axes": axes, "keepdims": False}, name=self.name("sum"))
        self.finish(acc, 20.0 * x.type.size / acc.type.size, "mean")

    def concat(self) -> None:
        """Images of equal extent joined, each rescaled before or taken as it is."""
        first = self.image()
        axis = self.draw.one([3, 3, 3, 1, 2])
        rest = [i for i in range(4) if i != axis]
        same = [v for v in self.images if [v.type.shape[i] for i in rest] == [first.type.shape[i] for i in rest]]
        parts = [first, *(self.draw.one(same) for _ in range(self.draw.whole(1, 2)))]
        if sum(part.type.shape[-1] for part in parts) <= 300:
            self.keep(self.join(parts, axis))

    def join_vectors(self) -> None:
        if self.vectors:
            self.keep(self.join([self.draw.one(self.vectors) for _ in range(2)], 1))

    def join(self, parts: list[Value], axis: int) -> Value:
        quantization = parts[0].type.quantization
        assert quantization is not None
        qparams = self.draw.qparams()
        if self.draw.chance(0.3):
            qparams = {"scale": quantization.scale[0], "zero_point": quantization.zero_point[0]}
        target = Quantization.per_tensor(float(qparams["scale"]), int(qparams["zero_point"]))
        moved = []
        for part in parts:
            if part.type.quantization != target:
                multiplier = self.constant(self.draw.multipliers(255.0, ()), "m")
                part = self.builder.emit("requantize", [part, multiplier], qparams, name=self.name("aligned"))
            moved.append(part)
        return self.builder.emit("concat", moved, {"axis": axis}, name=self.name("concat"))

    def normalize(self) -> None:
        """Over the pixels of each channel, the channels of each pixel, groups of channels, or the whole image."""
        x = self.image()
        n, h, w, c = x.type.shape
        groups = self.draw.one([g for g in range(1, c + 1) if c % g == 0])
        shape, axes, parameters = self.draw.one([
            ((n, h, w, c), (1, 2), (c,)),
            ((n, h, w, c), (3,), (c,)),
            ((-1, h, w, groups, c // groups), (1, 2, 4), (groups, c // groups)),
            ((n, h, w, c), (1, 2, 3), (h, w, 1)),
        ])  # fmt: skip
        if len(shape) == 5:
            x = self.builder.emit("reshape", [x], {"shape": shape}, name=self.name("split"))
        spread = self.draw.one([3.0, 60.0, 1e5])
        operands = [
            x, *(self.constant(self.draw.random.normal(0, spread, parameters).astype(np.float32), s) for s in "gb")
        ]  # fmt: skip
        epsilon = float(np.float32(10.0 ** self.draw.random.uniform(-30, 8)))
        attributes = {"axes": axes, "epsilon": epsilon, **self.draw.qparams(), **self.draw.clamps()}
        y = self.builder.emit("qnormalize", operands, attributes, name=self.name("normalize"))
        if len(shape) == 5:
            y = self.builder.emit("reshape", [y], {"shape": (-1, h, w, c)}, name=self.name("joined"))
        self.keep(y)

    def softmax(self) -> None:
        x = self.image()
        decay = self.draw.one([1e-4, 0.01, 0.1, 3.0])
        table = self.constant(np.rint(2.0**23 * np.exp(-decay * np.arange(256))).astype(np.int32), "powers")
        attributes = {"axis": self.draw.whole(1, 3), **self.draw.qparams(), **self.draw.clamps(), "scale": 2.0**-8}
        self.keep(self.builder.emit("qsoftmax", [x, table], attributes, name=self.name("softmax")))

    def gather(self) -> None:
        """Some indices lie outside, on either side."""
        x = self.image()
        axis = self.draw.whole(1, 3)
        extent = x.type.shape[axis]
        places = self.draw.random.integers(-extent - 1, extent + 2, self.draw.whole(1, 2 * extent))
        places = places.astype(self.draw.one([np.int32, np.int64]))
        self.keep(
            self.builder.emit("gather", [x, self.constant(places, "places")], {"axis": axis}, name=self.name("gather"))
        )

    def prelu(self) -> None:
        x = self.image()
        shapes = ((), self.draw.one([(), x.type.shape[-1:], x.type.shape[1:]]))
        multipliers = [self.constant(self.draw.multipliers(255.0, shape), "m") for shape in shapes]
        attributes = {**self.draw.qparams(), **self.draw.clamps()}
        self.keep(self.builder.emit("qprelu", [x, *multipliers], attributes, name=self.name("prelu")))

    def interpolate(self) -> None:
        x = self.image()
        axes = self.draw.one([(1,), (2,), (1, 2), (1, 2), (2, 3)])
        taps = self.draw.one([2, 2, 4])
        bits = self.draw.one([1, 2, 3, 20 // len(axes), 20 // len(axes)])
        tables = []
        for axis in axes:
            extent = x.type.shape[axis]
            places = self.draw.random.integers(-1, extent + 1, (self.draw.whole(1, 2 * extent), taps))
            weights = self.draw.random.dirichlet(np.ones(taps), len(places)) * 2.0**bits
            tables += [self.constant(places.astype(np.int32), "places")]
            tables += [self.constant(np.rint(weights).astype(np.int32), "weights")]
        acc = self.builder.emit("qinterpolate", [x, *tables], {"axes": axes}, name=self.name("interpolate"))
        self.finish(acc, 75.0 * 2.0 ** (bits * len(axes)), "interpolate")

    def pad(self) -> None:
        x = self.image()
        channels = self.draw.chance(0.2)
        pads = tuple(self.draw.whole(0, 2) if i % 4 in (1, 2) or (channels and i % 4 == 3) else 0 for i in range(8))
        value = float(x.type.zero_point if self.draw.chance(0.7) else self.draw.whole(0, 255))
        self.keep(self.builder.emit("pad", [x], {"pads": pads, "value": value}, name=self.name("pad")))

    def slice(self) -> None:
        x = self.image()
        axes = self.draw.one([(1,), (2,), (3,), (3,), (1, 2), (2, 3)])
        starts, ends, steps = [], [], []
        for axis in axes:
            extent = x.type.shape[axis]
            starts.append(self.draw.whole(0, extent - 1))
            ends.append(self.draw.whole(starts[-1] + 1, extent))
            steps.append(self.draw.one([1, 1, 2, 3]))
        attributes = {"axes": axes, "starts": tuple(starts), "ends": tuple(ends), "steps": tuple(steps)}
        self.keep(self.builder.emit("slice", [x], attributes, name=self.name("slice")))

    def transpose(self) -> None:
        perm = self.draw.one([(0, 2, 1, 3), (0, 3, 1, 2), (0, 2, 3, 1)])
        self.keep(self.builder.emit("transpose", [self.image()], {"perm": perm}, name=self.name("transpose")))

    def shuffle(self) -> None:
        """Groups of channels exchanged, or channels moved between the pixels, as of a transposed convolution."""
        x = self.image()
        _, h, w, c = x.type.shape
        groups = self.draw.one([g for g in range(1, min(c, 8) + 1) if c % g == 0])
        split, perm, joined = self.draw.one([
            ((-1, h, w, groups, c // groups), (0, 1, 2, 4, 3), (-1, h, w, c)),
            ((-1, h, w, groups, c // groups), (0, 1, 3, 2, 4), (-1, h * groups, w, c // groups)),
            ((-1, h, w, 1, groups, c // groups), (0, 1, 3, 2, 4, 5), (-1, h, w * groups, c // groups)),
        ])  # fmt: skip
        for kind, attributes in (("reshape", {"shape": split}), ("transpose", {"perm": perm})):
            x = self.builder.emit(kind, [x], attributes, name=self.name("shuffle"))
        self.keep(self.builder.emit("reshape", [x], {"shape": joined}, name=self.name("shuffled")))

    def signed(self) -> None:
        """Levels of s8, which leave the graph or come back."""
        x = self.image()
        multiplier = self.constant(self.draw.multipliers(255.0, ()), "m")
        lo, hi = sorted((self.draw.whole(-128, 127), self.draw.whole(-128, 127)))
        attributes = {**self.draw.qparams(), "zero_point": self.draw.whole(-128, 127), "dtype": "int8"}
        y = self.builder.emit("requantize", [x, multiplier], {**attributes, "lo": lo, "hi": hi}, name=self.name("s8"))
        if self.draw.chance(0.5):
            self.builder.outputs[f"signed_{y.name}"] = y
            return
        real = self.builder.emit("dequantize", [y], name=self.name("float"))
        if self.draw.chance(0.3):
            real = self.builder.emit("quantize", [real], attributes, name=self.name("s8"))
            real = self.builder.emit("dequantize", [real], name=self.name("float"))
        self.keep(self.builder.emit("quantize", [real], self.draw.qparams(), name=self.name("again")))

    def reshape(self) -> None:
        """Rows and columns of pixels merged, or channels split off into them."""
        x = self.image()
        _, h, w, c = x.type.shape
        shape = self.draw.one([(-1, 1, h * w, c), (-1, w, h, c), (-1, h, w * c, 1)])
        if max(shape) <= 200:
            self.keep(self.builder.emit("reshape", [x], {"shape": shape}, name=self.name("reshape")))

    def attend(self) -> None:
        """Pixels times pixels, for each image or head of channels, and the result times pixels again."""
        x = self.image()
        _, h, w, c = x.type.shape
        if h * w > 64:
            return
        heads = self.draw.one([count for count in (1, 2, 3, 4) if c % count == 0])
        shape = (-1, h * w, heads, c // heads)
        pixels = self.builder.emit("reshape", [x], {"shape": shape}, name=self.name("heads"))
        by_head = {"perm_a": (0, 2, 1, 3), "perm_b": (0, 2, 3, 1)}
        scores = self.builder.emit("qmatmul", [pixels, pixels], by_head, name=self.name("scores"))
        shares = self.requantize([scores], 128.0**2 * (c // heads) ** 0.5, "shares", ())
        back = {"perm_b": (0, 2, 1, 3), "perm_y": (0, 2, 1, 3)}
        acc = self.builder.emit("qmatmul", [shares, pixels], back, name=self.name("attend"))
        y = self.requantize(
            [acc, pixels] if self.draw.chance(0.5) else [acc], 128.0**2 * (h * w) ** 0.5, "attend_u8", ()
        )
        self.keep(self.builder.emit("reshape", [y], {"shape": (-1, *x.type.shape[1:])}, name=self.name("attended")))

    def flatten(self) -> None:
        x = self.image()
        size = x.type.size // x.type.shape[0]
        if size <= 3000:
            attributes = {"shape": (-1, size)}
            self.keep(self.builder.emit("reshape", [x], attributes, name=self.name("flat")))

    def dense(self) -> None:
        if not self.vectors:
            self.flatten()
        if not self.vectors:
            return
        x = self.draw.one(self.vectors)
        w, bias, spread = self.draw.weights((self.draw.channels(), x.type.shape[1]))
        if int(w.flat[0]) % 4 == 0:  # four bits; no draw of its own, so that a seed's other draws stay as they are
            w, spread = w >> 4, spread / 16
        operands = [x, self.constant(w, "w"), self.constant(bias, "b")]
        acc = self.builder.emit("qfully_connected", operands, name=self.name("dense"))
        same = [v for v in self.vectors if v.type.shape == acc.type.shape]
        if same:
            self.keep(self.requantize([acc, same[0]], spread, "dense_residual"))
        else:
            self.finish(acc, spread, "dense")


def inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Inputs for a generated graph: ordinary numbers, values on rounding ties, huge ones, infinities and NaN."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        levels = random.integers(0, 256, value.type.shape)
        if value.type.dtype == "uint8":
            arrays[value.name] = levels.astype(np.uint8)
            continue
        quantized = next((op for op in graph.ops if value in op.operands and op.kind == "quantize"), None)
        scale, zero_point = (1.0, 0)
        if quantized is not None:
            scale, zero_point = quantized.number("scale"), quantized.integer("zero_point")
        halves = random.choice([0.0, 0.0, 0.5, -0.5], value.type.shape)
        x = ((levels - zero_point + halves) * scale).astype(np.float32)
        special = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0], np.float32)
        x = np.where(random.random(x.shape) < 0.02, random.choice(special, x.shape), x)
        arrays[value.name] = x.astype(np.float32)
    return arrays


def generate(seed: int) -> Graph:
    """The graph of a seed."""
    return Generator(seed).graph()
