"""Measuring on servers of TVM's RPC: a tracker and two servers on loopback, of which one dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import sqc
from sqc.errors import TuningError
from sqc.tuning import workers
from sqc.tuning.records import Records, Trial
from sqc.tuning.search import differs, search
from sqc.tuning.task import Task
from sqc.tuning.workers import Workers

pytest.importorskip("tornado", reason="needs the packages of the extra 'tune'")
pytestmark = pytest.mark.slow

KEY = "loopback"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A tracker and its servers, each in a session of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("rpc_tracker", self.port)
        self._until(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)
        self.servers = [self._start("rpc_server", free_port(), "--tracker", self.address, "--key", KEY) for _ in "12"]
        self._until(lambda: self._free() == 2)

    def _start(self, tool: str, port: int, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"tvm.exec.{tool}", "--host", "127.0.0.1", *arguments]
        command += ["--port", str(port), "--port-end", str(port + 1)]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        self._processes.append(process)
        return process

    def _free(self) -> int:
        from sqc.schedules._tvm_rpc import server_count

        return server_count("127.0.0.1", self.port, KEY)[1]

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        for _ in range(300):
            with suppress(OSError):
                if condition():
                    return
            time.sleep(0.1)
        raise AssertionError("the tracker or its servers do not start")

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in reversed(self._processes):
            self.kill(process)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    started = Cluster()
    yield started
    started.close()


def test_one_server_dies(cluster: Cluster, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SERVER_SECONDS", 1.0)
    records = Records(tmp_path / "records")

    def tried(done: int, _total: int) -> None:
        if done == 4:
            cluster.kill(cluster.servers[0])

    with Workers(cluster.address, KEY) as measurer:
        choice = search(task, records, measurer, count=12, tried=tried)
        assert choice is not None and choice.tried == 12
        trials = [entry for entry in records.entries if isinstance(entry, Trial)]
        assert len({trial.tile for trial in trials}) == len(trials) == 12
        assert not any(trial.error for trial in trials)
        assert differs(task, task.tiles[1], (1, 2), measurer) == ""

        cluster.kill(cluster.servers[1])
        with pytest.raises(TuningError, match=f"no server left for key '{KEY}': none is registered"):
            search(task, records, measurer, count=16)
    assert len(Records(records.path).entries) == len(records.entries) >= 13


def test_a_model(cluster: Cluster, integer_graph: sqc.ir.Graph, tmp_path: Path) -> None:
    tuning = sqc.tune(
        integer_graph, records=tmp_path / "records", candidates=3, threads=2, tracker=cluster.address, key=KEY
    )
    assert tuning.finished and not tuning.whole
    assert sum(op.tried for op in tuning.ops) >= 9 and not any(op.failed for op in tuning.ops)


def test_no_tracker(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SERVER_SECONDS", 0.1)
    with Workers(f"127.0.0.1:{free_port()}", KEY) as measurer, pytest.raises(TuningError, match="does not answer"):
        search(task, Records(tmp_path / "records"), measurer)
