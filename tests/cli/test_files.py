"""Reading arrays by input name, and writing files whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqc.cli.files import calibration_batches, read_arrays, replacing, write_arrays, write_text_graph
from sqc.errors import InputError
from sqc.ir import parse_graph, read_graph
from tests.cli.conftest import GRAPH

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.ones((2, 1), np.float32)


def test_npz_by_name_ignores_what_is_no_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", a=A, b=B, labels=np.zeros(2))
    arrays = read_arrays(tmp_path / "data.npz", ["b", "a"])
    assert list(arrays) == ["b", "a"]
    np.testing.assert_array_equal(arrays["a"], A)


def test_single_input_takes_any_single_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=A)
    np.save(tmp_path / "data.npy", A)
    for name in ("data.npz", "data.npy"):
        np.testing.assert_array_equal(read_arrays(tmp_path / name, ["image"])["image"], A)


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        ({"x": A, "y": B}, ["image"], "holds 'x', 'y', the model takes 'image': name the arrays after the inputs"),
        ({"a": A}, ["a", "b"], "holds 'a', the model takes 'a', 'b'"),
        ({}, ["a"], "holds nothing, the model takes 'a'"),
        ({"x": np.array([object()])}, ["x"], "no readable .npz or .npy file"),
    ],
)
def test_unsuitable_npz(tmp_path: Path, arrays: dict[str, np.ndarray], names: list[str], message: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        read_arrays(tmp_path / "data.npz", names)


def test_one_array_for_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", A)
    with pytest.raises(InputError, match=r"one array, the model takes 'a', 'b': give an \.npz"):
        read_arrays(tmp_path / "data.npy", ["a", "b"])


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 cut off"])
def test_damaged_arrays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"data\.npz is no readable"):
        read_arrays(tmp_path / "data.npz", ["x"])


def test_outputs_go_where_they_fit(tmp_path: Path) -> None:
    write_arrays(tmp_path / "y.npy", {"y": A})
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), A)
    write_arrays(tmp_path / "y.npz", {"y": A, "z": B})
    with np.load(tmp_path / "y.npz") as loaded:
        assert sorted(loaded.files) == ["y", "z"]
    with pytest.raises(InputError, match="2 outputs, which an"):
        write_arrays(tmp_path / "y.npy", {"y": A, "z": B})
    with pytest.raises(InputError, match=r"\.npy .* or \.npz"):
        write_arrays(tmp_path / "y.txt", {"y": A})


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    assert path.read_text() == "old"


def test_calibration_comes_in_pieces(tmp_path: Path) -> None:
    graph = parse_graph('graph "g" dynamic_batch (%x: float32[1,3]) {\n return "y"=%x\n}')
    data = np.arange(210, dtype=np.float32).reshape(70, 3)
    np.savez(tmp_path / "calib.npz", x=data)
    pieces = calibration_batches(tmp_path / "calib.npz", graph)
    assert [len(piece["x"]) for piece in pieces] == [32, 32, 6]
    np.testing.assert_array_equal(np.concatenate([piece["x"] for piece in pieces]), data)


def test_calibration_of_a_fixed_batch(tmp_path: Path) -> None:
    graph = parse_graph('graph "g" (%x: float32[2,3]) {\n return "y"=%x\n}')
    np.savez(tmp_path / "calib.npz", x=np.zeros((4, 3), np.float32))
    assert [len(piece["x"]) for piece in calibration_batches(tmp_path / "calib.npz", graph)] == [2, 2]


def test_calibration_inputs_of_different_length(tmp_path: Path) -> None:
    graph = parse_graph('graph "g" (%x: float32[1,3], %z: float32[1,3]) {\n %y: float32[1,3] = add(%x, %z)\n return "y"=%y\n}')  # fmt: skip  # noqa: E501
    np.savez(tmp_path / "calib.npz", x=np.zeros((4, 3), np.float32), z=np.zeros((3, 3), np.float32))
    with pytest.raises(InputError, match="differ in their number of samples"):
        calibration_batches(tmp_path / "calib.npz", graph)


def test_graph_with_large_constants(tmp_path: Path) -> None:
    graph = parse_graph(GRAPH)
    write_text_graph(graph, tmp_path / "small.sqc")
    assert [file.name for file in tmp_path.iterdir()] == ["small.sqc"]
    assert read_graph(tmp_path / "small.sqc") == graph
    ones = ",".join(["1.0"] * 20)
    large = parse_graph(
        f'graph "g" (%x: float32[20]) {{\n const %c: float32[20] = [{ones}]\n %y: float32[20] = add(%x, %c)\n'
        ' return "y"=%y\n}'
    )
    write_text_graph(large, tmp_path / "large.sqc")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["large.sqc", "large.sqc.npz", "small.sqc"]
    assert read_graph(tmp_path / "large.sqc") == large
