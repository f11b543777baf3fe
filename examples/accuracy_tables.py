"""What ``accuracy.py`` measured, as tables: sqc's presets beside other engines, costs, and what techniques add."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from quantize_engine import PEERS, PRESETS, TECHNIQUES
from results import Row, markdown, mebibytes
from speed import geometric_mean

from sqc.accuracy.statistics import disagreement, mcnemar

SECTION = "accuracy beside engines"
KEY = ("model", "engine")
SIGNIFICANT = 0.05
INT8_SHARE = 0.99
"""Presets with a smaller share of multiply-accumulates in int8 are pointed out."""

TITLES = {
    "onnxruntime min-max": "ONNX Runtime, min-max",
    "onnxruntime entropy": "ONNX Runtime, entropy",
    "onnxruntime percentile": "ONNX Runtime, percentile",
    "openvino default": "NNCF, default",
    "openvino accurate-bias-correction": "NNCF, accurate bias correction",
}
Cells: TypeAlias = dict[str, dict[str, Row]]
"""Rows by model, then by engine."""
Table: TypeAlias = Callable[[Sequence[Row]], str]


def pack(flags: np.ndarray) -> str:
    """bool[n] as text."""
    return np.packbits(flags).tobytes().hex()


def unpack(text: str, count: int) -> np.ndarray:
    """The bool[count] that ``pack`` wrote."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)


def by_model(rows: Iterable[Row]) -> Cells:
    cells: Cells = {}
    for row in rows:
        cells.setdefault(row["model"], {})[row["engine"]] = row
    return cells


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def title(engine: str) -> str:
    return TITLES.get(engine, engine)


def row_disagreement(row: Row) -> float:
    """The rate at which a model with one answer an input differs from the float one, see ``disagreement``."""
    return disagreement(int(np.count_nonzero(~unpack(row["agrees"], row["samples"]))), row["samples"])


def classifiers(cells: Cells, engines: Sequence[str]) -> Cells:
    """The models with one answer an input that all ``engines`` were measured on."""
    return {
        model: found
        for model, found in cells.items()
        if all(engine in found and found[engine]["agrees"] is not None for engine in engines)
    }


def agreement_table(rows: Sequence[Row], engines: Sequence[str] = (*PRESETS, *PEERS)) -> str:
    """A line for each model; the highest agreement is set off. Then the mean of the disagreements."""
    cells = by_model(row for row in rows if row["engine"] in engines)
    engines = [engine for engine in engines if any(engine in found for found in cells.values())]
    lines = []
    for model, found in cells.items():
        values = [row["agreement"] for row in found.values()]
        if None in values:
            continue
        texts = (
            _agreement(found[engine], found[engine]["agreement"] == max(values)) if engine in found else "-"
            for engine in engines
        )
        first = next(iter(found.values()))
        lines.append([model, str(first["samples"]), share(first["float_top1"]), *texts])
    compared = classifiers(cells, engines)
    if compared:
        means = (geometric_mean(row_disagreement(found[engine]) for found in compared.values()) for engine in engines)
        lines.append([f"**disagreement of {len(compared)}**", "", "", *(f"{mean:.3%}" for mean in means)])
    return markdown(["model", "samples", "float top-1", *map(title, engines)], lines)


def _agreement(row: Row, best: bool) -> str:
    text = f"**{share(row['agreement'])}**" if best else share(row["agreement"])
    return text if row["top1"] is None else f"{text} ({share(row['top1'])})"


def significance_table(rows: Sequence[Row]) -> str:
    """A line for each classifier: sqc's presets beside the best of the other engines. Then the geometric means."""
    cells = by_model(rows)
    presets = [engine for engine in PRESETS if any(engine in found for found in cells.values())]
    columns = ["model", "best other engine", "its disagreement"]
    for preset in presets:
        columns += [preset, "over the best", "p, agreement", "p, top-1"]
    lines = []
    ratios: dict[str, list[float]] = {preset: [] for preset in presets}
    for model, found in classifiers(cells, presets).items():
        peers = {engine: found[engine] for engine in PEERS if engine in found}
        if not peers:
            continue
        best = min(peers, key=lambda engine: row_disagreement(peers[engine]))
        line = [model, title(best), f"{row_disagreement(peers[best]):.3%}"]
        for preset in presets:
            ratio = row_disagreement(found[preset]) / row_disagreement(peers[best])
            ratios[preset].append(ratio)
            line += [f"{row_disagreement(found[preset]):.3%}", f"{ratio:.2f}"]
            line += [_significance(found[preset], peers, kind) for kind in ("agrees", "right")]
        lines.append(line)
    if lines:
        means = [["", f"**{geometric_mean(ratios[preset]):.2f}**", "", ""] for preset in presets]
        lines.append(["**geometric mean**", "", "", *(text for group in means for text in group)])
    return markdown(columns, lines)


