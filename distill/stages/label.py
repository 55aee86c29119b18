"""Candidates to examples: choose the positive and the hard negatives, keep the teacher's raw scores."""

import contextlib
from pathlib import Path
from typing import Literal

from distill import artifact, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.stages import stage


@stage(version=1)
def label(
    *,
    candidates: Path,
    negatives: int = 7,
    ceiling: float = 0.95,
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
        ceiling: A negative's similarity stays under this share of the positive's; above it the passage is
            likely an unlabelled positive (NV-Retriever, arXiv 2407.15831). Look at the kept share.
        fusion: Added to a rank before it is inverted; 0 as in Gecko, 60 as in Cormack et al. 2009.
        positive: The candidate that the judgements prefer, fused by rank (Gecko), or the seed.
        scores: Which raw numbers become the targets of the KL loss.
        within: Drop queries whose seed is not among the first so many candidates; None keeps all.
        out: The artifact.

    Returns:
        Rows kept; dropped by rule; share of queries whose positive is not their seed; negatives a query.
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
    hard = ranking.hard_negatives(listed, similarities, positives, seeds, values, negatives, ceiling)
    first = ranking.scores_of(listed, targets, positives, values if scores == "similarities" else None)
    is_scored = np.isfinite(first)
    is_early = (seed_ranks >= 0) & (seed_ranks < within) if within is not None else np.ones(len(held), bool)
    dropped = {"positive without a score": int((~is_scored).sum())}
    dropped["seed not found early enough"] = int((is_scored & ~is_early).sum())
    rows = np.flatnonzero(is_scored & is_early)
    lists = [[int(positives[row]), *listed[row][hard[row]].tolist()] for row in rows]
    told = [[float(first[row]), *targets[row][hard[row]].tolist()] for row in rows]
    if not lists:
        raise Refused(
            f"label: no query of {len(held)} is left; dropped: {dropped}. Raise `within`, or take other `scores`."
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
    facts: dict[str, object] = {
        "rows": len(rows),
        "dropped": {rule: count for rule, count in dropped.items() if count},
        "relabelled": round(float((positives != seeds)[rows].mean()), 4),
        "mean_negatives": round(float((lengths - 1).mean()), 3),
        "without_negatives": int((lengths == 1).sum()),
        "under_the_ceiling": round(float((similarities < ceiling * values[:, None])[rows].mean()), 4),
        "score": {"column": scores} | tables.scale(held, scores),
        "histograms": {
            "score of the positive": histogram(first[rows]),
            "score of a hard negative": histogram(targets[rows][hard[rows]]),
        },
        "refers": artifact.facts(candidates)["refers"],
    }
    if (lengths > 1).any():
        with contextlib.suppress(Refused):  # scores that say nothing stop a KL loss, not a contrastive one
            found = auto_temperature(padded, present)
            facts["temperature_for_entropy_0.6"] = round(found, 5)
            facts["entropy"] = round(float(entropies(padded, present, found)[lengths > 1].mean()), 4)
    return facts
