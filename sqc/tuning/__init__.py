"""Tuning: measuring tiles beside the one that the model of :mod:`sqc.schedules.tiling` picks, and keeping records."""

from __future__ import annotations

from sqc.tuning.model import Tuning, WholeModel, tune, tune_op
from sqc.tuning.records import Choice, Records, Trial
from sqc.tuning.search import OpTuning

__all__ = ["Choice", "OpTuning", "Records", "Trial", "Tuning", "WholeModel", "tune", "tune_op"]
