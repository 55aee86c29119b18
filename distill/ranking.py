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


def hard_negatives(
    passages: Int[np.ndarray, "queries k"],
    similarities: Float[np.ndarray, "queries k"],
    positives: Int[np.ndarray, "queries"],
    seeds: Int[np.ndarray, "queries"],
    positive_similarities: Float[np.ndarray, "queries"],
    negatives: int,
    ceiling: float,
) -> Bool[np.ndarray, "queries k"]:
    """Which candidates are a query's hard negatives: the most similar ones under the ceiling.

    Neither the positive nor the seed is one: when the positive was relabelled, the seed it was
    written from still answers the query.

    Args:
        passages: Candidates, the most similar first.
        similarities: The teacher's cosine of each.
        positives: Row of each query's positive.
        seeds: Row of the passage it was written from.
        positive_similarities: The teacher's cosine of the positive.
        negatives: Taken at most.
        ceiling: Share of the positive's similarity that a negative's must stay under
            (NV-Retriever, arXiv 2407.15831: TopK-PercPos, 0.95).
    """
    able = (passages != positives[:, None]) & (passages != seeds[:, None])
    # Of a positive below zero, a share would lie above it: there the same distance is kept below.
    highest = positive_similarities - (1 - ceiling) * np.abs(positive_similarities)
    able &= similarities < highest[:, None]
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
