"""Choosing the range of a tensor from its histogram. A search is a plug: a name and a function, a file each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from sqc.calibration.dnnlowp import l1_dnnlowp, l2_approx, l2_dnnlowp
from sqc.calibration.histogram import Histogram
from sqc.calibration.kl import kl
from sqc.calibration.minmax import minmax
from sqc.calibration.percentile import percentile
from sqc.calibration.qparams import Grid
from sqc.calibration.true_levels import l1, l2
from sqc.errors import CalibrationError

DEFAULT_SEARCH = "auto"
"""``l2``, but min-max for what a layer normalization makes of a sum: the rows that reach furthest are those that
attention gives most weight, and so errors of theirs reach all."""
OUTPUT_ERROR = "output"
"""Not a search in histograms: the best of some, by the error of the layers that read the tensor."""
MOVING_AVERAGE = "moving-average"
"""Not a search in histograms either: it goes by the extremes of the batches."""


class RangeSearch(Protocol):
    """(histogram, grid) -> (low, high) with low <= 0 <= high; (0, 0) for an empty histogram."""

    def __call__(self, histogram: Histogram, grid: Grid, /) -> tuple[float, float]: ...


_SEARCHES: dict[str, RangeSearch] = {
    "minmax": minmax,
    "auto": l2,
    "l1": l1,
    "l2": l2,
    "l1-dnnlowp": l1_dnnlowp,
    "l2-dnnlowp": l2_dnnlowp,
    "l2-approx": l2_approx,
    "kl": kl,
}


def register_search(name: str) -> Callable[[RangeSearch], RangeSearch]:
    """Decorator that makes a search known under `name`. Raises CalibrationError if the name is taken."""

    def register(search: RangeSearch) -> RangeSearch:
        if name in _SEARCHES:
            raise CalibrationError(f"a range search named '{name}' exists already; choose another name")
        _SEARCHES[name] = search
        return search

    return register


def search_names() -> tuple[str, ...]:
    """The names that `choose_range` knows; beside them there is `p` with a percentage, as in p99 or p99.9."""
    return tuple(_SEARCHES)


def find_search(name: str) -> RangeSearch:
    """The search of that name. Raises CalibrationError if there is none.

    `p99.9` and `percentile:99.9` keep 99.9 percent of the values.
    """
    if name in _SEARCHES:
        return _SEARCHES[name]
    if share := re.fullmatch(r"(?:p(?=[\d.])|percentile:)(.*)", name):
        return percentile(share[1])
    raise CalibrationError(f"there is no range search '{name}'{did_you_mean(name, (*_SEARCHES, 'p99', 'p99.9'))}")


def choose_range(
    histogram: Histogram,
    search: str = DEFAULT_SEARCH,
    bits: int = 8,
    symmetric: bool = False,
    power_of_two: bool = False,
) -> tuple[float, float]:
    """The range (low, high) that the named search chooses; it holds zero. The other arguments as `choose_qparams`.

    Raises CalibrationError if no search has that name.
    """
    return find_search(search)(histogram, Grid(bits, symmetric, power_of_two))


def bounded(histogram: Histogram, low: float, high: float) -> Histogram:
    """The histogram of the values cut to [low, high], which holds zero; bounds may be infinite.

    Ranges of a tensor whose readers cut it so themselves are chosen from this: nothing is lost by clipping more.
    """
    if histogram.total == 0 or (low <= histogram.minimum and histogram.maximum <= high):
        return histogram
    edges = histogram.edges
    first = max(int(np.searchsorted(edges, low, "right")) - 1, 0)
    last = min(int(np.searchsorted(edges, high, "left")), histogram.counts.size)
    zero = -histogram.first
    first, last = min(first, zero), max(last, zero)
    cut = np.clip(np.arange(histogram.counts.size), first, max(last - 1, first)) - first
    counts = np.bincount(cut, histogram.counts, max(last - first, 1)).astype(np.int64)
    minimum, maximum = (min(max(end, low), high) for end in (histogram.minimum, histogram.maximum))
    return Histogram(histogram.exponent, first + histogram.first, counts, minimum, maximum)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is near to it, or else what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3) or names[:8]
    return f"; did you mean {', '.join(near)}?" if near else ""
