"""The compiler as lists of passes, and the runner. The lists are the order in which things happen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from sqc.calibration.ranges import DEFAULT_SEARCH
from sqc.calibration.settings import RangesLike
from sqc.errors import CompileError, GraphError
from sqc.ir import Graph
from sqc.ir import verify as verify_graph
from sqc.passes.absorb_pad import AbsorbPad
from sqc.passes.base import Notes, Pass
from sqc.passes.canonicalize import Canonicalize
from sqc.passes.contract_types import ContractTypes
from sqc.passes.dead_code import DeadCode
from sqc.passes.eliminate_pairs import EliminatePairs
from sqc.passes.equalize import Equalize
from sqc.passes.fold_batch_norm import FoldBatchNorm
from sqc.passes.fold_constants import FoldConstants
from sqc.passes.fold_qparams import FoldQparams
from sqc.passes.fuse_requantize import FuseRequantize
from sqc.passes.insert_quantization import InsertQuantization
from sqc.passes.layout_nhwc import LayoutNhwc
from sqc.passes.pad_at_producer import PadAtProducer
from sqc.passes.pad_channels import PadChannels
from sqc.passes.quantize_dynamically import QuantizeDynamically
from sqc.passes.quantize_weights import QuantizeWeights, RoundedLayer
from sqc.passes.requantize_concat import RequantizeConcat
from sqc.passes.scale_inputs import ScaleInputs
from sqc.passes.smooth import Smooth
from sqc.passes.split_outliers import SplitOutliers
from sqc.passes.store_weights import StoreWeights
from sqc.passes.unfold_qparams import UnfoldQparams
from sqc.passes.unroll_recurrent import UnrollRecurrent

FLOAT: tuple[Pass, ...] = (
    FoldConstants(),
    Canonicalize(),
    FoldBatchNorm(),
    LayoutNhwc(),
    AbsorbPad(),
    FoldConstants(),
    Canonicalize(),
    DeadCode(),
)
"""From the graph as imported to the float graph that is calibrated and quantized."""


def quantization(
    qparams: Mapping[str, tuple[float, int]],
    exclude: Collection[str] = frozenset(),
    ranges: RangesLike = DEFAULT_SEARCH,
    rounded: Mapping[str, RoundedLayer] = MappingProxyType({}),
) -> tuple[Pass, ...]:
    """From the float graph to the integer graph, in which no bit changes any more.

    ``qparams`` maps names of values (:func:`sqc.passes.observed_values`) to scale and zero point; nodes whose source is
    in ``exclude`` stay in float. ``ranges`` give the bits of values, and how weights are quantized.
    ``rounded`` holds layers whose weights are rounded already (:func:`sqc.refine.refine_layers`).
    """
    return (*rounding(qparams, exclude, ranges), *integer(exclude, ranges, rounded))


def rounding(
    qparams: Mapping[str, tuple[float, int]],
    exclude: Collection[str] = frozenset(),
    ranges: RangesLike = DEFAULT_SEARCH,
) -> tuple[Pass, ...]:
    """The first part of :func:`quantization`: activations are rounded, and all is computed in float still."""
    return (InsertQuantization(qparams, exclude, ranges), RequantizeConcat())


def integer(
    exclude: Collection[str] = frozenset(),
    ranges: RangesLike = DEFAULT_SEARCH,
    rounded: Mapping[str, RoundedLayer] = MappingProxyType({}),
) -> tuple[Pass, ...]:
    """The second part of :func:`quantization`: weights are rounded, and integers take over."""
    return (
        QuantizeWeights(exclude, ranges, rounded),
        *_INTEGERS,
    )


_INTEGERS: tuple[Pass, ...] = (FoldQparams(), FoldConstants(integers=True), EliminatePairs(), DeadCode())

STORED: tuple[Pass, ...] = (ContractTypes(), RequantizeConcat(keep_rounding=True), EliminatePairs(), *_INTEGERS)
"""The same from a float graph that rounds already, as its model does, perhaps behind what moves its results."""

EXPORT: tuple[Pass, ...] = (UnfoldQparams(), LayoutNhwc("NCHW"), FoldConstants(), Canonicalize(), DeadCode())
"""From the integer graph to a float graph that rounds, as ONNX has it."""


def dynamic_quantization(exclude: Collection[str] = frozenset(), *, per_row: bool = True) -> tuple[Pass, ...]:
    """From the float graph to one whose convolutions and fully connected layers quantize their inputs at run time."""
    return (QuantizeDynamically(exclude, per_row), FoldConstants(), DeadCode())


def stored_weights(storage: str, exclude: Collection[str] = frozenset()) -> tuple[Pass, ...]:
    """From the float graph to one whose fully connected layers keep their weights in fewer bits."""
    return (StoreWeights(storage, exclude), DeadCode())


UNROLLING: tuple[Pass, ...] = (UnrollRecurrent(),)
"""From ops over whole sequences to their steps, whose work can be counted."""

FUSION: tuple[Pass, ...] = (
    *UNROLLING,
    PadChannels(),
    PadAtProducer(),
    FuseRequantize(),
)
"""From the integer graph to the ops that become kernels."""

PASSES: dict[str, Pass] = {
    step.name: step
    for step in (
        FoldConstants(),
        Canonicalize(),
        FoldBatchNorm(),
        AbsorbPad(),
        LayoutNhwc(),
        Equalize(),
        Smooth(),
        ScaleInputs(),
        SplitOutliers(),
        InsertQuantization(),
        QuantizeWeights(),
        QuantizeDynamically(),
        StoreWeights(),
        ContractTypes(),
        RequantizeConcat(),
        FoldQparams(),
        UnfoldQparams(),
        EliminatePairs(),
        UnrollRecurrent(),
        PadChannels(),
        PadAtProducer(),
        FuseRequantize(),
        DeadCode(),
    )
}
"""Every pass by name, with default options."""


def select(names: Sequence[str]) -> tuple[Pass, ...]:
    """The passes of these names, in this order. Raises CompileError that lists all unknown and all known names."""
    unknown = [name for name in names if name not in PASSES]
    if unknown:
        raise CompileError(f"unknown passes: {', '.join(unknown)}; known: {', '.join(sorted(PASSES))}")
    return tuple(PASSES[name] for name in names)


def run(
    passes: Iterable[Pass],
    graph: Graph,
    notes: Notes | None = None,
    *,
    verify: bool = True,
    after: Callable[[Pass, Graph], None] | None = None,
) -> Graph:
    """Apply ``passes`` in order and return the last graph.

    ``after`` is called with each pass and its result. With ``verify``, every result is checked; a GraphError then
    names the pass and the op that it broke.
    """
    notes = Notes() if notes is None else notes
    for step in passes:
        try:
            graph = step.apply(graph, notes)
            if verify:
                verify_graph(graph)
        except GraphError as error:
            raise GraphError(f"pass {step.name} broke the graph: {error}") from error
        if after is not None:
            after(step, graph)
    return graph
