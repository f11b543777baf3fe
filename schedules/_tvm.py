"""The only module that imports TVM: names that change from release to release, lowering, and object code.

Kernels are written as ``te.compute`` and scheduled with ``Schedule``; :func:`compile_object` turns the scheduled
function into one relocatable object whose single entry takes raw pointers:

    int __tvm_ffi_<symbol>(void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tvm
import tvm_ffi
from tvm import s_tir, sym, te, tirx
from tvm.s_tir import Schedule, TensorIntrin
from tvm.script import tirx as T

from sqc.schedules.target import Target

__all__ = [
    "Block",
    "Call",
    "Expr",
    "Function",
    "Load",
    "Schedule",
    "T",
    "Tensor",
    "TensorIntrin",
    "assembly",
    "changed_block",
    "changed_loop",
    "collect",
    "compile_object",
    "fence",
    "fma",
    "function",
    "jit",
    "loops_from_zero",
    "mutate",
    "prefetch",
    "prefetch_frame",
    "region",
    "register_intrinsic",
    "rewrite_innermost",
    "rewrite_nodes",
    "rounded",
    "same",
    "simplified",
    "start_from_terms",
    "start_sums",
    "substitute",
    "te",
    "tell_accesses",
    "tirx",
    "versions",
]

Expr: TypeAlias = Any
"""A scalar expression inside ``te.compute``."""
Tensor: TypeAlias = Any
"""A ``te`` tensor."""
Function: TypeAlias = Any
"""A scheduled TensorIR function."""


Load: type[Any] = tvm.ir.TensorLoad
Call: type[Any] = tvm.ir.Call
"""Reads of buffers, and calls, in a lowered body."""

Block: type[Any] = s_tir.SBlock
"""A block of a scheduled function."""

PANEL_BYTES = "sqc.panel_bytes"
"""The attribute of a function that tells how far the weights of the next tile lie from those of a tile."""

STREAM_BYTES = "sqc.stream_bytes"
"""The attribute of a function whose tasks read weights once, that tells how far ahead to ask for them."""

SHARED_PANEL_BYTES = "sqc.shared_panel_bytes"
"""The same where so many tiles share their weights that each asks for some of the next ones before it starts."""

TASK_BLOCKS = "sqc.task_blocks"
"""The attribute of a function that tells how many tasks in a row have different rows and the same channels."""

ANNOUNCE_LOOP = "sqc_announce_loop"
"""A function of the host that gets the iterations of every parallel loop before it starts, which TVM doesn't tell."""

# Where LLVM unrolls a reduction completely it goes on to reassociate the sums, and runs out of registers. Of the
# addresses of several rows it makes a vector, which inner loops take apart again, on the ports of dot products.
_LLVM_OPTIONS = ("-unroll-threshold-aggressive:uint=40", "-vectorize-slp:bool=0")


def versions() -> dict[str, str]:
    """The versions of TVM, tvm-ffi and LLVM, as recorded in every library."""
    llvm = tvm.target.codegen.llvm_version_major()
    return {"tvm": str(tvm.__version__), "tvm-ffi": str(tvm_ffi.__version__), "llvm": str(llvm)}


def fence(value: Expr) -> Expr:
    """A float32 value that LLVM must round as written: it is neither reassociated nor contracted into an FMA."""
    return tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", value)


def rounded(value: Expr) -> Expr:
    """A float32 value as the s32 nearest to it, ties to even; on x86 what s32 cannot hold becomes the least s32."""
    return tirx.call_llvm_pure_intrin("int32", "llvm.lrint", value)


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    """``a * b + c`` of float32 values, rounded once."""
    return tirx.call_llvm_pure_intrin("float32", "llvm.fma", a, b, c)


def loops_from_zero(schedule: Schedule) -> Schedule:
    """The same program after ``loop_partition``: loops start at 0 and variables are defined once, as schedules need."""
    return Schedule(s_tir.transform.CanonicalizeLoop()(tirx.transform.ConvertSSA()(schedule.mod)))


def tell_accesses(schedule: Schedule, block: str) -> None:
    """Let a block that stores one element tell what it reads and writes, where ``loop_partition`` told too much."""
    node = schedule.get(schedule.get_sblock(block))

    def element(buffer: Any, index: Any) -> Any:
        return tirx.BufferRegion(buffer, [tvm.ir.Range(i, i + 1) for i in index])

    reads = [element(load.source, load.indices) for load in collect(node.body, Load)]
    writes = [element(node.body.buffer, node.body.indices)]
    changed = changed_block(node, reads=reads, writes=writes)
    schedule.state.replace(schedule.get_sref(schedule.get_sblock(block)), changed, {node: changed})


