"""What the layers of a float graph yield on calibration inputs, kept on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryFile
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from sqc.ir import Graph
from sqc.pieces import whole_pieces
from sqc.probe import load_graph
from sqc.refine.rows import Rows


class FloatOutputs:
    """Of each layer in ``layers`` the outputs at the rows that are looked at.

    ``means`` and ``variances`` are theirs, float64 [N] for each layer.

    With ``keep``, :meth:`rows` tells them, too. They are more than memory should hold, so a temporary file does, until
    the context ends.
    """

    def __init__(
        self, graph: Graph, layers: Sequence[Rows], inputs: Mapping[str, np.ndarray], target: str, *, keep: bool
    ) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._layers = layers
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        values = {value.name: value for op in graph.ops for value in op.results}
        names = [taken.op.result.name for taken in layers]
        model = load_graph(replace(graph, outputs={name: values[name] for name in names}), target)
        sums, squares = ([np.zeros(taken.outputs) for taken in layers] for _ in range(2))
        counts = [0] * len(layers)
        for batch, sample in enumerate(whole_pieces(inputs, graph.inputs[0].type.shape[0])):
            tensors = model.run(sample)
            for i, (name, taken) in enumerate(zip(names, layers, strict=True)):
                y = np.ascontiguousarray(taken.outputs_of(tensors[name], batch))
                if keep:
                    self._places[i, batch] = self._file.tell(), y.size
                    self._file.write(y.data)
                sums[i] += y.sum(axis=0, dtype=np.float64)
                squares[i] += np.square(y, dtype=np.float64).sum(axis=0)
                counts[i] += len(y)
        self.means: list[NDArray[np.float64]] = [total / count for total, count in zip(sums, counts, strict=True)]
        self.variances = [
            np.maximum(total / count - np.square(mean), 0.0)
            for total, count, mean in zip(squares, counts, self.means, strict=True)
        ]

    def rows(self, layer: int, batch: int) -> NDArray[np.float32]:
        """[rows, outputs] of a batch, at the positions of the layer's `Rows`."""
        place, size = self._places[layer, batch]
        self._file.seek(place)
        found = np.frombuffer(self._file.read(size * 4), np.float32)
        return found.reshape(-1, self._layers[layer].outputs)

    def __enter__(self) -> FloatOutputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
