"""The examples of several artifacts as flat arrays: which query lists which passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from distill.errors import Refused
from distill.tables import check_rows, texts


@dataclass(frozen=True)
class Listing:
    """Examples with their lists of passages, end to end."""

    query: list[str]
    task: list[str]
    lists: Int[np.ndarray, "listings"]
    """Numbers of distinct passages, each list with its positive first."""
    starts: Int[np.ndarray, "examples_and_one"]
    scores: Float[np.ndarray, "listings"] | None
    """The teacher's raw scores; NaN where a row has none, None where no row has."""
    in_batch: Bool[np.ndarray, "examples"]
    group: Int[np.ndarray, "examples"]
    same: Int[np.ndarray, "examples"]
    """Equal for equal queries with equal tasks."""
    origin: Int[np.ndarray, "examples"]
    """Row of the queries table."""
    artifact: Int[np.ndarray, "examples"]
    """Which artifact the example came from."""
    row: Int[np.ndarray, "examples"]
    """Its row there."""
    mixed: Int[np.ndarray, "examples"]
    """Equal for examples of one task of one artifact, which are mixed with others by their share."""
    passage_row: Int[np.ndarray, "distinct"]
    """Row of each distinct passage; those read bare come first."""
    passage_task: list[str]
    """The task of each passage that is read as a query."""
    passage_mark: list[str]
    """What each of those begins with: the number that it shares with its query, or nothing."""
    bare: int
    """How many distinct passages are read bare."""
    dropped: dict[str, int]
    """Examples not used, by reason."""


def read(
    held: Sequence[pa.Table],
    names: Sequence[str],
    passages: int,
    kinds: Sequence[str],
    *,
    in_batch: bool | Literal["all"],
    graded: bool = False,
    unique_ids: bool = False,
) -> Listing:
    """Flatten examples.

    Rows that nothing can be compared with (no negatives of their own, and none from the batch) are
    dropped and counted: they have no gradient.

    Args:
        held: The examples tables.
        names: What to call each in an error.
        passages: Rows of the passages table.
        kinds: Kinds of example that are used; all if empty.
        in_batch: May the batch give negatives, where the row allows it? `all`: everywhere, and classes do not count.
        graded: Can a passage that stands alone with its score be compared with other such?
        unique_ids: Do texts of a class and what they are listed with begin with numbers of their own?

    Raises:
        Refused: A row number lies outside the passages table, or a list has scores for only some passages.
    """
    table = pa.concat_tables(held)
    source = np.repeat(np.arange(len(held)), [len(part) for part in held])
    lengths = _lengths(table["passages"])
    flat = _flat(table["passages"], np.int64)
    check_rows(" and ".join(names), flat, passages)
    kind = np.asarray(table["kind"].to_pylist(), dtype=object)
    of_kind = np.isin(kind, list(kinds)) if kinds else np.ones(len(table), bool)
    marked = table["symmetric"].to_numpy() & (table["group"].to_numpy() >= 0) & unique_ids
    pairs = (lengths == 1) & (_lengths(table["scores"]) == 1) & (kind == "sts")  # alike or not: no positives
    free = (((table["in_batch"].to_numpy() | marked) & bool(in_batch)) | (in_batch == "all")) & ~pairs
    useful = (lengths > 1) | (free & (lengths > 0))
    if graded:
        useful |= (lengths == 1) & (_lengths(table["scores"]) == 1)
    twins = _twins(table, flat, of_kind & useful, lengths)
    kept = of_kind & useful & ~twins
    rows = np.flatnonzero(kept)
    listed = np.repeat(kept, lengths)
    chosen = table.select(["query", "task"]).take(pa.array(rows))
    query, task = texts(chosen["query"]), texts(chosen["task"])
    numbers, task_names = _numbered(task)
    symmetric, marks = table["symmetric"].to_numpy()[rows], np.where(marked[rows], np.arange(1, len(rows) + 1), 0)
    ways = len(task_names) + 1  # in which a passage is read: bare, or with a task; and that again with each number
    read_as = np.repeat(marks * ways + np.where(symmetric, numbers + 1, 0), lengths[rows])
    distinct, lists = np.unique(read_as * passages + flat[listed], return_inverse=True)
    bare = int(np.searchsorted(distinct, passages))
    mark_of, task_of = np.divmod(distinct[bare:] // passages, ways)
    group = table["group"].to_numpy()[rows]
    return Listing(
        query=[_mark(number) + text for number, text in zip(marks.tolist(), query, strict=True)],
        task=task,
        lists=lists,
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[rows])]),
        scores=_scores(" and ".join(names), table, lengths, rows),
        in_batch=free[rows],
        group=_groups(np.where((marks > 0) | (in_batch == "all"), -1, group), source[rows]),
        same=np.where(marks > 0, len(rows) + marks, _asked(chosen)),
        origin=table["origin"].to_numpy()[rows],
        artifact=source[rows],
        row=rows - np.cumsum([0, *(len(part) for part in held)])[source[rows]],
        mixed=np.unique(source[rows] * (len(task_names) + 1) + numbers, return_inverse=True)[1],
        passage_row=distinct % passages,
        passage_task=[task_names[number - 1] for number in task_of],
        passage_mark=[_mark(number) for number in mark_of.tolist()],
        bare=bare,
        dropped={
            "another kind": int((~of_kind).sum()),
            "nothing to compare with": int((of_kind & ~useful).sum()),
            "given with negatives elsewhere": int(twins.sum()),
        },
    )


