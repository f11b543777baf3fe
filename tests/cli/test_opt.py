"""``sqc opt`` and ``sqc inspect`` on graphs as text."""

from __future__ import annotations

from pathlib import Path

from sqc.ir import parse_graph, read_graph
from tests.cli.conftest import DIGITS, GRAPH, Sqc


def test_without_passes_prints_the_graph(sqc: Sqc, graph_file: Path) -> None:
    result = sqc("opt", graph_file)
    assert result.exit_code == 0
    assert parse_graph(result.output) == parse_graph(GRAPH)


def test_runs_passes_in_order(sqc: Sqc, graph_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.sqc"
    result = sqc("opt", "--passes", "fold-constants, dead-code", graph_file, "-o", output)
    assert (result.exit_code, result.output) == (0, "")
    (op,) = read_graph(output).ops
    assert op.source == "scale"


def test_print_after(sqc: Sqc, graph_file: Path) -> None:
    result = sqc("opt", "--passes", "dead-code,fold-constants,dead-code", "--print-after", "dead-code", graph_file)
    assert result.exit_code == 0
    assert "// after dead-code, run 1" in result.output
    assert "// after dead-code, run 2" in result.output
    assert "// after fold-constants" not in result.output


def test_unknown_passes_are_all_named(sqc: Sqc, graph_file: Path) -> None:
    result = sqc("opt", "--passes", "fold-constants,fold,spindle", graph_file)
    assert result.exit_code == 1
    assert "fold, spindle" in result.output
    assert "known: " in result.output


def test_parse_error_tells_where(sqc: Sqc, graph_file: Path) -> None:
    graph_file.write_text(GRAPH.replace("%six)", "%seven)"))
    result = sqc("opt", graph_file)
    assert result.exit_code == 1
    assert "%seven is used before its definition" in result.output
    assert "5" in result.output


def test_lists_passes(sqc: Sqc) -> None:
    result = sqc("opt", "--list")
    assert result.exit_code == 0
    assert "dead-code" in result.output


def test_inspect_graph(sqc: Sqc, graph_file: Path) -> None:
    result = sqc("inspect", graph_file)
    assert result.exit_code == 0
    assert "graph 'tiny': 2 ops" in result.output
    assert "float32[1,4]" in result.output


def test_inspect_onnx(sqc: Sqc) -> None:
    result = sqc("inspect", DIGITS)
    assert result.exit_code == 0
    assert "dynamic batch" in result.output
    assert "451,584" in result.output


def test_inspect_onnx_as_text(sqc: Sqc) -> None:
    result = sqc("inspect", "--text", DIGITS)
    assert result.exit_code == 0
    assert result.output.startswith('graph "digits" dynamic_batch (%image: float32[1,1,8,8])')


def test_truncated_onnx(sqc: Sqc, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(DIGITS.read_bytes()[:5000])
    result = sqc("inspect", path)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "cut.onnx" in result.output


def test_no_library(sqc: Sqc, tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(b"something else")
    result = sqc("inspect", path)
    assert result.exit_code == 1
    assert "this is not a model compiled by sqc" in result.output
