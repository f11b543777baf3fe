"""ONNX Runtime on the CPU: all graph optimizations, bound inputs and outputs, its own static quantization."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from sqc.bench.peers import Feeds, Peer, Runner


class OnnxRuntimeRunner:
    """A session with one binding for each sample; all of them share the output buffers."""

    def __init__(self, model: bytes, threads: int) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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


class OnnxRuntime:
    name = "onnxruntime"
    version = str(ort.__version__)

    def quantize(self, model: bytes, calibration: Sequence[Feeds]) -> bytes:
        return quantize(model, calibration)

    def load(self, model: bytes, threads: int) -> Runner:
        return OnnxRuntimeRunner(model, threads)


def quantize(model: bytes, calibration: Sequence[Feeds]) -> bytes:
    """The model in ONNX's QDQ form: u8 activations by min-max, s8 weights per output channel."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.samples, None)
            return None if sample is None else dict(sample)

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # the tool talks through the root logger
    try:
        with tempfile.TemporaryDirectory(prefix="sqc-bench-") as folder:
            source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("float", "prepared", "int8"))
            source.write_bytes(model)
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(target),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
            )
            return target.read_bytes()
    finally:
        logging.root.setLevel(level)


def peer() -> Peer:
    return OnnxRuntime()
