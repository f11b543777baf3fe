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
from pathlib import Path

import numpy as np

import sqc
from sqc.ir import Graph, Op, same_bits, verify
from tests.promise.generator import generate, inputs
from tests.promise.kernels import Arrays, Setting, fuse, kernels_alone, load_kernels, reference


def mismatches(graph: Graph, arrays: Arrays, target: str, threads: int = 1) -> list[str]:
    """The outputs of the compiled graph that differ from the reference in any bit."""
    verify(graph)
    return _differing(reference(graph, arrays), sqc.compile(graph, target=target).load(threads).run(arrays))


def _differing(expected: Arrays, actual: Arrays) -> list[str]:
    return [name for name, array in expected.items() if not same_bits(actual[name], array)]


def check(seed: int, setting: Setting) -> list[str]:
    """The outputs of a seed's graph that differ."""
    graph = generate(seed)
    arrays = inputs(graph, seed)
    if setting.padded:
        return mismatches(graph, arrays, setting.target, setting.threads)
    actual = load_kernels(fuse(graph, padded=False), setting).run(arrays)
    return _differing(reference(graph, arrays), actual)


# What was compared ---------------------------------------------------------------------------------------------------


def kinds(graph: Graph) -> Counter[str]:
    """How often each op occurs, convolutions by kind, requantizes by their terms."""
    return Counter(map(_kind, graph.ops))


def kernels(graph: Graph) -> Counter[str]:
    """How often each kernel with each epilogue occurs."""
    counts: Counter[str] = Counter()
    for op in fuse(graph).ops:
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


def explain(seed: int, setting: Setting) -> list[str]:
    """Every kernel of a seed that fails on the reference's operands: what happened, and a graph of it alone."""
    graph = generate(seed)
    arrays = inputs(graph, seed)
    changed = _differing(reference(graph, arrays), reference(fuse(graph, setting.padded), arrays))
    found = [f"the passes change {name}" for name in changed]
    for alone in kernels_alone(seed, setting):
        try:
            actual = load_kernels(alone.graph, setting).run(alone.operands)["y"]
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}\n{alone.graph}")
            continue
        wrong = actual.view(np.uint8) != alone.expected.view(np.uint8)
        if wrong.any():
            found.append(f"{int(wrong.sum())} of {wrong.size} bytes, from {np.argwhere(wrong)[0]}\n{alone.graph}")
    return found


# The long run --------------------------------------------------------------------------------------------------------


def main() -> int:
    """Check a range of seeds; the exit status tells whether all were right."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", default="0:100", help="first:last")
    parser.add_argument("--record", type=Path, help="file of finished seeds, which are not repeated")
    parser.add_argument("--explain", action="store_true", help="show the kernels at fault")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split(":"))
    done: dict[int, str] = {}
    if options.record and options.record.exists():
        lines = map(json.loads, options.record.read_text().splitlines())
        done = {line["seed"]: line["failure"] for line in lines}
    counts: Counter[str] = Counter()
    failed = 0
    start = time.perf_counter()
    for seed in range(first, last):
        graph = generate(seed)
        counts += kinds(graph)
        counts += Counter({f"kernel {name}": count for name, count in kernels(graph).items()})
        if seed not in done:
            done[seed] = _failure(seed)
            if options.record:
                with options.record.open("a") as file:
                    file.write(json.dumps({"seed": seed, "failure": done[seed]}) + "\n")
        if done[seed]:
            failed += 1
            print(f"seed {seed}, {Setting.of(seed)}: {done[seed]}", flush=True)
            if options.explain:
                print("\n".join(explain(seed, Setting.of(seed))), flush=True)
    for kind, count in sorted(counts.items()):
        print(f"{count:7d}  {kind}")
    print(f"{last - first} graphs in {time.perf_counter() - start:.0f} s, {failed} failed")
    return 1 if failed else 0


def _failure(seed: int) -> str:
    """What went wrong, in a line; empty if nothing did."""
    try:
        names = check(seed, Setting.of(seed))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[-1] if str(error) else ''}"
    return f"{', '.join(names)} differ" if names else ""


if __name__ == "__main__":
    sys.exit(main())
