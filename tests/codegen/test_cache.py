"""Kernels kept on disk: found again by all that makes them, bounded, shared by processes, never in the way."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import sqc
from sqc.codegen import build, cache, objects
from sqc.codegen.cache import Cache, open_cache
from sqc.codegen.objects import ObjectStore
from sqc.errors import CompileError
from sqc.ir import Builder, Graph, TensorType
from sqc.schedules import Kernel

ROOT = Path(__file__).parents[2]
PLENTY = 1 << 20
HEADER = cache._HEADER_BYTES


@pytest.fixture(autouse=True)
def warnings_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Other engines, where they are installed, raise the level of the handlers that they find."""
    caplog.handler.setLevel(0)


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "store", PLENTY)


# The files -----------------------------------------------------------------------------------------------------------


def test_what_is_put_is_got(store: Cache) -> None:
    assert store.get("a") is None
    assert store.usage() == (0, 0)
    for key, content in (("a", b"one"), ("b", b""), ("a", b"another")):
        store.put(key, content)
        assert store.get(key) == content
    assert store.usage() == (2, 2 * HEADER + len(b"another"))
    store.clear()
    assert store.get("a") is None


@pytest.mark.parametrize("length", [0, 5, HEADER - 1, HEADER, HEADER + 3])
def test_what_is_cut_off_is_missing_and_replaced(store: Cache, length: int) -> None:
    store.put("a", b"content")
    (path,) = store.folder.iterdir()
    path.write_bytes(path.read_bytes()[:length])
    assert store.get("a") is None
    store.put("a", b"content")
    assert store.get("a") == b"content"


def test_any_damaged_byte_is_noticed(store: Cache) -> None:
    store.put("a", b"content")
    (path,) = store.folder.iterdir()
    sound = path.read_bytes()
    for i in range(len(sound)):
        path.write_bytes(sound[:i] + bytes([sound[i] ^ 1]) + sound[i + 1 :])
        assert store.get("a") is None


def test_what_was_used_longest_ago_goes_first(store: Cache) -> None:
    for second, key in enumerate("abcd"):
        store.put(key, b"x" * 1000)
        os.utime(store._path(key), (second, second))
    assert store.get("a")  # which is the last one used now
    store.limit = 2 * (1000 + HEADER)
    store.trim()
    assert [store.get(key) is not None for key in "abcd"] == [True, False, False, True]
    assert store.usage()[1] <= store.limit
    store.limit = 10
    store.trim()
    assert store.usage() == (0, 0)


def test_only_own_files_are_counted_and_removed(store: Cache) -> None:
    store.put("a", b"content")
    foreign = store.folder / "notes.txt"
    foreign.write_text("mine")
    digest = "0" * 64
    abandoned, written = store.folder / f"{digest}.00000000.tmp", store.folder / f"{digest}.11111111.tmp"
    for path in (abandoned, written):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    store.trim()
    assert not abandoned.exists() and written.exists() and store.get("a") is not None
    store.limit = 0
    store.trim()
    store.clear()
    assert set(store.folder.iterdir()) == {foreign, written}


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    store = Cache(tmp_path / "file" / "store", PLENTY)
    for key in "ab":
        store.put(key, b"content")
        assert store.get(key) is None
    store.trim()
    store.clear()
    assert store.usage() == (0, 0)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(store.folder) in record.getMessage() and "SQC_CACHE_DIR" in record.getMessage()


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    def write_half(path: Path, content: bytes) -> int:
        with open(path, "wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(Path, "write_bytes", write_half)


def test_a_full_disk_leaves_nothing_behind(
    store: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("a", b"content")
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        store.put("a", b"changed")
        store.put("b", b"content")
    assert "No space left on device" in caplog.text
    assert store.get("a") == b"content" and store.get("b") is None
    assert store.usage()[0] == 1


WORKER = """
import random, sys
from pathlib import Path
from sqc.codegen.cache import Cache
store = Cache(Path(sys.argv[1]), 30_000)
draw = random.Random(int(sys.argv[2]))
found = 0
for _ in range(400):
    n = draw.randrange(20)
    content = store.get(str(n))
    assert content in (None, bytes([n]) * 3000), n
    found += content is not None
    if content is None:
        store.put(str(n), bytes([n]) * 3000)
    if draw.random() < 0.1:
        store.trim()
    if draw.random() < 0.01:
        store.clear()
store.trim()
assert found
"""


def test_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path / "store")]
    workers = [subprocess.Popen([*command, str(seed)], cwd=ROOT, stderr=subprocess.PIPE) for seed in range(4)]
    ends = [(worker.communicate(timeout=120)[1].decode(), worker.returncode) for worker in workers]
    assert ends == [("", 0)] * 4
    store = Cache(tmp_path / "store", 30_000)
    store.trim()
    assert store.usage()[1] <= store.limit
    assert not list(store.folder.glob("*.tmp"))


