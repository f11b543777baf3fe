"""What was found about accuracy, as tables and as an HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from sqc.accuracy.blame import Blame, BlameReport
from sqc.accuracy.compare import OutputComparison
from sqc.accuracy.plots import histogram_svg, weights_svg
from sqc.page import Table, page


def blame_table(report: BlameReport, limit: int | None = None) -> Table:
    """A row a layer, the ``limit`` worst of them first."""
    columns = ("layer", "computes", "outputs", "share", "own", "with all before", "clipped", "range", "mostly", "mend")
    right = ("outputs", "share", "own", "with all before", "clipped")
    rows = [
        [
            layer.node,
            layer.computes,
            decibel_text(layer.output_snr),
            f"{layer.share:.1%}",
            decibel_text(layer.own_snr),
            decibel_text(layer.cumulative_snr),
            f"{layer.clipped:.3%}",
            range_text(layer),
            layer.cause,
            mend_text(layer),
        ]
        for layer in report.layers[:limit]
    ]
    heading = (
        f"layers by what their own noise does to the outputs: signal to noise in dB on {report.samples} samples; "
        f"all together {decibel_text(report.output_snr)} dB, agreement with float {report.agreement:.1%}"
    )
    return Table(heading, columns, right, rows)


def comparison_table(outputs: Sequence[OutputComparison], samples: int) -> Table:
    """A row an output."""
    columns = ("output", "agreement", "signal to noise dB", "relative error", "largest error", "top-1", "float top-1")
    rows = [
        [
            output.name,
            f"{output.agreement:.2%}",
            decibel_text(output.snr),
            f"{output.relative_error:.3%}",
            f"{output.largest_error:.4g}",
            "" if output.top1 is None else f"{output.top1:.2%}",
            "" if output.float_top1 is None else f"{output.float_top1:.2%}",
        ]
        for output in outputs
    ]
    return Table(f"int8 beside float on {samples} samples", columns, columns[1:], rows)


def blame_page(report: BlameReport, title: str) -> str:
    """A page with the table, and for each layer its histogram, its range, and its weights by channel."""
    return page(title, [blame_table(report), _LEGEND, *(part for layer in report.layers for part in _details(layer))])


_LEGEND = (
    "<p>Histograms count the values of the float network on a logarithmic scale; green is the range that was chosen, "
    "orange what lies outside. Weights are drawn by output channel: blue spans what they are (orange if clipped), "
    "green what their levels reach.</p>"
)


def _details(layer: Blame) -> Iterator[str]:
    yield f"<h2>{escape(layer.node)}</h2>"
    yield (
        f"<p>{escape(layer.computes)}; rounds <b>{escape(layer.value)}</b>, {escape(range_text(layer))}. "
        f"Its own noise: {layer.weights:.0%} weights and bias, {layer.rounding:.0%} rounding, {layer.clipping:.0%} "
        f"clipping; {layer.shift:.0%} of it constant in each channel. Clipped: {layer.clipped:.3%} of its values, "
        f"{layer.clipped_input:.3%} of its inputs. {escape(mend_text(layer))}</p>"
    )
    yield histogram_svg(layer.histogram, layer.low, layer.high)
    for weights in layer.channels:
        yield f"<p>weights of {escape(weights.node)}, relative error {weights.total_error:.2%}</p>"
        yield weights_svg(weights)


def range_text(layer: Blame) -> str:
    if layer.scale == 0.0:
        return "float"
    return f"[{layer.low:.4g}, {layer.high:.4g}], scale {layer.scale:.4g}, zero {layer.zero_point}"


def mend_text(layer: Blame) -> str:
    """The options that leave in float what makes the noise, and what that gained."""
    if layer.share == 0.0 or not layer.exclude:
        return ""
    gained = "" if layer.gain is None else f" gains {layer.gain:.1f} dB"
    return " ".join(f"--exclude {node}" for node in layer.exclude) + gained


def decibel_text(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.1f}"
