"""Labelled texts and pairs of like texts as examples: a query, its positive, and negatives of its own.

Texts are rows of the passages table. A class is a stretch of texts sorted by class, so that a draw from
inside or outside it is arithmetic.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from distill.errors import Refused

ALIKE = 0.8
"""Share of the full score from which two texts count as a positive pair: 4 of 5
(NV-Embed, arXiv 2405.17428, section 4.2)."""


@dataclass(frozen=True)
class Paired:
    """Examples of one task."""

    queries: Int[np.ndarray, "examples"]
    """The text of each query."""
    passages: Int[np.ndarray, "examples listed"]
    """Its positive, then its negatives."""
    groups: Int[np.ndarray, "examples"]
    """Class of each, counted from 0; batch-mates of one class are no negatives."""
    dropped: dict[str, int]
    """Texts or pairs that gave no example, by rule."""


def of_labels(rows: Int[np.ndarray, "texts"], labels: Int[np.ndarray, "texts"], negatives: int, seed: int) -> Paired:
    """Examples from labelled texts: the positive is another text of the class, negatives are of other classes.

    Args:
        rows: The texts.
        labels: The class of each.
        negatives: Different negatives for each query; fewer where the other classes hold fewer texts.
        seed: Of the draws.

    Raises:
        Refused: Fewer than two classes have two texts: there is nothing to tell apart.
    """
    rows, labels, dropped = _of_one_class(rows, labels)
    kept = np.bincount(labels)[labels] > 1 if len(labels) else np.zeros(0, bool)
    dropped["only text of its label"] = int((~kept).sum())
    rows, labels = rows[kept], labels[kept]
    rng = np.random.default_rng(seed)
    order, starts, sizes, groups = _stretches(labels)
    own = np.arange(len(rows)) - starts
    positives = starts + (own + rng.integers(1, np.maximum(sizes, 2))) % np.maximum(sizes, 1)
    listed = np.column_stack([positives, _outside(starts, sizes, len(rows), negatives, rng)])
    return Paired(rows[order], rows[order][listed], groups, dropped)


def of_label_texts(
    rows: Int[np.ndarray, "texts"],
    labels: Int[np.ndarray, "texts"],
    names: Int[np.ndarray, "classes"],
    negatives: int,
    seed: int,
) -> Paired:
    """Examples from labelled texts: the positive is the text of the label, negatives are those of other labels.

    Args:
        rows: The texts.
        labels: The class of each.
        names: The text of each class's label.
        negatives: Different negatives for each query; fewer where there are fewer other labels.
        seed: Of the draws.

    Raises:
        Refused: There are fewer than two labels.
    """
    rows, labels, dropped = _of_one_class(rows, labels)
    classes = np.arange(len(names))
    drawn = _outside(classes[labels], np.ones_like(labels), len(names), negatives, np.random.default_rng(seed))
    return Paired(rows, np.column_stack([names[labels], names[drawn]]), labels, dropped)


def of_pairs(
    first: Int[np.ndarray, "pairs"],
    second: Int[np.ndarray, "pairs"],
    scores: Float[np.ndarray, "pairs"],
    negatives: int,
    seed: int,
) -> Paired:
    """Examples from scored pairs: pairs that are alike, in both directions; negatives are unrelated texts.

    Texts that are linked by pairs that are alike, directly or through others, form a class.

    Args:
        first: One text of each pair.
        second: The other.
        scores: How alike they are, from 0 to 1.
        negatives: As in `of_labels`.
        seed: Of the draws.

    Raises:
        Refused: Too few pairs are alike to draw negatives from the others.
    """
    alike = (scores >= ALIKE - 1e-9) & (first != second)
    if not alike.any():
        best = float(scores.max(initial=0))
        raise Refused(
            f"no pair reaches {ALIKE:.0%} of the full score; the best has {best:.0%}. Check the reader's scale."
        )
    dropped = {"pair not alike": int((~alike).sum())}
    texts, ends = np.unique(np.concatenate([first[alike], second[alike]]), return_inverse=True)
    queries, positives = np.unique(_both_ways(ends), axis=1)
    labels = _linked(queries, positives, len(texts))
    order, starts, sizes, groups = _stretches(labels)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    at = place[queries]
    drawn = _outside(starts[at], sizes[at], len(texts), negatives, np.random.default_rng(seed))
    listed = np.column_stack([texts[positives], texts[order][drawn]])
    return Paired(texts[queries], listed, groups[at], dropped)


def _both_ways(ends: Int[np.ndarray, "twice_pairs"]) -> Int[np.ndarray, "2 twice_pairs"]:
    first, second = np.split(ends, 2)
    return np.stack([np.concatenate([first, second]), np.concatenate([second, first])])


def _linked(first: Int[np.ndarray, "links"], second: Int[np.ndarray, "links"], count: int) -> Int[np.ndarray, "texts"]:
    """For each text, the first of all that it is linked with, directly or through others; links go both ways."""
    least = np.arange(count)
    while True:
        nearer = least.copy()
        np.minimum.at(nearer, first, least[second])
        nearer = nearer[nearer]  # what the one it is linked with has found: long chains take few rounds
        if np.array_equal(nearer, least):
            return least
        least = nearer


def _of_one_class(
    rows: Int[np.ndarray, "given"], labels: Int[np.ndarray, "given"]
) -> tuple[Int[np.ndarray, "texts"], Int[np.ndarray, "texts"], dict[str, int]]:
    """Each text once; texts with two labels left out: they would be their own negatives."""
    pairs = np.unique(np.stack([rows, labels]), axis=1)
    _, first, counts = np.unique(pairs[0], return_index=True, return_counts=True)
    single = first[counts == 1]
    dropped = {"repeated in its label": len(rows) - pairs.shape[1], "of two labels": int((counts > 1).sum())}
    return pairs[0][single], pairs[1][single], dropped


def _stretches(labels: Int[np.ndarray, "texts"]) -> tuple[Int[np.ndarray, "texts"], ...]:
    """Order that sorts texts by class; then for each place in it: where its class starts, its size, its number."""
    order = np.argsort(labels, kind="stable")
    _, starts, groups, sizes = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    return order, starts[groups], sizes[groups], groups


def _outside(
    starts: Int[np.ndarray, "queries"],
    sizes: Int[np.ndarray, "queries"],
    total: int,
    width: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "queries negatives"]:
    """Different random places outside each query's class.

    Floyd's method (Bentley and Floyd, 1987), for all queries at once: every set is equally likely, and none of
    the draws is thrown away.
    """
    others = total - sizes
    width = min(width, int(others.min(initial=total)))
    if width < 1:
        raise Refused(
            "texts of fewer than two classes (or pairs) are left: there is nothing to tell apart. Add others."
        )
    drawn = np.full((len(starts), width), -1, np.int64)
    for column in range(width):
        top = others - width + column
        draw = rng.integers(0, top + 1)
        taken = (drawn == draw[:, None]).any(1)
        drawn[:, column] = np.where(taken, top, draw)
    inside = drawn >= starts[:, None]
    shifted: Int[np.ndarray, "queries negatives"] = drawn + inside * sizes[:, None]
    return shifted
