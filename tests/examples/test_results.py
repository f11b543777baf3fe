"""The file that collects figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_rows_with_equal_keys_take_the_place_of_old_ones(tmp_path: Path) -> None:
    from results import Results

    path, key = tmp_path / "results.json", ("model", "batch")
    Results(path).merge("speed", [{"model": "a", "batch": 1, "ms": 1.0}, {"model": "b", "batch": 1, "ms": 2.0}], key)
    results = Results(path)
    results.merge("speed", [{"model": "a", "batch": 8, "ms": 3.0}], key, {"sqc": "1"})
    results.merge("speed", [{"model": "a", "batch": 1, "ms": 4.0}], key, {"peer": "2"})
    again = Results(path)
    rows = [(row["model"], row["batch"], row["ms"]) for row in again.rows("speed")]
    assert rows == [("a", 1, 4.0), ("b", 1, 2.0), ("a", 8, 3.0)]
    assert again.sections["speed"]["versions"] == {"sqc": "1", "peer": "2"}
    assert again.rows("memory") == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_a_table_is_of_one_machine(tmp_path: Path) -> None:
    from results import Results

    path = tmp_path / "results.json"
    Results(path).merge("speed", [{"model": "a"}], ["model"])
    content = json.loads(path.read_text())
    content["speed"]["machine"]["processor"] = "a 6502"
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r"'speed' was measured on another machine \(a 6502\)"):
        Results(path).merge("speed", [{"model": "a"}], ["model"])
    assert json.loads(path.read_text()) == content


@pytest.mark.parametrize("content", ["", "[]", "[1]", '{"speed": 3}', '{"speed": {}}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    from results import Results

    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"other\.json holds no results: .*; name another file"):
        Results(path)
