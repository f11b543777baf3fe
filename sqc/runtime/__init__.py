"""Runs compiled models. Stands alone: numpy and the standard library are all it needs."""

from __future__ import annotations

from pathlib import Path

from sqc.runtime.arrays import TensorSpec
from sqc.runtime.container import read_description
from sqc.runtime.loader import Model, StepTime, Variant, load, load_bytes

SOURCES = Path(__file__).parent
"""The folder of sqc.h and of the C that goes into every model."""

__all__ = [
    "SOURCES",
    "Model",
    "StepTime",
    "TensorSpec",
    "Variant",
    "load",
    "load_bytes",
    "read_description",
]
