"""Presets: which techniques are used so that a quantized model stays near the float one."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from sqc.errors import CompileError


@dataclass(frozen=True, slots=True)
class Recipe:
    """The techniques that follow the choice of ranges. They change constants, and hardly the time that a model takes.

    All need the inputs that a calibration keeps. ``equalize`` evens out the ranges of channels that share a scale
    (:class:`sqc.passes.equalize.Equalize`); the ranges of what it scales are then chosen from the inputs kept.
    ``smooth`` evens out the inputs of dense layers by SmoothQuant's formula (:mod:`sqc.calibration.smoothing`), where
    that helps. ``correct_bias`` makes the mean of each output of a layer what it is in float. ``fit_weights`` turns
    weights to what makes the layer's float outputs of its quantized inputs (:mod:`sqc.calibration.weight_fit`),
    ``round_adaptively`` chooses their levels by the error of the layer's outputs, rather than a weight at a time; both
    correct biases, too. ``reestimate_norms`` gives the outputs of layers that a batch normalization follows in the
    model the mean and the variance that they have in float; no preset has it.
    ``scale_inputs`` scales and shifts the channels of pictures before they are rounded
    (:class:`sqc.passes.scale_inputs.ScaleInputs`), in the kernel that rounds them.
    """

    scale_inputs: bool = False
    equalize: bool = False
    smooth: bool = False
    correct_bias: bool = False
    fit_weights: bool = False
    round_adaptively: bool = False
    reestimate_norms: bool = False

    @property
    def needs_inputs(self) -> bool:
        """Whether the model is run on the calibration's inputs."""
        return self.scale_inputs or self.equalize or self.smooth or self.refines

    @property
    def refines(self) -> bool:
        """Whether layers are fitted one after another."""
        return self.correct_bias or self.fit_weights or self.round_adaptively or self.reestimate_norms


PRESETS = MappingProxyType(
    {
        "fast": Recipe(),
        "accurate": Recipe(correct_bias=True),
        "best": Recipe(
            scale_inputs=True, equalize=True, smooth=True, correct_bias=True, fit_weights=True, round_adaptively=True
        ),
    }
)
"""Recipes by name, from the quickest to the one whose results are nearest to float."""

DEFAULT_PRESET = "fast"

Preset: TypeAlias = str | Recipe


def recipe_of(preset: Preset) -> Recipe:
    """The recipe that a preset names, or that it is. Raises CompileError for an unknown name."""
    if isinstance(preset, Recipe):
        return preset
    if preset not in PRESETS:
        raise CompileError(f"there is no preset '{preset}'; choose {', '.join(PRESETS)}, or pass a sqc.Recipe")
    return PRESETS[preset]
