"""From raw judgements to choices: fuse rankings, choose the positive and the hard negatives."""

import numpy as np
from jaxtyping import Bool, Float, Int


def ranks(scores: Float[np.ndarray, "queries k"]) -> Int[np.ndarray, "queries k"]:
    """Rank of each score within its row; the largest is 1, ties in order."""
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.arange(1, scores.shape[1] + 1)[None, :].repeat(len(scores), 0), 1)
    return found


def fuse(
    likelihoods: Float[np.ndarray, "queries k"], relevances: Float[np.ndarray, "queries k"], constant: int = 0
) -> Float[np.ndarray, "queries k"]:
    """Reciprocal rank fusion of the two judgements: larger is better.

    Args:
        likelihoods: Log-probability of the query given each passage.
        relevances: Log-probability of the label that says relevant.
        constant: Added to each rank: 0 in Gecko (arXiv 2403.20327, section 3.3), 60 in Cormack et al. 2009.
    """
    return 1 / (constant + ranks(likelihoods)) + 1 / (constant + ranks(relevances))


CEILINGS = {"share": 0.95, "margin": 0.05, "absolute": 0.7, "naive": np.inf}
"""Rules that keep likely positives from the negatives, each with NV-Retriever's best setting (arXiv 2407.15831,
section 3): TopK-PercPos, TopK-MarginPos, TopK-Abs, and Top-K, which keeps them all."""


def ceilings(positives: Float[np.ndarray, "queries"], rule: str, ceiling: float) -> Float[np.ndarray, "queries"]:
    """What the similarity of a query's negatives must stay under.

    Args:
        positives: The teacher's cosine of each query's positive.
        rule: `share` of the positive's, `margin` below it, `absolute`, or `naive`: nothing.
        ceiling: How large a share, how wide a margin, which cosine.
    """
    if rule == "share":
        # Of a positive below zero, a share would lie above it: there the same distance is kept below.
        return positives - (1 - ceiling) * np.abs(positives)
    if rule == "margin":
        return positives - ceiling
    return np.full_like(positives, ceiling if rule == "absolute" else np.inf)


def answers(
    passages: Int[np.ndarray, "queries k"],
    positives: Int[np.ndarray, "queries"],
    seeds: Int[np.ndarray, "queries"],
    same: Int[np.ndarray, "queries"],
) -> Bool[np.ndarray, "queries k"]:
    """Which candidates are known to answer their query.

    The positive; the seed, from which a query was written, though another passage was preferred; and the seeds of the
    rows that ask the same.

    Args:
        passages: Candidates.
        positives: Row of each query's positive.
        seeds: Row of the passage it was written from, or is known to be answered by.
        same: Equal for equal queries.
    """
    known = (passages == positives[:, None]) | (passages == seeds[:, None])
    repeated = np.flatnonzero(np.bincount(same)[same] > 1)  # few ask what another asks: the rest costs nothing
    stride = int(max(passages.max(initial=0), seeds.max(initial=0))) + 1
    asked = same[repeated] * stride
    known[repeated] |= np.isin(asked[:, None] + passages[repeated], asked + seeds[repeated])
    return known


def hard_negatives(
    similarities: Float[np.ndarray, "queries k"],
    known: Bool[np.ndarray, "queries k"],
    highest: Float[np.ndarray, "queries"],
    negatives: int,
    skip: int = 0,
) -> Bool[np.ndarray, "queries k"]:
    """Which candidates are a query's hard negatives: the most similar ones under its ceiling.

    Args:
        similarities: The teacher's cosine of each candidate, the largest first.
        known: Candidates that answer the query.
        highest: What a negative's similarity must stay under.
        negatives: Taken at most.
        skip: Of the candidates that are not known to answer, so many of the first are left out.
    """
    able = ~known & ((~known).cumsum(1) > skip) & (similarities < highest[:, None])
    return able & (able.cumsum(1) <= negatives)


def scores_of(
    passages: Int[np.ndarray, "queries k"],
    scores: Float[np.ndarray, "queries k"],
    wanted: Int[np.ndarray, "queries"],
    otherwise: Float[np.ndarray, "queries"] | None,
) -> Float[np.ndarray, "queries"]:
    """Each query's score of one passage, found among its candidates.

    Args:
        passages: Candidates.
        scores: Of each.
        wanted: The passage, for each query.
        otherwise: Taken where it is no candidate; NaN there if None.
    """
    hit = passages == wanted[:, None]
    missing = np.full(len(passages), np.nan, np.float32) if otherwise is None else otherwise
    return np.where(hit.any(1), scores[np.arange(len(passages)), hit.argmax(1)], missing)


def padded(lists: list[list[float]]) -> tuple[Float[np.ndarray, "lists listed"], Bool[np.ndarray, "lists listed"]]:
    """Lists of their own lengths as one array, and where it holds a number; NaN (not judged) is none."""
    lengths = np.array([len(held) for held in lists])
    inside = np.arange(lengths.max()) < lengths[:, None]
    found = np.full(inside.shape, np.nan)
    found[inside] = np.concatenate(lists)
    return np.nan_to_num(found), np.isfinite(found)
