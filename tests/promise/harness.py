"""Compares compiled graphs with the numpy reference, bit for bit, and counts what was compared.

Run as a module to check many seeds: ``python -m tests.promise.harness --seeds 0:500 --target x86-64-v3``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import sqc
from sqc.ir import Graph, Op, same_bits, verify
from tests.promise.generator import generate, inputs


def mismatches(graph: Graph, seed: int, target: str, threads: int = 1) -> list[str]:
    """The outputs of the compiled graph that differ from the reference in any bit."""
    verify(graph)
    arrays = inputs(graph, seed)
    expected = graph.run(arrays)
    actual = sqc.compile(graph, target=target).load(threads).run(arrays)
    return [
        name
        for name, array in expected.items()
        if not same_bits(actual[name], array)
    ]


def kinds(graph: Graph) -> Counter[str]:
    """How often each op occurs, convolutions by kind, requantizes by their number of terms."""
    return Counter(map(_kind, graph.ops))


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
    return op.kind


def main() -> int:
    """Check a range of seeds. Progress goes to a file, from which an interrupted run goes on."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", default="0:100", help="first:last")
    parser.add_argument("--target", default="native")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", type=Path, help="file of finished seeds, a line of JSON each")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split(":"))
    done: dict[int, list[str]] = {}
    if options.record and options.record.exists():
        lines = map(json.loads, options.record.read_text().splitlines())
        done = {line["seed"]: line["mismatches"] for line in lines if line["target"] == options.target}
    total: Counter[str] = Counter()
    start = time.perf_counter()
    for seed in range(first, last):
        graph = generate(seed)
        total += kinds(graph)
        if seed in done:
            continue
        done[seed] = mismatches(graph, seed, options.target, options.threads)
        if done[seed]:
            print(f"seed {seed}: {', '.join(done[seed])} differ\n{graph}", flush=True)
        if options.record:
            with options.record.open("a") as file:
                file.write(json.dumps({"seed": seed, "target": options.target, "mismatches": done[seed]}) + "\n")
    failed = sum(bool(done[seed]) for seed in range(first, last))
    for kind, count in sorted(total.items()):
        print(f"{count:7d}  {kind}")
    print(f"{last - first} graphs for {options.target} in {time.perf_counter() - start:.0f} s, {failed} with mismatches")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
