"""Compare scores with other scores: distances, order, isolation. Arrays in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import stats

RequestArrays = Sequence[np.ndarray]
"""Probabilities by request, each [items, labels]."""


@dataclass(frozen=True)
class Caps:
    """Largest allowed differences of a probability (rule 32)."""

    mean: float
    p99: float
    max: float


BETWEEN_SIDES = Caps(mean=0.01, p99=math.inf, max=0.02)


def caps_for(dtype: str, on_cpu: bool) -> Caps:
    """Return the caps against the float32 reference for a number format on a kind of device."""
    if dtype == "bfloat16":
        return Caps(mean=0.01, p99=0.03, max=0.06)
    return Caps(mean=1e-5, p99=5e-5, max=1e-4) if on_cpu else Caps(mean=1e-4, p99=5e-4, max=1e-3)


@dataclass(frozen=True)
class Distance:
    """Absolute differences of probabilities over all items and labels; infinite where a score is not finite."""

    mean: float
    p99: float
    max: float

    def within(self, caps: Caps) -> bool:
        """Return whether every figure is within its cap; NaN never is."""
        return self.mean <= caps.mean and self.p99 <= caps.p99 and self.max <= caps.max


def distance(scores: RequestArrays, other: RequestArrays) -> Distance:
    """Return the distance between two answers to the same requests.

    Raises:
        ValueError: if they differ in requests, items or labels.
    """
    if [a.shape for a in scores] != [b.shape for b in other]:
        raise ValueError(
            f"scores of shapes {[a.shape for a in scores]} cannot be compared with {[b.shape for b in other]}"
        )
    difference = np.concatenate([np.abs(a - b).ravel() for a, b in zip(scores, other, strict=True)])
    if not np.isfinite(difference).all():
        return Distance(math.inf, math.inf, math.inf)
    return Distance(float(difference.mean()), float(np.quantile(difference, 0.99)), float(difference.max()))


@dataclass(frozen=True)
class Ranking:
    """Agreement with the reference's order of items by the first label's probability, over all requests.

    Attributes:
        inversions: pairs in the wrong order although the reference separates them by more than the tolerance.
        tau_b: Kendall's tau-b, the mean over requests.
        top_overlap: share of the reference's top 1, 3 and 10 items in the scores' top too, the mean over requests.
        label_flips: items whose likeliest label differs.
    """

    inversions: int
    tau_b: float
    top_overlap: dict[int, float]
    label_flips: int


def ranking(scores: RequestArrays, reference: RequestArrays, tolerance: float) -> Ranking:
    """Compare the order of items with the reference's order."""
    inversions, flips = 0, 0
    taus: list[float] = []
    overlaps: dict[int, list[float]] = {1: [], 3: [], 10: []}
    for ours, theirs in zip(scores, reference, strict=True):
        a, b = ours[:, 0], theirs[:, 0]
        separated = (b[:, None] - b[None, :]) > tolerance
        inversions += int((separated & (a[:, None] < a[None, :])).sum())
        flips += int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
        if len(a) > 1:
            taus.append(float(cast("float", stats.kendalltau(a, b)[0])))
        for k, shares in overlaps.items():
            if len(a) > k:
                shares.append(len(set(np.argsort(-a)[:k]) & set(np.argsort(-b)[:k])) / k)
    top = {k: float(np.mean(shares)) for k, shares in overlaps.items() if shares}
    return Ranking(inversions, float(np.mean(taus)) if taus else math.nan, top, flips)


def identical_items(scores: RequestArrays, items_ids: Sequence[Sequence[Sequence[int]]]) -> list[tuple[int, int, int]]:
    """Return (request, item, item) of different items whose scores are the same to the last bit.

    This exposes a mask bug: items that cannot see their tokens get equal scores (rule 35).
    """
    matches = []
    for r, (rows, items) in enumerate(zip(scores, items_ids, strict=True)):
        first_with: dict[bytes, int] = {}
        for i, row in enumerate(rows):
            j = first_with.setdefault(row.astype(np.float32).tobytes(), i)
            if j != i and list(items[i]) != list(items[j]):
                matches.append((r, j, i))
    return matches
