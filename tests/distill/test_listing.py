"""Examples tables as flat arrays: every number still belongs to its row."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distill import listing, tables
from distill.errors import Refused

PASSAGES = 50


def example(passages: list[int], **changed: Any) -> dict[str, Any]:
    row = {
        "kind": "retrieval", "task": "find", "query": f"query of {passages}", "passages": passages, "scores": [],
        "in_batch": True, "symmetric": False, "group": -1, "origin": -1,
    }  # fmt: skip
    return row | changed


def table(*rows: dict[str, Any], chunks: int = 1) -> pa.Table:
    """Rows as they come from disk, in several chunks."""
    cuts = np.array_split(np.arange(len(rows)), chunks)
    return pa.concat_tables(
        [pa.Table.from_pylist([rows[number] for number in cut], schema=tables.EXAMPLES) for cut in cuts]
    )


def read(*held: pa.Table, kinds: tuple[str, ...] = (), in_batch: Any = True) -> listing.Listing:
    return listing.read(held, [f"examples_{i}" for i in range(len(held))], PASSAGES, kinds, in_batch=in_batch)


def listed(found: listing.Listing) -> list[list[tuple[int, str | None]]]:
    """Each list as rows of the passages table, with the task they are read with."""
    read_as = [None] * found.bare + list(found.passage_task)
    lists = np.split(found.lists, found.starts[1:-1])
    return [[(int(found.passage_row[number]), read_as[number]) for number in numbers] for numbers in lists]


def scores(found: listing.Listing) -> list[list[float]]:
    assert found.scores is not None
    return [part.tolist() for part in np.split(found.scores, found.starts[1:-1])]


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_lists_come_back_as_they_were(chunks: int) -> None:
    """Harm: a list takes the first passage of the next, in tables of several parts above all."""
    given = [[3, 1, 2], [49], [0, 3], [7, 8, 9, 10]]
    found = read(table(*(example(passages) for passages in given), chunks=chunks))
    assert [[row for row, _ in passages] for passages in listed(found)] == given
    assert len(found.passage_row) == found.bare == len({row for passages in given for row in passages})


def test_slices_of_a_table_are_read_as_slices() -> None:
    """Harm: offsets of a cut column count from the whole table."""
    whole = table(*(example([i, i + 1], scores=[i / 2, i / 4]) for i in range(8)))
    found = read(whole.slice(3, 2), whole.slice(7))
    assert listed(found) == [[(3, None), (4, None)], [(4, None), (5, None)], [(7, None), (8, None)]]
    assert scores(found) == [[1.5, 0.75], [2.0, 1.0], [3.5, 1.75]]
    assert found.artifact.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("in_batch", "kept"), [(True, [0, 1, 3]), (False, [0, 3])])
def test_rows_with_nothing_to_compare_are_dropped_and_counted(in_batch: bool, kept: list[int]) -> None:
    """Harm: rows without a gradient fill the batches, and nobody knows how many."""
    rows = [
        example([1, 2]),
        example([3]),
        example([4], in_batch=False),
        example([5, 6], in_batch=False),
        example([]),
    ]
    found = read(table(*rows), in_batch=in_batch)
    assert found.query == [rows[number]["query"] for number in kept]
    nothing = 5 - len(kept)
    assert found.dropped == {
        "another kind": 0, "nothing to compare with": nothing, "given with negatives elsewhere": 0,
    }  # fmt: skip
    assert found.in_batch.tolist() == [in_batch and rows[number]["in_batch"] for number in kept]


def test_kinds_are_chosen_and_counted() -> None:
    """Harm: stage 1 of the teacher trains on clusters, whose batch-mates are no negatives."""
    rows = [example([1, 2], kind=kind) for kind in ("retrieval", "sts", "clustering", "retrieval")]
    found = read(table(*rows), kinds=("retrieval", "sts"))
    assert len(found.query) == 3
    assert (found.dropped["another kind"], found.dropped["nothing to compare with"]) == (1, 0)


def test_a_query_that_is_listed_with_negatives_is_not_read_bare_too() -> None:
    """Harm: mined pairs and their corpus, named together, count each query twice, once without its negatives."""
    mined = table(example([1, 2], query="a"), example([3, 4], query="b"))
    corpus = table(
        example([1], query="a"),
        example([9], query="a", task="other"),
        example([5], query="c"),
        example([6], query="b", scores=[0.5]),
        example([7], query="a"),
    )
    found = read(mined, corpus)
    assert list(zip(found.query, found.task, strict=True)) == [
        ("a", "find"), ("b", "find"), ("a", "other"), ("c", "find"), ("b", "find"), ("a", "find"),
    ]  # fmt: skip
    assert found.dropped["given with negatives elsewhere"] == 1
    assert read(corpus).dropped["given with negatives elsewhere"] == 0


def test_a_number_tells_texts_of_one_class_apart() -> None:
    """Harm: with numbers, a batch-mate's texts of the same class are negatives that nobody can tell."""
    rows = [
        example([1, 2], query="a", task="t", symmetric=True, in_batch=False, group=7),
        example([2, 3], query="b", task="t", symmetric=True, in_batch=False, group=7),
        example([1, 3], query="c", task="u"),
        example([4, 5], query="d", task="t", in_batch=False, group=8),
    ]
    found = listing.read([table(*rows)], ["examples_0"], PASSAGES, (), in_batch=True, unique_ids=True)
    assert found.query == ["1: a", "2: b", "c", "d"]
    assert found.in_batch.tolist() == [True, True, True, False]
    assert found.group.tolist()[:3] == [-1, -1, -1] and found.group[3] >= 0
    marks = [""] * found.bare + found.passage_mark
    read_with = [
        [(marks[number], *read_as) for number, read_as in zip(numbers, given, strict=True)]
        for numbers, given in zip(np.split(found.lists, found.starts[1:-1]), listed(found), strict=True)
    ]
    assert read_with == [
        [("1: ", 1, "t"), ("1: ", 2, "t")],
        [("2: ", 2, "t"), ("2: ", 3, "t")],
        [("", 1, None), ("", 3, None)],
        [("", 4, None), ("", 5, None)],
    ]  # fmt: skip
    assert len(set(found.same.tolist())) == 4
    plain = read(table(*rows))
    assert plain.query == ["a", "b", "c", "d"] and plain.in_batch.tolist() == [False, False, True, False]


