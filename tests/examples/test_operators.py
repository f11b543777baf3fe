"""Every operator by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest


def test_all_are_integer_and_as_the_reference_has_them() -> None:
    import operators

    import sqc

    names = [
        "Conv 1-D",
        "Conv, transposed",
        "BatchMatMul, constant",
        "ElementwiseLinear",
        "ConvRelu, ChannelShuffle, Conv",
    ]
    for name in names:
        builder = operators.Qdq()
        graph = sqc.import_onnx(builder.proto(operators.OPERATORS[name](builder)))
        arrays = {x.name: builder.random.integers(0, 256, x.type.shape, np.uint8) for x in graph.inputs}
        (expected,), (actual,) = sqc.quantize(graph).run(arrays).values(), sqc.compile(graph).run(arrays).values()
        np.testing.assert_array_equal(actual, expected, name)


def test_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    import operators

    file = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["operators.py", "--operators", "Add", "--seconds", "0.01", "--json", str(file)])
    monkeypatch.setattr(operators, "PEERS", ("onnxruntime",))
    operators.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| operator | threads | sqc int8 | ONNX Runtime int8 | times faster |"
    assert lines[2].startswith("| Add | 1 | ") and lines[3].startswith("| **geometric mean** |")


def test_unknown_operators(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import operators

    monkeypatch.setattr(sys, "argv", ["operators.py", "--operators", "Add;Subtract"])
    with pytest.raises(SystemExit):
        operators.main()
    assert "unknown operators: Subtract" in capsys.readouterr().err
