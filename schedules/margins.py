"""Padding around the images that a kernel writes, for a convolution that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqc.errors import CompileError
from sqc.ir import Op

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function


@dataclass(frozen=True)
class Margins:
    """Rows and pixels of ``value`` around NHWC images of the extents ``image``, whose results have one byte."""

    image: tuple[int, ...]
    before: tuple[int, int]
    """Above and to the left."""
    after: tuple[int, int]
    """Below and to the right."""
    value: int

    @staticmethod
    def of(pad: Op) -> Margins | None:
        """Those of a ``pad`` of images; None if it pads nothing. Raises CompileError if it pads other axes as well."""
        first, top, left, behind, *after = pad.integers("pads")
        if not any(pad.integers("pads")):
            return None
        if any((first, behind, after[0], after[3])):
            raise CompileError(f"{pad.label()} pads more than height and width, which no kernel does by the way")
        image = pad.operands[0].type.shape
        return Margins(image, (top, left), (after[1], after[2]), int(pad.number("value")))

    def around(self, func: Function) -> Function:
        """The scheduled ``func`` with a result that has these margins around it."""
        from sqc.schedules.intrinsics.margins import write_between

        return write_between(func, self)
