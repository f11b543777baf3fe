"""The engines that sqc is measured against: one file each, behind one small protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
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
    methods: tuple[str, ...]
    """How the engine's own tool can quantize; the first is what it does when told nothing."""

    def quantize(self, model: bytes, calibration: Sequence[Feeds], method: str | None = None) -> Any:
        """The model quantized by the engine's own tool on the given samples, each of the model's batch.

        Raises InputError for an unknown method.
        """

    def save(self, model: Any, folder: Path) -> Path:
        """Write what ``quantize`` gave into a folder. Returns the file that ``read`` takes."""

    def read(self, path: Path) -> Any:
        """What ``save`` wrote, for ``load``."""

    def load(self, model: Any, threads: int, float32: bool = False) -> Runner:
        """A runner for a float model as bytes, or for what ``quantize`` gave.

        ``float32`` keeps the engine from computing what is not int8 in a shorter type, even where that is quicker.
        """

    def profile(self, model: Any, sample: Feeds, threads: int, runs: int) -> dict[str, float]:
        """Seconds that each layer of a model takes, by the engine's own profiler and names, over ``runs`` runs."""


def check_method(peer: Peer, method: str | None) -> str:
    """``method``, or the first of ``peer`` for None. Raises InputError for one that it does not have."""
    if method is None:
        return peer.methods[0]
    if method not in peer.methods:
        raise InputError(f"{peer.name} has no method '{method}' of quantization; it has {', '.join(peer.methods)}")
    return method


@contextmanager
def untracked() -> Iterator[None]:
    """Keeps engines from telling their makers: OpenVINO and NNCF would, when imported and at work, but not in CI."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def load_peer(name: str) -> Peer:
    """The engine called ``name``. Raises InputError for an unknown one or if it is not installed."""
    if name not in PEERS:
        raise InputError(f"unknown engine '{name}'; sqc can be measured against {', '.join(PEERS)}")
    try:
        with untracked():
            peer: Peer = import_module(f"sqc.bench.peers.{name}").peer()
    except ModuleNotFoundError as error:
        raise InputError(f"{name} is needed but {error.name} is not installed: pip install 'sqc[bench]'") from error
    return peer
