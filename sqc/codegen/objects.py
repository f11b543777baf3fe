"""Where the objects of kernels come from: the cache on disk, else TVM, which is imported only then."""

from __future__ import annotations

import hashlib
import json
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import sqc.ir
import sqc.ops
import sqc.schedules
from sqc.codegen.cache import open_cache
from sqc.schedules import Kernel


class ObjectStore:
    """Objects of kernels, with the cache that the environment asks for (see ``sqc.codegen.cache``).

    An object is found again by its kernel's key, target and symbol, the versions of TVM and LLVM, the installed files
    of TVM, and the sources of sqc that kernels are made by. So the cache never changes what a library holds.
    """

    def __init__(self) -> None:
        tvm = _installed_files("apache-tvm", "apache-tvm-ffi")
        self._cache = open_cache() if tvm else None
        self._toolchain = f"sqc {_SOURCES} tvm {tvm}"
        self._trimmed = False

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions of TVM, tvm-ffi and LLVM, as recorded in every library."""
        key = f"versions {self._toolchain}"
        if self._cache and (known := self._cache.get(key)):
            return dict(json.loads(known))
        from sqc.schedules._tvm import versions

        found = versions()
        if self._cache:
            self._cache.put(key, json.dumps(found).encode())
        return found

    def object(self, kernel: Kernel, symbol: str) -> bytes:
        """The relocatable object that exports ``kernel`` as ``__tvm_ffi_<symbol>``."""
        if not self._cache:
            return kernel.object(symbol)
        key = f"object {self._toolchain} {self.versions} {kernel.target} {symbol} {kernel.key}"
        content = self._cache.get(key)
        if content is None:
            content = kernel.object(symbol)
            self._cache.put(key, content)
            self._trimmed = False
        return content

    def trim(self) -> None:
        """Keep the cache within its bounds, unless nothing was added since the last time."""
        if self._cache and not self._trimmed:
            self._cache.trim()
            self._trimmed = True


@cache
def _installed_files(*packages: str) -> str | None:
    """A digest of the files of these packages, by the checksums that the installer recorded.

    None where one is not installed as a package with its libraries, so that there is no saying what it consists of.
    """
    digest = hashlib.sha256()
    for package in packages:
        try:
            record = distribution(package).read_text("RECORD") or ""
        except PackageNotFoundError:
            return None
        lines = sorted(line for line in record.splitlines() if ",sha256=" in line)
        # Notes and scripts of the installer differ from one environment to the next.
        lines = [line for line in lines if ".dist-info/" not in line and not line.startswith("..")]
        if not any(".so," in line for line in lines):
            return None
        digest.update("\n".join(lines).encode())
    return digest.hexdigest()


def _source_digest() -> str:
    """A digest of the packages that kernels are made by."""
    digest = hashlib.sha256(sqc.__version__.encode())
    for package in (sqc.ir, sqc.ops, sqc.schedules):
        for folder in map(Path, package.__path__):
            for path in sorted(folder.rglob("*.py")):
                content = path.read_bytes()
                digest.update(f"\0{package.__name__} {path.relative_to(folder)} {len(content)}\0".encode() + content)
    return digest.hexdigest()


# Taken along with the code itself: files that change later are not what this process runs.
_SOURCES = _source_digest()
