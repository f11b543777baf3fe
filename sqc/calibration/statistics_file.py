"""The file of calibration statistics: an .npz, uncompressed and undated, so that equal statistics are equal bytes."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sqc.calibration.batches import BatchRanges
from sqc.calibration.channels import ChannelRanges
from sqc.calibration.histogram import Histogram
from sqc.calibration.moments import Moments
from sqc.calibration.reservoir import Reservoir, digested
from sqc.calibration.statistics import Statistics
from sqc.calibration.tensor import TensorStatistics
from sqc.errors import CalibrationError

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_FORMAT = 2
_NUMBER_BYTES = 96  # a sum of squares in units of 2**-298 is below 2**(554 + 64)
_DIGEST_BYTES = 16
# What zipfile, struct and numpy raise on bytes that are not theirs.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def write_statistics(statistics: Statistics, path: str | os.PathLike[str]) -> None:
    """Write a file; equal statistics give equal bytes. The file appears whole or not at all.

    Raises CalibrationError if it cannot be written.
    """
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, array in _to_arrays(statistics).items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:  # dated 1980, always
                np.lib.format.write_array(member, array, allow_pickle=False)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end, or vanishes if that fails.

    Raises CalibrationError where the block or the system raises OSError: a full disk, a missing folder.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, target)
    except OSError as error:
        raise CalibrationError(f"cannot write calibration statistics to '{target}': {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read_statistics(path: str | os.PathLike[str]) -> Statistics:
    """Read what `write_statistics` wrote.

    Raises CalibrationError if the file is missing, damaged or of another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        return _from_arrays({name: _read_array(content) for name, content in members.items()})
    except FileNotFoundError as error:
        raise CalibrationError(f"there is no file of calibration statistics '{os.fspath(path)}'") from error
    except _DAMAGE as error:
        raise CalibrationError(
            f"'{os.fspath(path)}' holds no calibration statistics that this version of sqc reads "
            f"({error}); save them again with `sqc calibrate`"
        ) from error


