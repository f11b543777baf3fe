"""The file that holds a compiled model: a shared library, then a trailer with its description and a checksum.

Layout: ELF | description (JSON, UTF-8) | its length (u64, little endian) | SHA-256 of all before | magic.
The system's loader ignores what follows the ELF; sqc's reads the trailer first and maps no code of a damaged file.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqc.errors import LibraryError

MAGIC = b"sqc\x00\x01mod"
_LENGTH = struct.Struct("<Q")
_DIGEST_BYTES = 32
_TRAILER_BYTES = _LENGTH.size + _DIGEST_BYTES + len(MAGIC)


def pack(elf: bytes, description: Mapping[str, Any]) -> bytes:
    """The bytes of a model file; equal arguments give equal bytes."""
    text = json.dumps(description, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    body = elf + text + _LENGTH.pack(len(text))
    return body + hashlib.sha256(body).digest() + MAGIC


def read_descriptor(file: int, name: str) -> tuple[bytes, dict[str, Any]]:
    """Checks an open model file; gives its SHA-256 and its description. `name` is what errors call it."""
    size = os.fstat(file).st_size
    if size == 0:
        raise LibraryError(f"{name}: the file is empty; it was probably cut off while being copied or written")
    with mmap.mmap(file, 0, prot=mmap.PROT_READ) as content:
        if content[:4] != b"\x7fELF":
            raise LibraryError(f"{name}: this is not a model compiled by sqc (nor any shared library)")
        if size < _TRAILER_BYTES or content[-len(MAGIC) :] != MAGIC:
            raise LibraryError(
                f"{name}: there is no sqc description at the end of this shared library. "
                "It is cut off, was stripped, or was not made by sqc; copy or compile it again"
            )
        end = size - len(MAGIC) - _DIGEST_BYTES
        digest = content[end : end + _DIGEST_BYTES]
        with memoryview(content) as view, view[:end] as body:
            if hashlib.sha256(body).digest() != digest:
                raise LibraryError(f"{name}: the file is damaged (its checksum differs); copy or compile it again")
        start = end - _LENGTH.size
        (length,) = _LENGTH.unpack(content[start:end])
        description: dict[str, Any] = json.loads(content[start - length : start])
        return digest, description


def read_description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The description of a model file, checked, without loading its code: works on any processor.

    Raises LibraryError if the file is damaged, truncated or not made by sqc.
    """
    file = open_file(path)
    try:
        return read_descriptor(file, os.fspath(path))[1]
    finally:
        os.close(file)


def open_file(path: str | os.PathLike[str]) -> int:
    """A descriptor for reading; LibraryError if there is no such file or no permission."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LibraryError(f"{os.fspath(path)}: cannot read this file: {error.strerror}") from error
    if os.path.isdir(file):
        os.close(file)
        raise LibraryError(f"{os.fspath(path)}: this is a directory, not a model")
    return file


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a whole file or leaves what was there: readers never see half of it.

    Raises LibraryError, naming the cause, if the system refuses (a full disk, a missing folder, no permission).
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777)
        try:
            with open(file, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(file)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LibraryError(
            f"{target}: cannot write the library ({len(content):,} bytes): {error.strerror}. Nothing was changed there"
        ) from error
