"""What tuning gains on every model, and what it takes.

    SQC_TEST_DATA=folder python examples/tuning.py --records FILE [--models a,b] [--time-budget 600] [--json out.json]

Prints a table in Markdown; times are medians of both builds run in turns. The same records serve all models, and a
second run goes on from them. Needs ``pip install 'sqc[compile]'``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from timed_models import TimedModel, choose

import sqc
from sqc.tuning import Tuning
from sqc.tuning.space import CANDIDATES

COLUMNS = (
    "model", "threads", "untuned ms", "tuned ms", "tuned / untuned", "kernels tuned", "candidates", "failed",
    "best / untuned", "median / untuned", "worst / untuned", "minutes",
)  # fmt: skip


def tune(model: TimedModel, **options: Any) -> Tuning:
    """Calibrate and tune one model."""
    graph = sqc.import_onnx(model.path)
    calibration = sqc.calibrate(graph, [model.inputs()])
    return sqc.tune(graph, calibration, **options)


def rows(name: str, tuning: Tuning) -> list[list[str]]:
    """Lines of the table, one for each number of threads; ratios of candidates are geometric means over kernels."""
    ops = [op for op in tuning.ops if op.untuned]
    ratios = [
        f"{statistics.geometric_mean(getattr(op, which) / op.untuned for op in ops):.2f}" if ops else ""
        for which in ("best", "median", "worst")
    ]
    counts = [sum(op.changed for op in ops), sum(op.tried for op in ops), sum(op.failed for op in ops)]
    return [
        [
            name,
            str(whole.threads),
            f"{whole.untuned * 1e3:.3f}",
            f"{whole.tuned * 1e3:.3f}",
            f"{whole.ratio:.3f}",
            f"{counts[0]} of {len(tuning.ops)}",
            *map(str, counts[1:]),
            *ratios,
            f"{tuning.seconds / 60:.1f}",
        ]
        for whole in tuning.whole
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What tuning gains on every model.")
    parser.add_argument("--models", default="", help="names by commas; default: all")
    parser.add_argument("--records", type=Path, required=True, help="tuning records, which are made or added to")
    parser.add_argument("--threads", default="1", help="numbers of threads by commas, tuned for together")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="tiles to try for an op")
    parser.add_argument("--time-budget", type=float, help="seconds for a model")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    options = {
        "records": arguments.records,
        "threads": [int(count) for count in arguments.threads.split(",")],
        "candidates": arguments.candidates,
        "time_budget": arguments.time_budget,
    }
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    results: dict[str, Tuning] = {}
    with choose(arguments.models) as models:
        for model in models:
            results[model.name] = tuning = tune(model, **options)
            for cells in rows(model.name, tuning):
                print("| " + " | ".join(cells) + " |", flush=True)
            if arguments.json:
                content = {name: found.to_dict() for name, found in results.items()}
                arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            if tuning.interrupted:
                break
    ratios = [whole.ratio for tuning in results.values() for whole in tuning.whole]
    if ratios:
        print(f"\ntuned / untuned, geometric mean: {statistics.geometric_mean(ratios):.3f}")


if __name__ == "__main__":
    main()
