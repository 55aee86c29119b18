"""From raw judgements to choices: fuse rankings, choose the positive and the hard negatives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int

Opinions = Mapping[str, Float[np.ndarray, "queries k"]]
"""What several say of each candidate, by name; larger is better, NaN where one was not asked."""


def ranks(scores: Float[np.ndarray, "queries k"]) -> Int[np.ndarray, "queries k"]:
    """Rank of each score within its row; the largest is 1, ties in order."""
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.arange(1, scores.shape[1] + 1)[None, :].repeat(len(scores), 0), 1)
    return found


def fuse(opinions: Sequence[Float[np.ndarray, "queries k"]], constant: int = 0) -> Float[np.ndarray, "queries k"]:
    """Reciprocal rank fusion of what several judges say: larger is better.

    Args:
        opinions: Larger is better; NaN where a judge was not asked, which adds nothing.
        constant: Added to each rank: 0 in Gecko (arXiv 2403.20327, section 3.3), 60 in Cormack et al. 2009.
    """
    parts = [np.where(np.isnan(held), 0, 1 / (constant + ranks(np.nan_to_num(held, nan=-np.inf)))) for held in opinions]
    return np.sum(parts, axis=0)


def firsts(opinion: Float[np.ndarray, "queries k"]) -> Int[np.ndarray, "queries"]:
    """The place of the candidate that a judge puts first; -1 where it was not asked."""
    asked = np.isfinite(opinion).any(1)
    return np.where(asked, np.nan_to_num(opinion, nan=-np.inf).argmax(1), -1)


def _tells_apart(opinion: Float[np.ndarray, "queries k"]) -> Bool[np.ndarray, "queries"]:
    """Whether a judge says different things of a query's candidates."""
    asked = np.isfinite(opinion)
    return np.asarray(np.where(asked, opinion, -np.inf).max(1) > np.where(asked, opinion, np.inf).min(1))


def disputed(opinions: Sequence[Float[np.ndarray, "queries k"]]) -> Bool[np.ndarray, "queries"]:
    """The queries of which not all judges that were asked put the same candidate first."""
    found = np.stack([firsts(held) for held in opinions])
    return np.asarray(((found >= 0) & (found != found.max(0))).any(0))


def preferred(opinions: Opinions, judges: Sequence[str], constant: int = 0) -> Float[np.ndarray, "queries k"]:
    """How much the judges prefer each candidate; of a query that none was asked of, how much the teacher does.

    NaN where no judge was asked of the candidate, but of others of its query: it has no place in their order.

    Args:
        opinions: What each says, by name; the teacher's `similarities` among them.
        judges: Names of the judges.
        constant: As `fuse` has it.
    """
    teacher = fuse([opinions["similarities"]])
    if not judges:
        return teacher
    asked = np.any([np.isfinite(opinions[name]) for name in judges], axis=0)
    fused = np.where(asked, fuse([opinions[name] for name in judges], constant), np.nan)
    return np.where(asked.any(1)[:, None], fused, teacher)


def agreed(
    opinions: Opinions, passages: Int[np.ndarray, "queries k"], positives: Int[np.ndarray, "queries"], first: int
) -> Bool[np.ndarray, "queries"]:
    """The queries whose positive each judge that was asked, and each search, puts among its first so many."""
    hit = passages == positives[:, None]
    place, found = hit.argmax(1)[:, None], hit.any(1)
    for held in opinions.values():
        asked = np.isfinite(held).any(1)
        rank = np.take_along_axis(ranks(np.nan_to_num(held, nan=-np.inf)), place, 1)[:, 0]
        found = found & (~asked | (rank <= first))
    return found


def agreement(one: Float[np.ndarray, "queries k"], other: Float[np.ndarray, "queries k"]) -> float | None:
    """How often two judges put the same candidate first, of the queries that both were asked of; None of none.

    One that says the same of all candidates, as BM25 where no word is found, puts none first: it counts as not asked.
    """
    both = np.stack([firsts(one), firsts(other)])
    asked = (both >= 0).all(0) & _tells_apart(one) & _tells_apart(other)
    return float((both[0] == both[1])[asked].mean()) if asked.any() else None


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
    twins: Int[np.ndarray, "queries k"],
    positives: Int[np.ndarray, "queries"],
    seeds: Int[np.ndarray, "queries"],
) -> Bool[np.ndarray, "queries k"]:
    """Which candidates are known to answer their query.

    The positive; the seed, from which a query was written, though another passage was preferred; and what says nearly
    the same as either.

    Args:
        passages: Candidates.
        twins: The first of the seed and the list that says nearly the same as each.
        positives: Row of each query's positive.
        seeds: Row of the passage it was written from, or is known to be answered by.
    """
    hit = passages == positives[:, None]
    twin = np.where(hit.any(1), twins[np.arange(len(twins)), hit.argmax(1)], positives)
    return hit | (passages == seeds[:, None]) | (twins == seeds[:, None]) | (twins == twin[:, None])