def function(arguments: Sequence[Tensor]) -> Function:
    """The unscheduled function that computes the last of ``arguments`` from the others."""
    return te.create_prim_func(list(arguments))


def start_sums(func: Function, block: str, parameter: str) -> Function:
    """The same unscheduled function, whose reduction ``block`` starts from a parameter instead of from 0.

    The parameter has one axis, the last one of the block's result. (``te.sum`` takes ``init`` and ignores it.)
    """
    start = next(buffer for buffer in func.params if buffer.name == parameter)

    def rewrite(node: Any, mutator: Any) -> Any:
        if node.name_hint != block:
            return mutator.default_mutate(node)
        result, index = node.init.buffer, node.init.indices
        return changed_block(node, init=tirx.BufferStore(result, tirx.BufferLoad(start, [index[-1]]), index))

    return func.with_body(tvm_ffi.structural_mutate(func.body, (Block, rewrite)))


def changed_block(node: Any, **changes: Any) -> Any:
    """A block of a scheduled function with some of its fields changed."""
    fields = [
        "iter_vars",
        "reads",
        "writes",
        "name_hint",
        "body",
        "init",
        "alloc_buffers",
        "match_buffers",
        "annotations",
    ]
    return Block(*(changes.get(field, getattr(node, field)) for field in fields))


def changed_loop(loop: Any, body: Any) -> Any:
    """A loop with another body."""
    parts = loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding
    return tirx.stmt.For(*parts, loop.annotations, loop.step)


def hide_reads(func: Function, block: str, parameter: str) -> Function:
    """The same unscheduled function, whose ``block`` doesn't tell that it reads a parameter.

    Nothing writes that, so no schedule depends on it; and intrinsics match blocks whose addresses are read from it.
    """

    def rewrite(node: Any, mutator: Any) -> Any:
        if node.name_hint != block:
            return mutator.default_mutate(node)
        return changed_block(node, reads=[region for region in node.reads if region.source.name != parameter])

    return func.with_body(tvm_ffi.structural_mutate(func.body, (Block, rewrite)))


def start_from_terms(schedule: Schedule, block: str) -> None:
    """Let the reduction ``block`` start from terms of its own instead of from 0.

    It is declared as ``te.sum(product + start)``, though the terms of ``start``, which don't depend on the reduction's
    axes, are added once. Blocks that they read have to be in their places before. (``te.sum`` ignores its ``init``.)
    """
    node = schedule.get(schedule.get_sblock(block))
    total, index = node.body.buffer, node.body.indices
    reduced = [axis.var for axis in node.iter_vars if axis.iter_type == tirx.IterVar.CommReduce]
    each: list[Expr] = []
    start: list[Expr] = []
    for term in _summands(node.body.value)[1:]:
        varies = any(variable.same_as(other) for variable in collect(term, tirx.Var) for other in reduced)
        (each if varies else start).append(term)
    init = tirx.BufferStore(total, sum(start[1:], start[0]), index)
    body = tirx.BufferStore(total, tirx.BufferLoad(total, index) + sum(each[1:], each[0]), index)
    read = [load.source for load in collect(body, Load)]
    reads = [region for region in node.reads if any(region.source.same_as(buffer) for buffer in read)]
    changed = changed_block(node, reads=reads, body=body, init=init)
    schedule.state.replace(schedule.get_sref(schedule.get_sblock(block)), changed, {node: changed})


def _summands(value: Expr) -> list[Expr]:
    return [*_summands(value.a), *_summands(value.b)] if isinstance(value, tirx.Add) else [value]


def register_intrinsic(name: str, description: Function, implementation: Function) -> str:
    """Make an intrinsic known to ``Schedule.tensorize`` under ``name``; returns the name."""
    TensorIntrin.register(name, description, implementation, override=True)
    return name


def compile_object(scheduled: Function, symbol: str, target: Target, *, tensors: bool = False) -> bytes:
    """The relocatable object of a kernel. Its bytes depend on the arguments alone.

    With ``tensors`` its arguments are TVM's tensors instead of raw pointers: what TVM's RPC can call.

    It refers to ``ANNOUNCE_LOOP`` and the data symbol ``__TVMBackendParallelLaunch`` (if a loop is parallel) and to
    ``__TVMBackendAllocWorkspace``/``FreeWorkspace`` (if it has large scratch buffers), which the host fills.
    """
    library = _library(scheduled, symbol, target, tensors=tensors, announce=not tensors)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        library.write_to_file(str(path), "o")
        return path.read_bytes()


def assembly(scheduled: Function, target: Target, symbol: str = "kernel") -> str:
    """The assembly text of a kernel."""
    return str(_library(scheduled, symbol, target).inspect_source("asm"))


