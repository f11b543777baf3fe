"""The table of op kinds: attributes, type inference, numpy reference. ``sqc.ops`` fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

from sqc.errors import GraphError
from sqc.ir.graph import Attribute, Graph, Op
from sqc.ir.types import TensorType

Infer: TypeAlias = Callable[[Sequence[TensorType], Mapping[str, Any]], TensorType]
Reference: TypeAlias = Callable[[Op, Sequence[np.ndarray]], np.ndarray]


class Required:
    """Marks an attribute without a default."""

    def __init__(self, kind: type) -> None:
        self.kind = kind


@dataclass(frozen=True)
class OpDefinition:
    """What an op kind is.

    ``attributes`` maps each name to its default or to ``Required(type)``. ``infer`` gives the result type and raises
    ValueError with the reason where operands or attributes don't fit. ``reference`` defines the op's meaning in numpy.
    ``arity`` is the least and the largest number of operands (None: no limit).
    """

    kind: str
    arity: tuple[int, int | None]
    attributes: Mapping[str, Any]
    infer: Infer
    reference: Reference


_DEFINITIONS: dict[str, OpDefinition] = {}


def define(
    kind: str,
    *,
    arity: int | tuple[int, int | None],
    infer: Infer,
    reference: Reference,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Register an op kind. Raises ValueError if the kind exists."""
    if kind in _DEFINITIONS:
        raise ValueError(f"op kind {kind!r} is defined twice")
    span = (arity, arity) if isinstance(arity, int) else arity
    _DEFINITIONS[kind] = OpDefinition(kind, span, dict(attributes or {}), infer, reference)


def definition(kind: str) -> OpDefinition:
    """The definition of ``kind``. Raises GraphError for an unknown one."""
    _load()
    try:
        return _DEFINITIONS[kind]
    except KeyError:
        raise GraphError(f"unknown op kind {kind!r}; known: {', '.join(kinds())}") from None


def kinds() -> tuple[str, ...]:
    """All op kinds."""
    _load()
    return tuple(sorted(_DEFINITIONS))


@cache
def _load() -> None:
    """Let the operators register themselves: by name, since they stand above this package."""
    import_module("sqc.ops")


def complete_attributes(kind: str, attributes: Mapping[str, Any]) -> dict[str, Attribute]:
    """Attributes with defaults filled in and checked against the schema, in the schema's order. Raises GraphError."""
    schema = definition(kind).attributes
    if unknown := attributes.keys() - schema.keys():
        raise GraphError(f"{kind} has no attribute {', '.join(sorted(unknown))}; it has {', '.join(schema) or 'none'}")
    complete: dict[str, Attribute] = {}
    for name, default in schema.items():
        expected = default.kind if isinstance(default, Required) else type(default)
        if name not in attributes:
            if isinstance(default, Required):
                raise GraphError(f"{kind} needs the attribute {name}")
            complete[name] = default
            continue
        complete[name] = _coerce(kind, name, attributes[name], expected)
    return complete


def _coerce(kind: str, name: str, value: Any, expected: type) -> Attribute:
    if expected is tuple and isinstance(value, list | tuple | np.ndarray):
        return tuple(item if isinstance(item, float) else int(item) for item in value)
    if expected is float and isinstance(value, int | float | np.floating | np.integer):
        return float(value)
    if expected is int and isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if expected in (bool, str, Graph) and isinstance(value, expected):
        return value
    raise GraphError(f"attribute {name} of {kind} must be a {expected.__name__}, not {value!r}")


def infer_type(kind: str, operands: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    """The result type of an op. Raises GraphError with the reason if the op is ill-formed."""
    entry = definition(kind)
    least, most = entry.arity
    if len(operands) < least or (most is not None and len(operands) > most):
        raise GraphError(
            f"{kind} takes {least if least == most else f'{least} to {most}'} operands, not {len(operands)}"
        )
    try:
        return entry.infer(operands, attributes)
    except (ValueError, IndexError) as error:
        raise GraphError(f"{kind}({', '.join(map(str, operands))}): {error}") from error