@dataclass(frozen=True)
class Repeated:
    """The queries that several rows ask, and the passages that answer them: each row's seed."""

    keys: Int[np.ndarray, "known"]
    """Query and seed, as one number, sorted."""
    same: Int[np.ndarray, "queries"]
    """Equal for equal queries; -1 for a query that one row asks."""
    stride: int

    @classmethod
    def of(cls, same: Int[np.ndarray, "queries"], seeds: Int[np.ndarray, "queries"]) -> Self:
        """Of all rows: numbers that are equal for equal queries, and the seed of each."""
        several = np.bincount(same)[same] > 1  # few ask what another asks: the rest costs nothing
        stride = int(seeds.max(initial=0)) + 1
        return cls(np.unique(same[several] * stride + seeds[several]), np.where(several, same, -1), stride)

    def answers(self, passages: Int[np.ndarray, "rows k"], start: int) -> Bool[np.ndarray, "rows k"]:
        """Which candidates of the rows from `start` on are the seed of another row that asks the same."""
        same = self.same[start : start + len(passages), None]
        return np.isin(same * self.stride + passages, self.keys) & (same >= 0) & (passages < self.stride)


Choice = Literal["nearest", "random", "spread", "last"]
"""Which of the candidates that may be negatives are taken."""


def able(
    similarities: Float[np.ndarray, "queries k"],
    known: Bool[np.ndarray, "queries k"],
    highest: Float[np.ndarray, "queries"],
    skip: int = 0,
) -> Bool[np.ndarray, "queries k"]:
    """Which candidates may be hard negatives.

    Args:
        similarities: The teacher's cosine of each candidate, the largest first.
        known: Candidates that answer the query.
        highest: What a negative's similarity must stay under.
        skip: Of the candidates that are not known to answer, so many of the first are left out.
    """
    return ~known & ((~known).cumsum(1) > skip) & (similarities < highest[:, None])


def hard_negatives(
    able: Bool[np.ndarray, "queries k"],
    similarities: Float[np.ndarray, "queries k"],
    preferred: Float[np.ndarray, "queries k"],
    negatives: int,
    choice: Choice = "nearest",
    seed: Sequence[int] = (0,),
) -> Bool[np.ndarray, "queries k"]:
    """Which candidates are a query's hard negatives.

    Args:
        able: Candidates that may be.
        similarities: The teacher's cosine of each candidate, the largest first.
        preferred: How much the judges prefer each, or the teacher; NaN where no judge was asked: such are never `last`.
        negatives: Taken at most.
        choice: The most similar; some at random, or those that the judges put last (the two of Gecko, arXiv 2403.20327,
            section 3.3); or some evenly spread over the range of similarities.
        seed: Of chance.
    """
    if choice == "nearest":
        return able & (able.cumsum(1) <= negatives)
    if choice == "spread":
        return _spread(able, similarities, negatives)
    key = preferred if choice == "last" else np.random.default_rng(list(seed)).random(able.shape)
    able = able & np.isfinite(key)
    # From the end of the list, for of equal ones the first is preferred.
    order = np.argsort(np.where(able, key, np.inf)[:, ::-1], axis=1, kind="stable")[:, :negatives]
    taken = np.zeros_like(able)
    np.put_along_axis(taken, able.shape[1] - 1 - order, True, 1)
    return taken & able


def _spread(
    able: Bool[np.ndarray, "queries k"], similarities: Float[np.ndarray, "queries k"], negatives: int
) -> Bool[np.ndarray, "queries k"]:
    """The candidates nearest to equal steps from the highest to the lowest similarity, each taken once."""
    high = np.where(able, similarities, -np.inf).max(1, initial=-np.inf)
    low = np.where(able, similarities, np.inf).min(1, initial=np.inf)
    left, rows = able.copy(), np.flatnonzero(able.any(1))
    for step in np.linspace(0, 1, negatives):
        goal = high[rows] + (low[rows] - high[rows]) * step
        apart = np.where(left[rows], np.abs(similarities[rows] - goal[:, None]), np.inf)
        left[rows, apart.argmin(1)] = False
    return able & ~left


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