def _significance(own: Row, peers: Mapping[str, Row], kind: str) -> str:
    """How likely a preset is as good as the engine that is best by ``kind``; set off where it is worse for sure."""
    if own[kind] is None:
        return "-"
    flags = [unpack(row[kind], row["samples"]) for row in peers.values()]
    best = max(flags, key=np.count_nonzero)
    mine = unpack(own[kind], own["samples"])
    p = mcnemar(mine, best)
    worse = p < SIGNIFICANT and np.count_nonzero(mine) < np.count_nonzero(best)
    text = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return f"**{text}**" if worse else text


def cost_table(rows: Sequence[Row]) -> str:
    """What quantizing took, a line for each model and engine."""
    columns = ["model", "engine", "MACs in int8", "run, over fast", "quantize, s", "compile, s", "peak, MiB"]
    lines = []
    for model, found in by_model(rows).items():
        for engine in (*PRESETS, *PEERS):
            if (row := found.get(engine)) is None:
                continue
            int8 = share(row["int8_share"])
            if row["int8_share"] is not None and row["int8_share"] < INT8_SHARE:
                int8 = f"**{int8}**"
            ratio = f"{row['time_over_fast']:.3f}" if "time_over_fast" in row else "-"
            compiling = "-" if row["compile_seconds"] is None else f"{row['compile_seconds']:.1f}"
            seconds = f"{row['quantize_seconds']:.1f}"
            lines.append([model, title(engine), int8, ratio, seconds, compiling, mebibytes(row["peak_bytes"])])
    return markdown(columns, lines)


def error_table(rows: Sequence[Row]) -> str:
    """A line for each model: how far the first output is off."""
    cells = by_model(rows)
    engines = [engine for engine in (*PRESETS, *PEERS) if any(engine in found for found in cells.values())]
    lines = (
        [model, *(share(found[engine]["relative_error"]) if engine in found else "-" for engine in engines)]
        for model, found in cells.items()
    )
    return markdown(["model", *map(title, engines)], lines)


def techniques_table(rows: Sequence[Row]) -> str:
    return agreement_table(rows, TECHNIQUES)


def tables() -> list[tuple[str, Table]]:
    """Every table, and what to say before it."""
    return [
        (
            "Agreement, the share of inputs with the float model's top-1; top-1 in brackets where there are labels. "
            "Every engine calibrates on the same inputs, with its tool's own settings otherwise (ONNX Runtime: u8 "
            "activations, s8 weights per channel). UltraFace counts anchors. *Disagreement* is (k + 0.5) / (n + 1), "
            "its geometric mean over the classifiers.",
            agreement_table,
        ),
        (
            "Disagreement of sqc's presets over that of the best of the other engines on each model; p is of McNemar's "
            "exact test beside the engine that agrees with float most often, and the one that is right most often "
            "(which may be by chance, and more often than float).",
            significance_table,
        ),
        (
            "What quantizing takes in a process of its own on one machine: all of it but reading the inputs. Other "
            "engines compile when they load a model. *Run* is the time of the preset's library over that of `fast`, in "
            "turns on one thread.",
            cost_table,
        ),
        (
            "The root mean square of the difference to the float model's first output over that of the output.",
            error_table,
        ),
        (
            "What each technique adds, one after the other, all else as before: min-max ranges, L2 ranges (`fast`), "
            "bias correction (`accurate`), adaptive rounding of weights, weights fitted to quantized inputs, "
            "SmoothQuant for fully connected layers, equalization of channels, pictures brought to levels (`best`).",
            techniques_table,
        ),
    ]
