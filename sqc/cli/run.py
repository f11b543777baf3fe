"""``sqc run``: a compiled model on arrays from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqc.cli.compile import INPUT, OUTPUT
from sqc.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from sqc.runtime import Model


@click.command(short_help="Run a library on arrays from files.")
@click.argument("model", type=INPUT)
@click.option("--input", "source", type=INPUT, required=True, help="An .npy, or an .npz with one array an input.")
@click.option("--output", "target", type=OUTPUT, required=True, help="An .npy (one output) or .npz to write.")
@click.option("--threads", type=click.IntRange(0), help="Threads of a run; 0: all. Default: SQC_NUM_THREADS, or 1.")
def command(model: Path, source: Path, target: Path, threads: int | None) -> None:
    """Run the library MODEL on arrays; other numbers of samples than its batch run in parts."""
    import sqc
    from sqc.cli import files, ui

    loaded = sqc.load(model, threads=threads)
    arrays = files.read_arrays(source, [spec.name for spec in loaded.inputs])
    outputs = run_batches(loaded, arrays)
    files.write_arrays(target, outputs)
    shapes = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in outputs.items())
    ui.say(f"wrote {target}: {shapes}")


def run_batches(model: Model, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run over all samples; outputs are joined along their first axis.

    Raises InputError if the arrays don't fit, or the number of samples is no multiple of the batch where it has to be.
    """
    import numpy as np

    if model.variants[0].samples:
        return model.run(arrays)
    counts = {array.shape[0] for array in arrays.values() if array.ndim}
    batches = [variant.shapes[0][0] for variant in model.variants if variant.shapes[0]]
    if len(counts) != 1 or not batches or counts.issubset(batches):
        return model.run(arrays)
    count = counts.pop()
    batch = max((size for size in batches if size and count % size == 0), default=0)
    if not batch or not count:
        raise InputError(f"{count} samples cannot be cut into batches of {' or '.join(map(str, batches))}")
    parts = [
        model.run({name: array[start : start + batch] for name, array in arrays.items()})
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
