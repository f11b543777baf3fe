"""Small plots as SVG: a tensor's histogram with the range chosen for it, and a layer's weights by channel."""

from __future__ import annotations

import math

import numpy as np

from sqc.accuracy.weights import ChannelWeights
from sqc.calibration import Histogram

_WIDTH, _HEIGHT, _MARGIN = 640, 130, 18
_COLUMNS = 256
"""Bins that lie in one column are drawn as one bar."""

_DATA, _RANGE, _WARNING = "#0072B2", "#009E73", "#D55E00"


def histogram_svg(histogram: Histogram, low: float, high: float) -> str:
    """The counts of a tensor's values on a logarithmic scale, the range [low, high] shaded; empty for no values.

    Without a range, ``low`` equals ``high``.
    """
    if histogram.total == 0:
        return ""
    left, right = min(histogram.minimum, low), max(histogram.maximum, high)
    if not left < right:
        right = left + 1.0
    centres = (histogram.edges[:-1] + histogram.edges[1:]) / 2
    columns = np.clip((centres - left) / (right - left) * _COLUMNS, 0, _COLUMNS - 1).astype(np.intp)
    counts = np.bincount(columns, weights=histogram.counts, minlength=_COLUMNS)
    heights = np.log1p(counts) / math.log1p(counts.max()) * (_HEIGHT - 2 * _MARGIN)
    width = _WIDTH / _COLUMNS
    outside = (np.arange(1, _COLUMNS + 1) * (right - left) / _COLUMNS + left <= low) | (
        np.arange(_COLUMNS) * (right - left) / _COLUMNS + left >= high
    )
    bars = [
        _rectangle(i * width, _HEIGHT - _MARGIN - height, width, height, _WARNING if out and low < high else _DATA)
        for i, (height, out) in enumerate(zip(heights.tolist(), outside.tolist(), strict=True))
        if height > 0
    ]

    def place(value: float) -> float:
        return (value - left) / (right - left) * _WIDTH

    shade, marks = [], [left, right]
    if low < high:
        shade = [_rectangle(place(low), 0, place(high) - place(low), _HEIGHT - _MARGIN, _RANGE, 0.15)]
        shade += [_line(place(end), 0, place(end), _HEIGHT - _MARGIN, _RANGE) for end in (low, high)]
    labels = [_label(place(value), _HEIGHT - 4, f"{value:.4g}") for value in marks]
    if low < high:
        labels += [_label(place(end), 11, f"{end:.4g}", _RANGE) for end in (low, high)]
    return _svg([*shade, *bars, *labels])


def weights_svg(weights: ChannelWeights) -> str:
    """For each output channel the reach of its levels as a pale bar, and the span of its weights as a dark one."""
    count = len(weights.low)
    largest = max(float(np.max(np.abs([weights.low, weights.high]))), float(weights.reach.max())) or 1.0
    middle, half = _HEIGHT / 2, _HEIGHT / 2 - _MARGIN
    width = _WIDTH / count
    bars = []
    for i in range(count):
        reach = float(weights.reach[i]) / largest * half
        top, bottom = (middle - float(end) / largest * half for end in (weights.high[i], weights.low[i]))
        clipped = max(-weights.low[i], weights.high[i]) > weights.reach[i] * (1 + 0.5 / 127)
        bars.append(_rectangle(i * width, middle - reach, width, 2 * reach, _RANGE, 0.25))
        bars.append(_rectangle((i + 0.2) * width, top, 0.6 * width, bottom - top, _WARNING if clipped else _DATA))
    labels = [_label(0, 12, f"{largest:.4g}"), _label(0, _HEIGHT - 4, f"{-largest:.4g}")]
    return _svg([*bars, _line(0, middle, _WIDTH, middle, "#999"), *labels])


def _svg(elements: list[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width:{_WIDTH}px">' + "".join(elements) + "</svg>"


def _rectangle(x: float, y: float, width: float, height: float, colour: str, opacity: float = 1.0) -> str:
    faint = f' fill-opacity="{opacity}"' if opacity < 1 else ""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}"{faint}/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="{colour}"/>'


def _label(x: float, y: float, text: str, colour: str = "#222") -> str:
    anchor = "start" if x < _WIDTH / 3 else "end" if x > _WIDTH * 2 / 3 else "middle"
    return f'<text x="{x:.1f}" y="{y}" font-size="11" text-anchor="{anchor}" fill="{colour}">{text}</text>'
