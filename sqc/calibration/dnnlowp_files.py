"""The text files of the observers of Caffe2's DNNLOWP, one tensor a line, its words set apart by white space:

    op_index op_type output_index name minimum maximum                              of a min-max file
    op_index op_type output_index name minimum maximum bins count count ...         of a histogram file
    op_index op_type output_index name minimum maximum scale zero_point precision   of a file of parameters
    op_index output_index name column minimum maximum bins count count ...          of a file of column maxima

Older files of the first two kinds lack the op_type. Which kind a line is follows from its number of words, and whether
its second one is a number. Column maxima are those of magnitudes, counted over batches; parameters come
with the reals that the first and the last level stand for.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.channels import ChannelRanges
from sqc.calibration.histogram import Histogram
from sqc.calibration.qparams import SMALLEST_NORMAL, check_bits
from sqc.calibration.rebinning import from_uniform, to_uniform
from sqc.calibration.statistics import Statistics
from sqc.calibration.statistics_file import whole_file
from sqc.calibration.tensor import TensorStatistics
from sqc.errors import CalibrationError

BINS = 2048
_OP_TYPE = "Tensor"
_START = re.compile(rb"\s*\d+\s+\S")


class Parameters(NamedTuple):
    """How a tensor is rounded to ``bits`` bits: ``real = scale * (level - zero_point)``, levels from 0 on."""

    scale: float
    zero_point: int
    bits: int

    @property
    def range(self) -> tuple[float, float]:
        """What the first and the last level stand for."""
        return -self.zero_point * self.scale, (2**self.bits - 1 - self.zero_point) * self.scale


def is_dnnlowp(path: str | os.PathLike[str]) -> bool:
    """Whether a file starts as these do, rather than as one of sqc's own. Raises OSError if it cannot be read."""
    with open(path, "rb") as stream:
        return _START.match(stream.read(64)) is not None


def read_dnnlowp(path: str | os.PathLike[str]) -> tuple[Statistics, dict[str, Parameters]]:
    """The statistics of any of these files, and the parameters that it holds.

    Of min-max files and parameters, histograms hold the two extremes as two values; of column maxima, each maximum and
    its negative. Lines of the same name are merged; of parameters the last one counts, as the last op's result is what
    others read. How many samples there were is unknown: 0. Raises CalibrationError, with the line, where the file is
    missing or is none of these.
    """
    lines = _words(path)
    tensors: dict[str, TensorStatistics] = {}
    parameters: dict[str, Parameters] = {}
    columns: dict[str, dict[int, float]] = {}
    kinds = {kind: any(kind(words) for words in lines.values()) for kind in (_is_column, _is_parameters)}
    for number, words in lines.items():
        try:
            if kinds[_is_column]:
                name, column, largest = _parse_column(words)
                maxima = columns.setdefault(name, {})
                maxima[column] = max(largest, maxima.get(column, 0.0))
                continue
            if kinds[_is_parameters]:
                name, histogram, parameters[words[3]] = _parse_parameters(words)
            else:
                name, histogram = _parse(words)
        except ValueError as error:
            raise CalibrationError(
                f"'{os.fspath(path)}', line {number}: {error}; this is no file of DNNLOWP's observers"
            ) from error
        tensor = TensorStatistics(histogram)
        tensors[name] = tensors[name].merge(tensor) if name in tensors else tensor
    for name, maxima in columns.items():
        if missing := set(range(len(maxima))) - maxima.keys():
            raise CalibrationError(f"'{os.fspath(path)}': tensor '{name}' lacks column {min(missing)}")
        most = np.array([maxima[column] for column in range(len(maxima))], np.float32)
        histogram = Histogram.of(np.concatenate([-most, most]))
        tensors[name] = TensorStatistics(histogram, channels=ChannelRanges(1, 0 - most, most))
    return Statistics(tensors), parameters


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


def write_parameters(parameters: Mapping[str, Parameters], path: str | os.PathLike[str]) -> None:
    """Write a file of parameters, tensors by name. Raises CalibrationError like `write_minmax`."""
    names = sorted(parameters)
    _check_names(names)
    lines = []
    for i, name in enumerate(names):
        scale, zero_point, bits = parameters[name]
        low, high = map(np.float32, parameters[name].range)
        lines.append(f"{i} {_OP_TYPE} 0 {name} {low} {high} {np.float32(scale)} {zero_point} {bits}")
    _write(path, lines)


def write_column_maxima(statistics: Statistics, path: str | os.PathLike[str]) -> None:
    """Write a file of column maxima, channels being columns, of the tensors that have any, by name.

    Each column has one count: that of the largest magnitude over all batches. Raises CalibrationError like
    `write_minmax`.
    """
    lines = []
    for i, (name, _) in enumerate(_seen(statistics)):
        channels = statistics.tensors[name].channels
        if channels is not None:
            for column, largest in enumerate(np.maximum(-channels.minima, channels.maxima)):
                counts = " ".join(["1"] + ["0"] * (BINS - 1))
                lines.append(f"{i} 0 {name} {column} {largest} {largest} {BINS} {counts}")
    _write(path, lines)


