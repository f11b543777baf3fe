"""Targets: the instruction set that schedules are written for, and the processor that LLVM compiles for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from sqc.errors import CompileError

Isa: TypeAlias = Literal["amx", "avx512vnni", "avxvnni", "avx512bw", "avx2"]
"""From the quickest to the slowest."""

Core: TypeAlias = Literal["zen3", "zen4", "zen5", "golden_cove"]
"""Cores that costs of tiles were measured on."""

_V3 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe")
_V4 = (*_V3, "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")
_VNNI = (*_V4, "avx512vnni")
_ICE_LAKE = (*_VNNI, "avx512vbmi", "avx512vbmi2", "avx512ifma", "avx512bitalg", "avx512vpopcntdq", "gfni")

# The instructions of AVX-VNNI as AVX-512 encodes them, for processors that have only those.
_EVEX = (*_V3, "avx512f", "avx512vl", "avx512vnni")

# LLVM uses AMD's SSE4a where it may, which no other processor has and which gains nothing here.
_NO_SSE4A = ("-sse4a",)

# Likewise FP16 moves and AVX-VNNI's encoding, so that these targets need no more than Ice Lake has.
_AS_ICE_LAKE = ("-avx512fp16", "-avxvnni")


@dataclass(frozen=True)
class Target:
    """What a model is compiled for.

    ``isa`` chooses the schedules, ``mcpu`` and ``attributes`` go to LLVM, ``cpu_features`` (names as in GCC's
    ``__builtin_cpu_supports``) must all be there where the model is loaded. ``emulated`` targets run the schedules of
    their ``isa`` with a dot product in plain vector code, so that tests can run them on lesser processors.
    """

    name: str
    isa: Isa
    mcpu: str
    cpu_features: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    emulated: bool = False
    core: Core = "zen4"
    """The core whose measured costs choose tiles."""

    @property
    def registers(self) -> int:
        """Number of vector registers."""
        return 32 if self.vector_bytes == 64 else 16

    @property
    def vector_bytes(self) -> int:
        """Width of a vector register."""
        return 64 if self.isa in ("amx", "avx512vnni", "avx512bw") else 32

    @property
    def has_vnni(self) -> bool:
        """Whether vectors multiply bytes as they are; otherwise both factors are widened to 16 bits."""
        return self.isa in ("amx", "avx512vnni", "avxvnni")

    @property
    def permutes_bytes(self) -> bool:
        """Whether one instruction looks up bytes in a table of 128."""
        return "avx512vbmi" in self.cpu_features

    @staticmethod
    def parse(name: str) -> Target:
        """The target called ``name``; ``native`` is this machine. Raises CompileError for an unknown one."""
        if name == "native":
            name = _native()
        if name not in _TARGETS:
            raise CompileError(f"unknown target {name!r}; known: native, {', '.join(sorted(_TARGETS))}")
        return _TARGETS[name]

    @staticmethod
    def parse_several(names: str) -> tuple[Target, ...]:
        """The targets of a list like ``x86-64-v3,icelake-server``, the quickest first. Raises CompileError."""
        targets = {target.name: target for target in map(Target.parse, names.split(","))}
        return tuple(sorted(targets.values(), key=lambda t: (get_args(Isa).index(t.isa), -len(t.cpu_features))))

    @staticmethod
    def here(names: str) -> Target:
        """The quickest target of a list that runs on this machine, or else the quickest. Raises CompileError."""
        targets = Target.parse_several(names)
        return next((target for target in targets if target.runs_here()), targets[0])

    @staticmethod
    def names() -> tuple[str, ...]:
        """All targets that can be named, besides ``native``."""
        return tuple(sorted(_TARGETS))

    def runs_here(self) -> bool:
        """Whether this machine has all features that the target needs."""
        return set(self.cpu_features) <= host_features()


def _targets() -> dict[str, Target]:
    targets = [
        Target("avx512vnni-emulated", "avx512vnni", "x86-64-v3", _V3, emulated=True),
        Target("amx-emulated", "amx", "x86-64-v3", _V3, emulated=True),
    ]
    for name in ("x86-64-v3", "haswell", "broadwell", "skylake"):
        targets.append(Target(name, "avx2", name, _V3, core="zen3"))
    for name in ("znver1", "znver2", "znver3"):
        targets.append(Target(name, "avx2", name, _V3, _NO_SSE4A, core="zen3"))
    for name in ("skylake-avx512", "x86-64-v4"):
        targets.append(Target(name, "avx512bw", name, _V4))
    for name in ("alderlake", "sierraforest"):
        targets.append(Target(name, "avxvnni", "alderlake", (*_V3, "avxvnni"), core="zen3"))
    targets.append(Target("avxvnni-evex", "avxvnni", "x86-64-v3", _EVEX, ("+avx512vl", "+avx512vnni"), core="zen3"))
    for name in ("cascadelake", "cooperlake"):
        targets.append(Target(name, "avx512vnni", name, _VNNI, core="golden_cove"))
    targets.append(Target("icelake-server", "avx512vnni", "icelake-server", _ICE_LAKE, core="golden_cove"))
    for name in ("sapphirerapids", "emeraldrapids", "graniterapids"):
        targets.append(Target(name, "avx512vnni", name, _ICE_LAKE, _AS_ICE_LAKE, core="golden_cove"))
        amx = (*_ICE_LAKE, "amx-tile", "amx-int8")
        targets.append(Target(f"{name}-amx", "amx", name, amx, _AS_ICE_LAKE, core="golden_cove"))
    targets.append(Target("znver4", "avx512vnni", "znver4", _ICE_LAKE, _NO_SSE4A))
    targets.append(Target("znver5", "avx512vnni", "znver5", (*_ICE_LAKE, "avxvnni"), _NO_SSE4A, core="zen5"))
    return {target.name: target for target in targets}


_TARGETS = _targets()

# Where the kernel of Linux spells a feature otherwise than GCC.
_SPELLINGS = {
    "pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "bmi1": "bmi", "abm": "lzcnt",
    "avx512_vnni": "avx512vnni", "avx_vnni": "avxvnni", "avx512_vbmi2": "avx512vbmi2", "avx512_bitalg": "avx512bitalg",
    "avx512_vpopcntdq": "avx512vpopcntdq", "amx_tile": "amx-tile", "amx_int8": "amx-int8",
}  # fmt: skip


@cache
def host_features() -> frozenset[str]:
    """The features of this machine's processor, in GCC's spelling."""
    return frozenset(_SPELLINGS.get(flag, flag) for flag in _cpuinfo("flags").split())


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _native() -> str:
    amd = _cpuinfo("vendor_id") == "AuthenticAMD"
    candidates = ("znver5", "znver4", "cascadelake", "x86-64-v4", "znver3", "x86-64-v3") if amd else (
        "icelake-server", "cascadelake", "alderlake", "skylake-avx512", "x86-64-v3"
    )  # fmt: skip
    for name in candidates:
        if _TARGETS[name].runs_here():
            return name
    raise CompileError(
        "this machine's processor has no AVX2, which sqc's kernels need; name another target to compile for"
    )