def jit(scheduled: Function, target: Target) -> Callable[..., None]:
    """A callable that runs the kernel in this process on contiguous numpy arrays, one an argument."""
    import ctypes

    kernel = _library(scheduled, "kernel", target)["kernel"]

    def run(*arrays: np.ndarray) -> None:
        assert all(array.flags.c_contiguous for array in arrays)
        kernel(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))

    return run


def _library(scheduled: Function, symbol: str, target: Target, *, tensors: bool = False, announce: bool = False) -> Any:
    host = {"kind": "llvm", "mcpu": target.mcpu, "mattr": list(target.attributes), "cl-opt": list(_LLVM_OPTIONS)}
    tvm_target = tvm.target.Target(host, host=host)
    raw = (scheduled if tensors else _take_pointers(scheduled)).with_attr("global_symbol", symbol)
    wide = "avx512bw" in target.cpu_features
    passes = _passes(tvm_target, vbmi=target.permutes_bytes, wide=wide, announce=announce)
    lowered = tvm.ir.transform.Sequential(passes)(tvm.IRModule({symbol: raw}))
    return tvm.get_global_func("target.build.llvm")(lowered, tvm_target)


@tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
def _announce_loops(func: Function, _module: Any, _context: Any) -> Function:
    blocks = tirx.const(int(func.attrs.get(TASK_BLOCKS, 1)), "int32")

    def announce(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        call = tirx.call_extern("int32", ANNOUNCE_LOOP, loop.extent, blocks)
        return tirx.stmt.SeqStmt([tirx.Evaluate(call), loop])

    return func.with_body(rewrite_nodes(func.body, tirx.stmt.For, announce))


def _take_pointers(scheduled: Function) -> Function:
    """The same function with every buffer parameter replaced by a raw pointer and a declaration of the buffer."""
    pointers, declarations = [], []
    for buffer in scheduled.params:
        pointer = tirx.Var(buffer.name, tvm.ir.PointerType(buffer.ty.dtype, "global"))
        pointers.append(pointer)
        declarations.append(tirx.stmt.DeclBuffer(buffer, data=pointer))
    body = tirx.stmt.SeqStmt([*declarations, scheduled.body])
    return tirx.PrimFunc(pointers, body, scheduled.ret_type, scheduled.attrs)


@tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
def _on_the_host(func: Function, _module: Any, _context: Any) -> Function:
    # With tensor arguments MakePackedAPI states the device; with raw pointers nobody does, and workspaces need it.
    body = tvm_ffi.structural_mutate(func.body, (tirx.AllocBuffer, _on_the_stack))
    body = tirx.AttrStmt(tvm.ir.StringImm("default"), "device_type", tvm.cpu().dlpack_device_type(), body)
    return func.with_body(tirx.AttrStmt(tvm.ir.StringImm("default"), "device_id", 0, body))


def _on_the_stack(allocation: Any, _mutator: Any) -> Any:
    # What is local stays on the stack, where registers can take its place; otherwise it becomes a heap workspace.
    if allocation.buffer.scope() != "local":
        return allocation
    return tirx.AllocBuffer(allocation.buffer, {"disable_lower_builtin": tirx.const(1, "int32")})


def mutate(body: Any, *callbacks: tuple[Any, Callable[[Any, Any], Any]]) -> Any:
    """A lowered body with every node of a kind replaced by what its ``callback(node, mutator)`` makes of it."""
    return tvm_ffi.structural_mutate(body, callbacks)


def region(buffer: Any) -> Any:
    """All of a buffer, as blocks tell what they write."""
    return tirx.BufferRegion(buffer, [tvm.ir.Range(0, extent) for extent in buffer.shape])


def rewrite_nodes(body: Any, kind: Any, rewrite: Callable[[Any], Any]) -> Any:
    """A lowered body with every node of a kind, its parts first, replaced by what ``rewrite`` makes of it."""

    def visit(node: Any, mutator: Any) -> Any:
        return rewrite(mutator.default_mutate(node))

    return tvm_ffi.structural_mutate(body, (kind, visit))


def rewrite_innermost(body: Any, rewrite: Callable[[Any, Sequence[Any]], Any]) -> Any:
    """A lowered body with the body of every loop that holds no other replaced by what ``rewrite`` makes of it.

    ``rewrite`` also gets the loops around it, the innermost last.
    """
    around: list[Any] = []

    def visit(loop: Any, mutator: Any) -> Any:
        around.append(loop)
        if collect(loop.body, tirx.stmt.For):
            changed = mutator.default_mutate(loop)
        else:
            changed = changed_loop(loop, rewrite(loop.body, around))
        around.pop()
        return changed

    return tvm_ffi.structural_mutate(body, (tirx.stmt.For, visit))


def substitute(value: Expr, values: Mapping[Any, Expr]) -> Expr:
    """An expression with variables replaced."""

    def replaced(variable: Any, _mutator: Any) -> Any:
        return next((new for old, new in values.items() if variable.same_as(old)), variable)

    return mutate(value, (tirx.Var, replaced))


def collect(body: Any, kind: Any) -> list[Any]:
    """All parts of a lowered body that are of a kind."""
    found: list[Any] = []
    tvm_ffi.structural_walk(body, (kind, found.append))
    return found


def prefetch(buffer: Any, index: Any, cache: int = 2) -> Any:
    """A statement that asks for a line of a flat buffer, at an index that may lie beyond its end."""
    return _prefetch(tirx.address_of(tirx.BufferLoad(buffer, [index])), cache)


def prefetch_frame() -> Any:
    """A statement that asks for the frame of the function that it is in."""
    return _prefetch(tirx.call_llvm_pure_intrin("handle", "llvm.frameaddress", tirx.const(0, "int32")))


def _prefetch(address: Any, cache: int = 2) -> Any:
    read, locality, data = (tirx.const(value, "int32") for value in (0, 4 - cache, 1))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, read, locality, data))


