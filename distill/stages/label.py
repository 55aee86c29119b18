"""Candidates to examples: choose the positive and the hard negatives, keep the teacher's raw scores."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill import artifact, console, ranking, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.ranking import Opinions
from distill.stages import stage, summed

BLOCK = 1 << 16
"""Queries labelled at once: bounds memory."""

SAMPLED = 100_000
"""Lists at most from which the automatic temperature is told."""

ALL_OR_NOTHING = (0.02, 0.995)
"""Shares of the candidates under the ceiling beyond which the rule says nothing about them."""


def _check(
    rule: str,
    ceiling: float | None,
    floor: float | None,
    positive: str,
    judges: Sequence[str] | None,
    positives: int,
    agreement: int | None,
) -> None:
    if floor is not None and not -1 <= floor <= 1:
        raise Refused(f"floor: {floor}; needed: a cosine, from -1 to 1.")
    if rule == "naive" and ceiling is not None:
        raise Refused("ceiling: naive has none. Leave it out, or say another `rule`.")
    if judges is not None and not judges:
        raise Refused("judges: none. Name one, or leave it out; `positive: seed` keeps the seeds.")
    if positives < 1 or (positives > 1 and (rule == "naive" or positive == "seed")):
        raise Refused(
            f"positives: {positives}; needed: 1, or more where judgements choose and a `rule` tells likely positives."
        )
    if agreement is not None and agreement < 1:
        raise Refused(f"agreement: {agreement}; needed: 1 or more, a rank.")


@stage(version=2, check=_check)
def label(
    *,
    candidates: Path,
    negatives: int = 7,
    rule: Literal["share", "margin", "absolute", "naive"] = "share",
    ceiling: float | None = None,
    skip: int = 0,
    choice: ranking.Choice = "nearest",
    floor: float | None = None,
    fusion: int = 0,
    positive: Literal["judged", "seed"] = "judged",
    judges: tuple[Literal["rerankings", "likelihoods", "relevances"], ...] | None = None,
    positives: int = 1,
    agreement: int | None = None,
    scores: Literal["similarities", "rerankings", "likelihoods", "relevances"] = "similarities",
    within: int | None = None,
    seed: int = 0,
    out: Path,
) -> Facts:
    """Choose a positive and hard negatives for each query. Choices only: seconds, so try several side by side.

    Args:
        candidates: Artifact of `judge`; or of `mine`, and then the seed stays the positive, which is how
            supervised pairs get their hard negatives.
        negatives: Hard negatives kept for each query.
        rule: What a negative's similarity stays under, since above it the passage is likely an unlabelled positive
            (NV-Retriever, arXiv 2407.15831): a share of the positive's, a margin below it, a cosine, or nothing.
        ceiling: Which share, margin or cosine; None: that paper's best, 0.95, 0.05 or 0.7. It suits a miner whose
            positives lie near 0.8: look at the kept share.
        skip: So many of the first candidates are no negatives, whatever their similarity.
        choice: Which of those under the ceiling: the most similar; any, at random; evenly spread over their range of
            similarity; or those that the judges put last, which Gecko took.
        floor: Drop queries whose positive has a similarity below it: a share of next to nothing is nothing.
        fusion: Added to a rank before it is inverted; 0 as in Gecko, 60 as in Cormack et al. 2009.
        positive: The candidate that the judgements prefer, fused by rank (Gecko), or the seed. Where no judge was
            asked, since those before agreed, it is the one that they agreed on.
        judges: Whose judgements count; None: all that there are. `health` tells which judge ranks as chance would.
        positives: Positives of a query at most, a row each: after the first, those that come next in the judges' order
            and lie above the ceiling, where the rule expects unlabelled positives.
        agreement: Drop queries whose positive a judge or a search does not put among the first so many: a passage that
            talks one judge into it stands alone.
        scores: Which raw numbers become the targets of the KL loss.
        within: Drop queries whose seed is not among the first so many candidates (round-trip consistency); None keeps
            all.
        seed: Of what is chosen at random.
        out: The artifact.

    Returns:
        Rows kept; dropped by rule; share of queries whose positive is not their seed; negatives a query, and their
        ranks; the share of candidates that stays under the ceiling, with a warning where that is all or nothing.
    """
    held = tables.read(candidates, "judgements", "candidates")
    trusted = _trusted(candidates, held, judges)
    _check_judged(candidates, held, trusted, scores, fusion, choice, positives)
    counted = [name for name in tables.opinions(held) if name not in tables.JUDGED or name in trusted]
    level = ranking.CEILINGS[rule] if ceiling is None else ceiling
    repeated = ranking.Repeated.of(_numbered(held), held["seed"].to_numpy())
    told = []
    for part, start in enumerate(range(0, len(held), BLOCK)):
        rows = held.slice(start, BLOCK).combine_chunks()
        known = {name: tables.matrix(rows[name]) for name in tables.opinions(held)}
        listed, twins = tables.matrix(rows["passages"]), tables.matrix(rows["twins"])
        seeds, ranks = rows["seed"].to_numpy(), rows["seed_rank"].to_numpy()
        preferred = ranking.preferred(known, trusted, fusion)
        first, values = seeds, rows["seed_similarity"].to_numpy()
        if trusted and positive == "judged":
            best = ranking.firsts(preferred)[:, None]
            first, values = (np.take_along_axis(each, best, 1)[:, 0] for each in (listed, known["similarities"]))
        highest = ranking.ceilings(values, rule, level)
        further = _further(known, preferred, highest, scores, positives)
        answered = ranking.answers(listed, twins, first, seeds) | repeated.answers(listed, start)
        answered |= further.answers(twins)
        able = ranking.able(known["similarities"], answered, highest, skip)
        hard = ranking.hard_negatives(able, known["similarities"], preferred, negatives, choice, (seed, part))
        given = ranking.scores_of(listed, known[scores], first, values if scores == "similarities" else None)
        faults = {"positive without a score": ~np.isfinite(given)}
        if within is not None:
            faults["seed not found early enough"] = (ranks < 0) | (ranks >= within)
        if floor is not None:
            faults["positive below the floor"] = values < floor
        if agreement is not None:
            faults["judges disagree"] = ~ranking.agreed(
                {name: known[name] for name in counted}, listed, first, agreement
            )
        kept, dropped = _kept(faults)
        chosen = _Chosen(kept, first[kept], given[kept])
        if positives > 1:
            chosen = _with_more(chosen, listed, known[scores], further)
        columns = _columns(rows, start, chosen, listed, known[scores], hard)
        tables.write(out / "examples", tables.EXAMPLES, columns, part=part, note={"dropped": dropped})
        under = (known["similarities"] < highest[:, None])[kept][~answered[kept]]
        told.append(_Told.of(chosen, seeds, known[scores], hard, under))
    return _facts(out, told, candidates, held, rule, scores)


@dataclass(frozen=True)
class _Chosen:
    """Examples of a block: which query, which positive, and its score."""

    rows: np.ndarray
    positives: np.ndarray
    scores: np.ndarray


def _check_judged(
    candidates: Path, held: pa.Table, judges: Sequence[str], scores: str, fusion: int, choice: str, positives: int
) -> None:
    """Make sure that what is asked for was judged."""
    if scores not in held.schema.names:
        there = ", ".join(name for name in tables.opinions(held) if name in ("similarities", *tables.JUDGED))
        raise Refused(f"label: scores are {scores}, and {candidates} has {there}. Take such, or judge first.")
    needing = {"fusion": fusion, "positives": positives > 1, "choice: last": choice == "last"}
    if not judges and (asked := [name for name, value in needing.items() if value]):
        raise Refused(
            f"label: {asked[0]} is of judgements, and {candidates} was not judged. Leave it out, or judge first."
        )


def _trusted(candidates: Path, held: pa.Table, judges: Sequence[str] | None) -> list[str]:
    """The judges that count."""
    asked = [name for name in tables.opinions(held) if name in tables.JUDGED]
    if judges is None:
        return asked
    if missing := [name for name in judges if name not in asked]:
        there = ", ".join(asked) or "none"
        raise Refused(
            f"label: judges: {missing[0]} did not judge {candidates}; there: {there}. Take such, or judge first."
        )
    return list(judges)


def _kept(faults: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """The rows without a fault, and how many each fault dropped; of several the first counts."""
    left = np.ones(len(next(iter(faults.values()))), bool)
    dropped = {}
    for name, faulty in faults.items():
        dropped[name] = int((left & faulty).sum())
        left &= ~faulty
    return np.flatnonzero(left), dropped


@dataclass(frozen=True)
class _Further:
    """Positives after the first: those that come next in the judges' order and lie above the ceiling."""

    places: np.ndarray
    """Of the candidates that come next, for each query."""
    taken: np.ndarray
    """Which of them are positives."""

    def answers(self, twins: np.ndarray) -> np.ndarray:
        """Which candidates are one of them, or say nearly the same as one."""
        found = np.zeros(twins.shape, bool)
        for place, taken in zip(self.places.T, self.taken.T, strict=True):
            found |= taken[:, None] & (twins == np.take_along_axis(twins, place[:, None], 1))
        return found


