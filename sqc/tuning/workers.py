"""The search's side of its worker processes: starting them, handing out jobs, surviving their crashes."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType

from sqc.errors import TuningError
from sqc.tuning.worker import Answer, Job

JOB_SECONDS = 120.0
"""A job that takes longer is given up, and its worker with it."""
START_SECONDS = 60.0
SERVER_SECONDS = 15.0
"""How long to wait for a server while none is free."""
START = "import sys; from sqc.tuning.worker import main; main(sys.argv[1:])"
ATTEMPTS = 2
"""A job that has cost this many servers is not tried on another."""


class Worker:
    """One worker process. Raises TuningError if it does not start."""

    def __init__(self, arguments: Sequence[str]) -> None:
        ours, theirs = Pipe()
        self.connection: Connection[Job, Answer] = ours
        self.job: int | None = None
        self.deadline = 0.0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (kill() closes it)
        with theirs:
            command = [sys.executable, "-c", START, str(theirs.fileno()), *arguments]
            # In a session of its own: Ctrl-C is for the search alone.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        try:
            started = ours.poll(START_SECONDS)
            if started:
                ours.recv()
        except (EOFError, OSError):
            started = False
        except BaseException:
            self.kill()
            raise
        if not started:
            raise TuningError(f"the process that measures candidates does not start: {self.kill()}")

    def submit(self, index: int, job: Job) -> None:
        self.job, self.deadline = index, time.monotonic() + JOB_SECONDS
        self.connection.send(job)

    def kill(self) -> str:
        """End the process; tells how it ended."""
        self.connection.close()
        crashed = self._wait(0.5)
        self._process.kill()
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        self._log.close()
        return ": ".join([crashed, *lines[-1:]])[:400]

    def _wait(self, seconds: float) -> str:
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return "no answer"
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


class Workers:
    """Runs jobs in worker processes: one on this machine, or one for every free server of a tracker.

    Use it as a context. ``tracker`` is HOST:PORT of a tracker of TVM's RPC, ``key`` what its servers are called there.
    A candidate that crashes takes a server with it, since those of TVM do not outlive their sessions' crashes: let a
    service manager start them again.
    """

    def __init__(self, tracker: str | None = None, key: str = "") -> None:
        self._tracker, self._key = tracker, key
        self._workers: list[Worker] = []
        if tracker is not None:
            host, separator, port = tracker.rpartition(":")
            if not (host and separator and port.isdecimal() and key):
                raise TuningError(f"give the tracker as HOST:PORT and the key of its servers, not {tracker!r}, {key!r}")

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        """Index and answer of every job, as they come in. A crash or a time-out is an answer with an ``error``.

        A job whose server is lost goes to another one. Raises TuningError if no worker can be started, or no server
        is left.
        """
        queue = deque(range(len(jobs)))
        attempts = [0] * len(jobs)
        self._start()
        try:
            while queue or any(worker.job is not None for worker in self._workers):
                for worker in self._workers:
                    if worker.job is None and queue:
                        index = queue.popleft()
                        worker.submit(index, jobs[index])
                for worker, answer in self._answers():
                    assert worker.job is not None
                    index, worker.job = worker.job, None
                    attempts[index] += 1
                    if answer.lost and attempts[index] < ATTEMPTS:
                        queue.append(index)
                    else:
                        yield index, answer
                if queue and len(self._workers) < len(queue):
                    self._start()
        finally:
            # Whoever is still busy works on what nobody waits for.
            for worker in [worker for worker in self._workers if worker.job is not None]:
                self._drop(worker)

    def _answers(self) -> list[tuple[Worker, Answer]]:
        """What arrives next, or is overdue; workers that died are dropped."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        pause = min((worker.deadline for worker in busy.values()), default=0.0) - time.monotonic()
        ready = {busy[connection] for connection in wait(list(busy), max(0.0, pause)) if connection in busy}
        answers = []
        for worker in busy.values():
            if worker in ready:
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    # On a server's behalf nothing can be said about the candidate.
                    answer = Answer(error=self._drop(worker), lost=self._tracker is not None)
                else:
                    if answer.lost:
                        self._drop(worker)
            elif worker.deadline <= time.monotonic():
                self._drop(worker)
                answer = Answer(error=f"no answer in {JOB_SECONDS:.0f} s", lost=self._tracker is not None)
            else:
                continue
            answers.append((worker, answer))
        return answers

    def _drop(self, worker: Worker) -> str:
        self._workers.remove(worker)
        return worker.kill()

    def _start(self) -> None:
        """Start what is missing: the worker of this machine, or one for each server that is free."""
        if self._tracker is None:
            if not self._workers:
                self._workers.append(Worker(()))
            return
        end = time.monotonic() + SERVER_SECONDS
        while True:
            known, free, why = self._servers(self._tracker)
            for _ in range(free):
                try:
                    self._workers.append(Worker((self._tracker, self._key)))
                except TuningError as error:
                    why = str(error)
            if self._workers:
                return
            if time.monotonic() > end:
                why = why or (f"all {known} are in use" if known else "none is registered")
                raise TuningError(f"the tracker {self._tracker} has no server left for key '{self._key}': {why}")
            time.sleep(0.5)

    def _servers(self, tracker: str) -> tuple[int, int, str]:
        """How many servers there are and are free, and what keeps the tracker from telling."""
        from sqc.schedules._tvm_rpc import server_count

        host, _, port = tracker.rpartition(":")
        try:
            known, free = server_count(host, int(port), self._key)
        except (OSError, RuntimeError) as error:
            return 0, 0, f"it does not answer ({error})"
        return known, free, ""
