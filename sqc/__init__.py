"""sqc, a server quantization compiler: ONNX and calibration data in, one shared library of int8 kernels out.

``import sqc`` loads numpy alone. Loading and running a compiled model needs no more; everything that compiles is
imported on first use and needs ``pip install 'sqc[compile]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqc.errors import SqcError

__version__ = "0.1.0"
NUMBER_RULES = 1
"""Version of the number contract (sqc/NUMERICS.md) that compiled models follow."""

if TYPE_CHECKING:
    from sqc.accuracy.blame import blame as blame
    from sqc.accuracy.compare import compare as compare
    from sqc.accuracy.mixed import compile_within as compile_within
    from sqc.calibrating import calibrate as calibrate
    from sqc.calibration import Calibration as Calibration
    from sqc.calibration import Ranges as Ranges
    from sqc.compiler import compile as compile
    from sqc.frontend import import_onnx as import_onnx
    from sqc.lowering import lower as lower
    from sqc.quantizing import export_qdq as export_qdq
    from sqc.quantizing import quantize as quantize
    from sqc.recipe import Recipe as Recipe
    from sqc.runtime import Model as Model
    from sqc.runtime import load as load
    from sqc.tuning import tune as tune

_LAZY = {
    "Calibration": "sqc.calibration",
    "Ranges": "sqc.calibration",
    "blame": "sqc.accuracy.blame",
    "calibrate": "sqc.calibrating",
    "compare": "sqc.accuracy.compare",
    "compile": "sqc.compiler",
    "compile_within": "sqc.accuracy.mixed",
    "export_qdq": "sqc.quantizing",
    "import_onnx": "sqc.frontend",
    "load": "sqc.runtime",
    "lower": "sqc.lowering",
    "Model": "sqc.runtime",
    "Recipe": "sqc.recipe",
    "quantize": "sqc.quantizing",
    "tune": "sqc.tuning",
}

__all__ = ["NUMBER_RULES", "SqcError", "__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sqc' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("onnx", "tvm", "tvm_ffi", "rich", "click"):
            raise ModuleNotFoundError(
                f"sqc.{name} needs the package {error.name}: pip install 'sqc[compile]'", name=error.name
            ) from error
        raise