def test_the_whole_batch_counts_where_all_is_said() -> None:
    """Harm: NV-Embed's ablation is measured with the masks that it did not have."""
    rows = [example([1, 2], in_batch=False, group=3), example([4], in_batch=False, group=3), example([5])]
    rows.append(example([6], kind="sts", scores=[0.0], in_batch=False))  # its score says that it is no positive
    found = read(table(*rows), in_batch="all")
    assert found.in_batch.all()
    assert found.group.tolist() == [-1, -1, -1]
    assert len(found.query) == 3


def test_passages_read_as_queries_are_others_than_the_bare_ones() -> None:
    """Harm: the second sentence of a pair loses its instruction, or a passage gains one."""
    rows = [
        example([1, 2], task="find"),
        example([2, 3], task="same?", symmetric=True),
        example([2, 4], task="alike?", symmetric=True),
        example([2, 5], task="same?", symmetric=True),
    ]
    found = read(table(*rows))
    assert listed(found) == [
        [(1, None), (2, None)],
        [(2, "same?"), (3, "same?")],
        [(2, "alike?"), (4, "alike?")],
        [(2, "same?"), (5, "same?")],
    ]
    assert found.bare == 2
    assert len(found.passage_row) == 2 + 5
    assert found.lists[2] == found.lists[6] != found.lists[4]


def test_groups_of_different_artifacts_are_different() -> None:
    """Harm: class 0 of one data set and class 0 of another are held for one."""
    one, other = (table(*(example([1, 2], group=group) for group in (0, 1, -1, 5))) for _ in range(2))
    found = read(one, other)
    assert found.group[[2, 6]].tolist() == [-1, -1]
    real = found.group[[0, 1, 3, 4, 5, 7]]
    assert len(set(real.tolist())) == 6
    assert (real >= 0).all()


def test_equal_queries_with_equal_tasks_are_the_same() -> None:
    """Harm: what is right for a query is pushed away by its twin in the batch."""
    rows = [
        example([1, 2], query="a", task="t"),
        example([3, 4], query="a", task="t"),
        example([5, 6], query="a", task="u"),
        example([7, 8], query="b", task="t"),
    ]
    same = read(table(*rows[:1]), table(*rows[1:])).same
    assert same[0] == same[1]
    assert len(set(same.tolist())) == 3


@pytest.mark.parametrize("chunks", [1, 3])
def test_scores_stay_with_their_passages_when_rows_are_dropped(chunks: int) -> None:
    """Harm: after the first dropped row every score belongs to another passage."""
    rows = [
        example([1], in_batch=False, scores=[9.0]),
        example([2, 3, 4], scores=[0.5, 0.25, 0.125]),
        example([5, 6]),
        example([7, 8], kind="sts", scores=[8.0, 8.0]),
        example([9, 10], scores=[1.0, math.nan]),
        example([11], scores=[2.0]),
    ]
    found = read(table(*rows, chunks=chunks), kinds=("retrieval",))
    expected = [[0.5, 0.25, 0.125], [math.nan, math.nan], [1.0, math.nan], [2.0]]
    for one, other in zip(scores(found), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_scores_at_all() -> None:
    """Harm: rows without scores pass for scored with zeros, and KL is trained on them."""
    assert read(table(example([1, 2]), example([3, 4]))).scores is None
    assert read(table(example([1, 2]), example([3, 4], kind="sts", scores=[1, 0])), kinds=("retrieval",)).scores is None


def test_scores_for_some_passages_of_a_list_are_refused() -> None:
    """Harm: one score too few here and one too many there, and both lists are silently wrong."""
    held = table(example([1, 2, 3], scores=[1.0, 2.0]), example([4, 5], scores=[3.0, 4.0, 5.0]))
    with pytest.raises(Refused, match="examples_0: example 0 has 2 scores for 3 passages"):
        read(held)


@pytest.mark.parametrize("outside", [-1, PASSAGES])
def test_rows_outside_the_passages_are_refused(outside: int) -> None:
    """Harm: a row number of another corpus picks a passage from the end of this one."""
    with pytest.raises(Refused, match=f"examples_0 and examples_1: row {outside} is outside"):
        read(table(example([1, 2])), table(example([3, outside])))


def test_origin_and_artifact_name_the_source() -> None:
    """Harm: a query's cached vector is looked up under another query's number."""
    found = read(
        table(example([1, 2], origin=7), example([3], in_batch=False, origin=8), example([4, 5], origin=9)),
        table(example([6, 7], origin=7)),
    )
    assert found.origin.tolist() == [7, 9, 7]
    assert found.artifact.tolist() == [0, 0, 1]


def test_no_example_is_left() -> None:
    """Harm: a riddle of numpy's in place of the refusal that counts what was dropped."""
    found = read(table(example([1, 2], kind="sts")), kinds=("retrieval",))
    assert (found.query, found.starts.tolist(), found.dropped["another kind"]) == ([], [0], 1)
    assert read(pa.Table.from_batches([], schema=tables.EXAMPLES)).query == []
