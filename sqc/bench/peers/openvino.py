"""OpenVINO on the CPU: latency hint, inputs and outputs preset, quantized by NNCF's ``quantize``."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from sqc.bench.measure import midmean
from sqc.bench.peers import Feeds, Peer, Runner, check_method, untracked

METHODS: dict[str, dict[str, Any]] = {"default": {}, "accurate-bias-correction": {"fast_bias_correction": False}}
"""What is told to NNCF's ``quantize``."""


class OpenVinoRunner:
    """One infer request for each sample, with its tensors set; all of them share the output buffers."""

    def __init__(self, model: ov.Model, threads: int, hints: dict[str, Any]) -> None:
        self._compiled = _compile(model, threads, hints)
        self._requests: list[ov.InferRequest] = []
        self._inputs: list[np.ndarray] = []
        self._outputs: dict[str, np.ndarray] = {}

    def bind(self, samples: Sequence[Feeds]) -> None:
        self._outputs = {
            output.get_any_name(): np.empty(tuple(output.shape), output.element_type.to_dtype())
            for output in self._compiled.outputs
        }
        self._requests, self._inputs = [], []
        for sample in samples:
            request = self._compiled.create_infer_request()
            for name, array in sample.items():
                self._inputs.append(np.array(array, order="C"))
                request.set_tensor(name, ov.Tensor(self._inputs[-1], shared_memory=True))
            for name, buffer in self._outputs.items():
                request.set_tensor(name, ov.Tensor(buffer, shared_memory=True))
            self._requests.append(request)

    def step(self, index: int) -> None:
        self._requests[index].infer(share_inputs=True, share_outputs=True)

    def outputs(self) -> dict[str, np.ndarray]:
        return {name: buffer.copy() for name, buffer in self._outputs.items()}


def _compile(model: ov.Model, threads: int, hints: dict[str, Any]) -> ov.CompiledModel:
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **hints}
    return ov.Core().compile_model(model, "CPU", config)


def _read(model: bytes | ov.Model) -> ov.Model:
    return ov.Core().read_model(model) if isinstance(model, bytes) else model


def _hints(model: bytes | ov.Model, float32: bool = False) -> dict[str, Any]:
    """Without the hint, processors with bfloat16 arithmetic would use that; in float models it is no fair match."""
    return {"INFERENCE_PRECISION_HINT": "f32"} if float32 or isinstance(model, bytes) else {}


class OpenVino:
    name = "openvino"
    version = str(ov.__version__).partition("-")[0]
    methods = tuple(METHODS)

    def quantize(self, model: bytes, calibration: Sequence[Feeds], method: str | None = None) -> ov.Model:
        return quantize(model, calibration, check_method(self, method))

    def save(self, model: ov.Model, folder: Path) -> Path:
        path = folder / "model.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        return path

    def read(self, path: Path) -> ov.Model:
        return ov.Core().read_model(path)

    def load(self, model: bytes | ov.Model, threads: int, float32: bool = False) -> Runner:
        return OpenVinoRunner(_read(model), threads, _hints(model, float32))

    def profile(self, model: bytes | ov.Model, sample: Feeds, threads: int, runs: int) -> dict[str, float]:
        hints = {**_hints(model), "PERF_COUNT": True}
        request = _compile(_read(model), threads, hints).create_infer_request()
        times: defaultdict[str, list[float]] = defaultdict(list)
        request.infer(dict(sample))
        for _ in range(runs):
            request.infer(dict(sample))
            run: defaultdict[str, float] = defaultdict(float)
            for layer in request.profiling_info:
                if layer.status == ov.ProfilingInfo.Status.EXECUTED:
                    run[layer.node_name] += layer.real_time.total_seconds()
            for name, seconds in run.items():
                times[name].append(seconds)
        return {name: midmean(seconds) for name, seconds in times.items()}


def quantize(model: bytes, calibration: Sequence[Feeds], method: str = "default") -> ov.Model:
    """NNCF's post-training quantization by a method of ``METHODS``, on all the given samples."""
    with _quiet():
        import nncf

        nncf.set_log_level(logging.ERROR)
        samples = [dict(sample) for sample in calibration]
        # As `read_model` leaves them, NNCF finds no biases in ONNX models, and corrects none.
        converted = ov.convert_model(io.BytesIO(model))
        return nncf.quantize(converted, nncf.Dataset(samples), subset_size=len(samples), **METHODS[method])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF writes progress bars and hints about engines that are not installed."""
    with untracked(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def peer() -> Peer:
    return OpenVino()
