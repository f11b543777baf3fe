"""What can have another precision than eight bits, ranked by damage, and the search for the fewest that must."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqc.accuracy.noise import Noise


@dataclass(frozen=True)
class Candidate:
    """Nodes that change their precision together, and the damage to the outputs by which they are tried."""

    nodes: tuple[str, ...]
    damage: float


def nodes_of(candidates: Iterable[Candidate]) -> frozenset[str]:
    """The nodes of all of them."""
    return frozenset(node for candidate in candidates for node in candidate.nodes)


def rank(noise: Noise) -> tuple[Candidate, ...]:
    """What can go to float, by the damage that this takes away, the most first.

    A layer in float has exact weights and reads what it is given unrounded. So it takes away its share of the damage
    that is due to weights, and that of the roundings which it reads, in equal parts with the others that read them.
    """
    damage = {noise.layer: 0.0 for noise in noise.layers if noise.layer.nodes}
    for source in noise.layers:
        weights, rounding, clipping = source.parts
        if source.layer in damage:
            damage[source.layer] += weights * source.damage
        users = [layer for layer in damage if source.layer.stand in layer.reads]
        for user in users:
            damage[user] += (rounding + clipping) * source.damage / len(users)
    candidates = [Candidate(layer.nodes, worth) for layer, worth in damage.items()]
    return tuple(sorted(candidates, key=lambda candidate: -candidate.damage))


def rank_weights(noise: Noise, nodes: Iterable[str]) -> tuple[Candidate, ...]:
    """Nodes by the damage that is due to their weights, the most first."""
    damage = dict.fromkeys(nodes, 0.0)
    for source in noise.layers:
        for node in damage.keys() & set(source.layer.nodes):
            damage[node] += source.parts[0] * source.damage
    candidates = [Candidate((node,), worth) for node, worth in damage.items()]
    return tuple(sorted(candidates, key=lambda candidate: -candidate.damage))


def fewest(ranking: Sequence[Candidate], meets: Callable[[Sequence[Candidate]], bool]) -> list[Candidate]:
    """The fewest of the first candidates that meet the goal, less those that it can do without."""
    low, high = 0, len(ranking)  # `low` of them do not meet it, `high` do: all in float lose nothing
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(ranking[:middle]) else (middle, high)
    chosen = list(ranking[:high])
    for candidate in ranking[: high - 1][::-1]:
        fewer = [other for other in chosen if other is not candidate]
        if meets(fewer):
            chosen = fewer
    return chosen
