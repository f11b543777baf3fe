"""Eleven trained models with their real data, from the folder that SQC_TEST_DATA names.

Every model has a ``calib`` and an ``eval`` split. Inputs come as float32 arrays [n, ...], preprocessed as the model was
trained; labels come in the model's own numbering.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

Split: TypeAlias = Literal["calib", "eval"]
CALIBRATION_SAMPLES = 200


@dataclass(frozen=True)
class Raw:
    """Stored samples [n, ...], and their labels [n] if there are any."""

    samples: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True)
class ZooModel:
    """A model of the collection. ``raw`` reads stored samples of a split, ``preprocess`` makes inputs of them."""

    name: str
    raw: Callable[[Split], Raw]
    preprocess: Callable[[np.ndarray], np.ndarray]
    first_class: int = 0
    """What the model calls the class of label 0."""
    classifies: bool = True
    """Whether the largest entry along the last axis of the first output says something."""

    @property
    def path(self) -> Path:
        return folder() / self.name / "model.onnx"

    def count(self, split: Split) -> int:
        return len(self.raw(split).samples)

    def inputs(self, split: Split, limit: int | None = None) -> np.ndarray:
        """The first ``limit`` inputs of a split, or all."""
        return self.preprocess(self.raw(split).samples[:limit])

    def batches(self, split: Split, size: int, limit: int | None = None) -> Iterator[np.ndarray]:
        """The inputs of a split, ``size`` at a time, preprocessed as they are asked for."""
        samples = self.raw(split).samples[:limit]
        for start in range(0, len(samples), size):
            yield self.preprocess(samples[start : start + size])

    def labels(self, split: Split) -> np.ndarray | None:
        """int64[n], or None for a model without labelled data."""
        labels = self.raw(split).labels
        return None if labels is None else labels.astype(np.int64) + self.first_class

    def calibration(self) -> np.ndarray:
        """The inputs to calibrate on."""
        return self.inputs("calib", CALIBRATION_SAMPLES)


def folder() -> Path:
    """The folder of models and data. Ends the program if SQC_TEST_DATA does not name one."""
    name = os.environ.get("SQC_TEST_DATA", "")
    if not name or not Path(name).is_dir():
        sys.exit(f"SQC_TEST_DATA must name the folder of test models and data; it is {name!r}")
    return Path(name)


@cache
def photographs(split: Split, width: int = 224, height: int = 224) -> Raw:
    """ImageNet pictures uint8[n, height, width, 3] with labels 0..999."""
    from PIL import Image

    where = folder() / "imagenet_images" / split
    with open(where / "labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = []
    for row in rows:
        with Image.open(where / "images" / row["file"]) as image:
            picture = image.convert("RGB")
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BILINEAR)
            pictures.append(np.asarray(picture))
    return Raw(np.stack(pictures), np.array([int(row["label"]) for row in rows]))


@cache
def arrays(file: str) -> Raw:
    """The arrays x and y of an .npz file."""
    with np.load(folder() / file) as loaded:
        return Raw(loaded["x"], loaded["y"] if "y" in loaded.files else None)


def pictures_of(width: int, height: int, labelled: bool = True) -> Callable[[Split], Raw]:
    def read(split: Split) -> Raw:
        raw = photographs(split, width, height)
        return raw if labelled else Raw(raw.samples, None)

    return read


def windows(split: Split) -> Raw:
    """The first half of the one sound clip is to calibrate on, the second to evaluate."""
    samples = arrays("anomaly_fc_ae/normal_id_01_windows.npz").samples
    half = len(samples) // 2
    return Raw(samples[:half] if split == "calib" else samples[half:], None)


def scaled(scale: float, offset: float) -> Callable[[np.ndarray], np.ndarray]:
    """Pictures uint8[n, h, w, 3] to x / scale + offset as float32[n, 3, h, w]."""

    def preprocess(samples: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(
            (samples.astype(np.float32) / np.float32(scale) + np.float32(offset)).transpose(0, 3, 1, 2)
        )

    return preprocess


def normalized(
    mean: tuple[float, ...], deviation: tuple[float, ...], scale: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Pictures uint8[n, h, w, 3] to (x / scale - mean) / deviation, a channel each, as float32[n, 3, h, w]."""

    def preprocess(samples: np.ndarray) -> np.ndarray:
        x = samples.astype(np.float32) / np.float32(scale)
        x = (x - np.array(mean, np.float32)) / np.array(deviation, np.float32)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    return preprocess


def unchanged(samples: np.ndarray) -> np.ndarray:
    return samples


def _cifar(split: Split) -> Raw:
    return arrays(f"cifar10/{split}.npz")


def _keywords(split: Split) -> Raw:
    return arrays(f"kws_dscnn/{split}.npz")


_CIFAR = normalized((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255)
_MOBILENET = scaled(127.5, -1)

ZOO = {
    model.name: model
    for model in (
        ZooModel("imagenet_mobilenet_v2", pictures_of(224, 224), _MOBILENET, first_class=1),
        ZooModel("imagenet_squeezenet1_1", pictures_of(224, 224), normalized((123, 117, 104), (1, 1, 1), 1)),
        ZooModel("imagenet_mobilenet_v1_0.5_160", pictures_of(160, 160), _MOBILENET, first_class=1),
        ZooModel("imagenet_mobilenet_v3_small", pictures_of(224, 224), _MOBILENET, first_class=1),
        ZooModel("cifar10_resnet20", _cifar, _CIFAR),
        ZooModel("cifar10_resnet32", _cifar, _CIFAR),
        ZooModel("mlperf_tiny_resnet8_cifar10", _cifar, scaled(1, 0)),
        ZooModel("kws_dscnn", _keywords, unchanged),
        ZooModel("vww_mobilenet_v1_0.25_96", pictures_of(96, 96, labelled=False), scaled(255, 0)),
        ZooModel("anomaly_fc_ae", windows, unchanged, classifies=False),
        ZooModel("ultraface_slim_320", pictures_of(320, 240, labelled=False), scaled(128, -127 / 128)),
    )
}
"""All models by name."""


def choose(names: str) -> list[ZooModel]:
    """The models of a comma-separated list, or all for an empty one. Ends the program for an unknown name."""
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in ZOO]:
        sys.exit(f"unknown models: {', '.join(unknown)}; known: {', '.join(ZOO)}")
    return [ZOO[name] for name in chosen or ZOO]
