"""From an ONNX file and calibration data to everything that is timed: sqc's model, and each engine's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import sqc
from sqc.bench.compare import Rival
from sqc.bench.peers import Feeds, Peer
from sqc.bench.static_model import static_model
from sqc.calibration import DEFAULT_SEARCH, RangesLike
from sqc.errors import InputError
from sqc.ir import Graph
from sqc.pieces import whole_pieces
from sqc.recipe import DEFAULT_PRESET, Preset
from sqc.runtime import Model

if TYPE_CHECKING:
    from sqc.tuning import Records

Stage = Callable[[str], AbstractContextManager[object]]
"""Tells the user what is going on for as long as the context is open."""


@dataclass(frozen=True)
class Session:
    """A model compiled by sqc, and quantized by other engines on the same data."""

    model: Model
    rivals: Sequence[Rival] = ()
    own: dict[str, Model] = field(default_factory=dict)
    """Further builds of sqc, by name."""


def prepare(
    path: Path,
    graph: Graph,
    calibration: Feeds,
    peers: Sequence[Peer] = (),
    *,
    batch: int = 1,
    target: str = "native",
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    records: Records | None = None,
    with_float: bool = False,
    stage: Stage = lambda title: nullcontext(),
) -> Session:
    """Compile ``graph``, imported from ``path``, and let every engine quantize that file on the same samples.

    ``calibration`` holds n samples for each input along the first axis, ``records`` are those of tuning. Raises
    InputError if there is less than a batch, and what the compiler raises.
    """
    samples = whole_pieces(calibration, batch)
    if not samples:
        raise InputError(f"the calibration data hold less than one batch of {batch}")
    with stage("calibrating"):
        ranges_seen = sqc.calibrate(graph, [calibration], target=target)
    with stage("compiling"):
        model = sqc.compile(
            graph, ranges_seen, target=target, batch=batch, preset=preset, ranges=ranges, records=records
        ).load()
    own: dict[str, Model] = {}
    if with_float:
        with stage("compiling in float"):
            own["sqc float"] = sqc.compile(graph, target=target, batch=batch).load()
    rivals: list[Rival] = []
    if peers:
        content = static_model(path, batch)
        for peer in peers:
            with stage(f"{peer.name} quantizes"):
                rivals.append(Rival.prepare(peer, content, samples))
    return Session(model, rivals, own)


def rotated(calibration: Feeds, batch: int, count: int) -> list[dict[str, np.ndarray]]:
    """At most ``count`` batches to time on, spread over the data."""
    samples = whole_pieces(calibration, batch)
    step = max(1, len(samples) // count)
    return samples[::step][:count]
