"""Calibration: histograms of activations, and the searches that choose ranges, scales and zero points from them."""

from sqc.calibration.calibration import Calibration
from sqc.calibration.channels import ChannelRanges
from sqc.calibration.histogram import BINS, Histogram
from sqc.calibration.moments import Moments
from sqc.calibration.observer import accumulate
from sqc.calibration.qparams import Grid, choose_qparams
from sqc.calibration.ranges import DEFAULT_SEARCH, RangeSearch, choose_range, find_search, register_search, search_names
from sqc.calibration.reservoir import KEPT_SAMPLES, Reservoir, digest_of, digested
from sqc.calibration.settings import Ranges, RangesLike, Settings, WeightSettings
from sqc.calibration.statistics import Statistics
from sqc.calibration.statistics_file import read_statistics, write_statistics
from sqc.calibration.tensor import TensorStatistics
from sqc.calibration.true_levels import quantization_error
from sqc.calibration.weights import choose_weight_scales

__all__ = [
    "BINS",
    "DEFAULT_SEARCH",
    "KEPT_SAMPLES",
    "Calibration",
    "ChannelRanges",
    "Grid",
    "Histogram",
    "Moments",
    "RangeSearch",
    "Ranges",
    "RangesLike",
    "Reservoir",
    "Settings",
    "Statistics",
    "TensorStatistics",
    "WeightSettings",
    "accumulate",
    "choose_qparams",
    "choose_range",
    "choose_weight_scales",
    "digest_of",
    "digested",
    "find_search",
    "quantization_error",
    "read_statistics",
    "register_search",
    "search_names",
    "write_statistics",
]
