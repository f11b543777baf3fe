"""What sqc raises. Every message says what failed, where, why, and what to do about it."""

from __future__ import annotations


class SqcError(Exception):
    """The base of all errors that a user can cause."""


class GraphError(SqcError):
    """A graph, op or attribute is ill-formed."""


class ParseError(SqcError):
    """The text of a graph cannot be read; the message gives line and column."""


class InputError(SqcError):
    """An array given at run time has the wrong name, shape, type or values."""


class ImportFailure(SqcError):
    """An ONNX model cannot be read, or uses what sqc does not support."""


class CalibrationError(SqcError):
    """Calibration data are missing, empty, or not finite."""


class CompileError(SqcError):
    """A graph cannot be compiled for the target."""


class ToolchainError(CompileError):
    """There is no C compiler, or it could not make the library."""


class LibraryError(SqcError):
    """A compiled model cannot be written, read or loaded: its file is missing, damaged or something else."""


class ProcessorError(LibraryError):
    """A compiled model needs a processor feature that this machine lacks."""


class ExecutionError(SqcError):
    """A compiled model could not run: no memory, no threads, or a kernel that refused its arguments."""


class RecordsError(SqcError):
    """A file of tuning records cannot be read or written."""


class TuningError(SqcError):
    """Candidates cannot be measured: no worker process starts, or no server is left."""
