"""Limits and profiles as tables."""

from __future__ import annotations

from collections.abc import Sequence

from sqc.bench.compare import OWN
from sqc.bench.limits import Limits
from sqc.bench.profile import COMPUTE, Bound, Profile
from sqc.codegen.plan import Work
from sqc.page import Table


def limits_table(limits: Limits) -> Table:
    """What the machine's cores reach at most."""
    rows = [
        ["clock", f"{limits.clock / 1e9:.2f} GHz", ""],
        *(
            [
                f"{precision} products",
                f"{rate / 1e9:.1f} GMAC/s",
                f"{rate / limits.clock / limits.threads:.1f} a cycle and core",
            ]
            for precision, rate in limits.products.items()
        ),
        *(
            [
                f"reading {level.name}",
                f"{level.bandwidth / 1e9:.1f} GB/s",
                f"holds {level.capacity >> 10:,} KiB" if level.capacity else "",
            ]
            for level in limits.levels
        ),
    ]
    threads = f"{limits.threads} threads" if limits.threads > 1 else "1 thread"
    return Table(f"limits of {threads}, {limits.target}", ("limit", "measured", ""), ("measured",), rows)


def kernels_table(profile: Profile) -> Table:
    """A row a kernel, in the order of the run, and the sum."""
    rows = []
    for kernel in profile.kernels:
        work = kernel.work
        rows.append(
            [
                work.node,
                work.op,
                _shape(work),
                work.schedule,
                f"{kernel.seconds * 1e6:,.1f}",
                _rate(kernel.bound, kernel.rate),
                kernel.bound.limit,
                f"{kernel.share:.0%}",
                kernel.reason,
            ]
        )
    total = Bound(COMPUTE, profile.multiply_accumulates, 1.0)
    rate = _rate(total, profile.multiply_accumulates / profile.seconds)
    rows.append(["all", "", "", "", f"{profile.seconds * 1e6:,.1f}", rate, "", f"{profile.share:.0%}", ""])
    columns = ("kernel", "computes", "shape", "schedule", "us", "reached", "limit", "of it", "why float or unfused")
    heading = f"kernels; {profile.compute_share:.0%} of the time are enough for the products alone"
    return Table(heading, columns, ("us", "reached", "of it"), rows, summed=True)


def depthwise_table(profile: Profile) -> Table | None:
    """Cycles for each output of depthwise convolutions, by engine; None without any."""
    layers = profile.depthwise()
    if not layers:
        return None
    engines = [OWN, *profile.engines]
    clock = profile.limits.clock
    rows = []
    for layer in layers:
        cycles = layer.cycles(clock)
        figures = [f"{cycles[name]:.3f}" if name in cycles else "" for name in engines]
        times = [f"{layer.seconds[name] * 1e6:,.1f}" if name in cycles else "" for name in engines]
        rows.append([layer.work.node, layer.work.op, _extents(layer.work.output.shape), *figures, *times])
    # Sums are over the layers that every engine names.
    whole = [layer for layer in layers if len(layer.seconds) == len(engines)]
    outputs = sum(layer.outputs for layer in whole)
    sums = [sum(layer.seconds[name] for layer in whole) for name in engines]
    if outputs:
        cells = [f"{seconds * clock / outputs:.3f}" for seconds in sums] + [f"{seconds * 1e6:,.1f}" for seconds in sums]
        rows.append([f"{len(whole)} layers", "", "", *cells])
    figures_of = tuple(f"{name}: cycles" for name in engines)
    times_of = tuple(f"{name}: us" for name in engines)
    heading = f"depthwise convolutions: cycles for each output, at {clock / 1e9:.2f} GHz"
    columns = ("layer", "computes", "shape", *figures_of, *times_of)
    return Table(heading, columns, (*figures_of, *times_of), rows, summed=bool(outputs))


def _shape(work: Work) -> str:
    """From the first input to the result, of one round if there are several."""
    shapes = [tensor.shape for tensor in (*work.inputs[:1], work.output)]
    rounds = f"{work.rounds} times " if work.rounds > 1 else ""
    return rounds + " > ".join(map(_extents, shapes))


def _extents(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _rate(bound: Bound, rate: float) -> str:
    return f"{rate / 1e9:.1f} {'GMAC/s' if bound.limit == COMPUTE else 'GB/s'}"
