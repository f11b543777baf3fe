"""Compares compiled graphs with the numpy reference, bit for bit, and counts what was compared.

Run as a module to check many seeds: ``python -m tests.promise.harness --seeds 0:500``. With ``--record`` an interrupted
run goes on where it was; with ``--explain`` the kernels of a failing seed run one by one, to find those at fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import sqc
from sqc.codegen.build import Build, build_program
from sqc.codegen.library import build_library
from sqc.codegen.plan import Plan
from sqc.ir import Graph, Op, same_bits, verify
from sqc.passes import pipeline
from sqc.runtime import load_bytes
from sqc.schedules import Target
from tests.promise.generator import generate, inputs

Arrays = Mapping[str, np.ndarray]

TARGETS = ("x86-64-v3", "avx512vnni-emulated")
"""What every machine with AVX2 can run."""


def reference(graph: Graph, arrays: Arrays) -> dict[str, np.ndarray]:
    """What the graph means. Extreme multipliers overflow, and infinities cancel, as they should."""
    with np.errstate(over="ignore", invalid="ignore"):
        return dict(graph.run(arrays))


def mismatches(graph: Graph, arrays: Arrays, target: str, threads: int = 1) -> list[str]:
    """The outputs of the compiled graph that differ from the reference in any bit."""
    verify(graph)
    expected = reference(graph, arrays)
    actual = sqc.compile(graph, target=target).load(threads).run(arrays)
    return [name for name, array in expected.items() if not same_bits(actual[name], array)]


def settings(seed: int) -> tuple[str, int]:
    """The target and the number of threads of a seed: all combinations in turn."""
    return TARGETS[seed % 2], 1 + seed // 2 % 2


def check(seed: int, target: str, threads: int) -> list[str]:
    """The outputs of a seed's graph that differ."""
    graph = generate(seed)
    return mismatches(graph, inputs(graph, seed), target, threads)


# What was compared ---------------------------------------------------------------------------------------------------


def kinds(graph: Graph) -> Counter[str]:
    """How often each op occurs, convolutions by kind, requantizes by their terms."""
    return Counter(map(_kind, graph.ops))


def kernels(graph: Graph) -> Counter[str]:
    """How often each kernel with each epilogue occurs."""
    counts: Counter[str] = Counter()
    for op in pipeline.run(pipeline.FUSION, graph).ops:
        parts = op.body.ops if op.kind == "fused" else (op,)
        counts[" -> ".join(map(_kind, parts))] += 1
    return counts


def _kind(op: Op) -> str:
    if op.kind == "qconv2d":
        outputs, depth, *kernel = op.operands[1].type.shape
        groups = op.integer("groups")
        if groups == 1:
            return "qconv2d pointwise" if kernel == [1, 1] else "qconv2d dense"
        return "qconv2d depthwise" if depth == 1 and outputs == groups else "qconv2d grouped"
    if op.kind == "requantize":
        terms = op.operands[: len(op.operands) // 2]
        clamped = " clamped" if (op.integer("lo"), op.integer("hi")) != (0, 255) else ""
        return f"requantize {'+'.join(value.type.dtype for value in terms)}{clamped}"
    return f"dequantize {op.operands[0].type.dtype}" if op.kind == "dequantize" else op.kind


# Where it went wrong -------------------------------------------------------------------------------------------------


def explain(seed: int, target: str, threads: int) -> list[str]:
    """Every kernel of a seed that fails on the reference's operands: what happened, and a graph of it alone."""
    graph = generate(seed)
    arrays = inputs(graph, seed)
    fused = pipeline.run(pipeline.FUSION, graph)
    expected, rewritten = reference(graph, arrays), reference(fused, arrays)
    found = [f"the passes change {name}" for name in expected if not same_bits(expected[name], rewritten[name])]
    everything = {op.result.name: op.result for op in fused.ops}
    known = {**arrays, **reference(replace(fused, outputs=everything), arrays)}
    for op in fused.ops:
        constants = {value: fused.constants[value] for value in op.operands if value in fused.constants}
        given = tuple(value for value in dict.fromkeys(op.operands) if value not in constants)
        alone = Graph(op.kind, given, {"y": op.result}, constants, (op,))
        try:
            actual = _run_alone(alone, {value.name: known[value.name] for value in given}, target, threads)
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}\n{alone}")
            continue
        wrong = actual.view(np.uint8) != known[op.result.name].view(np.uint8)
        if wrong.any():
            found.append(f"{int(wrong.sum())} of {wrong.size} bytes, from {np.argwhere(wrong)[0]}\n{alone}")
    return found


def _run_alone(graph: Graph, arrays: Arrays, target: str, threads: int) -> np.ndarray:
    """The result of a graph whose ops are kernels already."""
    build = Build(Target.parse(target))
    program = build_program(graph, build)
    plan = Plan(
        (program,), build.constants.bytes(), build.objects, build.target.cpu_features, sqc.NUMBER_RULES,
        {"model": graph.name, "target": target},
    )  # fmt: skip
    return load_bytes(build_library(plan), threads).run(arrays)["y"]


# The long run --------------------------------------------------------------------------------------------------------


def main() -> int:
    """Check a range of seeds; the exit status tells whether all were right."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", default="0:100", help="first:last")
    parser.add_argument("--target", help="one target for all seeds; else targets and threads take turns")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--record", type=Path, help="file of finished seeds, which are not repeated")
    parser.add_argument("--explain", action="store_true", help="show the kernels at fault")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split(":"))
    done: dict[tuple[int, str, int], str] = {}
    if options.record and options.record.exists():
        for line in map(json.loads, options.record.read_text().splitlines()):
            done[line["seed"], line["target"], line["threads"]] = line["failure"]
    counts: Counter[str] = Counter()
    failed = 0
    start = time.perf_counter()
    for seed in range(first, last):
        usual = settings(seed)
        case = (seed, options.target or usual[0], options.threads or usual[1])
        graph = generate(seed)
        counts += kinds(graph)
        counts += Counter({f"kernel {name}": count for name, count in kernels(graph).items()})
        if case not in done:
            done[case] = _failure(*case)
            if options.record:
                record = {"seed": case[0], "target": case[1], "threads": case[2], "failure": done[case]}
                with options.record.open("a") as file:
                    file.write(json.dumps(record) + "\n")
        if done[case]:
            failed += 1
            print(f"seed {seed} for {case[1]}, {case[2]} threads: {done[case]}", flush=True)
            if options.explain:
                print("\n".join(explain(*case)), flush=True)
    for kind, count in sorted(counts.items()):
        print(f"{count:7d}  {kind}")
    print(f"{last - first} graphs in {time.perf_counter() - start:.0f} s, {failed} failed")
    return 1 if failed else 0


def _failure(seed: int, target: str, threads: int) -> str:
    """What went wrong, in a line; empty if nothing did."""
    try:
        names = check(seed, target, threads)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[-1] if str(error) else ''}"
    return f"{', '.join(names)} differ" if names else ""


if __name__ == "__main__":
    sys.exit(main())
