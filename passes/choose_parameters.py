"""Scale and zero point of every value that is rounded to eight bits or less, from its calibration and its settings."""

from __future__ import annotations

from collections.abc import Collection

from sqc.calibration import Calibration
from sqc.calibration.moving_average import moving_average
from sqc.calibration.ranges import DEFAULT_SEARCH, MOVING_AVERAGE, OUTPUT_ERROR, bounded, find_search
from sqc.calibration.settings import Ranges, Settings, check_rules
from sqc.errors import CalibrationError
from sqc.ir import Graph, Value
from sqc.ir.registry import kinds
from sqc.passes.insert_quantization import observed_values
from sqc.passes.output_error import CANDIDATES, least_output_error
from sqc.passes.rounding import INPUT, layer_names, normalized_sum, place, rounding_names, useful_range


def choose_parameters(
    graph: Graph, calibration: Calibration, ranges: Ranges, exclude: Collection[str] = ()
) -> dict[str, tuple[float, int]]:
    """Scale and zero point by name, for all :func:`observed_values` of a float graph.

    Ranges are chosen within what the readers of a value tell apart (:func:`useful_range`). Raises CalibrationError if
    the calibration is of another model, lacks what a search needs, or if a rule matches nothing. Values that the
    calibration gives parameters take those, and the ranges have to tell as many bits.
    """
    placement = place(graph, exclude)
    observed = observed_values(graph, exclude)
    names = {value: rounding_names(graph, value, placement) for value in placement.rounded}
    layers = [layer_names(op) for op in graph.ops]
    check_rules(ranges, set().union(*names.values(), *layers), (INPUT, *kinds()))
    parameters: dict[str, tuple[float, int]] = {}
    contested: dict[Value, list[tuple[float, int]]] = {}
    for value in observed:
        settings = ranges.settings(names[value])
        bounds = useful_range(graph, value, placement)
        if value.name in calibration.parameters:
            scale, zero_point, told = calibration.parameters[value.name]
            if told != settings.bits:
                raise CalibrationError(
                    f"the calibration gives '{value.name}' {told} bits, the ranges {settings.bits}: add the rule "
                    f"'{value.name}=bits:{told}'"
                )
            parameters[value.name] = scale, zero_point
        elif settings.search == OUTPUT_ERROR:
            choices = [_parameters(calibration, value, search, settings, bounds) for search in CANDIDATES]
            contested[value] = list(dict.fromkeys(choices))
        else:
            search = (
                "minmax" if settings.search == DEFAULT_SEARCH and _is_normalized_sum(graph, value) else settings.search
            )
            parameters[value.name] = _parameters(calibration, value, search, settings, bounds)
    if contested:
        bits = {value: ranges.settings(names[value]).bits for value in contested}
        parameters.update(least_output_error(graph, contested, bits, calibration.inputs))
    return parameters


def _is_normalized_sum(graph: Graph, value: Value) -> bool:
    producer = graph.producer(value)
    return producer is not None and normalized_sum(graph, producer) is not None


def _parameters(
    calibration: Calibration, value: Value, search: str, settings: Settings, bounds: tuple[float, float]
) -> tuple[float, int]:
    if search == MOVING_AVERAGE:
        extremes = calibration.batch_ranges(value.name)
        if not len(extremes):
            raise CalibrationError(
                f"the calibration holds no ranges of batches for '{value.name}'; calibrate again or search otherwise"
            )
        low, high = moving_average(extremes)
    else:
        low, high = find_search(search)(bounded(calibration.histogram(value.name), *bounds), settings.grid)
    return settings.qparams(max(low, bounds[0]), min(high, bounds[1]))
