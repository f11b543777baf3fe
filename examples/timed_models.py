"""The models whose speed, memory and compile time are measured: those of the zoo, and those with random weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import random_models
import zoo

CALIBRATION_SAMPLES = 64
BATCHES = (1, 8)
FIXED_BATCH = ("ultraface_slim_320",)
"""Models of the zoo that take one sample at a time."""


@dataclass(frozen=True)
class TimedModel:
    """A model file, the batch sizes to time it at, and how to get its calibration inputs float32[n, ...]."""

    name: str
    path: Path
    batches: tuple[int, ...]
    inputs: Callable[[], np.ndarray]


NAMES = (*zoo.ZOO, *random_models.MODELS)


@contextmanager
def choose(names: str) -> Iterator[list[TimedModel]]:
    """The models of a comma-separated list, or all for an empty one; random ones live as long as the context.

    Ends the program for an unknown name.
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in NAMES]:
        sys.exit(f"unknown models: {', '.join(unknown)}; known: {', '.join(NAMES)}")
    with TemporaryDirectory(prefix="sqc-models-") as folder:
        yield [_model(name, Path(folder)) for name in chosen or NAMES]


def _model(name: str, folder: Path) -> TimedModel:
    if name in random_models.MODELS:
        random = random_models.MODELS[name]
        return TimedModel(name, random.write(folder), random.batches, random.inputs)
    model = zoo.ZOO[name]
    batches = (1,) if name in FIXED_BATCH else BATCHES
    return TimedModel(name, model.path, batches, lambda: model.inputs("calib", CALIBRATION_SAMPLES))
