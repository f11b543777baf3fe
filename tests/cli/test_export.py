"""``sqc export``, and what ``sqc compile`` makes of its file."""

from __future__ import annotations

from pathlib import Path

import onnx

from tests.cli.conftest import DIGITS, Sqc


def test_command(sqc: Sqc, tmp_path: Path, calibration_file: Path) -> None:
    output = tmp_path / "digits.qdq.onnx"
    result = sqc("export", DIGITS, "--calibration-data", calibration_file, "-o", output)
    assert result.exit_code == 0, result.output
    kinds = [node.op_type for node in onnx.load(output).graph.node]
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= set(kinds)
    first = output.read_bytes()
    assert sqc("export", DIGITS, "--calibration-data", calibration_file, "-o", output).exit_code == 0
    assert output.read_bytes() == first
    options = ["--preset", "accurate", "-o", output]
    assert sqc("export", DIGITS, "--calibration-data", calibration_file, *options).exit_code == 0
    assert output.read_bytes() != first
    compiled = sqc("compile", output, "--require-int8", "-o", tmp_path / "digits.so")
    assert compiled.exit_code == 0, compiled.output
    again = sqc("compile", output, "--calibration-data", calibration_file)
    assert again.exit_code == 1
    assert "quantized already" in again.output
