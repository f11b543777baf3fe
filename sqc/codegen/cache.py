"""Compiled objects kept on disk, so that no process compiles what another one has compiled already.

A file holds one object. Its name is a digest of its key, and its first bytes are a checksum: what is damaged or cut
off counts as missing. Files appear whole or not at all, so that processes need no locks.

Environment variables: SQC_CACHE_DIR names the folder (default: ``sqc`` in $XDG_CACHE_HOME, or in ``~/.cache``),
SQC_CACHE_MIB bounds its size (default: 512), SQC_CACHE=off does without.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from sqc.errors import CompileError

DEFAULT_MIB = 512

_MAGIC = b"sqc cache 1\n"
_HEADER_BYTES = len(_MAGIC) + hashlib.sha256().digest_size
_OWN_FILES = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{8}\.tmp)?")
_ABANDONED_SECONDS = 3600.0
"""A temporary file of this age is no longer being written."""

_log = logging.getLogger("sqc.cache")


class Cache:
    """Contents by key in ``folder``, which is made when first needed.

    No method fails for what the disk does: what cannot be read is missing, and where nothing can be written a warning
    is logged, once a process. ``limit`` bounds the size in bytes; :meth:`trim` enforces it.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, key: str) -> bytes | None:
        """What was put there under ``key``, if it is there and sound."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        body = content[_HEADER_BYTES:]
        if content[:_HEADER_BYTES] != _header(body):
            return None
        with suppress(OSError):
            os.utime(path)  # what was used last is removed last
        return body

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` in place of what was there."""
        path = self._path(key)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                # Not flushed to the disk: what a power failure spoils has a wrong checksum.
                temporary.write_bytes(_header(content) + content)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            _warn_once(self.folder, error.strerror or str(error))

    def usage(self) -> tuple[int, int]:
        """The number of files and their bytes."""
        files = self._files()
        return len(files), sum(size for _, size, _ in files)

    def trim(self) -> None:
        """Remove what was used longest ago, as far as the limit demands."""
        self._shrink(self.limit)

    def clear(self) -> None:
        """Remove all contents, and no file that is not the cache's own."""
        self._shrink(0)

    def _shrink(self, limit: int) -> None:
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) - limit
        for used, size, path in files:
            # What another process is writing stays.
            abandoned = used < time.time() - _ABANDONED_SECONDS
            if abandoned if path.suffix == ".tmp" else excess > 0:
                _remove(path)
                excess -= size

    def _path(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode()).hexdigest()

    def _files(self) -> list[tuple[float, int, Path]]:
        """When last used, size and path of the cache's own files."""
        files = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _OWN_FILES.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # another process may remove it
                        status = entry.stat(follow_symlinks=False)
                        files.append((status.st_mtime, status.st_size, Path(entry.path)))
        return files


def open_cache() -> Cache | None:
    """The cache that the environment asks for, if any. Raises CompileError for settings without a meaning."""
    setting = os.environ.get("SQC_CACHE") or "on"
    if setting not in ("on", "off"):
        raise CompileError(f"the environment variable SQC_CACHE must be on or off, not {setting!r}")
    folder = _folder()
    return Cache(folder, _limit()) if setting == "on" and folder else None


def _folder() -> Path | None:
    if chosen := os.environ.get("SQC_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the standard says to ignore such
        base = os.path.expanduser("~/.cache")
    return Path(base, "sqc") if os.path.isabs(base) else None


def _limit() -> int:
    text = os.environ.get("SQC_CACHE_MIB") or str(DEFAULT_MIB)
    if not (text.isascii() and text.isdecimal()):
        raise CompileError(f"the environment variable SQC_CACHE_MIB must be a number of mebibytes, not {text!r}")
    return int(text) << 20


def _header(content: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(content).digest()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _warn_once(path.parent, error.strerror or str(error))


@cache
def _warn_once(folder: Path, reason: str) -> None:
    _log.warning(
        "cannot keep compiled kernels in %s: %s. They are compiled anew each time: free space there, name another "
        "folder in SQC_CACHE_DIR, or set SQC_CACHE=off",
        folder,
        reason,
    )
