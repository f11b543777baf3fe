"""Calibration: histograms of activations, and the searches that choose ranges, scales and zero points from them."""

from sqc.calibration.calibration import Calibration
from sqc.calibration.channels import ChannelRanges
from sqc.calibration.histogram import BINS, Histogram
from sqc.calibration.l2 import l2_cost
from sqc.calibration.moments import Moments
from sqc.calibration.observer import accumulate
from sqc.calibration.qparams import choose_qparams, choose_weight_scales
from sqc.calibration.ranges import DEFAULT_SEARCH, RangeSearch, choose_range, register_search, search_names
from sqc.calibration.reservoir import KEPT_SAMPLES, Reservoir, digest_of, digested
from sqc.calibration.statistics import Statistics
from sqc.calibration.statistics_file import read_statistics, write_statistics
from sqc.calibration.tensor import TensorStatistics

__all__ = [
    "BINS",
    "DEFAULT_SEARCH",
    "KEPT_SAMPLES",
    "Calibration",
    "ChannelRanges",
    "Histogram",
    "Moments",
    "RangeSearch",
    "Reservoir",
    "Statistics",
    "TensorStatistics",
    "accumulate",
    "choose_qparams",
    "choose_range",
    "choose_weight_scales",
    "digest_of",
    "digested",
    "l2_cost",
    "read_statistics",
    "register_search",
    "search_names",
    "write_statistics",
]
