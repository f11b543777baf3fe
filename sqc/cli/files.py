"""Reading and writing the files of the commands."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqc.errors import InputError

if TYPE_CHECKING:
    from sqc.ir import Graph
    from sqc.tuning import Records

CALIBRATION_CHUNK = 32


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place at the end, or vanishes if the block fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        if temporary.exists():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz or .npy file, by input name.

    A single input also takes the only array of a file, whatever its name. Raises InputError if the file cannot be
    read or lacks an input.
    """
    try:
        with open(path, "rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no readable .npz or .npy file, or holds Python objects; write it anew") from error
    wanted = ", ".join(repr(name) for name in names)
    if isinstance(arrays, np.ndarray):
        if len(names) != 1:
            raise InputError(f"{path} holds one array, the model takes {wanted}: give an .npz with all of them")
        return {names[0]: arrays}
    if all(name in arrays for name in names):
        return {name: arrays[name] for name in names}
    if len(names) == 1 and len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    held = ", ".join(repr(name) for name in arrays) or "nothing"
    raise InputError(f"{path} holds {held}, the model takes {wanted}: name the arrays after the inputs")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz with all arrays, or an .npy with the only one, by the suffix. Raises InputError for any other."""
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: outputs are written as .npy (a single output) or .npz")
    if path.suffix == ".npy" and len(arrays) != 1:
        raise InputError(f"{path}: the model has {len(arrays)} outputs, which an .npy cannot hold: write an .npz")
    with replacing(path) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, next(iter(arrays.values())))
        else:
            with open(temporary, "wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]


def calibration_batches(path: Path, graph: Graph) -> list[dict[str, np.ndarray]]:
    """Calibration data for all inputs of ``graph``, in pieces. Raises InputError."""
    arrays = read_arrays(path, [value.name for value in graph.inputs])
    if scalars := [name for name, array in arrays.items() if array.ndim == 0]:
        raise InputError(f"{path}: the array for input '{scalars[0]}' is a single number; it must hold samples")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{path}: the inputs differ in their number of samples: {lengths}")
    return batches(arrays, graph)


def batches(arrays: Mapping[str, np.ndarray], graph: Graph) -> list[dict[str, np.ndarray]]:
    """Arrays of many samples in pieces that suit ``graph``."""
    step = CALIBRATION_CHUNK if graph.dynamic_batch else max(1, *(value.type.shape[0] for value in graph.inputs))
    count = len(next(iter(arrays.values())))
    return [{name: a[start : start + step] for name, a in arrays.items()} for start in range(0, count, step)]


def read_labels(path: Path) -> np.ndarray:
    """The only array of a file, of integers [samples]. Raises InputError for any other."""
    labels = read_arrays(path, ["labels"])["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(f"{path} must hold one integer for each sample, not {labels.dtype.name}{list(labels.shape)}")
    return labels


def warn_of_damage(path: Path, lines: Sequence[int]) -> None:
    """Say which lines of a file of tuning records were skipped, if any."""
    from sqc.cli import ui

    if lines:
        ui.warn(f"{path}: skipped damaged lines: {', '.join(map(str, lines))}")


def read_records(path: Path | None) -> Records | None:
    """The tuning records of a file; says which lines are damaged, and if none holds here. Raises RecordsError."""
    if path is None:
        return None
    from sqc.cli import ui
    from sqc.tuning import Records

    records = Records(path)
    warn_of_damage(path, records.damaged)
    if not records.entries:
        made = ", ".join(f"{name} {version}" for name, version in records.versions.items())
        ui.warn(f"{path}: no record was made with {made}; run `sqc tune` again")
    return records


def read_model(path: Path) -> Graph:
    """A graph from an .onnx file or from the text of one (.sqc). Raises ImportFailure or ParseError."""
    if path.suffix == ".sqc":
        from sqc.ir import read_graph, verify

        graph = read_graph(path)
        verify(graph)
        return graph
    import sqc

    return sqc.import_onnx(path)


def write_text_graph(graph: Graph, path: Path) -> None:
    """Write a graph as text, with the data of its large constants in ``path`` + ``.npz``."""
    from sqc.ir import write_graph

    with replacing(path) as text, replacing(Path(f"{path}.npz")) as data:
        write_graph(graph, text)
        beside = Path(f"{text}.npz")
        if beside.exists():
            os.replace(beside, data)
        else:
            Path(f"{path}.npz").unlink(missing_ok=True)
