"""The engines that sqc is measured against: one file each, behind one small protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias

import numpy as np

from sqc.errors import InputError

Feeds: TypeAlias = Mapping[str, np.ndarray]
"""One array for each input of a model, by name."""

PEERS = ("onnxruntime", "openvino")


class Runner(Protocol):
    """A loaded model whose inputs and outputs are allocated ahead of the runs."""

    def bind(self, samples: Sequence[Feeds]) -> None:
        """Copy the samples into input buffers; ``step`` then refers to them by index."""

    def step(self, index: int) -> None:
        """Run on sample ``index``: what is timed."""

    def outputs(self) -> dict[str, np.ndarray]:
        """Copies of the outputs of the last step, by name."""


class Peer(Protocol):
    """An engine. Models come as the bytes of an ONNX file with a fixed batch."""

    name: str
    version: str

    def quantize(self, model: bytes, calibration: Sequence[Feeds]) -> Any:
        """The model quantized by the engine's own tool on the given samples, each of the model's batch."""

    def load(self, model: Any, threads: int) -> Runner:
        """A runner for a float model as bytes, or for what ``quantize`` gave."""

    def profile(self, model: Any, sample: Feeds, threads: int, runs: int) -> dict[str, float]:
        """Seconds that each layer of a model takes, by the engine's own profiler and names, over ``runs`` runs."""


def load_peer(name: str) -> Peer:
    """The engine called ``name``. Raises InputError for an unknown one or if it is not installed."""
    if name not in PEERS:
        raise InputError(f"unknown engine '{name}'; sqc can be measured against {', '.join(PEERS)}")
    try:
        peer: Peer = import_module(f"sqc.bench.peers.{name}").peer()
    except ModuleNotFoundError as error:
        raise InputError(f"{name} is needed but {error.name} is not installed: pip install 'sqc[bench]'") from error
    return peer
