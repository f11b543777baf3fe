"""Where the channels of a padded tensor are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 16
FEW = 4


def padded_channels(channels: int) -> int:
    """The extent that ``channels`` are padded to: 4, or a multiple of 16."""
    return FEW if channels <= FEW else -(-channels // BLOCK) * BLOCK


@dataclass(frozen=True)
class Lanes:
    """Where the logical channels of a value are: ``index[c]`` of ``extent`` along the last axis."""

    extent: int
    index: tuple[int, ...]

    @staticmethod
    def plain(channels: int) -> Lanes:
        return Lanes(channels, tuple(range(channels)))

    @staticmethod
    def padded(channels: int) -> Lanes:
        return Lanes(padded_channels(channels), tuple(range(channels)))

    @property
    def leading(self) -> bool:
        """Whether the logical channels come first, in order."""
        return self.index == tuple(range(len(self.index)))

    @property
    def is_plain(self) -> bool:
        return self.extent == len(self.index) and self.leading

    @property
    def fits(self) -> bool:
        """Whether kernels do well with the extent; holes may make it a multiple of 4, as a copy would cost more."""
        return self.extent == padded_channels(self.extent) or (not self.leading and self.extent % FEW == 0)

    def runs(self) -> list[tuple[int, int]]:
        """The maximal runs of neighbouring lanes, in logical order, as ``[start, end)``."""
        runs: list[tuple[int, int]] = []
        for lane in self.index:
            if runs and runs[-1][1] == lane:
                runs[-1] = (runs[-1][0], lane + 1)
            else:
                runs.append((lane, lane + 1))
        return runs

    def scatter(self, array: np.ndarray, axis: int, filling: float) -> np.ndarray:
        """``array`` with its logical ``axis`` spread over the lanes."""
        shape = list(array.shape)
        shape[axis] = self.extent
        result = np.full(shape, filling, array.dtype)
        place: list[slice | tuple[int, ...]] = [slice(None)] * array.ndim
        place[axis] = self.index
        result[tuple(place)] = array
        return result
