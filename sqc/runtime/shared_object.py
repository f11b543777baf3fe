"""Model libraries mapped into this process, and their C functions."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import weakref
from _ctypes import dlclose
from typing import Any

from sqc.errors import LibraryError
from sqc.runtime.container import read_descriptor

_pointer, _int, _size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "sqc_open": (_int, (ctypes.POINTER(_pointer),)),
    "sqc_close": (None, (_pointer,)),
    "sqc_target": (ctypes.c_char_p, (_pointer,)),
    "sqc_variant": (_int, (_pointer, _size, ctypes.POINTER(_pointer))),
    # Arrays of pointers travel as packed bytes, which are quick to make and private to the call.
    "sqc_run": (_int, (_pointer, ctypes.c_char_p, ctypes.c_char_p)),
    "sqc_run_samples": (_int, (_pointer, _size, ctypes.c_char_p, ctypes.c_char_p)),
    "sqc_profile": (_int, (_pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_double))),
    "sqc_set_threads": (_int, (_pointer, _int)),
    "sqc_threads": (_int, (_pointer,)),
    "sqc_set_spin": (_int, (_pointer, _int)),
    "sqc_spin": (_int, (_pointer,)),
    "sqc_share_cores": (_int, (_pointer, _pointer)),
    "sqc_last_error": (ctypes.c_char_p, ()),
}


_loads = itertools.count(1)


class SharedObject:
    """One mapped library: `functions`, `description`, `digest`, and the open file it was mapped from.

    dlopen takes a name that it has seen before for the library it had then, even if another file is there now. So the
    library is opened by its descriptor, and under a name that is spelled differently each time.
    """

    def __init__(self, file: int, digest: bytes, description: dict[str, Any], name: str) -> None:
        self.file = file
        self.digest = digest
        self.description = description
        spelling = "".join("./" if bit == "1" else "/" for bit in f"{next(_loads):b}")
        try:
            self.functions = ctypes.CDLL(f"/proc/self/fd/{spelling}{file}", mode=os.RTLD_NOW | os.RTLD_LOCAL)
        except OSError as error:
            raise LibraryError(f"{name}: the system cannot load this library: {error}") from error
        for function, (result, arguments) in _PROTOTYPES.items():
            entry = getattr(self.functions, function)
            entry.restype, entry.argtypes = result, arguments
        self._unload = weakref.finalize(self, _unload, self.functions._handle, file)
        self._unload.atexit = False

    def last_error(self) -> str:
        message: bytes = self.functions.sqc_last_error()
        return message.decode(errors="replace")


def _unload(handle: int, file: int) -> None:
    dlclose(handle)
    os.close(file)


_mapped: weakref.WeakValueDictionary[tuple[int, int], SharedObject] = weakref.WeakValueDictionary()
_mapped_lock = threading.Lock()


def map_file(file: int, name: str) -> SharedObject:
    """Checks and maps an open model file, or finds it mapped already. Takes the descriptor over.

    Raises LibraryError.
    """
    with _mapped_lock:
        keep = False
        try:
            digest, description = read_descriptor(file, name)
            status = os.fstat(file)
            mapped = _mapped.get((status.st_dev, status.st_ino))
            if mapped is None:
                mapped = SharedObject(file, digest, description, name)
                _mapped[status.st_dev, status.st_ino] = mapped
                keep = True
            elif mapped.digest != digest:
                raise LibraryError(
                    f"{name}: this file was overwritten in place while a model from it is loaded. "
                    "Close that model first, or replace the file by renaming another over it"
                )
            return mapped
        finally:
            if not keep:
                os.close(file)
