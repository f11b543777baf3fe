"""The onnx package's own tests of single operators, through import, reference and compiled kernels.

Where the package has a test of an operator also as its definition by other ones ("expanded"), that runs, too.
``python -m tests.conformance`` runs all and prints how many there are, and what is excluded and why.

``OPERATORS`` says which operators are covered: all cases of an operator run, but those listed as excluded, each with
its reason. To cover another operator, add a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.loader import load_model_tests

import sqc
from sqc.errors import ImportFailure
from sqc.frontend.node import as_float32
from sqc.frontend.table import HANDLERS
from sqc.inspection import is_quantized

NO_SERVER_TYPE = "a type that no int8 server model has"
BLOCKS = "a scale for each block"
ACTIVATION_CHANNELS = "a zero point for each channel of an activation"
EXPONENTS = "an exponent for each element, or one computed at run time"
TRAINING = "training mode"
REGION = "a region of interest"
EMPTY = "an empty tensor"
NO_TENSOR = "a sequence or an optional value"
DILATED = "a window over three axes that is dilated along the last one"
PEEPHOLES = "gates that read the cell's state"


@dataclass(frozen=True)
class Operator:
    """How the cases of an operator run.

    Inputs from ``first_parameter`` on are constants, as in every trained model. ``excluded`` maps patterns of names of
    cases to reasons; each of them must fail to import. ``disputed`` cases are not run: their expected results
    contradict the specification. ``outputs`` of the operator are compared; others serve training. ``tolerance`` is
    relative to the largest result; those of ``rounded`` cases have four digits.
    """

    first_parameter: int = 1
    excluded: Mapping[str, str] = field(default_factory=dict)
    disputed: frozenset[str] = frozenset()
    rounded: frozenset[str] = frozenset()
    outputs: int | None = None
    tolerance: float = 0.0

    def reason(self, name: str) -> str:
        """Why a case is excluded; empty if it runs."""
        return next((reason for pattern, reason in self.excluded.items() if fnmatchcase(name, pattern)), "")


def narrow(prefix: str, *names: str) -> dict[str, str]:
    return {f"{prefix}_{name}": NO_SERVER_TYPE for name in names}


_NARROW = ("int16", "uint16", "int4", "uint4", "int2", "uint2", "e4m3fn", "e5m2", "float4e2m1")

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_POWERS = (
    "float32_int64", "int64_float32", "float32_int32", "int32_float32", "float32_uint64", "float32_uint32",
    "int64_int64", "int32_int32",
)  # fmt: skip

FUNCTIONS = (
    "Abs", "Ceil", "Celu", "Erf", "Exp", "Floor", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish",
    "InstanceNormalization", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Softmax",
    "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "Upsample",
)  # fmt: skip
"""Operators of one computed input of which all cases run."""

PARAMETRIZED = (
    "Conv", "ConvTranspose", "DepthToSpace", "Expand", "Flatten", "GRU", "Gemm", "GlobalAveragePool", "GlobalMaxPool",
    "Pad", "RNN", "ReduceMean", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Likewise, with weights, shapes or axes."""

CASTS = {f"*{types}*": NO_SERVER_TYPE for types in ("FLOAT8", "FLOAT4", "INT4", "INT2")}