def _read_array(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array


def _to_arrays(statistics: Statistics) -> dict[str, NDArray[Any]]:
    names = sorted(statistics.tensors)
    tensors = [statistics.tensors[name] for name in names]
    return {
        "format": np.array(_FORMAT, np.int64),
        "samples": np.array(statistics.samples, np.int64),
        "names": _text(names),
        **_from_histograms([tensor.histogram for tensor in tensors]),
        **_from_moments([tensor.moments for tensor in tensors]),
        **_from_channels([tensor.channels for tensor in tensors]),
        **_from_batches(statistics.batches, names),
        **_from_reservoir(statistics.inputs),
    }


def _from_arrays(arrays: Arrays) -> Statistics:
    if int(arrays["format"]) != _FORMAT:
        raise ValueError(f"format {int(arrays['format'])} instead of {_FORMAT}")
    names = _names(arrays["names"], len(arrays["lengths"]))
    columns = zip(_histograms(arrays), _moments(arrays), _channels(arrays), strict=True)
    tensors = (TensorStatistics(histogram, moments, channels) for histogram, moments, channels in columns)
    by_name = dict(zip(names, tensors, strict=True))
    return Statistics(by_name, int(arrays["samples"]), _batches(arrays, names), _reservoir(arrays))


def _from_histograms(histograms: Sequence[Histogram]) -> dict[str, NDArray[Any]]:
    return {
        "exponents": np.array([h.exponent for h in histograms], np.int64),
        "firsts": np.array([h.first for h in histograms], np.int64),
        "minima": np.array([h.minimum for h in histograms], np.float32),
        "maxima": np.array([h.maximum for h in histograms], np.float32),
        "lengths": np.array([h.counts.size for h in histograms], np.int64),
        "counts": _joined([h.counts for h in histograms], np.int64),
    }


def _histograms(arrays: Arrays) -> list[Histogram]:
    columns = (arrays[key].tolist() for key in ("exponents", "firsts"))
    counts = _parts(arrays["counts"].astype(np.int64), arrays["lengths"])
    rows = zip(*columns, counts, arrays["minima"].tolist(), arrays["maxima"].tolist(), strict=True)
    return [Histogram(*row) for row in rows]


def _from_moments(moments: Sequence[Moments | None]) -> dict[str, NDArray[Any]]:
    known = [m or Moments() for m in moments]
    numbers = b"".join(n.to_bytes(_NUMBER_BYTES, "little", signed=True) for m in known for n in (m.total, m.squares))
    return {
        "moment_counts": np.array([-1 if m is None else m.count for m in moments], np.int64),
        "moments": np.frombuffer(numbers, np.uint8).reshape(-1, 2, _NUMBER_BYTES),
    }


def _moments(arrays: Arrays) -> list[Moments | None]:
    numbers = [[int.from_bytes(n.tobytes(), "little", signed=True) for n in pair] for pair in arrays["moments"]]
    rows = zip(arrays["moment_counts"].tolist(), numbers, strict=True)
    return [None if count < 0 else Moments(count, *pair) for count, pair in rows]


def _from_channels(channels: Sequence[ChannelRanges | None]) -> dict[str, NDArray[Any]]:
    return {
        "channel_axes": np.array([-1 if c is None else c.axis for c in channels], np.int64),
        "channel_lengths": np.array([0 if c is None else c.minima.size for c in channels], np.int64),
        "channel_minima": _joined([c.minima for c in channels if c], np.float32),
        "channel_maxima": _joined([c.maxima for c in channels if c], np.float32),
    }


def _channels(arrays: Arrays) -> list[ChannelRanges | None]:
    columns = (_parts(arrays[key], arrays["channel_lengths"]) for key in ("channel_minima", "channel_maxima"))
    rows = zip(arrays["channel_axes"].tolist(), *columns, strict=True)
    return [None if axis < 0 else ChannelRanges(axis, minima, maxima) for axis, minima, maxima in rows]


def _from_batches(batches: BatchRanges, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    digests = b"".join(digest for _, digest in batches.keys)
    ranges = [batches.of_tensor(name) for name in names]
    return {
        "batches": np.array([number for number, _ in batches.keys], np.int64),
        "batch_digests": np.frombuffer(digests, np.uint8).reshape(-1, _DIGEST_BYTES),
        "batch_ranges": np.array(ranges, np.float32).reshape(len(names), len(batches.keys), 2),
    }


def _batches(arrays: Arrays, names: Sequence[str]) -> BatchRanges:
    digests = [row.tobytes() for row in arrays["batch_digests"]]
    keys = tuple(zip(arrays["batches"].tolist(), digests, strict=True))
    return BatchRanges(keys, dict(zip(names, arrays["batch_ranges"], strict=True)) if keys else {})


def _from_reservoir(reservoir: Reservoir) -> dict[str, NDArray[Any]]:
    inputs = reservoir.arrays()
    return {
        "kept": np.array([len(reservoir.samples), reservoir.capacity], np.int64),
        "kept_names": _text(list(inputs)),
        **{f"kept_{i}": array for i, array in enumerate(inputs.values())},
    }


def _reservoir(arrays: Arrays) -> Reservoir:
    count, capacity = arrays["kept"].tolist()
    names = _names(arrays["kept_names"], count)
    inputs = {name: arrays[f"kept_{i}"] for i, name in enumerate(names)}
    rows = min(map(len, inputs.values()), default=0)
    reservoir = Reservoir.of(digested(inputs, max(1, rows // max(1, count))), rows)
    if len(reservoir.samples) != count or count > capacity:
        raise ValueError("samples are missing")
    return Reservoir(reservoir.samples, capacity)


def _text(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\0".join(names).encode(), np.uint8)


def _names(text: NDArray[np.uint8], count: int) -> list[str]:
    return text.tobytes().decode().split("\0") if count else []


def _joined(arrays: Iterable[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *arrays])


def _parts(joined: NDArray[Any], lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    """`joined`, cut into parts of these lengths. Raises ValueError if they do not add up to it."""
    if lengths.sum() != joined.size or (lengths < 0).any():
        raise ValueError("bins are missing")
    return np.split(joined, np.cumsum(lengths)[:-1]) if lengths.size else []
