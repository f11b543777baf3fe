"""Measure everything and write the page of figures, ``FIGURES.md``.

    SQC_TEST_DATA=folder python examples/figures.py --results results.json [--sections speed,memory] [--models a,b]

Every section is a script of its own, which merges its figures into the results file; the page shows all that the file
holds. ``--sections ''`` measures nothing and only writes the page. ``--import profile=FILE`` takes over what
``sqc bench MODEL --profile --json FILE`` wrote, and ``--import tuning=FILE`` what ``tuning.py --json FILE`` did.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accuracy_tables
import compile_time
import memory
import operators
import scaling
import speed
from results import Results, Row, markdown

from sqc.cli.files import replacing

HERE = Path(__file__).parent
PAGE = HERE / "FIGURES.md"
OTHERS = (HERE / "figures_emerald_rapids.md", HERE / "figures_zen4.md", HERE / "figures_avx2.md")
"""Figures of machines that are not at hand any more, as they were."""


@dataclass(frozen=True)
class Part:
    """A table of a section: the name of its rows in the results file, what to say before it, how to show the rows."""

    name: str
    text: str
    table: Callable[[Sequence[Row]], str]


@dataclass(frozen=True)
class Section:
    """A heading of the page. ``script`` measures it, with arguments; None for figures that are imported."""

    title: str
    script: tuple[str, ...] | None
    command: str
    parts: tuple[Part, ...]
    of_models: bool = True
    """Whether the script takes ``--models``."""


def kernels_table(rows: Sequence[Row]) -> str:
    """Of every profiled model the sum, then its kernels, each beside the limit that binds it."""
    columns = ["model", "batch", "threads", "kernels", "ms", "GMAC/s", "of the limits", "of compute alone"]
    lines = []
    for row in rows:
        found = row["profile"]
        rate = found["multiply_accumulates"] / found["seconds"] / 1e9
        cells = [str(row["batch"]), str(row["threads"]), str(len(found["kernels"])), f"{found['seconds'] * 1e3:.3f}"]
        shares = [f"{found[name]:.1%}" for name in ("share_of_limits", "share_of_compute")]
        lines.append([row["model"], *cells, f"{rate:.1f}", *shares])
    tables = [markdown(columns, lines)]
    for row in rows:
        tables.append(f"Kernels of {row['model']}, batch {row['batch']}, {row['threads']} thread(s):\n")
        kernels = (
            [
                kernel["node"] or "-",
                kernel["op"],
                f"{kernel['seconds'] * 1e6:,.1f}",
                f"{kernel['multiply_accumulates_per_second'] / 1e9:.1f}",
                f"{kernel['bytes_per_second'] / 1e9:.1f}",
                kernel["limit"],
                f"{kernel['share_of_limit']:.0%}",
                kernel["reason"] or "-",
            ]
            for kernel in row["profile"]["kernels"]
        )
        named = ["kernel", "computes", "us", "GMAC/s", "GB/s", "limit", "of it", "why float or unfused"]
        tables.append(markdown(named, kernels))
    return "\n".join(tables)


def fusions_table(rows: Sequence[Row]) -> str:
    """What fusing more could save at most, over each profiled model's time."""
    columns = ["model", "batch", "threads", "inputs", "pools, averages", "products of activations", "depthwise results"]
    lines = []
    for row in rows:
        found = row["profile"]
        saved = dict.fromkeys(columns[3:], 0.0)
        for kernel in found["kernels"]:
            anchor = kernel["parts"][0]
            if anchor == "quantize":
                saved["inputs"] += kernel["seconds"]
            elif "pool" in anchor or "reduce" in anchor:
                saved["pools, averages"] += kernel["seconds"]
            elif anchor == "qmul":
                saved["products of activations"] += kernel["seconds"]
            elif kernel["op"].startswith("depthwise"):
                saved["depthwise results"] += _way_of_result(kernel, found["limits"]["levels"])
        shares = [f"{seconds / found['seconds']:.1%}" for seconds in saved.values()]
        lines.append([row["model"], str(row["batch"]), str(row["threads"]), *shares])
    return markdown(columns, lines)