def _further(known: Opinions, preferred: np.ndarray, highest: np.ndarray, scores: str, positives: int) -> _Further:
    places = np.argsort(-preferred, axis=1, kind="stable")[:, 1:positives]
    similarity, given, order = (
        np.take_along_axis(held, places, 1) for held in (known["similarities"], known[scores], preferred)
    )
    return _Further(places, (similarity >= highest[:, None]) & np.isfinite(given) & np.isfinite(order))


def _with_more(chosen: _Chosen, listed: np.ndarray, scores: np.ndarray, further: _Further) -> _Chosen:
    """The examples with those of further positives."""
    row, column = np.nonzero(further.taken[chosen.rows])
    rows = chosen.rows[row]
    places = further.places[rows, column]
    every = np.concatenate([chosen.rows, rows])
    by_row = np.argsort(every, kind="stable")
    firsts = np.concatenate([chosen.positives, listed[rows, places]])
    return _Chosen(every[by_row], firsts[by_row], np.concatenate([chosen.scores, scores[rows, places]])[by_row])


def _columns(
    rows: pa.Table, start: int, chosen: _Chosen, listed: np.ndarray, scores: np.ndarray, hard: np.ndarray
) -> dict[str, object]:
    """The examples' columns: each positive, then its query's hard negatives."""
    at, count = chosen.rows, len(chosen.rows)
    inside = np.concatenate([np.ones((count, 1), bool), hard[at]], 1)
    ends = pa.array(np.concatenate([[0], inside.sum(1).cumsum()]), pa.int32())
    lists = [
        np.concatenate([first[:, None], rest[at]], 1)[inside]
        for first, rest in ((chosen.positives, listed), (chosen.scores.astype(np.float32), scores))
    ]
    return {
        "kind": pa.array(["retrieval"]).take(pa.array(np.zeros(count, np.int64))),
        "task": rows["task"].take(pa.array(at)),
        "query": rows["query"].take(pa.array(at)),
        "passages": pa.ListArray.from_arrays(ends, pa.array(lists[0])),
        "scores": pa.ListArray.from_arrays(ends, pa.array(lists[1])),
        "in_batch": np.ones(count, bool),
        "symmetric": np.zeros(count, bool),
        "group": np.full(count, -1),
        "origin": at + start,
    }