def _words(path: str | os.PathLike[str]) -> dict[int, list[str]]:
    """The words of the lines that have any, by the numbers of the lines. Raises CalibrationError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"cannot read '{os.fspath(path)}' as a text file of DNNLOWP: {error}") from error
    return {number: words for number, line in enumerate(lines, 1) if (words := line.split())}


def _is_counted(words: Sequence[str], leading: int) -> bool:
    """Whether behind so many words and the two extremes there is a number, and as many counts."""
    bins = words[leading + 2] if len(words) > leading + 2 else ""
    return bins.isdecimal() and len(words) == leading + 3 + int(bins)


def _is_column(words: Sequence[str]) -> bool:
    return _is_counted(words, 4) and words[1].isdecimal() and words[3].isdecimal()


def _is_parameters(words: Sequence[str]) -> bool:
    return len(words) == 9 and not words[1].isdecimal() and not _is_counted(words, 4)


def _parse(words: Sequence[str]) -> tuple[str, Histogram]:
    """Name and histogram of a line. Raises ValueError."""
    for leading in (4, 3):  # words before the minimum: with and without op_type
        if len(words) == leading + 2 or _is_counted(words, leading):
            break
    else:
        raise ValueError(f"{len(words)} words are no such line")
    name = words[leading - 1]
    minimum, maximum = _parse_range(name, words[leading : leading + 2])
    counts = _parse_counts(name, words[leading + 3 :])
    if counts.size == 0:
        return name, Histogram.of([minimum, maximum])
    return name, from_uniform(minimum, maximum, counts)


def _parse_parameters(words: Sequence[str]) -> tuple[str, Histogram, Parameters]:
    """Name, histogram and parameters of a line. Raises ValueError."""
    if len(words) != 9:
        raise ValueError(f"{len(words)} words are no parameters, as the other lines hold")
    name, scale, zero_point, bits = words[3], float(np.float32(words[6])), int(words[7]), int(words[8])
    if not SMALLEST_NORMAL <= scale < math.inf:
        raise ValueError(f"{words[6]} is no scale of tensor '{name}'; scales are positive normal numbers")
    try:
        check_bits(bits)
    except CalibrationError as error:
        raise ValueError(f"tensor '{name}': {error}") from error
    if not 0 <= zero_point < 2**bits:
        raise ValueError(f"{zero_point} is no zero point of tensor '{name}', whose levels are 0 to {2**bits - 1}")
    return name, Histogram.of(_parse_range(name, words[4:6])), Parameters(scale, zero_point, bits)


def _parse_column(words: Sequence[str]) -> tuple[str, int, float]:
    """Name, column and largest magnitude of a line. Raises ValueError."""
    if not _is_column(words):
        raise ValueError(f"{len(words)} words are no column, as the other lines hold")
    name = words[2]
    minimum, maximum = _parse_range(name, words[4:6])
    if minimum < 0:
        raise ValueError(f"{words[4]} is no magnitude of tensor '{name}'")
    _parse_counts(name, words[7:])
    return name, int(words[3]), maximum


def _parse_range(name: str, words: Sequence[str]) -> tuple[float, float]:
    with np.errstate(over="ignore"):
        minimum, maximum = (np.array(words, np.float64).astype(np.float32) + np.float32(0)).tolist()
    if not (math.isfinite(minimum) and math.isfinite(maximum) and minimum <= maximum):
        raise ValueError(f"[{words[0]}, {words[1]}] is no range of tensor '{name}'")
    return minimum, maximum


def _parse_counts(name: str, words: Sequence[str]) -> NDArray[np.int64]:
    counts = np.array([int(word) for word in words], np.int64)
    if (counts < 0).any():
        raise ValueError(f"a count of tensor '{name}' is negative")
    return counts


def _seen(statistics: Statistics) -> list[tuple[str, Histogram]]:
    tensors = sorted((name, tensor.histogram) for name, tensor in statistics.tensors.items() if tensor.histogram.total)
    _check_names([name for name, _ in tensors])
    return tensors


def _check_names(names: Sequence[str]) -> None:
    if spaced := [name for name in names if not name or name.split() != [name]]:
        raise CalibrationError(
            f"the name of tensor '{spaced[0]}' holds white space, which files of DNNLOWP cannot express"
        )


def _line(index: int, name: str, histogram: Histogram) -> str:
    return f"{index} {_OP_TYPE} 0 {name} {np.float32(histogram.minimum)} {np.float32(histogram.maximum)}"


def _write(path: str | os.PathLike[str], lines: Sequence[str]) -> None:
    with whole_file(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
