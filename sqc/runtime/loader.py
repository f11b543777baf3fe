"""Loading and running compiled models. Needs numpy alone."""

from __future__ import annotations

import ctypes
import os
import struct
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from sqc.errors import ExecutionError, InputError, LibraryError, ProcessorError, SqcError
from sqc.runtime.arrays import (
    Array,
    TensorSpec,
    address,
    check_outputs,
    check_overlap,
    count_samples,
    make_ready,
    order,
    ready_address,
    resize,
    specs,
)
from sqc.runtime.container import open_file, write_atomically
from sqc.runtime.shared_object import SharedObject, map_file

THREADS_VARIABLE = "SQC_NUM_THREADS"
SPIN_VARIABLE = "SQC_SPIN_US"

# One sqc_cores for all libraries. It is never freed: threads may still be in runs when the interpreter ends.
_cores = (ctypes.c_int32 * 32)()
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_cores))
_UNSUPPORTED_PROCESSOR = 2


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step of a model (mostly a fused op) and how long it took."""

    name: str
    seconds: float


class Variant:
    """A model at one batch size: what goes in and out, and its handle in the library.

    `samples` is the batch size, or 0 where the results of a sample may depend on the others. `is_cut` says that it was
    not compiled for this size, and runs in parts.
    """

    is_cut = False

    def __init__(
        self,
        handle: ctypes.c_void_p,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        steps: tuple[str, ...],
        samples: int,
    ) -> None:
        self.handle = handle
        self.inputs = inputs
        self.outputs = outputs
        self.steps = steps
        self.samples = samples
        self.shapes = tuple(spec.shape for spec in self.inputs)
        # Addresses go to C as packed bytes: quicker than a ctypes array, and private to the call.
        self.pack_inputs = struct.Struct(f"{len(self.inputs)}P").pack
        self.pack_outputs = struct.Struct(f"{len(self.outputs)}P").pack

    def addresses(self, arrays: Sequence[Any]) -> list[int] | None:
        """Where arrays lie that are the inputs of this variant as C can read them; None for any others."""
        if len(arrays) != len(self.inputs):
            return None
        found = []
        for array, spec in zip(arrays, self.inputs):  # noqa: B905 (equally long)
            start = ready_address(array, spec)
            if not start:
                return None
            found.append(start)
        return found

    def run(self, functions: ctypes.CDLL, sources: Sequence[int], targets: Sequence[int]) -> int:
        """Runs on arrays at these addresses; gives an sqc_status."""
        status: int = functions.sqc_run(self.handle, self.pack_inputs(*sources), self.pack_outputs(*targets))
        return status

    def resized(self, inputs: Sequence[Any]) -> Variant | None:
        """The same model for as many samples as these arrays hold, if they do hold samples of one number."""
        if not self.samples or len(inputs) != len(self.inputs):
            return None
        counts = {count_samples(array, spec, self.samples) for array, spec in zip(inputs, self.inputs, strict=True)}
        count = counts.pop() if len(counts) == 1 else 0
        return _CutVariant(self, count) if count else None


class _CutVariant(Variant):
    """A model at a batch size that it was not compiled for: runs are cut into those that it was."""

    is_cut = True

    def __init__(self, variant: Variant, samples: int) -> None:
        inputs, outputs = (
            tuple(resize(spec, variant.samples, samples) for spec in group)
            for group in (variant.inputs, variant.outputs)
        )
        super().__init__(variant.handle, inputs, outputs, variant.steps, samples)

    def run(self, functions: ctypes.CDLL, sources: Sequence[int], targets: Sequence[int]) -> int:
        pointers = self.pack_inputs(*sources), self.pack_outputs(*targets)
        status: int = functions.sqc_run_samples(self.handle, self.samples, *pointers)
        return status


class _Instance:
    """An open handle. It lives until the last call that uses it has returned, even if the model is closed before."""

    def __init__(self, library: SharedObject) -> None:
        self.library = library
        self.functions = library.functions
        handle = ctypes.c_void_p()
        self.check(self.functions.sqc_open(ctypes.byref(handle)))
        weakref.finalize(self, _close, library, handle).atexit = False
        self.handle = handle
        self.check(self.functions.sqc_share_cores(handle, _cores))
        target = self.functions.sqc_target(handle).decode()
        chosen = (other for other in library.description["alternatives"] if other["target"] == target)
        self.description = {**library.description, **next(chosen, {})}
        self.variants = []
        for index, description in enumerate(self.description["variants"]):
            variant = ctypes.c_void_p()
            self.check(self.functions.sqc_variant(handle, index, ctypes.byref(variant)))
            steps = tuple(str(step["name"]) for step in description["steps"])
            inputs, outputs = specs(description["inputs"]), specs(description["outputs"])
            self.variants.append(Variant(variant, inputs, outputs, steps, description["samples"]))
        self.likely = tuple(self.variants)
        """Those that may be called next, the one that was called last before all."""
        self.by_shapes = {variant.shapes: variant for variant in self.variants}

    def check(self, status: int) -> None:
        if status:
            error = ProcessorError if status == _UNSUPPORTED_PROCESSOR else ExecutionError
            raise error(self.library.last_error())

    def accept(self, inputs: Sequence[Any]) -> tuple[Variant, Sequence[Array], list[int]]:
        """The variant that takes these arrays, the arrays as C can read them, and where they lie."""
        likely = self.likely
        for variant in likely:
            addresses = variant.addresses(inputs)
            if addresses is not None:
                if variant is not likely[0]:
                    self.likely = (variant, *self.variants)
                return variant, inputs, addresses
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            inputs = order(inputs[0], self.variants[0].inputs)
        resized = self.variants[0].resized(inputs)
        if resized is not None and resized.shapes not in self.by_shapes:
            arrays, variant = make_ready(inputs, [resized.inputs]), resized
            self.likely = (variant, *self.variants)
        else:
            arrays = make_ready(inputs, [variant.inputs for variant in self.variants])
            variant = self.by_shapes[tuple(array.shape for array in arrays)]
        return variant, arrays, [address(array) for array in arrays]


def _close(library: SharedObject, handle: ctypes.c_void_p) -> None:
    library.functions.sqc_close(handle)


class Model:
    """A compiled model, ready to run; `load` makes one. Any number of threads may call it at once.

    A model compiled for several batch sizes goes by the shapes of its inputs; `inputs` and `outputs` show the first. It
    takes any other number of samples too, and cuts them into the sizes that it was compiled for, with the same bits;
    unless the results of a sample may depend on the others (`variants[0].samples` is 0).
    """

    def __init__(self, library: SharedObject, threads: int | None = None, spin_us: int | None = None) -> None:
        self._current: _Instance | None = _Instance(library)
        if threads is None:
            threads = _from_environment(THREADS_VARIABLE, "a number of threads (0 for all processors)")
        if threads is not None and threads != 1:
            self.threads = threads
        if spin_us is None:
            spin_us = _from_environment(SPIN_VARIABLE, "a number of microseconds (0 to sleep at once)")
        if spin_us is not None:
            self.spin_us = spin_us

    def __call__(self, *inputs: Any, out: Array | Sequence[Array] | None = None) -> Any:
        """Runs the model on arrays in the order of `inputs`, or on one dict by name.

        Returns the output array, or a tuple of all where there are several; with `out`, those arrays, written in place.
        Raises InputError if the number, names, types or shapes are not what the model takes: types are never converted.
        Arrays that are not contiguous are copied.
        """
        # Small models take little longer than this function: it makes no detours.
        instance = self._current or self._instance
        variant, arrays, sources = instance.accept(inputs)
        results: list[Array]
        if out is None:
            results, targets = [], []
            for spec in variant.outputs:
                result = np.empty(spec.shape, spec.dtype)
                results.append(result)
                targets.append(address(result))
        else:
            results, targets = check_outputs(out, variant.outputs)
            check_overlap(results, targets, arrays, sources)
        status = variant.run(instance.functions, sources, targets)
        if status:
            instance.check(status)
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model on arrays by name; gives all outputs by name. Raises InputError like a call."""
        results = self(inputs)
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, results if len(names) > 1 else [results], strict=True))

    def profile(self, *inputs: Any, repeat: int = 10) -> list[StepTime]:
        """Runs the model `repeat` times; gives each step's median time, in order. Raises InputError like a call."""
        if repeat < 1:
            raise ValueError(f"repeat must be at least 1, not {repeat}")
        instance = self._instance
        variant, _arrays, sources = instance.accept(inputs)
        if variant.is_cut:
            raise InputError(f"the model was not compiled for batches of {variant.samples}, so they have no profile")
        results = [np.empty(spec.shape, spec.dtype) for spec in variant.outputs]
        seconds = (ctypes.c_double * len(variant.steps))()
        runs = []
        for _ in range(repeat):
            status = instance.functions.sqc_profile(
                variant.handle,
                variant.pack_inputs(*sources),
                variant.pack_outputs(*[address(array) for array in results]),
                seconds,
            )
            instance.check(status)
            runs.append(list(seconds))
        medians = np.median(np.array(runs), axis=0)
        return [StepTime(name, float(time)) for name, time in zip(variant.steps, medians, strict=True)]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._instance.variants[0].inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._instance.variants[0].outputs

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The model at each batch size that it was compiled for."""
        return tuple(self._instance.variants)

    @property
    def description(self) -> dict[str, Any]:
        """What the compiler wrote about the model: quantization, target, versions, report.

        Of a library for several targets, `target`, `cpu_features` and `variants` tell about the one that runs here.
        """
        return self._instance.description

    @property
    def threads(self) -> int:
        """How many threads one run may use, the caller's included. Set it to 0 for all processors at hand."""
        instance = self._instance
        return int(instance.functions.sqc_threads(instance.handle))

    @threads.setter
    def threads(self, threads: int) -> None:
        instance = self._instance
        instance.check(instance.functions.sqc_set_threads(instance.handle, threads))

    @property
    def spin_us(self) -> int:
        """How many microseconds a worker thread without work spins before it sleeps; 0: it sleeps at once."""
        instance = self._instance
        return int(instance.functions.sqc_spin(instance.handle))

    @spin_us.setter
    def spin_us(self, microseconds: int) -> None:
        instance = self._instance
        instance.check(instance.functions.sqc_set_spin(instance.handle, microseconds))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model's file, whole or not at all. Raises LibraryError if the system refuses."""
        file = self._instance.library.file
        write_atomically(path, os.pread(file, os.fstat(file).st_size, 0))

    def close(self) -> None:
        """Frees the model, once calls in other threads have returned. It cannot be used afterwards."""
        self._current = None

    @property
    def _instance(self) -> _Instance:
        if self._current is None:
            raise SqcError("this model was closed; load it again")
        return self._current

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._current is None:
            return "<sqc.Model, closed>"
        return f"<sqc.Model ({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})>"


