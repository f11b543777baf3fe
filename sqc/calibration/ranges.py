"""Choosing the range of a tensor from its histogram. A search is a plug: a name and a function, a file each."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Protocol

from sqc.calibration.histogram import Histogram
from sqc.calibration.l2 import l2
from sqc.calibration.minmax import minmax
from sqc.calibration.qparams import check_bits
from sqc.errors import CalibrationError

DEFAULT_SEARCH = "l2"


class RangeSearch(Protocol):
    """(histogram, bits, symmetric) -> (low, high) with low <= 0 <= high; (0, 0) for an empty histogram."""

    def __call__(self, histogram: Histogram, bits: int = ..., symmetric: bool = ..., /) -> tuple[float, float]: ...


_SEARCHES: dict[str, RangeSearch] = {"minmax": minmax, "l2": l2}


def register_search(name: str) -> Callable[[RangeSearch], RangeSearch]:
    """Decorator that makes a search known under `name`. Raises CalibrationError if the name is taken."""

    def register(search: RangeSearch) -> RangeSearch:
        if name in _SEARCHES:
            raise CalibrationError(f"a range search named '{name}' exists already; choose another name")
        _SEARCHES[name] = search
        return search

    return register


def search_names() -> tuple[str, ...]:
    """The names that `choose_range` accepts."""
    return tuple(_SEARCHES)


def choose_range(
    histogram: Histogram, search: str = DEFAULT_SEARCH, bits: int = 8, symmetric: bool = False
) -> tuple[float, float]:
    """The range (low, high) that the named search chooses; it holds zero. `bits` and `symmetric` as `choose_qparams`.

    Raises CalibrationError if no search has that name.
    """
    check_bits(bits)
    if search not in _SEARCHES:
        raise CalibrationError(f"there is no range search '{search}'{did_you_mean(search, _SEARCHES)}")
    return _SEARCHES[search](histogram, bits, symmetric)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is near to it, or else what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3) or names[:8]
    return f"; did you mean {', '.join(near)}?" if near else ""
