"""Candidates to examples: choose the positive and the hard negatives, keep the teacher's raw scores."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill import artifact, console, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.stages import stage

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


ALL_OR_NOTHING = (0.02, 0.995)
"""Shares of the candidates under the ceiling beyond which the rule says nothing about them."""


def _check(rule: str, ceiling: float | None, floor: float | None) -> None:
    if floor is not None and not -1 <= floor <= 1:
        raise Refused(f"floor: {floor}; needed: a cosine, from -1 to 1.")
    if rule == "naive" and ceiling is not None:
        raise Refused("ceiling: naive has none. Leave it out, or say another `rule`.")


@stage(version=1, check=_check)
def label(
    *,
    candidates: Path,
    negatives: int = 7,
    rule: Literal["share", "margin", "absolute", "naive"] = "share",
    ceiling: float | None = None,
    skip: int = 0,
    floor: float | None = None,
    fusion: int = 0,
    positive: Literal["judged", "seed"] = "judged",
    scores: Literal["similarities", "likelihoods", "relevances"] = "similarities",
    within: int | None = None,
    out: Path,
) -> Facts:
    """Choose a positive and hard negatives for each query. Choices only: seconds, so try several side by side.

    Args:
        candidates: Artifact of `judge`; or of `mine`, and then the seed stays the positive, which is how
            supervised pairs get their hard negatives.
        negatives: Hard negatives kept for each query, the most similar under the ceiling.
        rule: What a negative's similarity stays under, since above it the passage is likely an unlabelled positive
            (NV-Retriever, arXiv 2407.15831): a share of the positive's, a margin below it, a cosine, or nothing.
        ceiling: Which share, margin or cosine; None: that paper's best, 0.95, 0.05 or 0.7. It suits a miner whose
            positives lie near 0.8: look at the kept share.
        skip: So many of the first candidates are no negatives, whatever their similarity.
        floor: Drop queries whose positive has a similarity below it: a share of next to nothing is nothing.
        fusion: Added to a rank before it is inverted; 0 as in Gecko, 60 as in Cormack et al. 2009.
        positive: The candidate that the judgements prefer, fused by rank (Gecko), or the seed.
        scores: Which raw numbers become the targets of the KL loss.
        within: Drop queries whose seed is not among the first so many candidates; None keeps all.
        out: The artifact.

    Returns:
        Rows kept; dropped by rule; share of queries whose positive is not their seed; negatives a query, and their
        ranks; the share of candidates that stays under the ceiling, with a warning where that is all or nothing.
    """
    import numpy as np

    from distill import ranking
    from distill.scores import auto_temperature, entropies, histogram

    held = tables.read(candidates, "judgements", "candidates")
    judged = "likelihoods" in held.schema.names
    if scores != "similarities" and not judged:
        raise Refused(f"label: scores are {scores}, and {candidates} was not judged. Use similarities, or judge first.")
    if fusion and not judged:
        raise Refused(f"label: fusion is of judgements, and {candidates} was not judged. Leave it out, or judge first.")
    listed, similarities = tables.matrix(held["passages"]), tables.matrix(held["similarities"])
    seeds, seed_ranks = held["seed"].to_numpy(), held["seed_rank"].to_numpy()
    targets = similarities if scores == "similarities" else tables.matrix(held[scores])
    everyone = np.arange(len(held))
    positives, values = seeds, held["seed_similarity"].to_numpy()
    if judged and positive == "judged":
        fused = ranking.fuse(tables.matrix(held["likelihoods"]), tables.matrix(held["relevances"]), fusion)
        best = fused.argmax(1)
        positives, values = listed[everyone, best], similarities[everyone, best]
    same = _numbered(held)
    known = ranking.answers(listed, positives, seeds, same)
    highest = ranking.ceilings(values, rule, ranking.CEILINGS[rule] if ceiling is None else ceiling)
    hard = ranking.hard_negatives(similarities, known, highest, negatives, skip)
    first = ranking.scores_of(listed, targets, positives, values if scores == "similarities" else None)
    is_scored = np.isfinite(first)
    is_early = (seed_ranks >= 0) & (seed_ranks < within) if within is not None else np.ones(len(held), bool)
    is_near = values >= floor if floor is not None else np.ones(len(held), bool)
    dropped = {"positive without a score": int((~is_scored).sum())}
    dropped["seed not found early enough"] = int((is_scored & ~is_early).sum())
    dropped["positive below the floor"] = int((is_scored & is_early & ~is_near).sum())
    rows = np.flatnonzero(is_scored & is_early & is_near)
    lists = [[int(positives[row]), *listed[row][hard[row]].tolist()] for row in rows]
    told = [[float(first[row]), *targets[row][hard[row]].tolist()] for row in rows]
    if not lists:
        raise Refused(
            f"label: no query of {len(held)} is left; dropped: { {why: n for why, n in dropped.items() if n} }. "
            "Raise `within`, lower `floor`, or take other `scores`."
        )
    columns = {
        "kind": ["retrieval"] * len(rows),
        "task": held["task"].take(rows),
        "query": held["query"].take(rows),
        "passages": lists,
        "scores": told,
        "in_batch": np.ones(len(rows), bool),
        "symmetric": np.zeros(len(rows), bool),
        "group": np.full(len(rows), -1),
        "origin": rows,
    }
    tables.write(out / "examples", tables.EXAMPLES, columns)
    lengths = np.array([len(list_) for list_ in lists])
    padded, present = ranking.padded(told)
    others = ~known[rows]
    kept = float((similarities < highest[:, None])[rows][others].mean()) if others.any() else 0.0
    facts: dict[str, object] = {
        "rows": len(rows),
        "dropped": {rule: count for rule, count in dropped.items() if count},
        "relabelled": round(float((positives != seeds)[rows].mean()), 4),
        "mean_negatives": round(float((lengths - 1).mean()), 3),
        "without_negatives": int((lengths == 1).sum()),
        "under_the_ceiling": round(kept, 4),
        "score": {"column": scores} | tables.scale(held, scores),
        "histograms": {
            "score of the positive": histogram(first[rows]),
            "score of a hard negative": histogram(targets[rows][hard[rows]]),
            "rank of a hard negative": histogram(np.nonzero(hard[rows])[1].astype(np.float32) + 1),
        },
        "refers": artifact.facts(candidates)["refers"],
    }
    if rule != "naive" and not ALL_OR_NOTHING[0] <= kept <= ALL_OR_NOTHING[1]:
        facts["warning"] = (
            f"{kept:.1%} of the candidates lie under the ceiling: {rule} at this height filters "
            f"{'next to nothing' if kept > ALL_OR_NOTHING[1] else 'next to everything'}. Look at the histograms, "
            "and set `ceiling`."
        )
        console.say(f"{out.name}: {facts['warning']}")
    if (lengths > 1).any():
        with contextlib.suppress(Refused):  # scores that say nothing stop a KL loss, not a contrastive one
            found = auto_temperature(padded, present)
            facts["temperature_for_entropy_0.6"] = round(found, 5)
            facts["entropy"] = round(float(entropies(padded, present, found)[lengths > 1].mean()), 4)
    return facts


def _numbered(held: "pa.Table") -> "np.ndarray":
    """Equal numbers for equal queries with equal tasks."""
    import pyarrow.compute as pc

    asked = pc.binary_join_element_wise(held["task"], held["query"], "\0")
    return asked.combine_chunks().dictionary_encode().indices.to_numpy()
