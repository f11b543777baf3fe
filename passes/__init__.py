"""The passes, graph in and graph out; :mod:`sqc.passes.pipeline` lists them in order."""

from sqc.passes.base import Note, Notes, Pass
from sqc.passes.insert_quantization import observed_values
from sqc.passes.pipeline import FLOAT, FUSION, PASSES, quantization, run, select

__all__ = ["FLOAT", "FUSION", "PASSES", "Note", "Notes", "Pass", "observed_values", "quantization", "run", "select"]
