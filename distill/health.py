"""Figures of examples, and of what was said of their candidates: is the data fit to train on.

What cannot be told of a row is NaN in the arrays here; `Means` leaves it out and counts it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from distill.errors import Refused
from distill.scores import auto_temperature, entropies
from distill.tables import JUDGED, check_rows

YES = math.log(0.5)
"""A relevance above it: the judge rather says that the passage answers the query."""

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
TAILS = (0.005, 0.995)
"""Shares of the values between which a histogram is drawn, so that one outlier does not press the rest together."""
BARS = 30


class Means:
    """Means of numbers that come block by block; NaN is left out, and counted."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, int, int]] = {}

    def add(self, measured: Mapping[str, Float[np.ndarray, "_"]]) -> None:
        """Add what a block gave, by name."""
        for name, values in measured.items():
            told = np.isfinite(values)
            total, count, left_out = self._held.get(name, (0.0, 0, 0))
            kept = int(told.sum())
            self._held[name] = (total + float(values[told].sum()), count + kept, left_out + len(values) - kept)

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def mean(self, name: str) -> float | None:
        """The mean; None if nothing could be told."""
        total, count, _ = self._held[name]
        return round(total / count, 6) if count else None

    def counts(self, name: str) -> tuple[int, int]:
        """How many it is of, and how many were left out."""
        return self._held[name][1:]

    def share(self, name: str) -> dict[str, object]:
        """Mean and counts, for a file."""
        count, left_out = self.counts(name)
        return {"share": self.mean(name), "of": count, "left_out": left_out}


def words(column: pa.Array) -> Int[np.ndarray, "texts"]:
    """Words of each text: what stands between spaces."""
    return pc.count_substring_regex(column, r"[^\s\v\x1c-\x1f\x{85}\p{Z}]+").to_numpy().astype(np.int64)


