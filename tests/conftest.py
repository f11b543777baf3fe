"""Options, markers and fixtures that all tests share."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="rewrite expected texts from what the passes yield")
    parser.addoption("--every-defect", action="store_true", help="spoil every real model in every way (20 minutes)")


def instruction_sets() -> frozenset[str]:
    """The processor's flags by the names of /proc/cpuinfo; SQC_TEST_ISA=avx2,avx512_vnni sets them instead."""
    override = os.environ.get("SQC_TEST_ISA")
    if override is not None:
        return frozenset(name.strip() for name in override.split(",") if name.strip())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    available = instruction_sets()
    for item in items:
        missing = [name for mark in item.iter_markers("isa") for name in mark.args if name not in available]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"this processor lacks {', '.join(missing)}"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real models and data that SQC_TEST_DATA names; skips the test where there is none."""
    folder = os.environ.get("SQC_TEST_DATA")
    if not folder:
        pytest.skip("needs real models: set SQC_TEST_DATA to their folder")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"SQC_TEST_DATA={folder} is no folder")
    return path


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    """``examples/zoo.py``, which reads and preprocesses each model's data."""
    path = Path(__file__).parent.parent / "examples" / "zoo.py"
    spec = importlib.util.spec_from_file_location("zoo", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module
