"""Dot product intrinsics: s32 accumulators gain u8 activations times s8 weights; one file an instruction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Literal

from sqc.schedules.target import Target

LANES = 16
"""Accumulators of one intrinsic: output channels that lie side by side in packed weights."""


@dataclass(frozen=True)
class Dot:
    """What a target multiplies with.

    One intrinsic multiplies ``depth`` neighbouring activations with the weights ``[LANES][depth]`` and adds the sums
    to ``LANES`` accumulators, ``lanes`` with one instruction. Activations are of type ``element``: where that is not u8
    they must be widened first. ``packed`` weights have four bits, two in a byte.
    """

    name: str
    lanes: int
    depth: int
    element: Literal["uint8", "int16"]
    packed: bool = False

    def register(self, scope: str) -> str:
        """Register the intrinsic for activations in a buffer of ``scope``; returns the name for ``tensorize``."""
        options = (True,) if self.packed else ()
        return str(_family(self.name).register(scope, self.lanes, *options))

    @property
    def weight_bytes(self) -> int:
        """What the weights of one accumulator take."""
        return self.depth // 2 if self.packed else self.depth

    @property
    def saturates(self) -> bool:
        """Whether sums of two products must fit into 16 bits."""
        return self.name == "pmaddubsw"

    @property
    def widens(self) -> bool:
        """Whether activations have to be staged in a wider type."""
        return self.element != "uint8"


def dot(target: Target) -> Dot:
    """The dot product of a target; pure data."""
    name, lanes = _instruction(target), target.vector_bytes // 4
    return Dot(name, lanes, 2, "int16") if name == "pmaddwd" else Dot(name, lanes, 4, "uint8")


def listed_dot(target: Target) -> Dot:
    """The dot product of products over lists of groups: without VNNI, one whose weights must not saturate 16 bits."""
    name, lanes = _instruction(target), target.vector_bytes // 4
    return Dot("pmaddubsw" if name == "pmaddwd" else name, lanes, 4, "uint8")


def packed_dot(target: Target) -> Dot:
    """The dot product of weights of four bits: sums of two products are far from saturating 16 bits."""
    return replace(listed_dot(target), depth=8, packed=True)


@dataclass(frozen=True)
class Column:
    """What a target multiplies in depthwise convolutions.

    One intrinsic multiplies a column of neighbouring activations, for ``lanes`` channels, with weights of type
    ``element``, of which ``depth`` neighbouring ones lie side by side.
    """

    name: str
    lanes: int
    depth: int
    element: Literal["int8", "int16"]

    def register(self, height: int, step: int, scope: str) -> str:
        """Register the intrinsic for ``height`` rows, ``step`` apart, in ``scope``; returns its name."""
        return str(_family(self.name).register_column(height, step, scope, self.lanes))

    def register_group(self, height: int, step: int, scope: str) -> str:
        """Register the intrinsic for four times as many channels, where bytes are multiplied as they are."""
        return str(_family(self.name).register_columns(height, step, scope, self.lanes))


def column(target: Target) -> Column:
    """The column product of a target; pure data."""
    name, lanes = _instruction(target), target.vector_bytes // 4
    return Column(name, lanes, 2, "int16") if name == "pmaddwd" else Column(name, lanes, 4, "int8")


def _instruction(target: Target) -> str:
    if target.emulated:
        return "portable"
    return "vpdpbusd" if target.has_vnni else "pmaddwd"


def _family(name: str) -> ModuleType:
    # Not imported before it is needed, as it imports TVM.
    return import_module(f"sqc.schedules.intrinsics.{name}")