def numbered(*columns: pa.ChunkedArray) -> Int[np.ndarray, "rows"]:
    """Equal numbers for rows whose texts are equal in all columns."""
    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\0")
    return joined.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts without case, punctuation and double spaces."""
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(column), r"[\s\p{P}\p{S}\p{Z}]+", " "))


def most_frequent(column: pa.ChunkedArray, count: int) -> tuple[list[tuple[str, int]], int]:
    """The texts that stand in most rows, each with its rows; and how many different ones there are."""
    found = pc.value_counts(column)
    rows = found.field("counts").to_numpy()
    first = np.argsort(-rows, kind="stable")[:count]
    named = found.field("values").take(pa.array(first)).to_pylist()
    return list(zip(named, rows[first].tolist(), strict=True)), len(found)


def distributions(
    named: Mapping[str, Float[np.ndarray, "_"] | Int[np.ndarray, "_"]],
) -> dict[str, dict[str, Any]]:
    """Of values that are compared: how many, mean, percentiles, and histograms between the same edges.

    The outermost bars hold what lies beyond.
    """
    finite = {name: values[np.isfinite(values)] for name, values in named.items()}
    edges = _edges(np.concatenate(list(finite.values())))
    return {name: _distribution(values.astype(np.float64), edges) for name, values in finite.items()}


def _edges(values: Float[np.ndarray, "values"] | Int[np.ndarray, "values"]) -> Float[np.ndarray, "edges"]:
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, TAILS)
    if np.issubdtype(values.dtype, np.integer):  # else some bars stand for more whole numbers than others
        first = math.floor(low)
        width = math.ceil((high - first + 1) / BARS)
        return first - 0.5 + width * np.arange(math.ceil((high - first + 1) / width) + 1)
    return np.histogram_bin_edges(np.clip(values.astype(np.float64), low, high), BARS)


def _distribution(values: Float[np.ndarray, "values"], edges: Float[np.ndarray, "edges"]) -> dict[str, Any]:
    if not len(values):
        return {"count": 0}
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    percentiles = np.percentile(values, PERCENTILES)
    return {
        "count": len(values),
        "mean": _rounded(values.mean()),
        "percentiles": {str(at): _rounded(value) for at, value in zip(PERCENTILES, percentiles, strict=True)},
        "histogram": {"edges": [_rounded(edge) for edge in edges], "counts": counts.tolist()},
    }


def _rounded(value: float | np.floating[Any]) -> float:
    return float(f"{value:.6g}")


def rectangle(
    flat: Float[np.ndarray, "listings"] | Int[np.ndarray, "listings"],
    starts: Int[np.ndarray, "lists_and_one"],
    rows: Int[np.ndarray, "chosen"],
    empty: float,
) -> np.ndarray:
    """Some of the lists that lie end to end, as one array.

    Args:
        flat: The lists.
        starts: Where each begins; one more at the end.
        rows: Which are wanted.
        empty: What stands behind the end of a list.
    """
    lengths = starts[rows + 1] - starts[rows]
    places = np.arange(lengths.max(initial=1))
    inside = places < lengths[:, None]
    found = np.full(inside.shape, empty, flat.dtype)
    found[inside] = flat[(starts[rows][:, None] + places)[inside]]
    return found


def spreads(scores: Float[np.ndarray, "lists listed"]) -> dict[str, Float[np.ndarray, "lists"]]:
    """How far the scores of each list lie apart, and whether a negative's is above the positive's.

    Args:
        scores: The positive's first; NaN where there is none.
    """
    told = np.isfinite(scores)
    several = told.sum(1) > 1
    high, low = np.where(told, scores, -np.inf).max(1), np.where(told, scores, np.inf).min(1)
    count = np.maximum(told.sum(1), 1)
    means = np.where(told, scores, 0).sum(1, dtype=np.float64) / count
    variance = np.where(told, scores - means[:, None], 0) ** 2
    best = np.where(told[:, 1:], scores[:, 1:], -np.inf).max(1, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # of a list without a score
        found = {
            "spread": (high - low).astype(np.float64),
            "deviation": np.sqrt(variance.sum(1) / count),
            "equal": (high == low).astype(np.float64),
        }
    found = {name: np.where(several, values, np.nan) for name, values in found.items()}
    return found | {"above": np.where(told[:, 0] & np.isfinite(best), best > scores[:, 0], np.nan)}


def sharpness(scores: Float[np.ndarray, "lists listed"], temperature: float | Literal["auto"]) -> dict[str, Any]:
    """Entropy of the scores' softmax as a share of the largest possible, at a temperature or the automatic one.

    Args:
        scores: NaN where there is none.
        temperature: What the scores are divided by.
    """
    present = np.isfinite(scores)
    held = np.where(present, scores, 0)
    automatic, refused = None, ""
    try:
        automatic = auto_temperature(held, present)
    except Refused as error:
        refused = str(error)
    taken = automatic if temperature == "auto" else float(temperature)
    told: dict[str, Any] = {"temperature": taken, "automatic": automatic, "refused": refused}
    several = present.sum(1) > 1
    if taken is None or not several.any():
        return told
    found = entropies(held[several], present[several], taken)
    told["entropy"] = _rounded(found.mean())
    told["effective"] = _rounded(np.exp(found).mean())
    told |= distributions({"share": found / np.log(present[several].sum(1))})
    return told


def agreement(
    one: Float[np.ndarray, "queries k"], other: Float[np.ndarray, "queries k"]
) -> dict[str, Float[np.ndarray, "queries"]]:
    """Of each query: do two opinions put the same candidate first, and how alike do they rank the list.

    Over the candidates of which there are both. Nothing can be told where those are fewer than two, or where one
    opinion says the same of them all.

    Returns:
        `same_best`, between 0 and 1 where candidates share a first place, as if ties were broken by chance;
        `by_chance`, what chance alone gives; `correlation` of the ranks (Spearman's, equal values share a rank).
    """
    both = np.isfinite(one) & np.isfinite(other)
    ranks = [_centred_ranks(values, both) for values in (one, other)]
    sizes = [(held**2).sum(1) for held in ranks]
    told = (sizes[0] > 0) & (sizes[1] > 0)
    firsts = [_firsts(values, both) for values in (one, other)]
    shared = (firsts[0] & firsts[1]).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing can be told
        found = {
            "same_best": shared / (firsts[0].sum(1) * firsts[1].sum(1)),
            "by_chance": 1 / both.sum(1),
            "correlation": (ranks[0] * ranks[1]).sum(1) / np.sqrt(sizes[0] * sizes[1]),
        }
    return {name: np.where(told, values, np.nan) for name, values in found.items()}


def _centred_ranks(
    values: Float[np.ndarray, "queries k"], held: Bool[np.ndarray, "queries k"]
) -> Float[np.ndarray, "queries k"]:
    """How many lie below each value, less how many lie above: twice its rank, from the middle."""
    pairs = (values[:, :, None] > values[:, None, :]) & held[:, :, None] & held[:, None, :]
    return (pairs.sum(2) - pairs.sum(1)).astype(np.float64)


def _firsts(
    values: Float[np.ndarray, "queries k"], held: Bool[np.ndarray, "queries k"]
) -> Bool[np.ndarray, "queries k"]:
    """Who holds the first place, alone or with others."""
    known = np.where(held, values, -np.inf)
    return held & (known == known.max(1, keepdims=True))


@dataclass(frozen=True)
class Rows:
    """Examples, with their lists end to end."""

    table: pa.Table
    flat: Int[np.ndarray, "listings"]
    """Passages, each list with its positive first."""
    starts: Int[np.ndarray, "rows_and_one"]
    """Where each list starts; one more at the end."""
    scores: Float[np.ndarray, "scored"]
    score_starts: Int[np.ndarray, "rows_and_one"]
    asked: Int[np.ndarray, "rows"]
    """Equal for equal queries with equal tasks."""

    @classmethod
    def of(cls, table: pa.Table, name: str, passages: int) -> Self:
        """Flatten a table of examples.

        Args:
            table: The examples.
            name: What to call them in an error.
            passages: Rows of the passages table.

        Raises:
            Refused: A list is empty, leads outside the passages, or has scores for some of its passages only.
        """
        flat, scores = (pc.list_flatten(table[column]).to_numpy() for column in ("passages", "scores"))
        lengths, given = (pc.list_value_length(table[column]).to_numpy() for column in ("passages", "scores"))
        wrong = (lengths == 0) | ((given > 0) & (given != lengths))
        if wrong.any():
            row = int(wrong.argmax())
            raise Refused(
                f"health: {name}: row {row} has {lengths[row]} passages and {given[row]} scores; needed: a positive at "
                "least, and a score for each or none. Make it again."
            )
        check_rows(name, flat, passages)
        starts, score_starts = (np.concatenate([[0], counts.cumsum(dtype=np.int64)]) for counts in (lengths, given))
        return cls(table, flat, starts, scores, score_starts, numbered(table["task"], table["query"]))

    @property
    def lengths(self) -> Int[np.ndarray, "rows"]:
        """Passages of each row."""
        return np.diff(self.starts)

    @property
    def positives(self) -> Int[np.ndarray, "rows"]:
        """The first passage of each row."""
        return self.flat[self.starts[:-1]]

    @property
    def is_negative(self) -> Bool[np.ndarray, "listings"]:
        """Which listings are hard negatives."""
        found = np.ones(len(self.flat), bool)
        found[self.starts[:-1]] = False
        return found


@dataclass(frozen=True)
class Block:
    """Some rows: the lists of their examples, and what was said of their candidates."""

    listed: Int[np.ndarray, "rows listed"]
    """The positive first; -1 behind the end of a list."""
    passages: Int[np.ndarray, "rows k"]
    opinions: Mapping[str, Float[np.ndarray, "rows k"]]
    seeds: Int[np.ndarray, "rows"]
    seed_similarities: Float[np.ndarray, "rows"]
    """Known of a seed that is no candidate, too."""
    twins: Int[np.ndarray, "rows k"] | None
    """The passage that stands for all that say nearly the same as a candidate; None if nobody looked."""


def negatives(block: Block) -> dict[str, Float[np.ndarray, "negatives"]]:
    """Of each hard negative of some rows: may it be an answer that nobody labelled.

    Returns:
        `unlisted`: it is no candidate, so nothing was said of it. `above NAME`: that opinion puts it above the
        positive. `preferred`: one of the judges does. `answer`: the judge rather says that it answers the query.
        `twin`: it says nearly the same as the positive. Only what there are columns for.
    """
    places = block.listed[:, :, None] == block.passages[:, None, :]
    hit, at = places.any(2), places.argmax(2)
    is_negative = block.listed[:, 1:] >= 0
    found = {"unlisted": ~hit[:, 1:]}
    above = {}
    for name, values in block.opinions.items():
        said = np.where(hit, np.take_along_axis(values, at, 1), np.nan)
        if name == "similarities":
            is_seed = ~hit[:, 0] & (block.listed[:, 0] == block.seeds)
            said[is_seed, 0] = block.seed_similarities[is_seed]
        first, rest = said[:, :1], said[:, 1:]
        above[name] = np.where(np.isfinite(rest) & np.isfinite(first), rest > first, np.nan)
        if name == "relevances":
            found["answer"] = np.where(np.isfinite(rest), rest > YES, np.nan)
    if judged := [above[name] for name in JUDGED if name in above]:
        found["preferred"] = np.fmax.reduce(judged)
    if block.twins is not None:
        stands_for = np.where(hit, np.take_along_axis(block.twins, at, 1), block.listed)
        found["twin"] = stands_for[:, 1:] == stands_for[:, :1]
    found |= {f"above {name}": values for name, values in above.items()}
    return {name: values[is_negative].astype(np.float64) for name, values in found.items()}


def rank_of(passages: Int[np.ndarray, "rows k"], wanted: Int[np.ndarray, "rows"]) -> Int[np.ndarray, "rows"]:
    """The place of a passage among the candidates of its row, from 0; -1 if it is none."""
    hit = passages == wanted[:, None]
    return np.where(hit.any(1), hit.argmax(1), -1)


def rank_shares(ranks: Int[np.ndarray, "rows"]) -> dict[str, float]:
    """Shares of ranks from 0, in ranges that people say; -1 is not found."""
    bounds = {"1": (0, 1), "2 to 3": (1, 3), "4 to 10": (3, 10), "later": (10, np.inf), "not found": (-1, 0)}
    rows = max(len(ranks), 1)
    return {
        name: round(float(((ranks >= low) & (ranks < high)).sum()) / rows, 6) for name, (low, high) in bounds.items()
    }


def repeated(numbers: Int[np.ndarray, "rows"]) -> Bool[np.ndarray, "rows"]:
    """Which rows repeat an earlier one."""
    found = np.ones(len(numbers), bool)
    found[np.unique(numbers, return_index=True)[1]] = False
    return found


def contradicted(
    asked: Int[np.ndarray, "rows"],
    positives: Int[np.ndarray, "rows"],
    flat: Int[np.ndarray, "negatives"],
    counts: Int[np.ndarray, "rows"],
) -> Bool[np.ndarray, "negatives"]:
    """Which hard negatives some row gives as the positive of the same query.

    Args:
        asked: Equal for equal queries.
        positives: Passage of each row.
        flat: The rows' negatives, end to end.
        counts: How many each row has.
    """
    stride = int(max(positives.max(initial=0), flat.max(initial=0))) + 1
    return np.isin(np.repeat(asked, counts) * stride + flat, asked * stride + positives)


def crowded(positives: Int[np.ndarray, "rows"], count: int) -> list[tuple[int, int]]:
    """The passages that are the positive of most rows, and of how many; only those of more than one."""
    passages, rows = np.unique(positives, return_counts=True)
    first = np.argsort(-rows, kind="stable")[:count]
    return [(int(passages[at]), int(rows[at])) for at in first if rows[at] > 1]


def drawn(relabelled: Bool[np.ndarray, "rows"], samples: int, seed: int) -> Int[np.ndarray, "chosen"]:
    """Rows for a person to read: half of them relabelled ones, which come first, if there are enough of both."""
    random = np.random.default_rng(seed)
    moved, kept = (random.permutation(np.flatnonzero(mask)) for mask in (relabelled, ~relabelled))
    half = min(len(moved), max(-(-samples // 2), samples - len(kept)))
    return np.concatenate([moved[:half], kept[: samples - half]])