def _way_of_result(kernel: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that a result takes to the level of memory that holds a kernel's activations, and back."""
    size = kernel["read_bytes"] + kernel["written_bytes"]
    level = next((level for level in levels if size <= level["capacity"]), levels[-1])
    return float(2 * kernel["written_bytes"] / level["bandwidth"])


def tuning_table(rows: Sequence[Row]) -> str:
    """A line for each model and number of threads; what candidates took is over untuned, by geometric mean."""
    columns = ["model", "batch", "threads", "untuned ms", "tuned ms", "tuned / untuned", "kernels changed"]
    columns += ["candidates", "best", "median", "worst", "minutes"]
    lines = []
    for row in rows:
        ops = [op for op in row["ops"] if op["untuned_ms"]]
        spread = ["-"] * 3
        if ops:
            ratios = ([op[f"{which}_ms"] / op["untuned_ms"] for op in ops] for which in ("best", "median", "worst"))
            spread = [f"{speed.geometric_mean(values):.2f}" for values in ratios]
        times = [f"{row[name]:.3f}" for name in ("untuned_ms", "tuned_ms", "tuned_over_untuned")]
        changed = f"{sum(op['changed'] for op in row['ops'])} of {len(row['ops'])}"
        tried = str(sum(op["tried"] for op in row["ops"]))
        cells = [str(row["batch"]), str(row["threads"]), *times, changed, tried, *spread]
        lines.append([row["model"], *cells, f"{row['seconds'] / 60:.1f}"])
    return markdown(columns, lines)


SECTIONS = {
    "accuracy": Section(
        "Accuracy",
        ("accuracy.py",),
        "SQC_TEST_DATA=folder python examples/accuracy.py",
        tuple(Part(accuracy_tables.SECTION, text, table) for text, table in accuracy_tables.tables()),
    ),
    "speed": Section(
        "Speed",
        ("speed.py",),
        "SQC_TEST_DATA=folder python examples/speed.py",
        (
            Part(
                speed.SECTION,
                "Medians in milliseconds of runs that take turns. All engines calibrate on the same samples; ONNX "
                "Runtime and OpenVINO run their own int8 models. sqc is timed through `model(x)`. *Times faster* is "
                "the time of the quicker int8 engine over sqc's, the median over rounds. ResNet-50 and the MLPs have "
                "fixed random weights (`examples/random_models.py`).",
                speed.table,
            ),
        ),
    ),
    "scaling": Section(
        "Two threads",
        ("scaling.py",),
        "SQC_TEST_DATA=folder python examples/scaling.py",
        (
            Part(
                scaling.SECTION,
                "A run with two threads beside two processes of one thread each at the same time, at batch 1: medians "
                "over rounds that take turns. *Share* is the gain of threads over that of processes.",
                scaling.table,
            ),
        ),
    ),
    "operators": Section(
        "Operators by themselves",
        ("operators.py",),
        "python examples/operators.py",
        (
            Part(
                operators.SECTION,
                "Medians in microseconds of models of one operator, in ONNX's QDQ form with uint8 inputs and outputs "
                "in ONNX's layout, which all engines get; sqc is timed through `model(x)`. *Times faster* is the time "
                "of the quicker other engine over sqc's, the median over rounds.",
                operators.table,
            ),
        ),
        of_models=False,
    ),
    "memory": Section(
        "Memory",
        ("memory.py",),
        "SQC_TEST_DATA=folder python examples/memory.py",
        (
            Part(
                "peak",
                "Largest resident set of a fresh process that loads the int8 model and runs it 20 times at batch 1 "
                "with one thread; *net* is without that of a process with the interpreter, numpy and the input.",
                memory.peak_table,
            ),
            Part(
                "arena",
                "The arena holds all activations between inputs and outputs. Its lower bound is the most bytes that "
                "any one step needs at once, by live ranges.",
                memory.arena_table,
            ),
            Part(
                "sharing",
                "Processes that run one library at the same time: *Rss* counts its resident pages in each, *Pss* "
                "divides shared pages among those who map them (`/proc/PID/smaps`). Weights are mapped once.",
                memory.sharing_table,
            ),
        ),
    ),
    "compile": Section(
        "Compile time",
        ("compile_time.py", "--repeat", "3"),
        "SQC_TEST_DATA=folder python examples/compile_time.py --repeat 3",
        (
            Part(
                compile_time.SECTION,
                "Each command in a process of its own, from start to end, on 64 calibration inputs (ResNet-50: 16). "
                "*Cold* starts with an empty kernel cache, *cached* is the same compile again; peak memory is that of "
                "the largest process.",
                compile_time.table,
            ),
        ),
    ),
    "profile": Section(
        "Kernels and limits",
        None,
        "sqc bench MODEL.onnx --calibration-data FILE.npz --profile --json FILE",
        (
            Part(
                "profile",
                "Each kernel beside the limit that binds it, measured on this machine in the same run.",
                kernels_table,
            ),
            Part(
                "profile",
                "What fusing more would save at most, of each model's time. *Inputs*, *pools, averages* and *products "
                "of activations* (squeeze-and-excite) are all the time of kernels that could go into their neighbours, "
                "most of it for arithmetic that they would do there too. *Depthwise results* are the bytes that "
                "depthwise convolutions write, and their readers read, at the bandwidth of the cache that holds them.",
                fusions_table,
            ),
        ),
    ),
    "tuning": Section(
        "Tuning",
        None,
        "SQC_TEST_DATA=folder python examples/tuning.py --records FILE --json FILE",
        (
            Part(
                "tuning",
                "Both builds timed in turns. What the best, the median and the worst candidate of an op took is over "
                "the untuned one, by geometric mean over the ops.",
                tuning_table,
            ),
        ),
    ),
}


def profile_rows(content: Mapping[str, Any]) -> list[Row]:
    """The row of what ``sqc bench --profile --json`` wrote."""
    return [{**{name: content[name] for name in speed.KEY}, "profile": content["kernel_profile"]}]


def tuning_rows(content: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each model and number of threads of what ``tuning.py --json`` wrote."""
    return [
        {"model": name, **whole, "ops": tuning["ops"], "seconds": tuning["seconds"]}
        for name, tuning in content.items()
        for whole in tuning["whole"]
    ]


IMPORTS: dict[str, Callable[[Any], list[Row]]] = {"profile": profile_rows, "tuning": tuning_rows}
"""How to read figures that other commands wrote, by section."""


def take_over(results: Results, section: str, file: Path) -> None:
    """Put the figures of ``file`` into a section. Ends the program if they are none."""
    try:
        rows = IMPORTS[section](json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"{file} has no figures for the section '{section}': {error!r}")
    results.merge(section, rows, speed.KEY)


def run(section: Section, results: Path, models: str) -> None:
    """Measure a section into the results file. Ends the program if its script fails."""
    assert section.script is not None
    script, *arguments = section.script
    command = [sys.executable, str(HERE / script), *arguments, "--json", str(results)]
    command += ["--models", models] if models and section.of_models else []
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"failed: {shlex.join(command)}")


def page(results: Results) -> str:
    """The page in Markdown: the sections that have figures, then those of other machines."""
    return "\n".join(_page(results))


def _page(results: Results) -> Iterator[str]:
    yield (
        "# Figures\n\n"
        "`python examples/figures.py --results results.json` wrote this page. Ratios to other engines are measured "
        "side by side in one run; single times vary with what else the host does.\n"
    )
    for section in SECTIONS.values():
        measured = [part for part in section.parts if results.rows(part.name)]
        if not measured:
            continue
        found = [results.sections[part.name] for part in measured]
        versions = {name: version for entry in found for name, version in entry["versions"].items()}
        yield f"## {section.title}\n\n`{section.command}`, {taken_on(found[0]['machine'], versions)}\n"
        for part in measured:
            yield f"{part.text}\n\n{part.table(results.rows(part.name))}"
    for other in OTHERS:
        yield other.read_text(encoding="utf-8").rstrip("\n") + "\n"


def taken_on(machine: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The machine and the versions of what was measured, as a sentence."""
    where = (
        f"on {machine['processor']} ({', '.join(machine['extensions'])}), {machine['processors']} processor(s), "
        f"{machine['memory_gib']} GiB"
    )
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{where}; {made}." if made else f"{where}."


def parse_import(text: str) -> tuple[str, Path]:
    section, _, file = text.partition("=")
    if section not in IMPORTS or not file:
        raise argparse.ArgumentTypeError(f"give SECTION=FILE, with a section of {', '.join(IMPORTS)}")
    return section, Path(file)


def main() -> None:
    measurable = [name for name, section in SECTIONS.items() if section.script]
    parser = argparse.ArgumentParser(description="Measure everything and write the page of figures.")
    parser.add_argument("--results", type=Path, required=True, help="the file that collects all figures, as JSON")
    parser.add_argument("--sections", default=",".join(measurable), help="what to measure, by commas; default: all")
    parser.add_argument("--models", default="", help="measure only these models, by commas")
    parser.add_argument(
        "--import", type=parse_import, action="append", default=[], dest="imports", metavar="SECTION=FILE"
    )
    parser.add_argument("--output", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.sections.split(",") if name]
    if unknown := [name for name in chosen if name not in measurable]:
        parser.error(f"unknown sections: {', '.join(unknown)}; known: {', '.join(measurable)}")
    for name in chosen:
        print(f"measuring: {name}", file=sys.stderr)
        run(SECTIONS[name], arguments.results, arguments.models)
    results = Results(arguments.results)
    for name, file in arguments.imports:
        take_over(results, name, file)
    with replacing(arguments.output) as temporary:
        temporary.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