# The environment -----------------------------------------------------------------------------------------------------


def test_folder_and_limit_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def opened() -> Cache:
        found = open_cache()
        assert found is not None
        return found

    for name in ("SQC_CACHE", "SQC_CACHE_DIR", "SQC_CACHE_MIB", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert opened().folder == tmp_path / ".cache" / "sqc"
    assert opened().limit == 512 << 20
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert opened().folder == tmp_path / ".cache" / "sqc"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert opened().folder == tmp_path / "xdg" / "sqc"
    monkeypatch.setenv("SQC_CACHE_DIR", str(tmp_path / "chosen"))
    monkeypatch.setenv("SQC_CACHE_MIB", "3")
    assert (opened().folder, opened().limit) == (tmp_path / "chosen", 3 << 20)
    monkeypatch.setenv("SQC_CACHE", "off")
    assert open_cache() is None


@pytest.mark.parametrize(("name", "value"), [("SQC_CACHE", "never"), ("SQC_CACHE_MIB", "-1"), ("SQC_CACHE_MIB", "1G")])
def test_settings_without_a_meaning_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("SQC_CACHE", "on")
    monkeypatch.setenv(name, value)
    with pytest.raises(CompileError, match=rf"{name} must be .*'{value}'"):
        open_cache()


# Kernels -------------------------------------------------------------------------------------------------------------


def network() -> Graph:
    """Convolutions of which two are of equal shape, with different weights, and write the input of a padded one."""
    random = np.random.default_rng(3)
    builder = Builder("network", dynamic_batch=True)
    x = builder.input("image", TensorType((1, 8, 6, 6), "float32"))
    for i, size in enumerate((1, 3, 3, 3, 1)):
        w = builder.constant(random.normal(0, 0.2, (8, 8, size, size)).astype(np.float32), f"w{i}")
        b = builder.constant(random.normal(0, 0.2, 8).astype(np.float32), f"b{i}")
        attributes = {"layout": "NCHW", "pads": (size // 2,) * 4}
        x = builder.emit("conv2d", [x, w, b], attributes, name=f"conv{i}", source=f"conv{i}")
        x = builder.emit("relu", [x], name=f"relu{i}", source=f"relu{i}")
    builder.outputs = {"y": x}
    return builder.finish()


def compile_network() -> sqc.CompiledModel:
    """Calibrated and compiled, with two variants."""
    graph = network()
    samples = np.random.default_rng(0).normal(0, 1, (4, 8, 6, 6)).astype(np.float32)
    return sqc.compile(graph, sqc.calibrate(graph, [samples]), target="x86-64-v3", batch=(1, 2))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts how often TVM compiles each kernel; no object is left of another test."""
    counts: Counter[str] = Counter()
    original = Kernel.object

    def count(kernel: Kernel, symbol: str) -> bytes:
        counts[symbol] += 1
        return original(kernel, symbol)

    monkeypatch.setattr(Kernel, "object", count)
    build._objects.clear()
    yield counts
    build._objects.clear()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a cache that is on."""
    monkeypatch.setenv("SQC_CACHE", "on")
    monkeypatch.setenv("SQC_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def in_a_new_process(counts: Counter[str]) -> sqc.CompiledModel:
    """As far as the objects are concerned."""
    counts.clear()
    build._objects.clear()
    return compile_network()


def test_kernels_of_equal_shape_are_compiled_once_and_shared(compiled: Counter[str]) -> None:
    plan = compile_network().plan
    assert set(compiled.values()) == {1}
    for program in plan.programs:
        first, second, third, *_ = (step for step in program.steps if step.name.startswith("qconv2d"))
        assert second.symbol == third.symbol != first.symbol
        assert second.arguments != third.arguments
    symbols = {step.symbol for program in plan.programs for step in program.steps}
    assert symbols == plan.objects.keys()
    assert len(symbols) < sum(len(program.steps) for program in plan.programs)


def test_the_cache_changes_no_byte(
    compiled: Counter[str], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cold = compile_network().library
    kernels = set(compiled)
    assert kernels and len(list(folder.iterdir())) == len(kernels) + 1  # and the versions
    assert in_a_new_process(compiled).library == cold
    assert not compiled
    with monkeypatch.context() as patch:
        patch.setenv("SQC_CACHE", "off")
        assert in_a_new_process(compiled).library == cold
        assert set(compiled) == kernels
    with monkeypatch.context() as patch:
        patch.setenv("SQC_CACHE_DIR", "/dev/null/kernels")
        assert in_a_new_process(compiled).library == cold
        assert "SQC_CACHE=off" in caplog.text
    with monkeypatch.context() as patch:
        patch.setenv("SQC_CACHE_MIB", "0")
        assert in_a_new_process(compiled).library == cold
    assert not list(folder.iterdir())


def test_damaged_objects_are_compiled_again(compiled: Counter[str], folder: Path) -> None:
    cold = compile_network().library
    kernels = set(compiled)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert in_a_new_process(compiled).library == cold
    assert set(compiled) == kernels
    in_a_new_process(compiled)
    assert not compiled


WARM = """
import hashlib, sys
sys.path.insert(0, "tests/codegen")
from test_cache import compile_network
print(hashlib.sha256(compile_network().library).hexdigest(), "tvm" in sys.modules)
"""


def test_another_process_needs_no_tvm(compiled: Counter[str], folder: Path) -> None:
    expected = hashlib.sha256(compile_network().library).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", WARM], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.stdout.split() == [expected, "False"], run.stderr


def test_objects_are_found_only_under_all_that_makes_them(
    compiled: Counter[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = sqc.lower("relu", TensorType((1, 16), "float32"), target="x86-64-v3").kernel

    def is_found(kernel: Kernel = kernel, symbol: str = "sqc_relu") -> bool:
        compiled.clear()
        ObjectStore().object(kernel, symbol)
        return not compiled

    assert not is_found() and is_found()
    assert not is_found(symbol="sqc_other")
    assert not is_found(replace(kernel, target=replace(kernel.target, mcpu="haswell")))
    assert not is_found(replace(kernel, target=replace(kernel.target, attributes=("-fma",))))
    other = sqc.lower("relu", TensorType((1, 32), "float32"), target="x86-64-v3").kernel
    assert not is_found(other)
    for name, value in (("_SOURCES", "of another version"), ("_installed_files", lambda *packages: "another TVM")):
        with monkeypatch.context() as patch:
            patch.setattr(objects, name, value)
            assert not is_found() and is_found()
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "versions", {"tvm": "0.28", "tvm-ffi": "0.2", "llvm": "23"})
        assert not is_found() and is_found()
    assert is_found()


def test_without_a_list_of_its_files_tvm_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    tvm = ("apache-tvm", "apache-tvm-ffi")
    assert objects._installed_files(*tvm) is not None
    assert objects._installed_files("click") is None  # it has no libraries: this is not how it is run
    monkeypatch.setattr(objects, "distribution", missing)
    objects._installed_files.cache_clear()
    try:
        assert ObjectStore()._cache is None
    finally:
        objects._installed_files.cache_clear()
