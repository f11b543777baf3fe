"""The weights of a layer, channel by channel, beside what the quantized graph holds of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqc.ir import Graph, Op


@dataclass(frozen=True)
class ChannelWeights:
    """Float weights by output channel: ``low`` and ``high``, the largest magnitude that the levels reach (``reach``),
    and ``error``, the squares of what quantizing changed over the squares of the weights. All float64 ``[channels]``.
    """

    node: str
    low: np.ndarray
    high: np.ndarray
    reach: np.ndarray
    error: np.ndarray

    @property
    def total_error(self) -> float:
        """The root of the mean error of the channels."""
        return float(np.sqrt(self.error.mean()))


def channel_weights(op: Op, integer: Op, graph: Graph, quantized: Graph) -> ChannelWeights | None:
    """Compare the weights of a float op and its integer form; None where their shapes differ."""
    weights, levels = graph.constants.get(op.operands[1]), quantized.constants.get(integer.operands[1])
    quantization = integer.operands[1].type.quantization
    if weights is None or levels is None or quantization is None or weights.shape != levels.shape:
        return None
    rows = weights.reshape(weights.shape[0], -1).astype(np.float64)
    scales = np.broadcast_to(np.array(quantization.scale, np.float64), rows.shape[:1])
    zero_points = np.broadcast_to(np.array(quantization.zero_point, np.float64), rows.shape[:1])
    held = (levels.reshape(rows.shape) - zero_points[:, None]) * scales[:, None]
    energy = np.maximum((rows**2).sum(axis=1), np.finfo(np.float64).tiny)
    error = ((held - rows) ** 2).sum(axis=1) / energy
    return ChannelWeights(op.source, rows.min(axis=1), rows.max(axis=1), 127 * scales, error)
