"""How good a model is on each query, and how sure a mean or a difference of means is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torchmetrics.functional.regression import spearman_corrcoef
from torchmetrics.functional.retrieval import retrieval_normalized_dcg, retrieval_recall, retrieval_reciprocal_rank

Grades = Mapping[int, float]
"""The grade of each judged passage of one query, by its row; positive above zero."""

CUT = 10
"""Depth of nDCG and MRR, as in BEIR."""

LEVEL = 0.95
"""Share of the resampled means that an interval holds."""


def measures(depth: int) -> list[str]:
    """Names of what `retrieval` gives, in order."""
    return [f"ndcg@{CUT}", f"mrr@{CUT}", *(f"recall@{k}" for k in sorted({CUT, depth}))]


def retrieval(
    retrieved: Int[np.ndarray, "queries found"], judged: Sequence[Grades], depth: int
) -> dict[str, Float[np.ndarray, "queries"]]:
    """nDCG@10, MRR@10, recall@10 and recall@depth of each query.

    The gain of a passage is its grade, and the ideal ranking holds every judged positive, those not
    retrieved too: otherwise a model that misses a positive is not punished for it.

    Args:
        retrieved: Rows of passages, the best first; -1 where nothing was found.
        judged: The grades of each query; at least one positive.
        depth: Of the deeper recall.
    """
    found = np.empty((len(judged), len(measures(depth))))
    for row, (ranking, grades) in enumerate(zip(retrieved.tolist(), judged, strict=True)):
        found[row] = _one(ranking, grades, depth)
    return dict(zip(measures(depth), found.T, strict=True))


def _one(ranking: Sequence[int], grades: Grades, depth: int) -> list[float]:
    places = {passage: place for place, passage in enumerate(ranking) if passage >= 0}
    gains = [0.0] * max(len(ranking), depth)  # so that what was not retrieved lies below every depth
    missed = []
    for passage, grade in grades.items():
        if passage in places:
            gains[places[passage]] = max(grade, 0.0)
        elif grade > 0:
            missed.append(grade)
    gain = torch.tensor(gains + missed)
    falling = torch.arange(len(gain), 0, -1, dtype=torch.float32)  # the order as scores: no ties, none below zero
    positive = gain > 0
    values = [
        retrieval_normalized_dcg(falling, gain, top_k=CUT),
        retrieval_reciprocal_rank(falling, positive, top_k=CUT),
        *(retrieval_recall(falling, positive, top_k=k) for k in sorted({CUT, depth})),
    ]
    return [float(value) for value in values]


@dataclass(frozen=True)
class Interval:
    """A number and the interval that holds 95 % of its bootstrap."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, drawn: Float[np.ndarray, "resamples"]) -> "Interval":
        """Percentile interval of what was drawn."""
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(value), float(low), float(high))

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Bootstrap:
    """A measure of several models, and the same measure on queries drawn with replacement.

    A draw is the same for every model, so that differences and ratios are paired: what makes a query
    hard for all of them does not widen their intervals.
    """

    models: tuple[str, ...]
    value: Float[np.ndarray, "models"]
    drawn: Float[np.ndarray, "resamples models"]

    def _of(self, model: str) -> tuple[float, Float[np.ndarray, "resamples"]]:
        column = self.models.index(model)
        return float(self.value[column]), self.drawn[:, column]

    def mean(self, model: str) -> Interval:
        """The measure of one model."""
        return Interval.of(*self._of(model))

    def difference(self, model: str, other: str) -> Interval:
        """How far one model is above another."""
        (value, drawn), (below, drawn_below) = self._of(model), self._of(other)
        return Interval.of(value - below, drawn - drawn_below)

    def retention(self, model: str, teacher: str) -> Interval | None:
        """What share of the teacher's measure a model keeps; None where the teacher may have none."""
        (value, drawn), (whole, drawn_whole) = self._of(model), self._of(teacher)
        if whole <= 0 or (drawn_whole <= 0).any():
            return None
        return Interval.of(value / whole, drawn / drawn_whole)


def draws(count: int, resamples: int, seed: int) -> Iterator[Int[np.ndarray, "count"]]:
    """Rows drawn with replacement, again and again."""
    generator = np.random.default_rng(seed)
    return (generator.integers(0, count, count) for _ in range(resamples))


def bootstrap(values: Mapping[str, Float[np.ndarray, "queries"]], resamples: int, seed: int) -> Bootstrap:
    """The mean over queries of each model."""
    columns = np.stack(list(values.values()), axis=1)
    drawn = np.stack([columns[rows].mean(0) for rows in draws(len(columns), resamples, seed)])
    return Bootstrap(tuple(values), columns.mean(0), drawn)


def bootstrap_spearman(
    cosines: Mapping[str, Float[np.ndarray, "pairs"]], scores: Float[np.ndarray, "pairs"], resamples: int, seed: int
) -> Bootstrap:
    """The Spearman correlation of each model's cosines with people's scores."""
    columns = np.stack(list(cosines.values()), axis=1)
    graded = np.repeat(scores[:, None], columns.shape[1], axis=1)
    drawn = [spearman(columns[rows], graded[rows]) for rows in draws(len(scores), resamples, seed)]
    return Bootstrap(tuple(cosines), spearman(columns, graded), np.stack(drawn))


def spearman(
    cosines: Float[np.ndarray, "pairs columns"], scores: Float[np.ndarray, "pairs columns"]
) -> Float[np.ndarray, "columns"]:
    """Spearman correlation of each column with its own scores."""
    found = [
        spearman_corrcoef(torch.from_numpy(one.astype(np.float64)), torch.from_numpy(other.astype(np.float64)))
        for one, other in zip(cosines.T, scores.T, strict=True)
    ]
    return np.array([float(value) for value in found])


def average(parts: Sequence[Bootstrap]) -> Bootstrap:
    """The mean over tasks, each drawn on its own."""
    return Bootstrap(
        parts[0].models, np.mean([part.value for part in parts], 0), np.mean([part.drawn for part in parts], 0)
    )