@dataclass(frozen=True)
class _Told:
    """What the facts are made of, of a block."""

    relabelled: int
    positives: np.ndarray
    negatives: np.ndarray
    ranks: np.ndarray
    lengths: np.ndarray
    under: int
    others: int

    @classmethod
    def of(cls, chosen: _Chosen, seeds: np.ndarray, scores: np.ndarray, hard: np.ndarray, under: np.ndarray) -> "_Told":
        """Of the examples; `under` says of the candidates that are not known to answer whether the ceiling is above."""
        taken = hard[chosen.rows]
        return cls(
            relabelled=int((chosen.positives != seeds[chosen.rows]).sum()),
            positives=chosen.scores,
            negatives=scores[chosen.rows][taken],
            ranks=np.nonzero(taken)[1] + 1,
            lengths=taken.sum(1),
            under=int(under.sum()),
            others=len(under),
        )


def _facts(
    out: Path, told: Sequence[_Told], candidates: Path, held: pa.Table, rule: str, scores: str
) -> dict[str, object]:
    from distill.scores import histogram

    lengths = np.concatenate([each.lengths for each in told])
    dropped = summed(note["dropped"] for note in tables.notes(out / "examples"))
    if not len(lengths):
        raise Refused(
            f"label: no query of {len(held)} is left; dropped: { {why: n for why, n in dropped.items() if n} }. "
            "Raise `within` or `agreement`, lower `floor`, or take other `scores`."
        )
    others = sum(each.others for each in told)
    kept = sum(each.under for each in told) / others if others else 0.0
    numbers = {
        "score of the positive": np.concatenate([each.positives for each in told]),
        "score of a hard negative": np.concatenate([each.negatives for each in told]),
        "rank of a hard negative": np.concatenate([each.ranks for each in told]).astype(np.float32),
    }
    facts: dict[str, object] = {
        "rows": len(lengths),
        "dropped": {why: count for why, count in dropped.items() if count},
        "relabelled": round(sum(each.relabelled for each in told) / len(lengths), 4),
        "mean_negatives": round(float(lengths.mean()), 3),
        "without_negatives": int((lengths == 0).sum()),
        "under_the_ceiling": round(kept, 4),
        "score": {"column": scores} | tables.scale(held, scores),
        "histograms": {name: histogram(values) for name, values in numbers.items()},
        "refers": artifact.facts(candidates)["refers"],
    }
    if rule != "naive" and others and not ALL_OR_NOTHING[0] <= kept <= ALL_OR_NOTHING[1]:
        facts["warning"] = (
            f"{kept:.1%} of the candidates lie under the ceiling: {rule} at this height filters "
            f"{'next to nothing' if kept > ALL_OR_NOTHING[1] else 'next to everything'}. Look at the histograms, "
            "and set `ceiling`."
        )
        console.say(f"{out.name}: {facts['warning']}")
    return facts | _temperature(out, lengths)


def _temperature(out: Path, lengths: np.ndarray) -> dict[str, object]:
    """The automatic temperature of the lists and the entropy that it gives, told from a sample of them."""
    from distill.scores import auto_temperature, entropies

    listed = np.flatnonzero(lengths > 0)
    if not len(listed):
        return {}
    drawn = listed[np.unique(np.linspace(0, len(listed) - 1, min(SAMPLED, len(listed))).astype(int))]
    padded, present = ranking.padded(tables.opened(out / "examples")["scores"].take(pa.array(drawn)).to_pylist())
    with contextlib.suppress(Refused):  # scores that say nothing stop a KL loss, not a contrastive one
        found = auto_temperature(padded, present)
        entropy = float(entropies(padded, present, found).mean())
        return {"temperature_for_entropy_0.6": round(found, 5), "entropy": round(entropy, 4)}
    return {}


def _numbered(held: pa.Table) -> np.ndarray:
    """Equal numbers for equal queries with equal tasks."""
    asked = pc.binary_join_element_wise(held["task"], held["query"], "\0")
    return asked.combine_chunks().dictionary_encode().indices.to_numpy()
