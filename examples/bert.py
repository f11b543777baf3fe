"""BERT-like encoders as ONNX models of a fixed length, from weights by the names of Hugging Face's BertModel."""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    epsilon: float = 1e-12

    @staticmethod
    def read(path: Path) -> Shape:
        """From a ``config.json``."""
        config = json.loads(path.read_text())
        names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
        sizes = [int(config[name]) for name in (*names, "max_position_embeddings")]
        return Shape(*sizes, epsilon=float(config["layer_norm_eps"]))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 arrays of a file: eight bytes of length, a header in JSON, then the data."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    arrays = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if entry.get("dtype") == "F32":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            arrays[name] = np.frombuffer(content[begin:end], np.float32).reshape(entry["shape"])
    return arrays


def random_weights(shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of an encoder that is not trained, of the magnitude that trained ones have."""
    random = np.random.default_rng(seed)

    def normal(*extents: int, spread: float) -> np.ndarray:
        return random.normal(0, spread, extents).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": normal(shape.vocabulary, shape.hidden, spread=0.5),
        "embeddings.position_embeddings.weight": normal(shape.positions, shape.hidden, spread=0.1),
        "embeddings.token_type_embeddings.weight": normal(2, shape.hidden, spread=0.1),
    }
    dense = {
        "attention.self.query": (shape.hidden, shape.hidden),
        "attention.self.key": (shape.hidden, shape.hidden),
        "attention.self.value": (shape.hidden, shape.hidden),
        "attention.output.dense": (shape.hidden, shape.hidden),
        "intermediate.dense": (shape.intermediate, shape.hidden),
        "output.dense": (shape.hidden, shape.intermediate),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(shape.layers):
        prefix = f"encoder.layer.{layer}."
        norms += [f"{prefix}attention.output.LayerNorm", f"{prefix}output.LayerNorm"]
        for name, (rows, columns) in dense.items():
            weights[f"{prefix}{name}.weight"] = normal(rows, columns, spread=1.5 * columns**-0.5)
            weights[f"{prefix}{name}.bias"] = normal(rows, spread=0.1)
    for name in norms:
        weights[f"{name}.weight"] = 1 + normal(shape.hidden, spread=0.1)
        weights[f"{name}.bias"] = normal(shape.hidden, spread=0.1)
    return weights


class _Nodes:
    """Collects nodes and initializers."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, op_type: str, *inputs: str | np.ndarray, name: str, **attributes: object) -> str:
        names = [item if isinstance(item, str) else self.constant(item, f"{name}.{i}") for i, item in enumerate(inputs)]
        self.nodes.append(helper.make_node(op_type, names, [name], name=name, **attributes))
        return name

    def constant(self, array: np.ndarray, name: str) -> str:
        self.arrays[name] = array
        return name

    def dense(self, x: str, name: str) -> str:
        product = self("MatMul", x, self.weights[f"{name}.weight"].T, name=f"{name}/MatMul")
        return self("Add", product, self.weights[f"{name}.bias"], name=f"{name}/Add")

    def norm(self, x: str, name: str, epsilon: float) -> str:
        scale, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self("LayerNormalization", x, scale, bias, name=name, axis=-1, epsilon=epsilon)

    def gelu(self, x: str, name: str) -> str:
        ratio = self("Div", x, np.float32(2**0.5), name=f"{name}/Div")
        shifted = self("Add", self("Erf", ratio, name=f"{name}/Erf"), np.float32(1), name=f"{name}/Add")
        return self("Mul", self("Mul", x, shifted, name=f"{name}/Mul"), np.float32(0.5), name=f"{name}/Half")


def encoder(weights: Weights, shape: Shape, length: int) -> onnx.ModelProto:
    """The model from ``tokens`` int64 [1, length] to ``embedding`` float32 [1, hidden], their mean, not normalized."""
    n = _Nodes(weights)
    words = n("Gather", weights["embeddings.word_embeddings.weight"], "tokens", name="words")
    places = weights["embeddings.position_embeddings.weight"][:length] + weights[
        "embeddings.token_type_embeddings.weight"][0]  # fmt: skip
    x = n.norm(n("Add", words, places[None], name="places"), "embeddings.LayerNorm", shape.epsilon)
    depth = shape.hidden // shape.heads
    split = np.array([1, length, shape.heads, depth], np.int64)
    for layer in range(shape.layers):
        p = f"encoder.layer.{layer}."
        heads = {}
        for part, perm in (("query", (0, 2, 1, 3)), ("key", (0, 2, 3, 1)), ("value", (0, 2, 1, 3))):
            name = f"{p}attention.self.{part}"
            rows = n("Reshape", n.dense(x, name), split, name=f"{name}/Reshape")
            heads[part] = n("Transpose", rows, name=f"{name}/Transpose", perm=perm)
        scores = n("MatMul", heads["query"], heads["key"], name=f"{p}scores")
        scaled = n("Div", scores, np.float32(depth**0.5), name=f"{p}scaled")
        shares = n("Softmax", scaled, name=f"{p}shares", axis=-1)
        context = n("MatMul", shares, heads["value"], name=f"{p}context")
        rows = n("Transpose", context, name=f"{p}context/Transpose", perm=(0, 2, 1, 3))
        joined = n("Reshape", rows, np.array([1, length, shape.hidden], np.int64), name=f"{p}context/Reshape")
        attended = n("Add", n.dense(joined, f"{p}attention.output.dense"), x, name=f"{p}attention.residual")
        x = n.norm(attended, f"{p}attention.output.LayerNorm", shape.epsilon)
        inner = n.gelu(n.dense(x, f"{p}intermediate.dense"), f"{p}gelu")
        x = n.norm(
            n("Add", n.dense(inner, f"{p}output.dense"), x, name=f"{p}residual"), f"{p}output.LayerNorm", shape.epsilon
        )
    n("ReduceMean", x, name="embedding", axes=[1], keepdims=0)
    graph = helper.make_graph(
        n.nodes,
        "encoder",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, length])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, shape.hidden])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in n.arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


class Tokenizer:
    """BERT's uncased WordPiece: words and punctuation, each as its longest known pieces from left to right."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.numbers = {piece: i for i, piece in enumerate(vocabulary)}

    @staticmethod
    def read(path: Path) -> Tokenizer:
        """From a ``vocab.txt``."""
        return Tokenizer(path.read_text(encoding="utf-8").split("\n")[:-1])

    def __call__(self, text: str) -> list[int]:
        """The numbers of the pieces, without those that mark beginning and end."""
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Mn")
        return [
            piece for word in re.findall(r"\w+|[^\w\s]|_", plain.replace("_", " _ ")) for piece in self._pieces(word)
        ]

    def sentence(self, text: str, length: int) -> np.ndarray:
        """int64 [1, length] of a text that has at least ``length - 2`` pieces, with its marks."""
        pieces = self(text)[: length - 2]
        if len(pieces) < length - 2:
            raise ValueError(f"the text has {len(pieces)} pieces, fewer than {length - 2}")
        return np.array([[self.numbers["[CLS]"], *pieces, self.numbers["[SEP]"]]], np.int64)

    def _pieces(self, word: str) -> list[int]:
        found, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self.numbers)
            end = next(ends, None)
            if end is None:
                return [self.numbers["[UNK]"]]
            found.append(self.numbers[prefix + word[start:end]])
            start = end
        return found