def load(path: str | os.PathLike[str], threads: int | None = None, spin_us: int | None = None) -> Model:
    """Loads a compiled model.

    `threads` is how many threads one run may use: 0 for all processors at hand, None for what the environment variable
    SQC_NUM_THREADS says, else 1. `spin_us` is how many microseconds a worker thread without work spins before it
    sleeps: 0 to sleep at once, None for what SQC_SPIN_US says, else 200. All models of a process share its processors:
    runs at the same time take no more threads than there are. Raises LibraryError if the file is missing, damaged or no
    compiled model, and ProcessorError if it was compiled for features that this processor lacks.
    """
    return Model(map_file(open_file(path), os.fspath(path)), threads, spin_us)


def load_bytes(content: bytes, threads: int | None = None, spin_us: int | None = None) -> Model:
    """Loads a model from the bytes of its file, without writing a file. Arguments and errors are those of `load`."""
    name = "the library in memory"
    try:
        file = os.memfd_create("sqc-model", os.MFD_CLOEXEC)
        with open(file, "wb", closefd=False) as stream:
            stream.write(content)
    except OSError as error:
        raise LibraryError(f"{name}: cannot hold it: {error.strerror}; save it to a file and load that") from error
    return Model(map_file(file, name), threads, spin_us)


def _from_environment(variable: str, meaning: str) -> int | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdecimal():
        raise SqcError(f"{variable} must be {meaning}, not {text!r}")
    return int(text)
