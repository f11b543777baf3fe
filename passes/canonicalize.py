"""One way to say each thing: fewer kinds and fewer ops for the passes behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqc.ir import Graph
from sqc.passes import arithmetic_rules, function_rules, linear, movement_rules, normalization_rules
from sqc.passes.base import Notes
from sqc.passes.rules import Rule, rewrite


@dataclass(frozen=True)
class Canonicalize:
    """Simplify until nothing changes: movements that cancel, clips of clips, arithmetic with constants.

    reshape(reshape(x))                         ->  reshape(x); likewise transposes, pads; those that do nothing vanish
    transpose(x) of axes of extent 1            ->  reshape(x)
    relu(reshape(x)), reshape(x) + reshape(y)   ->  reshape(relu(x)), reshape(x + y); likewise slices, transposes
    relu(clip(x)), clip(clip(x)), clip(x, 0, inf)  ->  one clip or relu; relu of what is never negative vanishes
    x - c, x / c                                ->  x + (-c), x * (1 / c); sums and products of constants combine
    conv2d(x, w, b) * c + d                     ->  conv2d(x, w * c, b * c + d) for one number a channel; likewise
                                                    fully_connected, (x * c + d) before either, stored weights
    matmul(a, b) * c                            ->  matmul(a * c, b), where that folds
    clip(conv2d(x), 0, 6) * c                   ->  clip(conv2d(x) * c, 0, 6 * c), which folds; likewise + c
    relu(conv2d(x)) * c                         ->  relu(conv2d(x) * c), also for one number a channel
    hard_sigmoid(conv2d(x))                     ->  clip(conv2d(x) * alpha + beta, 0, 1), which folds
    x * hard_sigmoid(x), x * clip(x + 3, 0, 6) / 6  ->  hard_swish(x)
    x * sigmoid(x), x * tanh(softplus(x))       ->  silu(x), mish(x); gelu(x) likewise, with erf or tanh
    (x - mean(x)) / sqrt(mean((x - mean(x))**2) + epsilon) * c + d  ->  normalize(x, c, d)
    average_pool of the whole image             ->  reduce_mean
    """

    name: ClassVar[str] = "canonicalize"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        simplify = _joined(
            arithmetic_rules.RULES, function_rules.RULES, normalization_rules.RULES, movement_rules.RULES
        )
        # Folding comes second, for it would take hard-swish's "+ 3" and "/ 6" apart.
        return rewrite(rewrite(graph, simplify), _joined(simplify, linear.RULES))


def _joined(*tables: Mapping[str, Sequence[Rule]]) -> dict[str, list[Rule]]:
    """Several tables of rules as one, in which rules of the first come first."""
    kinds = dict.fromkeys(kind for table in tables for kind in table)
    return {kind: [rule for table in tables for rule in table.get(kind, ())] for kind in kinds}