def _mark(number: int) -> str:
    return f"{number}: " if number else ""


def _asked(table: pa.Table) -> Int[np.ndarray, "rows"]:
    """Numbers that are equal for equal queries with equal tasks."""
    return _numbered([f"{a}\0{b}" for a, b in zip(texts(table["task"]), texts(table["query"]), strict=True)])[0]


def _twins(
    table: pa.Table,
    flat: Int[np.ndarray, "listings"],
    used: Bool[np.ndarray, "examples"],
    lengths: Int[np.ndarray, "examples"],
) -> Bool[np.ndarray, "examples"]:
    """Which examples are a positive alone that another example lists for the query with hard negatives.

    Mined pairs and the corpus that they were mined from, named together, would else count such a query twice.
    """
    bare = used & (lengths == 1) & (_lengths(table["scores"]) == 0)
    found = np.zeros(len(table), bool)
    if bare.any() and (used & (lengths > 1)).any():
        rows = np.flatnonzero(used)
        firsts = flat[(np.cumsum(lengths) - lengths)[rows]]
        same = _asked(table.select(["query", "task"]).take(pa.array(rows))) * (int(flat.max()) + 1) + firsts
        found[rows] = bare[rows] & np.isin(same, same[lengths[rows] > 1])
    return found


def _lengths(column: pa.ChunkedArray) -> Int[np.ndarray, "rows"]:
    found = [np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _flat(column: pa.ChunkedArray, dtype: type) -> np.ndarray:
    found = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate([np.zeros(0, dtype), *found])


def _numbered(names: Sequence[str]) -> tuple[Int[np.ndarray, "names"], list[str]]:
    found: dict[str, int] = {}
    numbers = np.fromiter((found.setdefault(name, len(found)) for name in names), np.int64, len(names))
    return numbers, list(found)


def _groups(group: Int[np.ndarray, "rows"], source: Int[np.ndarray, "rows"]) -> Int[np.ndarray, "rows"]:
    """Groups of different artifacts are different groups."""
    return np.where(group < 0, -1, group * (int(source.max(initial=0)) + 1) + source)


def _scores(
    name: str, table: pa.Table, lengths: Int[np.ndarray, "examples"], rows: Int[np.ndarray, "chosen"]
) -> Float[np.ndarray, "listings"] | None:
    given = _lengths(table["scores"])
    wrong = np.flatnonzero((given > 0) & (given != lengths))
    if len(wrong):
        raise Refused(
            f"{name}: example {wrong[0]} has {given[wrong[0]]} scores for {lengths[wrong[0]]} passages; "
            "needed: one for each, or none."
        )
    if not given[rows].any():
        return None
    values = _flat(table["scores"], np.float32)
    spread = np.full(int(lengths.sum()), np.nan, np.float32)
    spread[np.repeat(given > 0, lengths)] = values
    kept = np.zeros(len(table), bool)
    kept[rows] = True
    return spread[np.repeat(kept, lengths)]