OPERATORS: Mapping[str, Operator] = {
    "QuantizeLinear": Operator(
        excluded={
            **narrow("test_quantizelinear", *_NARROW),
            "test_quantizelinear_blocked_asymmetric": BLOCKS,
            "test_quantizelinear_blocked_symmetric": BLOCKS,
            "test_quantizelinear_axis": ACTIVATION_CHANNELS,
        }
    ),
    "DequantizeLinear": Operator(
        excluded={
            **narrow("test_dequantizelinear", *_NARROW, "e4m3fn_float16", "e4m3fn_zero_point"),
            "test_dequantizelinear_blocked": BLOCKS,
            "test_dequantizelinear_axis": ACTIVATION_CHANNELS,
        }
    ),
    **{operator: Operator(tolerance=1e-5) for operator in FUNCTIONS},
    **{operator: Operator(tolerance=1e-5) for operator in ("Elu", "LeakyRelu", "PRelu", "Selu", "ThresholdedRelu")},
    **{operator: Operator(tolerance=1e-5, first_parameter=9) for operator in ("Sum", "Mean")},
    **{
        operator: Operator(
            tolerance=1e-5,
            first_parameter=9,
            excluded={f"test_{operator.lower()}_{dtype}": NO_SERVER_TYPE for dtype in _INTEGERS},
        )
        for operator in ("Max", "Min")
    },
    "Clip": Operator(
        tolerance=1e-5,
        excluded={"test_clip_default_int8_*": NO_SERVER_TYPE},
    ),
    "Pow": Operator(
        tolerance=1e-5,
        excluded={
            f"test_pow{name}": EXPONENTS
            for name in ("", "_example", "_bcast_array", *(f"_types_{types}" for types in _POWERS))
        },
    ),
    "BatchNormalization": Operator(
        tolerance=1e-5,
        excluded={f"test_batchnorm_{name}_training_mode": TRAINING for name in ("example", "epsilon")},
    ),
    "LayerNormalization": Operator(tolerance=1e-5, outputs=1),
    "Gather": Operator(first_parameter=2),
    "Resize": Operator(
        tolerance=1e-5,
        excluded={
            f"test_resize_tf_crop_and_resize{name}": REGION
            for name in ("", "_extrapolation_value", "_axes_2_3", "_axes_3_2")
        },
        # A fractional length of the result; ONNX Runtime rounds it down, as the output's shape is.
        disputed=frozenset(f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")),
    ),
    **{operator: Operator(tolerance=1e-5) for operator in PARAMETRIZED},
    **{
        operator: Operator(
            tolerance=1e-5, first_parameter=9, excluded={f"test_{operator.lower()}_*int*": NO_SERVER_TYPE}
        )
        for operator in ("Add", "Sub", "Mul", "Div")
    },
    **{operator: Operator(tolerance=1e-5, first_parameter=9) for operator in ("Concat", "MatMul")},
    **{operator: Operator(tolerance=1e-5, first_parameter=9) for operator in ("And", "Or", "Xor", "Not")},
    **{
        operator: Operator(
            tolerance=1e-5,
            first_parameter=9,
            excluded={
                f"test_{case}_{dtype}*": NO_SERVER_TYPE
                for dtype in ("int8", "int16", "uint8", "uint16", "uint32", "uint64")
            },
        )
        for operator, case in (
            ("Greater", "greater"),
            ("Less", "less"),
            ("GreaterOrEqual", "greater_equal"),
            ("LessOrEqual", "less_equal"),
        )
    },
    "Equal": Operator(
        tolerance=1e-5,
        first_parameter=9,
        excluded={
            f"test_equal_{dtype}*": NO_SERVER_TYPE
            for dtype in ("int8", "int16", "uint8", "uint16", "uint32", "uint64", "string")
        },
    ),
    "Where": Operator(tolerance=1e-5, first_parameter=9, excluded={"test_where_long_*": NO_SERVER_TYPE}),
    "AveragePool": Operator(
        tolerance=1e-5,
        excluded={"test_averagepool_3d_dilations_*": DILATED},
        rounded=frozenset({"test_averagepool_2d_ceil_last_window_starts_on_pad"}),
    ),
    "MaxPool": Operator(tolerance=1e-5, outputs=1),
    "ReduceMax": Operator(tolerance=1e-5, excluded={"*_empty_set*": EMPTY}),
    "ReduceSum": Operator(tolerance=1e-5, excluded={"*_empty_set*": EMPTY}),
    "Reshape": Operator(tolerance=1e-5, excluded={"test_reshape_allowzero_reordered": EMPTY}),
    "Slice": Operator(tolerance=1e-5, excluded={"test_slice_start_out_of_bounds": EMPTY}),
    "Split": Operator(tolerance=1e-5, excluded={"test_split_zero_size_*": EMPTY}),
    "Identity": Operator(tolerance=1e-5, excluded={f"test_identity_{kind}": NO_TENSOR for kind in ("sequence", "opt")}),
    "Dropout": Operator(tolerance=1e-5, outputs=1, excluded={"test_training_*": TRAINING}),
    "LSTM": Operator(tolerance=1e-5, excluded={"test_lstm_with_peepholes": PEEPHOLES}),
    "Cast": Operator(tolerance=1e-5, excluded=CASTS),
    "CastLike": Operator(tolerance=1e-5, excluded=CASTS),
    "QLinearConv": Operator(),
    "DynamicQuantizeLinear": Operator(excluded={"*_expanded": "casts to levels that no QuantizeLinear makes"}),
    "MatMulInteger": Operator(first_parameter=2),
    "ConvInteger": Operator(),
    "QLinearMatMul": Operator(),
}


@cache
def cases() -> dict[str, Any]:
    """The cases of all covered operators by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package computes expected infinities
        found = load_model_tests(kind="node")
    single = {case.name: case for case in found if len(case.model.graph.node) == 1 and operator_of(case) in OPERATORS}
    several = [case for case in found if len(case.model.graph.node) > 1 and "_expanded" in case.name]
    return {**single, **{case.name: case for case in several if _expanded_from(case) in single}}


def _expanded_from(case: Any) -> str:
    return str(case.name).partition("_expanded")[0]


def operator_of(case: Any) -> str:
    """The operator that a case tests, by itself or by its definition."""
    case = case if len(case.model.graph.node) == 1 else cases()[_expanded_from(case)]
    return str(case.model.graph.node[0].op_type)


def with_constants(case: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray], list[np.ndarray]]:
    """The model with its parameters as constants, the other inputs by name, the expected outputs."""
    ((arrays, expected),) = case.data_sets
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [value.name for value in model.graph.input]
    computed = names[: OPERATORS[operator_of(case)].first_parameter]
    for name, array in zip(names, arrays, strict=True):
        if name not in computed:
            model.graph.initializer.append(
                array if isinstance(array, onnx.TensorProto) else onnx.numpy_helper.from_array(array, name)
            )
    outputs = model.graph.output[: OPERATORS[operator_of(case)].outputs]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    inputs = [value for value in model.graph.input if value.name in computed]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    given = {name: _as_array(array) for name, array in zip(names, arrays, strict=True) if name in computed}
    return with_numbers(model), given, [*map(_as_array, expected)]


def with_numbers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with truth values as numbers at its inputs and outputs: cast behind the ones and before the others."""
    before, behind = [], []
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type != onnx.TensorProto.BOOL:
            continue
        own = f"{value.name}.bool"
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [own if name == value.name else name for name in names]
        if value in model.graph.input:
            before.append(onnx.helper.make_node("Cast", [value.name], [own], to=onnx.TensorProto.BOOL))
        else:
            behind.append(onnx.helper.make_node("Cast", [own], [value.name], to=onnx.TensorProto.FLOAT))
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    nodes = [*before, *model.graph.node, *behind]
    if before or behind:
        # Models of one operator are of the operator set that defined it, which may be older than any that is imported.
        model.opset_import[0].version = max(model.opset_import[0].version, 9)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _as_array(array: Any) -> Any:
    return onnx.numpy_helper.to_array(array) if isinstance(array, onnx.TensorProto) else array


def excluded(name: str) -> str:
    return OPERATORS[operator_of(cases()[name])].reason(name)


def disputed(name: str) -> bool:
    return name in OPERATORS[operator_of(cases()[name])].disputed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted = "excluded" in metafunc.function.__name__
    names = [name for name in cases() if bool(excluded(name)) == wanted and not disputed(name)]
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", names)


def test_case(name: str) -> None:
    model, inputs, expected = with_constants(cases()[name])
    operator = OPERATORS[operator_of(cases()[name])]
    tolerance = 1e-3 if name in operator.rounded else operator.tolerance
    if tolerance:
        inputs = {key: as_float32(array + 0.0 if array.dtype == bool else array) for key, array in inputs.items()}
    graph = sqc.import_onnx(model)
    compiled = sqc.compile(graph)
    runs = [graph.run(inputs), compiled.run(inputs)]
    if is_quantized(graph):
        runs.append(sqc.quantize(graph).run(inputs))
    for outputs in runs:
        for result, wanted in zip(outputs.values(), expected[: len(outputs)], strict=True):
            assert result.shape == wanted.shape
            if tolerance:
                assert_close(result, wanted, tolerance)
                continue
            if wanted.dtype == np.float16:
                wanted = wanted.astype(np.float32)
            np.testing.assert_array_equal(result, wanted)
            assert result.dtype == wanted.dtype


def assert_close(result: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Within the tolerance of the largest number, or the precision of the type that is wanted."""
    tolerance = max(tolerance, {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(wanted.dtype.name, 0.0))
    wanted = as_float32(wanted + 0.0 if wanted.dtype == bool else wanted)
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
    np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance * largest)


def test_excluded_case(name: str) -> None:
    with pytest.raises(ImportFailure):
        sqc.import_onnx(with_constants(cases()[name])[0])


def test_exclusions_exist() -> None:
    for operator, how in OPERATORS.items():
        names = [name for name, case in cases().items() if operator_of(case) == operator]
        assert not {*how.disputed, *how.rounded} - set(names)
        unused = [pattern for pattern in how.excluded if not any(fnmatchcase(name, pattern) for name in names)]
        assert not unused


def test_every_operator_is_covered() -> None:
    assert sorted(HANDLERS.keys() - OPERATORS.keys()) == []
