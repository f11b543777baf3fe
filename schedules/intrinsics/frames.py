"""What dot product intrinsics have in common: what they compute, and the loops over their sums."""

from __future__ import annotations

from collections.abc import Callable

from sqc.schedules._tvm import Expr, Function, T, register_intrinsic


def register_dot(
    name: str, scope: str, lanes: int, depth: int, element: str, total: Callable[[Expr, Expr, Expr], Expr]
) -> str:
    """Register the dot product of ``depth`` activations in ``scope`` with s8 weights ``[16][depth]``; returns its name.

    ``total(sums, activations, weights)`` is what ``lanes`` of the sixteen sums become: vectors of s32, of ``depth``
    activations that repeat, and of the weights. The activations fill 32 bits.
    """
    sums, activations = f"int32x{lanes}", f"{element}x{lanes * depth}"
    few, weights = f"{element}x{depth}", f"int8x{lanes * depth}"

    # LLVM 22 takes bytes as bytes; intrinsics that TVM brings still pass them as <16 x i32>.
    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (depth,), element, offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, depth), "int8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:depth], B[0:16, 0:depth])
            T.writes(C[0:16])
            for part in T.unroll(16 // lanes):
                C[T.ramp(part * lanes, 1, lanes)] = total(
                    C.vload([part * lanes], sums),
                    T.reinterpret(activations, T.broadcast(T.reinterpret("int32", A.vload([0], few)), lanes)),
                    B.vload([part * lanes, 0], weights),
                )

    return register_intrinsic(f"sqc.dot.{name}.{lanes}.{scope}", describe(scope, depth, element), implementation)


def register_packed_dot(name: str, scope: str, lanes: int, total: Callable[[Expr, Expr, Expr], Expr]) -> str:
    """Register the dot product of eight u8 activations in ``scope`` with packed weights; returns its name.

    Bytes ``[16][4]`` hold weights of four bits, plus 8: the low halves those of the first four activations, the high
    halves those of the others. ``total`` is that of :func:`register_dot` for four activations.
    """
    sums, activations, bytes = f"int32x{lanes}", f"uint8x{lanes * 4}", lanes * 4

    def weights(halves: Expr) -> Expr:
        return T.reinterpret(f"int8x{bytes}", halves) - T.broadcast(T.int8(8), bytes)

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (8,), "uint8", offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, 4), "uint8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:8], B[0:16, 0:4])
            T.writes(C[0:16])
            for i, h, k in T.grid(16, 2, 4):
                with T.sblock("update"):
                    vi, vh, vk = T.axis.remap("SRR", [i, h, k])
                    C[vi] = C[vi] + T.Cast("int32", A[vh * 4 + vk]) * (
                        T.bitwise_and(T.shift_right(T.Cast("int32", B[vi, vk]), vh * 4), 15) - 8
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (8,), "uint8", offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, 4), "uint8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:8], B[0:16, 0:4])
            T.writes(C[0:16])
            for part in T.unroll(16 // lanes):
                C[T.ramp(part * lanes, 1, lanes)] = total(
                    total(
                        C.vload([part * lanes], sums),
                        T.reinterpret(activations, T.broadcast(T.reinterpret("int32", A.vload([0], "uint8x4")), lanes)),
                        weights(
                            T.bitwise_and(B.vload([part * lanes, 0], f"uint8x{bytes}"), T.broadcast(T.uint8(15), bytes))
                        ),
                    ),
                    T.reinterpret(activations, T.broadcast(T.reinterpret("int32", A.vload([4], "uint8x4")), lanes)),
                    weights(
                        T.shift_right(B.vload([part * lanes, 0], f"uint8x{bytes}"), T.broadcast(T.uint8(4), bytes))
                    ),
                )

    return register_intrinsic(f"sqc.packed_dot.{name}.{lanes}.{scope}", description, implementation)


def describe(scope: str, depth: int, element: str) -> Function:
    """What the dot product of ``depth`` activations in ``scope`` with s8 weights ``[16][depth]`` computes."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (depth,), element, offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, depth), "int8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:depth], B[0:16, 0:depth])
            T.writes(C[0:16])
            for i, k in T.grid(16, depth):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.Cast("int32", A[vk]) * T.Cast("int32", B[vi, vk])

    return description


def describe_column(height: int, step: int, padded: int, lanes: int, element: str, scope: str) -> Function:
    """What a column of a depthwise convolution computes; see ``register_column``."""
    span = (height - 1) * step + 1

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(
            a, (span, 1, lanes), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope
        )
        B = T.match_buffer(b, (lanes, height), element, offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (lanes,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:span, 0:1, 0:lanes], B[0:lanes, 0:height])
            T.writes(C[0:lanes])
            for i, k in T.grid(lanes, height):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.Cast("int32", A[vk * step, 0, vi]) * T.Cast("int32", B[vi, vk])

    return description


def interleaved_channel(position: Expr, lanes: int) -> Expr:
    """The channel, of ``4 * lanes``, whose sum stands at ``position`` after :func:`register_columns`.

    Unpacking works within 128 bits, so each of the four vectors of sums has four neighbouring channels of every
    sixteen. Packing the vectors puts them in order again: see :mod:`sqc.schedules.intrinsics.group_pack`.
    """
    return position % lanes // 4 * 16 + position // lanes * 4 + position % 4


def interleaved_position(channel: Expr, lanes: int) -> Expr:
    """Where the sum of a channel stands: the inverse of :func:`interleaved_channel`."""
    return channel % 16 // 4 * lanes + channel // 16 * 4 + channel % 4


def register_columns(
    name: str, height: int, step: int, scope: str, lanes: int, total: Callable[[Expr, Expr, Expr], Expr]
) -> str:
    """Register a column of a depthwise convolution over ``4 * lanes`` channels; returns its name.

    Accumulators gain ``height`` vertical neighbours, ``step`` rows apart, of as many u8 channels in ``scope`` times s8
    weights, whose memory holds ``[4][height/4][lanes][4]``, filled up with zeros. Sums and weights are in the order of
    :func:`interleaved_channel`: four rows are interleaved by unpacking bytes and then pairs of them. ``total`` is that
    of :func:`register_dot` for four activations.
    """
    group = 4 * lanes
    span, padded = (height - 1) * step + 1, -(-height // 4) * 4
    channels, sums, weights = f"uint8x{group}", f"int32x{lanes}", f"int8x{group}"

    def unpacked(a: Expr, b: Expr, *, unit: int, high: bool) -> Expr:
        """The units of ``unit`` bytes in the low or high half of every 128 bits of ``a`` and ``b``, in turns."""
        firsts = [start + (8 if high else 0) + at for start in range(0, group, 16) for at in range(0, 8, unit)]
        return T.Shuffle([a, b], [first + byte for at in firsts for first in (at, group + at) for byte in range(unit)])

    def product(vector: int, a: Expr, b: Expr, c: Expr, four: Expr) -> Expr:
        """What a vector of sums becomes with four more rows."""
        # In the place of those beyond the last comes the first: LLVM would make dearer shuffles for the last again.
        start = four * 4
        seen = [start, *(T.Select(start + row < height, start + row, start) for row in (1, 2, 3))]
        rows = [a.vload([row * step, 0, 0], channels) for row in seen]
        first, second = (unpacked(*pair, unit=1, high=vector >= 2) for pair in (rows[:2], rows[2:]))
        activations = unpacked(first, second, unit=2, high=vector % 2 == 1)
        return total(c.vload([vector * lanes], sums), activations, b.vload([vector * lanes, four * group], weights))

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(
            a, (span, 1, group), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope
        )
        B = T.match_buffer(b, (group, height), "int8", offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (group,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:group], A[0:span, 0:1, 0:group], B[0:group, 0:height])
            T.writes(C[0:group])
            for i, k in T.grid(group, height):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.Cast("int32", A[vk * step, 0, interleaved_channel(vi, lanes)]) * T.Cast(
                        "int32", B[vi, vk]
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(
            a, (span, 1, group), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope
        )
        B = T.match_buffer(b, (group, height), "int8", offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (group,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:group], A[0:span, 0:1, 0:group], B[0:group, 0:height])
            T.writes(C[0:group])
            for four in T.unroll(padded // 4):
                C[T.ramp(0, 1, lanes)] = product(0, A, B, C, four)
                C[T.ramp(lanes, 1, lanes)] = product(1, A, B, C, four)
                C[T.ramp(2 * lanes, 1, lanes)] = product(2, A, B, C, four)
                C[T.ramp(3 * lanes, 1, lanes)] = product(3, A, B, C, four)

    return register_intrinsic(f"sqc.columns.{name}.{lanes}.{height}.{step}.{scope}", description, implementation)
