"""ONNX Runtime on the CPU: all graph optimizations, bound inputs and outputs, its own static quantization."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from sqc.bench.measure import midmean
from sqc.bench.peers import Feeds, Peer, Runner, check_method

METHODS = {"min-max": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
"""How ranges of activations are chosen, each with the tool's own settings, and the tool's names.

Entropy comes to min-max where all samples are looked at together: the tool's histogram then has as many bins as there
are levels, and its search nothing to choose from.
"""

COLLECTED_BYTES = 4 << 30
"""Bound on the activations that the tool holds while it calibrates; without one it holds those of all samples."""

_NODE = "_kernel_time"
"""What the profiler appends to the name of a node."""


class OnnxRuntimeRunner:
    """A session with one binding for each sample; all of them share the output buffers."""

    def __init__(self, model: bytes, threads: int) -> None:
        self._session = _session(model, _options(threads))
        self._bindings: list[ort.IOBinding] = []
        self._outputs: dict[str, ort.OrtValue] = {}

    def bind(self, samples: Sequence[Feeds]) -> None:
        names = [output.name for output in self._session.get_outputs()]
        first = self._session.run(names, dict(samples[0]))
        self._outputs = {name: ort.OrtValue.ortvalue_from_numpy(y) for name, y in zip(names, first, strict=True)}
        self._bindings = []
        for sample in samples:
            binding = self._session.io_binding()
            for name, array in sample.items():
                binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C")))
            for name, value in self._outputs.items():
                binding.bind_ortvalue_output(name, value)
            self._bindings.append(binding)

    def step(self, index: int) -> None:
        self._session.run_with_iobinding(self._bindings[index])

    def outputs(self) -> dict[str, np.ndarray]:
        return {name: np.array(value.numpy()) for name, value in self._outputs.items()}


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(model: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntime:
    name = "onnxruntime"
    version = str(ort.__version__)
    methods = tuple(METHODS)

    def quantize(self, model: bytes, calibration: Sequence[Feeds], method: str | None = None) -> bytes:
        return quantize(model, calibration, check_method(self, method))

    def save(self, model: bytes, folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(model)
        return path

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def load(self, model: bytes, threads: int, float32: bool = False) -> Runner:
        return OnnxRuntimeRunner(model, threads)

    def profile(self, model: bytes, sample: Feeds, threads: int, runs: int) -> dict[str, float]:
        options = _options(threads)
        options.enable_profiling = True
        times: defaultdict[str, list[float]] = defaultdict(list)
        with tempfile.TemporaryDirectory(prefix="sqc-bench-") as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = _session(model, options)
            for _ in range(runs + 1):
                session.run(None, dict(sample))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith(_NODE):
                times[event["name"].removesuffix(_NODE)].append(event["dur"] * 1e-6)
        # The first run is for warming up; nodes of equal names are counted together.
        calls = {name: len(seconds) // (runs + 1) for name, seconds in times.items()}
        return {name: calls[name] * midmean(seconds[calls[name] :]) for name, seconds in times.items() if calls[name]}


def quantize(model: bytes, calibration: Sequence[Feeds], method: str = "min-max") -> bytes:
    """The model in ONNX's QDQ form: u8 activations by a method of ``METHODS``, s8 weights per output channel."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(calibration)

        def __len__(self) -> int:
            return len(calibration)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.samples = iter(calibration[start_index:end_index])

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.samples, None)
            return None if sample is None else dict(sample)

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # the tool talks through the root logger
    try:
        with tempfile.TemporaryDirectory(prefix="sqc-bench-") as folder, contextlib.redirect_stdout(io.StringIO()):
            source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("float", "prepared", "int8"))
            source.write_bytes(model)
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(target),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                calibrate_method=quantization.CalibrationMethod[METHODS[method]],
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                extra_options={"CalibStridedMinMax": _stride(prepared, len(calibration))},
            )
            return target.read_bytes()
    finally:
        logging.root.setLevel(level)


def _stride(prepared: Path, samples: int) -> int:
    """How many samples the tool looks at together: all, or the most that divide them and keep to COLLECTED_BYTES.

    It holds every activation of so many samples. Despite the option's name it counts for all methods.
    """
    import onnx

    tensors = (value.type.tensor_type for value in onnx.load(str(prepared)).graph.value_info)
    elements = sum(math.prod(dimension.dim_value for dimension in tensor.shape.dim) for tensor in tensors)
    fitting = max(1, COLLECTED_BYTES // max(1, elements * np.dtype(np.float32).itemsize))
    return max(stride for stride in range(1, samples + 1) if samples % stride == 0 and stride <= fitting)


def peer() -> Peer:
    return OnnxRuntime()
