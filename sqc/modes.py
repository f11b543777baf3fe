"""What is quantized, and when activations get their scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from sqc.errors import CompileError

if TYPE_CHECKING:
    from sqc.passes.base import Pass

Mode: TypeAlias = Literal["static", "dynamic", "dynamic-tensor", "weights-int8", "weights-int4", "weights-float16"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""Static scales come from a calibration.

``dynamic`` finds scales at run time for each row of the input of a fully connected layer and each sample of a
convolution's, ``dynamic-tensor`` for the input as a whole; all other ops stay in float. ``weights-int8``,
``weights-int4`` and ``weights-float16`` store the weights of fully connected layers so, and compute in float.
"""


def passes_of(mode: Mode, exclude: frozenset[str]) -> tuple[Pass, ...]:
    """The passes of a mode that needs no calibration, behind those of the float graph. Raises CompileError."""
    from sqc.passes import pipeline

    if mode not in MODES:
        raise CompileError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    if mode.startswith("weights-"):
        return pipeline.stored_weights(mode.removeprefix("weights-"), exclude)
    return pipeline.dynamic_quantization(exclude, per_row=mode == "dynamic")
