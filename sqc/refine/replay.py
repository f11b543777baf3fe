"""Running parts of a graph, compiled, over calibration inputs, each on what the parts before it yielded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from sqc.ir import Graph, Value, cut
from sqc.pieces import whole_pieces
from sqc.runtime import Model

Arrays = list[np.ndarray]
"""An array for each batch of inputs."""


class Replay:
    """Walks a graph from one point to the next. What a step yields is kept until no later step needs it.

    ``steps`` are the values to yield, in the graph's order, each as {name: value} with those to keep under the names of
    ``kept``. ``compiles`` is asked for a model of a part when its turn has come.
    """

    def __init__(
        self,
        graph: Graph,
        steps: Sequence[Mapping[str, Value]],
        kept: Sequence[Value],
        inputs: Mapping[str, np.ndarray],
        compiles: Callable[[Graph], Model],
    ) -> None:
        self._compiles = compiles
        self._arrays: dict[Value, Arrays] = {value: [] for value in graph.inputs}
        for batch in whole_pieces(inputs, graph.inputs[0].type.shape[0]):
            for value in graph.inputs:
                self._arrays[value].append(batch[value.name])
        self.batches = len(self._arrays[graph.inputs[0]])
        self._kept = list(kept)
        known: set[Value] = set()
        self._parts = []
        for outputs, value in zip(steps, kept, strict=True):
            self._parts.append(cut(graph, outputs if value in known else {**outputs, _LEVELS: value}, known))
            known.add(value)
        self._last = {value: i for i, part in enumerate(self._parts) for value in part.inputs}

    def step(self, i: int) -> Iterator[dict[str, np.ndarray]]:
        """What step ``i`` yields, a batch at a time. Steps are taken in order, each to its end."""
        part = self._parts[i]
        model = self._compiles(part)
        keep: Arrays = []
        for batch in range(self.batches):
            tensors = model.run({value.name: self._arrays[value][batch] for value in part.inputs})
            if _LEVELS in part.outputs:
                keep.append(tensors.pop(_LEVELS))
            yield tensors
        if _LEVELS in part.outputs:
            self._arrays[self._kept[i]] = keep
        for value in part.inputs:
            if self._last[value] == i:
                del self._arrays[value]


_LEVELS = "levels to keep"
