"""Calibration: histograms of activations, and the searches that choose ranges, scales and zero points from them."""

from sqc.calibration.calibration import Calibration
from sqc.calibration.histogram import BINS, Histogram
from sqc.calibration.l2 import l2_cost
from sqc.calibration.observer import accumulate
from sqc.calibration.qparams import choose_qparams, choose_weight_scales
from sqc.calibration.ranges import DEFAULT_SEARCH, RangeSearch, choose_range, register_search, search_names
from sqc.calibration.reservoir import KEPT_SAMPLES, Reservoir
from sqc.calibration.statistics import Statistics

__all__ = [
    "BINS",
    "DEFAULT_SEARCH",
    "KEPT_SAMPLES",
    "Calibration",
    "Histogram",
    "RangeSearch",
    "Reservoir",
    "Statistics",
    "accumulate",
    "choose_qparams",
    "choose_range",
    "choose_weight_scales",
    "l2_cost",
    "register_search",
    "search_names",
]
