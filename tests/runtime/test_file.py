"""The file of a model: what it exports and needs, how it is written, and every way in which it can be bad."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sqc.codegen.library import build_library, exports, write_library
from sqc.errors import CompileError, LibraryError, ProcessorError
from sqc.runtime import load, load_bytes, read_description
from tests.runtime.models import add_two, one_step, with_features


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.so"
    write_library(add_two(), path)
    return path


def tool(*command: str | Path) -> str:
    if not shutil.which(str(command[0])):
        pytest.skip(f"needs {command[0]}")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_equal_plans_give_equal_bytes(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a much longer name of a temporary folder"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    content = build_library(add_two())
    assert content == path.read_bytes()
    assert b"/tmp" not in content and str(tmp_path).encode() not in content


def test_exports_only_the_interface(path: Path) -> None:
    defined = {line.split()[-1] for line in tool("nm", "-D", "--defined-only", path).splitlines()}
    assert defined == set(exports())
    assert {"sqc_open", "sqc_run", "sqc_close", "sqc_last_error", "sqc_set_threads"} <= defined


def test_needs_only_libc(path: Path) -> None:
    lines = tool("readelf", "-d", path).splitlines()
    needed = [line.partition("[")[2].rstrip("]") for line in lines if "(NEEDED)" in line]
    assert [name.partition(".")[0] for name in needed] in (["libc"], ["libc", "ld-linux-x86-64"])


def test_constants_are_read_only_and_nothing_is_writable_code(path: Path) -> None:
    flags = {line.split()[-2] for line in tool("readelf", "-lW", path).splitlines() if " LOAD " in line}
    assert "RWE" not in flags and "E" in flags | {"R", "E"}
    sections = tool("readelf", "-SW", path).splitlines()
    (constants,) = [line.split("]")[1].split() for line in sections if ".sqc.constants" in line]
    assert constants[6] == "A"


def test_description_without_loading(path: Path) -> None:
    description = read_description(path)
    assert description["target"] == "test"
    assert description["inputs"] == [{"name": "x", "dtype": "uint8", "shape": [64, 256]}]
    assert description["variants"][0]["steps"] == [{"name": "first"}, {"name": "second"}]
    assert description["number_rules"] == 1


def test_c_interface(path: Path) -> None:
    """What the Python loader does not call."""

    class Tensor(ctypes.Structure):
        _fields_ = (
            ("name", ctypes.c_char_p),
            ("dtype", ctypes.c_int),
            ("rank", ctypes.c_int32),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
            ("bytes", ctypes.c_size_t),
        )

    library = ctypes.CDLL(str(path))
    library.sqc_last_error.restype = library.sqc_step_name.restype = ctypes.c_char_p
    handle = ctypes.c_void_p()
    assert library.sqc_open(ctypes.byref(handle)) == 0
    assert library.sqc_input_count(handle) == library.sqc_output_count(handle) == library.sqc_variant_count(handle) == 1
    assert library.sqc_step_count(handle) == 2 and library.sqc_step_name(handle, 1) == b"second"
    assert library.sqc_step_name(handle, 2) is None
    info = Tensor()
    assert library.sqc_input_info(handle, 0, ctypes.byref(info)) == 0
    assert (info.name, info.dtype, info.rank, info.shape[:2], info.bytes) == (b"x", 1, 2, [64, 256], 64 * 256)
    assert library.sqc_output_info(handle, 1, ctypes.byref(info)) == 1
    assert library.sqc_last_error() == b"sqc_output_info: no output has this index"
    assert library.sqc_run(handle, (ctypes.c_void_p * 1)(None), (ctypes.c_void_p * 1)(1)) == 1
    assert library.sqc_last_error() == b"x: the pointer of this input is NULL"
    assert library.sqc_number_rules_version() == 1
    library.sqc_close(handle)
    library.sqc_close(None)


# Bad files -----------------------------------------------------------------------------------------------------


def test_truncated_anywhere(path: Path) -> None:
    content = path.read_bytes()
    for size in (0, 1, 4, 60, 4096, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(LibraryError, match=r"empty|cut off|not a model"):
            load(path)


def test_damaged_anywhere(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for position in (100, len(content) // 2, len(content) - 60, len(content) - 20):
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(LibraryError, match="checksum"):
            load(path)
        content[position] ^= 1


def test_foreign_files(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no model\n" * 100)
    with pytest.raises(LibraryError, match="not a model compiled by sqc"):
        load(text)
    with pytest.raises(LibraryError, match="no sqc description"):
        load(np._core._multiarray_umath.__file__)
    with pytest.raises(LibraryError, match=r"missing\.so: cannot read this file: No such file"):
        load(tmp_path / "missing.so")
    with pytest.raises(LibraryError, match="directory"):
        load(tmp_path)


def test_a_stripped_library_is_recognized(path: Path) -> None:
    tool("strip", path)
    with pytest.raises(LibraryError, match="was stripped"):
        load(path)


def test_a_missing_processor_feature(tmp_path: Path) -> None:
    """fma4 lived on a few AMD processors of 2011 to 2015."""
    path = tmp_path / "model.so"
    write_library(with_features(add_two(), "sse2", "fma4"), path)
    with pytest.raises(ProcessorError, match="needs a processor with fma4"):
        load(path)
    assert read_description(path)["cpu_features"] == ["sse2", "fma4"]


def test_of_several_targets_the_first_that_runs_here_is_picked(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "model.so"
    best, good, lesser = (
        replace(with_features(add_two(), *features), description={"target": name})
        for name, features in (("best", ("fma4", "xop")), ("good", ("sse2",)), ("lesser", ()))
    )
    write_library(replace(best, alternatives=(good, lesser)), path)
    model = load(path)
    np.testing.assert_array_equal(model(image), image + 2)
    assert (model.description["target"], model.description["cpu_features"]) == ("good", ["sse2"])
    assert [other["target"] for other in read_description(path)["alternatives"]] == ["good", "lesser"]
    write_library(replace(best, alternatives=(with_features(best, "tbm"),)), path)
    with pytest.raises(ProcessorError, match=r"processor with fma4, xop \(best\); or with tbm \(best\), which"):
        load(path)
    with pytest.raises(CompileError, match="constants, number rules or alternatives of its own"):
        replace(best, alternatives=(replace(best, constants=b"1"),))
    with pytest.raises(CompileError, match="takes other inputs"):
        replace(best, alternatives=(one_step("nearest"),))


# Writing and replacing -----------------------------------------------------------------------------------------


def test_save_copies_and_replaces(path: Path, tmp_path: Path, image: np.ndarray) -> None:
    model = load(path)
    copy = tmp_path / "copy.so"
    copy.write_bytes(b"something older")
    model.save(copy)
    assert copy.read_bytes() == path.read_bytes()
    assert os.access(copy, os.X_OK)
    path.unlink()
    model.save(copy)
    np.testing.assert_array_equal(load(copy)(image), image + 2)


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LibraryError, match=r"cannot write the library .*: No space left on device"):
        write_library(one_step("nearest"), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    with pytest.raises(LibraryError, match="No such file or directory"):
        load(path).save(path.parent / "missing" / "model.so")


def test_a_replaced_file_is_a_new_model(path: Path, image: np.ndarray) -> None:
    """dlopen alone would give the old library again for the same path."""
    old = load(path)
    write_library(one_step("nearest"), path)
    new = load(path)
    assert new.inputs[0].shape == (4,)
    np.testing.assert_array_equal(old(image), image + 2)
    np.testing.assert_array_equal(new(np.float32([0.4, 1.6, 2, 3])), [0, 2, 2, 3])


def test_a_file_overwritten_in_place_is_refused(path: Path) -> None:
    other = build_library(replace(add_two(), description={"target": "other"}))
    model = load(path)
    with path.open("r+b") as stream:  # keeps the pages that are mapped
        stream.write(other)
    with pytest.raises(LibraryError, match="overwritten in place"):
        load(path)
    model.close()


def test_loading_twice_gives_independent_models(path: Path, image: np.ndarray) -> None:
    first, second = load(path), load(path)
    second.threads = 2
    assert first.threads == 1
    first.close()
    np.testing.assert_array_equal(second(image), image + 2)


def test_models_unload(image: np.ndarray) -> None:
    content = build_library(add_two())
    mapped = [Path("/proc/self/maps").read_text().count("memfd:sqc-model")]
    for _ in range(3):
        with load_bytes(content, threads=2) as model:
            model(image)
        del model
        mapped.append(Path("/proc/self/maps").read_text().count("memfd:sqc-model"))
    assert set(mapped) == {mapped[0]}
