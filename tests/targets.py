"""The targets that kernels are tested for."""

from __future__ import annotations

import pytest

EVERYWHERE = ["x86-64-v3", "avx512vnni-emulated", "amx-emulated"]
"""What every machine with AVX2 can run."""
TARGETS = [
    *EVERYWHERE,
    pytest.param("x86-64-v4", marks=pytest.mark.isa("avx512bw", "avx512dq", "avx512vl")),
    pytest.param("avxvnni-evex", marks=pytest.mark.isa("avx512_vnni", "avx512vl")),
    pytest.param("cascadelake", marks=pytest.mark.isa("avx512_vnni")),
    pytest.param("icelake-server", marks=pytest.mark.isa("avx512_vnni", "avx512vbmi")),
]
"""With what only processors with AVX-512 can run."""
