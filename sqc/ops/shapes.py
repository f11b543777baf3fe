"""Shape rules and window gathering that several operator families share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import TensorType

LAYOUTS = ("NCHW", "NHWC")


def channel_axis(layout: str) -> int:
    """Index of the channels in a rank-4 tensor. Raises ValueError for an unknown layout."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    return 1 if layout == "NCHW" else 3


def to_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return x.transpose(0, 2, 3, 1) if layout == "NCHW" else x


def from_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if layout == "NCHW" else x


def output_extent(extent: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Length of a windowed axis after convolution or pooling. Raises ValueError if no window fits."""
    if kernel < 1 or stride < 1 or dilation < 1 or before < 0 or after < 0:
        raise ValueError("kernel, strides and dilations must be positive, pads must not be negative")
    span = extent + before + after - dilation * (kernel - 1) - 1
    if span < 0:
        raise ValueError(f"a window of {kernel} (dilation {dilation}) does not fit into {extent} + {before} + {after}")
    return span // stride + 1


def windowed_shape(
    x: TensorType, kernel: Sequence[int], attributes: Mapping[str, Any], channels: int | None = None
) -> tuple[int, ...]:
    """Shape of ``x`` after a windowed op with ``strides``, ``pads``, ``dilations``, ``layout`` among its attributes."""
    if x.rank != 4:
        raise ValueError(f"needs a rank-4 operand, not {x}")
    layout = attributes["layout"]
    axis = channel_axis(layout)
    height, width = [extent for i, extent in enumerate(x.shape) if i not in (0, axis)]
    top, left, bottom, right = attributes["pads"]
    (sy, sx), (dy, dx) = attributes["strides"], attributes["dilations"]
    out_height = output_extent(height, kernel[0], sy, top, bottom, dy)
    out_width = output_extent(width, kernel[1], sx, left, right, dx)
    out_channels = x.shape[axis] if channels is None else channels
    if layout == "NCHW":
        return (x.shape[0], out_channels, out_height, out_width)
    return (x.shape[0], out_height, out_width, out_channels)


def windows(x: np.ndarray, kernel: Sequence[int], attributes: Mapping[str, Any], padding: float | int) -> np.ndarray:
    """All windows of an NHWC array as ``[N, OH, OW, kh, kw, C]``; padded taps hold ``padding``."""
    top, left, bottom, right = attributes["pads"]
    (sy, sx), (dy, dx) = attributes["strides"], attributes["dilations"]
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=padding)
    span = (dy * (kernel[0] - 1) + 1, dx * (kernel[1] - 1) + 1)
    views = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
    return np.asarray(views[:, ::sy, ::sx, :, ::dy, ::dx].transpose(0, 1, 2, 4, 5, 3))


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The numpy broadcast of shapes. Raises ValueError if they don't fit."""
    return tuple(int(extent) for extent in np.broadcast_shapes(*map(tuple, shapes)))


def normalize_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted. Raises ValueError for one out of range or given twice."""
    if any(not -rank <= axis < rank for axis in axes):
        raise ValueError(f"axes {tuple(axes)} do not fit rank {rank}")
    normal = sorted(axis % rank for axis in axes)
    if len(set(normal)) != len(normal):
        raise ValueError(f"axes {tuple(axes)} name one twice")
    return tuple(normal)


def require_dtype(type: TensorType, *dtypes: str) -> None:
    """Raise ValueError unless ``type`` has one of the element types."""
    if type.dtype not in dtypes:
        raise ValueError(f"needs {' or '.join(dtypes)}, not {type}")
