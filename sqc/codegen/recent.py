"""What a process made last, as far as a bound on bytes admits."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class Recent:
    """Contents by key; those used longest ago go first. Threads may share it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._contents: dict[bytes, bytes] = {}
        self._lock = Lock()

    def get(self, key: bytes, make: Callable[[], bytes]) -> bytes:
        """What is kept under ``key``, or else what ``make`` gives, which is kept from then on."""
        with self._lock:
            content = self._contents.pop(key, None)
        if content is None:
            content = make()
        with self._lock:
            self._contents[key] = content
            while sum(map(len, self._contents.values())) > self.limit:
                del self._contents[next(iter(self._contents))]
        return content
