"""What calibration keeps of the samples it saw."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqc.calibration.batches import BatchRanges
from sqc.calibration.reservoir import Reservoir
from sqc.calibration.tensor import TensorStatistics
from sqc.errors import CalibrationError


@dataclass(slots=True)
class Statistics:
    """`{tensor name: statistics}`, how many samples they were taken from, ranges by batch, and some of the samples.

    They depend on the batches seen alone, not on their order or on how shards were merged; without `batches`, on the
    samples alone. What bounds their size: of a tensor, the bins of a histogram (`BINS`) and two numbers a channel; of
    tensor and batch, two numbers; of the samples kept, `KEPT_BYTES`. Nothing grows with the samples of a batch.
    """

    tensors: dict[str, TensorStatistics] = field(default_factory=dict)
    samples: int = 0
    batches: BatchRanges = field(default_factory=BatchRanges)
    inputs: Reservoir = field(default_factory=Reservoir)

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of samples together, in whatever order or grouping parts are merged.

        Raises CalibrationError if the two name different tensors, unless one holds no samples, or share a batch.
        """
        if not other.tensors and other.samples == 0:
            return Statistics(dict(self.tensors), self.samples, self.batches, self.inputs)
        if not self.tensors and self.samples == 0:
            return other.merge(self)
        if different := self.tensors.keys() ^ other.tensors.keys():
            some = ", ".join(f"'{name}'" for name in sorted(different)[:5])
            raise CalibrationError(
                f"the statistics to merge are of different models: {len(different)} tensors are in one of them only "
                f"({some}{', ...' if len(different) > 5 else ''}); merge shards of one model and one sqc version"
            )
        return Statistics(
            {name: tensor.merge(other.tensors[name]) for name, tensor in self.tensors.items()},
            self.samples + other.samples,
            self.batches.merge(other.batches),
            self.inputs.merge(other.inputs),
        )

    def as_batch(self, number: int, digest: bytes) -> Statistics:
        """The same, known as the batch of this number, counted from 0, and this digest of its content."""
        extremes = {name: (x.histogram.minimum, x.histogram.maximum) for name, x in self.tensors.items()}
        return Statistics(self.tensors, self.samples, BatchRanges.of(number, digest, extremes), self.inputs)
