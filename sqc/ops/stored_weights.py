"""Weights of float layers, stored in fewer bits (sqc/NUMERICS.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, TensorType, define
from sqc.ops.shapes import require_dtype

STORAGES = ("int8", "int4", "float16")
"""How weights are stored: s8; two numbers of four bits in a u8, the first in its low half, each plus 8; float16."""


def pack_nibbles(levels: np.ndarray) -> np.ndarray:
    """Levels -8..7 ``[N, K]``, K even, as u8 ``[N, K / 2]``."""
    moved = (levels.astype(np.int16) + 8).astype(np.uint8)
    return np.asarray(moved[:, ::2] | moved[:, 1::2] << 4, np.uint8)


def unpack_nibbles(packed: np.ndarray) -> np.ndarray:
    """What :func:`pack_nibbles` packed, as s8."""
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    return np.asarray(halves.astype(np.int8) - 8, np.int8)


def _infer(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    w, *scales = types
    storage = attributes["storage"]
    if storage not in STORAGES:
        raise ValueError(f"storage must be one of {', '.join(STORAGES)}, not {storage!r}")
    require_dtype(w, "uint8" if storage == "int4" else storage)
    if w.rank != 2 or len(scales) != (storage != "float16"):
        raise ValueError("needs weights of two axes, and scales for integers alone")
    rows, depth = w.shape[0], w.shape[1] * (2 if storage == "int4" else 1)
    for type in scales:
        require_dtype(type, "float32")
        groups = type.shape[-1] if type.rank == 2 else 0
        if type.shape != (rows, groups) or not groups or depth % groups or (storage == "int4" and depth // groups % 2):
            raise ValueError(f"scales of shape {list(type.shape)} do not fit weights [{rows}, {depth}]")
    return TensorType((rows, depth), "float32")


def _restore(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    w, *scales = arrays
    if not scales:
        return w.astype(np.float32)
    levels = unpack_nibbles(w) if op.string("storage") == "int4" else w
    rows, groups = scales[0].shape
    grouped = levels.reshape(rows, groups, -1).astype(np.float32) * scales[0][:, :, None]
    return np.asarray(grouped.reshape(levels.shape))


define("restore_weights", arity=(1, 2), attributes={"storage": "int8"}, infer=_infer, reference=_restore)