def simplified(value: Expr) -> Expr:
    """An expression in its simplest form."""
    return sym.Analyzer().simplify(value)


def same(a: Any, b: Any) -> bool:
    """Whether two expressions, or Nones, are equal in structure."""
    return bool(tvm_ffi.structural_equal(a, b)) if a is not None and b is not None else a is b


def _shuffle_table_reads(vbmi: bool) -> Any:
    def apply(func: Function, _module: Any, _context: Any) -> Function:
        from sqc.schedules.intrinsics.tables import shuffle_table_reads

        return func.with_body(shuffle_table_reads(func.body, vbmi=vbmi))

    return tirx.transform.prim_func_pass(apply, opt_level=0)


@tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
def _vectorize_tails(func: Function, _module: Any, _context: Any) -> Function:
    from sqc.schedules.intrinsics.tails import vectorize_tails

    return func.with_body(vectorize_tails(func.body))


@tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
def _pack_saturating(func: Function, _module: Any, _context: Any) -> Function:
    from sqc.schedules.intrinsics.packs import pack_saturating

    return func.with_body(pack_saturating(func.body))


@tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
def _prefetch_panels(func: Function, _module: Any, _context: Any) -> Function:
    from sqc.schedules.intrinsics.prefetch import prefetch_panels, prefetch_shares, prefetch_stream

    steps = {PANEL_BYTES: prefetch_panels, STREAM_BYTES: prefetch_stream, SHARED_PANEL_BYTES: prefetch_shares}
    for attribute, ask in steps.items():
        if distance := func.attrs.get(attribute):
            func = func.with_body(ask(func.body, int(distance)))
    return func


@tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
def _align_stack(func: Function, _module: Any, _context: Any) -> Function:
    from sqc.schedules.intrinsics.stack import align_stack

    # Kernels that ask for weights spill next to nothing, and need all registers for addresses.
    return func.with_body(align_stack(func.body, frames=not {PANEL_BYTES, STREAM_BYTES} & set(func.attrs.keys())))


def _passes(target: Any, *, vbmi: bool, wide: bool, announce: bool) -> list[Any]:
    """TVM's own lowering for a CPU, without the passes for other devices and without argument checks."""
    blocks, plain = s_tir.transform, tirx.transform
    return [
        plain.BindTarget(target),
        blocks.CanonicalizeLoop(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        blocks.CompactBufferAllocation(),
        blocks.LowerMatchBuffer(),
        blocks.StmtSimplify(),
        blocks.LowerOpaqueBlock(),
        plain.FlattenBuffer(),
        plain.NarrowDataType(32),
        blocks.LoopPartition(),
        _vectorize_tails,
        plain.VectorizeLoop(True),
        plain.StorageRewrite(),
        plain.UnrollLoop(),
        blocks.RenormalizeSplitPattern(),
        plain.StmtSimplify(),
        plain.RemoveNoOp(),
        blocks.RewriteUnsafeSelect(),
        *([_pack_saturating] if wide else []),
        _shuffle_table_reads(vbmi),
        _prefetch_panels,
        _align_stack,
        *([_announce_loops] if announce else []),
        plain.CommonSubexprElim(),
        plain.MakePackedAPI(),
        plain.SkipAssert(),
        _on_the_host,
        plain.LowerTVMBuiltin(),
        plain.LowerIntrin(),
    ]
