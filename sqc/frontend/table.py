"""The table of handlers: which function imports which ONNX operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from sqc.frontend.node import Node, Tensor
from sqc.frontend.quantized import QuantizedConstant

Result: TypeAlias = "Tensor | QuantizedConstant | tuple[Tensor, ...]"
Function = TypeVar("Function", bound=Callable[[Node], Result])


@dataclass(frozen=True)
class Handler:
    """Imports one operator. ``ignores`` names the attributes that do not matter for inference."""

    function: Callable[[Node], Result]
    ignores: frozenset[str]


HANDLERS: dict[str, Handler] = {}


def handler(*op_types: str, ignores: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Register a function for operators of the default domain.

    The function gets a :class:`Node` that has at least one input not known at import (that of DequantizeLinear may have
    none), emits ops, and returns what the node's outputs are. It raises :class:`Unsupported` for forms that it cannot
    import. An attribute that a node sets, and that the function neither reads nor ignores, counts as unsupported, so
    none is dropped silently.
    """

    def register(function: Function) -> Function:
        for op_type in op_types:
            if op_type in HANDLERS:
                raise ValueError(f"{op_type} has two handlers")
            HANDLERS[op_type] = Handler(function, frozenset(ignores))
        return function

    return register
