"""What calibration keeps of the tensors it saw, and the file that holds it."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.histogram import Histogram
from sqc.calibration.reservoir import Reservoir
from sqc.errors import CalibrationError

_FORMAT = 2
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


@dataclass(slots=True)
class Statistics:
    """One histogram for each tensor name, how many samples they were taken from, and some of these samples."""

    histograms: dict[str, Histogram] = field(default_factory=dict)
    samples: int = 0
    inputs: Reservoir = field(default_factory=Reservoir)

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of samples together, in whatever order or grouping parts are merged.

        Raises CalibrationError if the two name different tensors, unless one holds no samples.
        """
        if not other.histograms and other.samples == 0:
            return Statistics(dict(self.histograms), self.samples, self.inputs)
        if not self.histograms and self.samples == 0:
            return Statistics(dict(other.histograms), other.samples, other.inputs)
        if different := self.histograms.keys() ^ other.histograms.keys():
            some = ", ".join(f"'{name}'" for name in sorted(different)[:5])
            raise CalibrationError(
                f"the statistics to merge are of different models: {len(different)} tensors are in one of them only "
                f"({some}{', ...' if len(different) > 5 else ''}); merge shards of one model and one sqc version"
            )
        merged = {name: histogram.merge(other.histograms[name]) for name, histogram in self.histograms.items()}
        return Statistics(merged, self.samples + other.samples, self.inputs.merge(other.inputs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .npz file; equal statistics give equal bytes. The file appears whole or not at all.

        Raises CalibrationError if it cannot be written.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                for name, array in self._as_arrays().items():
                    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:  # dated 1980, always
                        np.lib.format.write_array(member, array, allow_pickle=False)
            os.replace(partial, target)
        except OSError as error:
            raise CalibrationError(f"cannot write calibration statistics to '{target}': {error}") from error
        finally:
            partial.unlink(missing_ok=True)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Statistics:
        """Read what `save` wrote. Raises CalibrationError if the file is missing, damaged or of another format."""
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

    def _as_arrays(self) -> dict[str, NDArray[Any]]:
        names = sorted(self.histograms)
        histograms = [self.histograms[name] for name in names]
        text = "\0".join(names).encode()
        return {
            "format": np.array(_FORMAT, np.int64),
            "samples": np.array(self.samples, np.int64),
            "names": np.frombuffer(text, np.uint8),
            "exponents": np.array([h.exponent for h in histograms], np.int64),
            "firsts": np.array([h.first for h in histograms], np.int64),
            "minima": np.array([h.minimum for h in histograms], np.float32),
            "maxima": np.array([h.maximum for h in histograms], np.float32),
            "lengths": np.array([h.counts.size for h in histograms], np.int64),
            "counts": np.concatenate([h.counts for h in histograms] or [np.zeros(0, np.int64)]),
            **self.inputs.to_arrays(),
        }


def _read_array(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> Statistics:
    if int(arrays["format"]) != _FORMAT:
        raise ValueError(f"format {int(arrays['format'])} instead of {_FORMAT}")
    exponents, firsts, lengths = (arrays[key].tolist() for key in ("exponents", "firsts", "lengths"))
    minima, maxima = arrays["minima"].tolist(), arrays["maxima"].tolist()
    names = arrays["names"].tobytes().decode().split("\0") if lengths else []
    if not (len(names) == len(exponents) == len(firsts) == len(lengths) == len(minima) == len(maxima)):
        raise ValueError("the numbers of names and histograms differ")
    if sum(lengths) != arrays["counts"].size:
        raise ValueError("bins are missing")
    parts = np.split(arrays["counts"].astype(np.int64), np.cumsum(lengths)[:-1]) if lengths else []
    histograms = (Histogram(*row) for row in zip(exponents, firsts, parts, minima, maxima, strict=True))
    kept = Reservoir.from_arrays(arrays)
    return Statistics(dict(zip(names, histograms, strict=True)), int(arrays["samples"]), kept)
