"""The intermediate representation: graphs of typed values, as data and as text."""

from sqc.ir.cut import cut, split
from sqc.ir.evaluate import evaluate, evaluate_op
from sqc.ir.graph import Attribute, Graph, Op, Value, digest, same_bits
from sqc.ir.registry import OpDefinition, Required, define, definition, infer_type, kinds
from sqc.ir.rewrite import Builder, Rewriter, rebatch, take_name
from sqc.ir.text import constant_data, format_graph, format_type, parse_graph, read_graph, write_graph
from sqc.ir.types import DTYPES, Quantization, TensorType, type_of
from sqc.ir.verify import verify

__all__ = [
    "DTYPES",
    "Attribute",
    "Builder",
    "Graph",
    "Op",
    "OpDefinition",
    "Quantization",
    "Required",
    "Rewriter",
    "TensorType",
    "Value",
    "constant_data",
    "cut",
    "define",
    "definition",
    "digest",
    "evaluate",
    "evaluate_op",
    "format_graph",
    "format_type",
    "infer_type",
    "kinds",
    "parse_graph",
    "read_graph",
    "rebatch",
    "same_bits",
    "split",
    "take_name",
    "type_of",
    "verify",
    "write_graph",
]
