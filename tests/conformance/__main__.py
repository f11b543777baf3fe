"""Runs the onnx package's tests of all operators that sqc imports: ``python -m tests.conformance``.

Prints a row for each operator, then how many cases are excluded by reason, and what failed.
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.conformance.test_onnx_nodes import cases, disputed, excluded, operator_of, test_case


def main() -> int:
    """The exit status tells whether all that ran passed."""
    run, passed, left_out = Counter[str](), Counter[str](), Counter[str]()
    reasons, failures = Counter[str](), []
    for name, case in cases().items():
        operator = operator_of(case)
        reason = "the expected result contradicts the specification" if disputed(name) else excluded(name)
        if reason:
            left_out[operator] += 1
            reasons[reason] += 1
            continue
        run[operator] += 1
        try:
            test_case(name)
            passed[operator] += 1
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    print(f"{'operator':28s}{'run':>8s}{'passed':>8s}{'excluded':>10s}")
    for operator in sorted(run | left_out):
        print(f"{operator:28s}{run[operator]:8d}{passed[operator]:8d}{left_out[operator]:10d}")
    print(f"{'all':28s}{run.total():8d}{passed.total():8d}{left_out.total():10d}")
    for reason, count in reasons.most_common():
        print(f"{count:5d} excluded: {reason}")
    print("\n".join(failures))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
