"""The text files of the observers of Caffe2's DNNLOWP, one tensor a line, its words set apart by white space:

    op_index op_type output_index name minimum maximum                      of a min-max file
    op_index op_type output_index name minimum maximum bins count count ...  of a histogram file

Older files lack the op_type. Which kind a line is follows from its number of words.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sqc.calibration.histogram import Histogram
from sqc.calibration.rebinning import from_uniform, to_uniform
from sqc.calibration.statistics import Statistics
from sqc.calibration.statistics_file import whole_file
from sqc.calibration.tensor import TensorStatistics
from sqc.errors import CalibrationError

BINS = 2048
_OP_TYPE = "Tensor"
_START = re.compile(rb"\s*\d+\s+\S")


def is_dnnlowp(path: str | os.PathLike[str]) -> bool:
    """Whether a file starts as these do, rather than as one of sqc's own. Raises OSError if it cannot be read."""
    with open(path, "rb") as stream:
        return _START.match(stream.read(64)) is not None


def read_dnnlowp(path: str | os.PathLike[str]) -> Statistics:
    """Histograms from a min-max or histogram file; of a min-max file, they hold the two extremes as two values.

    Lines of the same name are merged. How many samples there were is unknown: 0. Raises CalibrationError, with the
    line, where the file is missing or is neither of these.
    """
    tensors: dict[str, TensorStatistics] = {}
    try:
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            if words := line.split():
                try:
                    name, histogram = _parse(words)
                except ValueError as error:
                    raise CalibrationError(
                        f"'{os.fspath(path)}', line {number}: {error}; this is no min-max or histogram file"
                    ) from error
                tensor = TensorStatistics(histogram)
                tensors[name] = tensors[name].merge(tensor) if name in tensors else tensor
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"cannot read '{os.fspath(path)}' as a text file of DNNLOWP: {error}") from error
    return Statistics(tensors)


def write_minmax(statistics: Statistics, path: str | os.PathLike[str]) -> None:
    """Write a min-max file, tensors by name. Raises CalibrationError if that fails or a name holds white space."""
    _write(path, [_line(i, name, histogram) for i, (name, histogram) in enumerate(_seen(statistics))])


def write_histograms(statistics: Statistics, path: str | os.PathLike[str]) -> None:
    """Write a histogram file, `BINS` bins a tensor, tensors by name. Raises CalibrationError like `write_minmax`."""
    lines = []
    for i, (name, histogram) in enumerate(_seen(statistics)):
        counts = " ".join(map(str, to_uniform(histogram, BINS).tolist()))
        lines.append(f"{_line(i, name, histogram)} {BINS} {counts}")
    _write(path, lines)


def _parse(words: Sequence[str]) -> tuple[str, Histogram]:
    """Name and histogram of a line. Raises ValueError."""
    for leading in (4, 3):  # words before the minimum: with and without op_type
        if len(words) == leading + 2 or (
            len(words) > leading + 2
            and words[leading + 2].isdecimal()
            and len(words) == leading + 3 + int(words[leading + 2])
        ):
            break
    else:
        raise ValueError(f"{len(words)} words are no such line")
    with np.errstate(over="ignore"):
        minimum, maximum = (
            np.array(words[leading : leading + 2], np.float64).astype(np.float32) + np.float32(0)
        ).tolist()
    if not (math.isfinite(minimum) and math.isfinite(maximum) and minimum <= maximum):
        raise ValueError(f"[{words[leading]}, {words[leading + 1]}] is no range of tensor '{words[leading - 1]}'")
    counts = np.array([int(word) for word in words[leading + 3 :]], np.int64)
    if (counts < 0).any():
        raise ValueError(f"a count of tensor '{words[leading - 1]}' is negative")
    if counts.size == 0:
        return words[leading - 1], Histogram.of([minimum, maximum])
    return words[leading - 1], from_uniform(minimum, maximum, counts)


def _seen(statistics: Statistics) -> list[tuple[str, Histogram]]:
    tensors = sorted((name, tensor.histogram) for name, tensor in statistics.tensors.items() if tensor.histogram.total)
    if spaced := [name for name, _ in tensors if not name or name.split() != [name]]:
        raise CalibrationError(
            f"the name of tensor '{spaced[0]}' holds white space, which files of DNNLOWP cannot express"
        )
    return tensors


def _line(index: int, name: str, histogram: Histogram) -> str:
    return f"{index} {_OP_TYPE} 0 {name} {np.float32(histogram.minimum)} {np.float32(histogram.maximum)}"


def _write(path: str | os.PathLike[str], lines: Sequence[str]) -> None:
    with whole_file(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
