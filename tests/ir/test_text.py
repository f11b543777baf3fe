"""Graphs as text and back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqc.errors import ParseError
from sqc.ir import (
    Builder,
    Graph,
    TensorType,
    constant_data,
    format_graph,
    parse_graph,
    read_graph,
    type_of,
    verify,
    write_graph,
)
from sqc.ir.text import INLINE
from tests.float_graphs import float_graphs
from tests.ir.arbitrary import graphs

QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(graph=graphs())
@settings(QUICK, max_examples=80)
def test_any_graph_comes_back(graph: Graph) -> None:
    text = format_graph(graph)
    assert parse_graph(text, constant_data(graph)) == graph


@given(graph=float_graphs())
@settings(QUICK, max_examples=25)
def test_a_model_comes_back_valid(graph: Graph) -> None:
    again = parse_graph(str(graph), constant_data(graph))
    verify(again)
    assert again == graph
    assert str(again) == str(graph)


def constant_graph(array: np.ndarray) -> Graph:
    builder = Builder("constant")
    builder.outputs = {"y": builder.constant(array, "c")}
    return builder.finish()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("number", [np.inf, -np.inf, -0.0, 1e-5, 65504.0, 0.1, 2.0**-14, np.nan])
def test_special_floats(dtype: str, number: float) -> None:
    graph = constant_graph(np.array([number], dtype))
    assert parse_graph(str(graph), constant_data(graph)) == graph


def test_small_constants_print_inline_and_large_ones_as_a_digest() -> None:
    small, large = (constant_graph(np.arange(size, dtype=np.int64)) for size in (INLINE, INLINE + 1))
    assert constant_data(small) == {}
    assert len(constant_data(large)) == 1
    assert "digest:" in str(large)
    assert parse_graph(str(small)) == small


def test_files(tmp_path: Path) -> None:
    small, large = (constant_graph(np.arange(size, dtype=np.float32)) for size in (2, 100))
    for name, graph in (("small.sqc", small), ("large.sqc", large)):
        write_graph(graph, tmp_path / name)
        assert read_graph(tmp_path / name) == graph
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.sqc", "large.sqc.npz", "small.sqc"]


def test_data_missing_or_of_another_constant(tmp_path: Path) -> None:
    graph = constant_graph(np.arange(100, dtype=np.float32))
    with pytest.raises(ParseError, match=r"line 2, column 28: the data of constant digest:.* is missing"):
        parse_graph(str(graph))
    (name,) = constant_data(graph)
    with pytest.raises(ParseError, match="is not what the text says"):
        parse_graph(str(graph), {name: np.zeros(100, np.float32)})


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "model.sqc"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParseError, match="is not the text of a graph"):
        read_graph(path)


def test_comments_and_spaces_do_not_matter() -> None:
    text = 'graph "g"(%x:float32[2]){ // entry\n\n%y:float32[2]=relu(%x)//op\nreturn "y"=%y}'
    graph = parse_graph(text)
    assert graph.outputs["y"].type == TensorType((2,), "float32")
    assert parse_graph(str(graph)) == graph


def test_multi_line_bodies_are_indented() -> None:
    body = 'graph "body" (%a: int32[1]) {\n    return "y"=%a\n  }'
    text = f'graph "g" (%x: int32[1]) {{\n  %y: int32[1] = fused(%x) {{body={body}}}\n  return "y"=%y\n}}'
    assert str(parse_graph(text)) == text


HEAD = 'graph "g" (%x: float32[2]) {\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: expected 'graph', found 'end of text'"),
        ("graph g", "line 1, column 7: expected a string, found 'g'"),
        ('graph "g" (%x: float31[2]) {', "line 1, column 16: unknown element type 'float31'"),
        ('graph "g" (%x: uint8[2]<-1:0>) {', "line 1, column 16: scale -1.0 is not a positive float32"),
        ('graph "g" (%x: uint8[2]<0.1:0.5>) {', "line 1, column 29: expected a whole number"),
        ('graph "g" (%x: float32[2], %x: float32[2]) {', "line 1, column 28: %x is defined twice"),
        (HEAD + "  %y: float32[2] = relu(%z)", "line 2, column 25: %z is used before its definition"),
        (HEAD + "  %x: float32[2] = relu(%x)", "line 2, column 3: %x is defined twice"),
        (HEAD + "  %y: float32[2] = relu(%x", "line 2, column 27: expected ',', found 'end of text'"),
        (HEAD + "  %y float32[2] = relu(%x)", "line 2, column 6: expected ':', found 'float32'"),
        (HEAD + "  const %c: float32[2] = [1]", "line 2, column 26: 1 elements given for float32[2]"),
        (HEAD + "  %y: float32[2] = clip(%x) {min=?}", "line 2, column 34: unexpected character '?'"),
        (HEAD + "  %y: float32[2] = clip(%x) {min=}", "line 2, column 34: expected a number, found '}'"),
        (HEAD + '  return "y"=%y\n}', "line 2, column 14: %y is used before its definition"),
        (HEAD + '  return "y"=%x\n}\nmore', "line 4, column 1: expected a end, found 'more'"),
    ],
)
def test_errors_give_line_and_column(text: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_graph(text)
    assert message in str(error.value)


@pytest.mark.parametrize("number", ["300", "-1"])
def test_a_constant_outside_its_type(number: str) -> None:
    with pytest.raises(ParseError, match="line 2, column"):
        parse_graph(HEAD + f"  const %c: uint8[1] = [{number}]\n" + '  return "y"=%x\n}')


@given(graph=graphs())
@settings(QUICK, max_examples=25)
def test_a_truncated_text_is_a_parse_error(graph: Graph) -> None:
    text, data = format_graph(graph), constant_data(graph)
    for end in range(0, len(text) - 1, max(1, len(text) // 20)):
        with pytest.raises(ParseError, match=r"^line "):
            parse_graph(text[:end], data)


@given(graph=float_graphs(), data=st.data())
@settings(QUICK, max_examples=40)
def test_a_damaged_text_parses_or_is_a_parse_error(graph: Graph, data: st.DataObject) -> None:
    text = format_graph(graph)
    at = data.draw(st.integers(0, len(text) - 1))
    junk = data.draw(
        st.sampled_from(['"', "\\", "%", "{", "}", "[", "]", "-", "1e9", "9" * 30, "nan", "\n", "é", ",", ""])
    )
    with contextlib.suppress(ParseError):
        parse_graph(text[:at] + junk + text[at + data.draw(st.integers(0, 5)) :], constant_data(graph))


@pytest.mark.parametrize("text", ['graph "\\q" () {', 'graph "g" (%"\\q": bool[]) {', 'graph "a\nb" () {'])
def test_an_ill_formed_string(text: str) -> None:
    with pytest.raises(ParseError, match=r"line 1, column \d+: no valid string"):
        parse_graph(text)


def test_types_of_arrays() -> None:
    assert str(type_of(np.zeros((1, 2), np.uint8))) == "uint8[1,2]"
