"""Targets by name."""

from __future__ import annotations

import pytest

from sqc.errors import CompileError
from sqc.schedules import Target


def test_names() -> None:
    assert Target.parse("icelake-server").isa == "avx512vnni"
    assert Target.parse("x86-64-v3").isa == "avx2"
    assert "avx512vnni" in Target.parse("cascadelake").cpu_features
    assert "native" not in Target.names() and "znver4" in Target.names()


def test_zen_5_is_told_from_zen_4() -> None:
    new, old = Target.parse("znver5"), Target.parse("znver4")
    assert set(new.cpu_features) > set(old.cpu_features)
    assert Target.parse_several("znver4,znver5") == (new, old)


def test_native_runs_here() -> None:
    assert Target.parse("native").runs_here()


def test_emulation_needs_no_avx512() -> None:
    emulated = Target.parse("avx512vnni-emulated")
    assert emulated.isa == "avx512vnni" and emulated.emulated
    assert not any(feature.startswith("avx512") for feature in emulated.cpu_features)


def test_unknown() -> None:
    with pytest.raises(CompileError, match="unknown target 'z80'; known: native, alderlake, amx-emulated"):
        Target.parse("z80")
