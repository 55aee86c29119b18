"""How good a model is on each query or text, and how sure a mean or a difference of means is."""

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

SHOTS, EXPERIMENTS = 8, 10
"""Texts of each class that are told, and how often others are, as in MTEB (arXiv 2210.07316)."""

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


def ndcg(retrieved: Int[np.ndarray, "queries found"], judged: Sequence[Grades]) -> Float[np.ndarray, "queries"]:
    """nDCG@10 of each query alone, as `retrieval` gives it, for where many rankings are measured.

    Args:
        retrieved: Rows of passages, the best first; -1 where nothing was found.
        judged: The grades of each query; at least one positive.
    """
    gains, ideal = np.zeros((len(judged), CUT)), np.zeros((len(judged), CUT))
    for row, (ranking, grades) in enumerate(zip(retrieved[:, :CUT].tolist(), judged, strict=True)):
        gains[row, : len(ranking)] = [max(grades.get(passage, 0.0), 0.0) for passage in ranking]
        best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:CUT]
        ideal[row, : len(best)] = best
    discount = 1 / np.log2(np.arange(2, CUT + 2))
    return (gains @ discount) / (ideal @ discount)


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


def few_shot(
    vectors: Float[np.ndarray, "texts dim"], classes: Int[np.ndarray, "texts"], seed: int
) -> Float[np.ndarray, "texts"]:
    """How often each text's class is told right by a logistic regression on eight texts of each class.

    Of a class with fewer than sixteen, half is told. Experiments come in twos that tell different texts, so that each
    text is asked in half of them at least.

    Args:
        vectors: Unit vectors.
        classes: From 0; at least two texts each.
        seed: Of which texts are told.
    """
    from sklearn.linear_model import LogisticRegression

    right, asked = np.zeros(len(classes)), np.zeros(len(classes))
    shots = np.minimum(SHOTS, np.bincount(classes) // 2)[classes]
    for experiment in range(EXPERIMENTS):
        order = np.random.default_rng((seed, experiment // 2)).permutation(len(classes))
        place = _places_in_class(classes, order if experiment % 2 else order[::-1])
        told = place < shots
        fitted = LogisticRegression(max_iter=1000).fit(vectors[told], classes[told])
        right[~told] += fitted.predict(vectors[~told]) == classes[~told]
        asked += ~told
    return right / asked


def _places_in_class(classes: Int[np.ndarray, "texts"], order: Int[np.ndarray, "texts"]) -> Int[np.ndarray, "texts"]:
    """Of each text, how many of its class come before it."""
    sorted_by_class = order[np.argsort(classes[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(classes))])
    places = np.empty(len(classes), np.int64)
    places[sorted_by_class] = np.arange(len(classes)) - starts[classes[sorted_by_class]]
    return places


def clusters(
    vectors: Float[np.ndarray, "texts dim"], classes: Int[np.ndarray, "texts"], seed: int
) -> Int[np.ndarray, "texts"]:
    """The cluster of each text, by k-means with as many clusters as there are classes."""
    from sklearn.cluster import KMeans

    return KMeans(int(classes.max()) + 1, n_init=4, random_state=seed).fit_predict(vectors)


def v_measure(found: Int[np.ndarray, "texts"], classes: Int[np.ndarray, "texts"]) -> float:
    """Harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg, 2007)."""
    width = int(classes.max()) + 1
    counts = np.bincount(found * width + classes, minlength=(int(found.max()) + 1) * width).reshape(-1, width)
    both, of_found, of_class = (_entropy(held) for held in (counts, counts.sum(1), counts.sum(0)))
    return 2.0 * (of_found + of_class - both) / (of_found + of_class) if of_found + of_class else 1.0


def _entropy(counts: Int[np.ndarray, "*shape"]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def bootstrap_v_measure(
    found: Mapping[str, Float[np.ndarray, "texts"]], classes: Int[np.ndarray, "texts"], resamples: int, seed: int
) -> Bootstrap:
    """The V-measure of each model's clusters, which are made once of all texts.

    Texts that are drawn twice look like structure: a resample has a higher V-measure than its sample. What is drawn is
    therefore moved by a constant, so that its mean is the value.
    """
    columns = [column.astype(np.int64) for column in found.values()]
    drawn = [
        [v_measure(column[rows], classes[rows]) for column in columns] for rows in draws(len(classes), resamples, seed)
    ]
    value, found_of = np.array([v_measure(column, classes) for column in columns]), np.array(drawn)
    return Bootstrap(tuple(found), value, found_of - found_of.mean(0) + value)


def average(parts: Sequence[Bootstrap]) -> Bootstrap:
    """The mean over tasks, each drawn on its own."""
    return Bootstrap(
        parts[0].models, np.mean([part.value for part in parts], 0), np.mean([part.drawn for part in parts], 0)
    )
