"""The roofline plot of a profile. Needs matplotlib (``pip install 'sqc[report]'``).

It is that of Williams, Waterman & Patterson, "Roofline: an insightful visual performance model for multicore
architectures" (2009): what a kernel reaches over how much it computes for each byte.
"""

from __future__ import annotations

import io
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any, cast

from sqc.bench.profile import COMPUTE, KernelTime, Profile, arithmetic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED = 8
"""The slowest kernels carry their names in the plot."""
NAME_LENGTH = 24
"""Of longer names the end is shown."""

# Told apart with any colour vision (Okabe & Ito).
_COLOURS = {COMPUTE: "#0072B2", "L1": "#009E73", "L2": "#E69F00", "L3": "#D55E00", "memory": "#CC79A7"}


def figure(profile: Profile) -> Figure:
    """The plot: a dot for each kernel that multiplies, as large as its share of the time."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    dots = [kernel for kernel in profile.kernels if kernel.work.multiply_accumulates]
    result = Figure(figsize=(11, 6.5), layout="constrained")
    axes: Axes = result.add_subplot()
    intensities = [kernel.intensity for kernel in dots] or [1.0]
    left, right = min(intensities) / 3, max(*intensities, _ridge(profile)) * 3
    speeds = [_speed(kernel) for kernel in dots]
    peak = _peak(profile) / 1e9
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min([*speeds, peak]) / 3, peak * 3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    _roofs(axes, profile, {arithmetic(kernel.work) for kernel in dots})
    for limit, colour in _COLOURS.items():
        chosen = [kernel for kernel in dots if kernel.bound.limit == limit]
        if not chosen:
            continue
        axes.scatter(
            [kernel.intensity for kernel in chosen],
            [_speed(kernel) for kernel in chosen],
            s=[20 + 1500 * kernel.seconds / profile.seconds for kernel in chosen],
            color=colour,
            alpha=0.65,
            edgecolors="black",
            linewidths=0.5,
            label=f"bound by {limit}",
            zorder=3,
        )
    _names(axes, sorted(dots, key=lambda kernel: -kernel.seconds)[:LABELLED])
    axes.set_xlabel("multiply-accumulates a byte of activations and constants")
    axes.set_ylabel("GMAC/s")
    axes.grid(which="major", alpha=0.3)
    if dots:
        legend = axes.legend(loc="lower right", title="kernels (area: share of the time)")
        for handle in cast(list[Any], legend.legend_handles):
            handle.set_sizes([60])
    return result


def _peak(profile: Profile) -> float:
    return max(profile.limits.products.values())


def _ridge(profile: Profile) -> float:
    """The intensity from which on even memory keeps up with the products."""
    return _peak(profile) / min(level.bandwidth for level in profile.limits.levels)


def _roofs(axes: Axes, profile: Profile, precisions: Set[str]) -> None:
    """A line for each peak, and one for each level of memory up to the highest peak, labelled along the line."""
    limits = profile.limits
    left, right = axes.get_xlim()
    for precision, rate in limits.products.items():
        if precision in precisions:
            peak = rate / 1e9
            axes.plot([left, right], [peak, peak], color=_COLOURS[COMPUTE], linewidth=1.5)
            axes.annotate(
                f"{precision}: {peak:.1f} GMAC/s", (right, peak), (-6, 4), textcoords="offset points", ha="right"
            )
    bottom = axes.get_ylim()[0]
    for level in limits.levels:
        bandwidth = level.bandwidth / 1e9
        ridge = _peak(profile) / level.bandwidth
        axes.plot([left, ridge], [left * bandwidth, ridge * bandwidth], color=_COLOURS[level.name], linewidth=1.5)
        start = max(left, bottom / bandwidth) * 1.15
        axes.annotate(
            f"{level.name}: {bandwidth:.0f} GB/s",
            (start, start * bandwidth),
            (0, 3),
            textcoords="offset points",
            rotation=45,
            rotation_mode="anchor",
            transform_rotates_text=True,
            color=_COLOURS[level.name],
        )


def _names(axes: Axes, kernels: Sequence[KernelTime]) -> None:
    """Names in two rows at the top, each with a line to its dot, so that they stay readable where dots are close."""
    for index, kernel in enumerate(sorted(kernels, key=lambda kernel: kernel.intensity)):
        name = kernel.work.node
        axes.annotate(
            name if len(name) <= NAME_LENGTH else "\N{HORIZONTAL ELLIPSIS}" + name[1 - NAME_LENGTH :],
            (kernel.intensity, _speed(kernel)),
            ((index + 0.5) / len(kernels), 0.97 - 0.045 * (index % 2)),
            textcoords="axes fraction",
            ha="center",
            va="top",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "gray", "shrinkB": 0},
            zorder=2,
        )


def _speed(kernel: KernelTime) -> float:
    """In GMAC/s."""
    return kernel.work.multiply_accumulates / kernel.seconds / 1e9


def svg(profile: Profile) -> str:
    """The plot as an SVG element."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "sqc"}):
        figure(profile).savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
