"""Every folder with modules is a package that gets installed, and all names that `sqc` promises are there."""

from __future__ import annotations

import re
from pathlib import Path

import sqc

ROOT = Path(__file__).parent.parent


def test_every_package_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.findall(r'"([\w.]+)"', text.partition("\npackages = [")[2].partition("]")[0])
    folders = {
        path.parent.relative_to(ROOT) for top in ("sqc", "passes", "schedules") for path in ROOT.glob(f"{top}/**/*.py")
    }
    names = {".".join(("sqc", *folder.parts) if folder.parts[0] != "sqc" else folder.parts) for folder in folders}
    assert set(listed) == names


def test_every_public_name_is_there() -> None:
    assert all(callable(getattr(sqc, name)) for name in sqc.__all__ if name not in ("NUMBER_RULES", "__version__"))
