"""How sure it is that one classifier is better than another."""

from __future__ import annotations

import math

import numpy as np


def disagreement(different: int, samples: int) -> float:
    """The rate of ``different`` in ``samples``, which is never 0, so that it may stand below a fraction line.

    (k + 1/2) / (n + 1): the mean of the binomial rate under the prior of Jeffreys.
    """
    return (different + 0.5) / (samples + 1)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The p-value that two classifiers are equally good, by McNemar's exact test, two-sided.

    ``first`` and ``second`` are bool[n]: on which of the same n inputs each of them was right. Only the inputs where
    one was right and the other wrong count, and on these either is as likely under the hypothesis.

    Q. McNemar, Note on the sampling error of the difference between correlated proportions (1947).
    """
    one = int(np.count_nonzero(first & ~second))
    other = int(np.count_nonzero(second & ~first))
    differing = one + other
    tail = sum(math.comb(differing, k) for k in range(min(one, other) + 1))
    return min(1.0, 2 * tail / (1 << differing))
