"""Batch k is a function of (seed, k); masks, lists and targets against plain loops."""

import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill import tables
from distill.batches import Batch, ExampleBatches, Lookup, TextBatches
from distill.interfaces import TokenRows, Tokens
from distill.sampling import Sampler

EXAMPLES, DISTINCT, SIZE, NEGATIVES = 48, 40, 12, 3


def numbered(count: int) -> TokenRows:
    """Texts whose every token is their own number, of 1 to 4 tokens."""
    return TokenRows.of([[number] * (1 + number % 4) for number in range(count)], [0] * count, 0)


def numbers(tokens: Tokens) -> list[int]:
    return tokens.ids[:, 0].tolist()


def examples(seed: int = 0) -> ExampleBatches:
    """Random lists of 1 to 7 passages out of few, so that batch-mates share them; scores say whose they are."""
    generator = np.random.default_rng(8)
    lists = [generator.permutation(DISTINCT)[: generator.integers(1, 8)] for _ in range(EXAMPLES)]
    flat = np.concatenate(lists)
    starts = np.concatenate([[0], np.cumsum([len(held) for held in lists])])
    scores = (np.repeat(np.arange(EXAMPLES), np.diff(starts)) * 100 + flat).astype(np.float32)
    scores[starts[5] : starts[6]] = np.nan
    return ExampleBatches(
        queries=numbered(EXAMPLES),
        passages=numbered(DISTINCT),
        lists=flat,
        starts=starts,
        in_batch=generator.random(EXAMPLES) < 0.7,
        group=generator.integers(-1, 5, EXAMPLES),
        same=generator.integers(0, 30, EXAMPLES),
        sampler=Sampler(np.zeros(EXAMPLES, np.int64), SIZE, seed),
        negatives=NEGATIVES,
        seed=seed,
        scores=scores,
    )


def test_the_texts_of_examples_are_their_queries_and_passages() -> None:
    """Harm: what is read until all texts were stops after as many as there are examples."""
    assert examples().texts == EXAMPLES + DISTINCT


def own(held: ExampleBatches, example: int) -> list[int]:
    return held.lists[held.starts[example] : held.starts[example + 1]].tolist()


def parts(batch: Batch) -> dict[str, Tensor]:
    """Every tensor of a batch; NaN as a number, so that it equals itself."""
    found = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tokens):
            found |= {f"{field.name}.{name}": getattr(value, name) for name in ("ids", "attend", "pool")}
        elif value is not None:
            found[field.name] = value.nan_to_num(-1)
    return found


def equal(one: Batch, other: Batch) -> bool:
    ours, theirs = parts(one), parts(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def texts(seed: int = 0) -> TextBatches:
    """Two tables of 40 and 17 texts; a target is the number of its text and table."""
    targets = [np.stack([np.arange(size), np.full(size, table)], 1).astype(np.float16)
               for table, size in enumerate((40, 17))]  # fmt: skip
    return TextBatches([numbered(40), numbered(17)], targets, 8, seed)


@pytest.mark.parametrize("make", [examples, texts])
def test_batch_is_a_function_of_seed_and_step(make: type) -> None:
    """Harm: a resumed training sees other data than one that was never stopped."""
    once = [make().batch(step) for step in range(15)]
    again = make()
    for step in (9, 2, 14, 2, 0):
        assert equal(again.batch(step), once[step])
    np.random.seed(5)  # noqa: NPY002
    assert equal(again.batch(3), once[3])
    assert not any(equal(make(1).batch(step), once[step]) for step in range(3))
    assert not equal(once[0], once[4])  # another epoch is another order


def test_texts_of_every_table_once_an_epoch() -> None:
    """Harm: a small table is passed over, or a text is regressed on the vector of another."""
    held = texts()
    steps = 40 // 8 + 17 // 8
    seen = {0: [], 1: []}
    for step in range(steps, 2 * steps):
        batch = held.batch(step)
        assert batch.text_targets is not None
        table = set(batch.text_targets[:, 1].tolist())
        assert len(table) == 1  # one table only, so that lengths are alike
        assert batch.text_targets[:, 0].tolist() == numbers(batch.texts)
        seen[int(table.pop())] += numbers(batch.texts)
    assert sorted(seen[0]) == list(range(40))
    assert len(set(seen[1])) == len(seen[1]) == 16
    assert held.texts == 57


def test_table_smaller_than_a_batch_is_used_whole() -> None:
    """Harm: a handful of queries divides by zero or is never trained on."""
    held = TextBatches([numbered(3), numbered(16)], [np.zeros((3, 2), np.float16), np.zeros((16, 2), np.float16)], 8, 0)
    sizes = sorted(len(held.batch(step).texts.ids) for step in range(3))
    assert sizes == [3, 8, 8]


def test_lists_are_drawn_from_their_own_with_the_positive_first() -> None:
    """Harm: a negative stands where the losses look for the positive, or belongs to another query."""
    held = examples()
    drawn: dict[int, set[int]] = {}
    for step in range(200):
        batch = held.batch(step)
        assert batch.queries is not None
        assert batch.listed is not None
        passages = numbers(batch.texts)
        assert len(set(passages)) == len(passages)
        for example, places in zip(numbers(batch.queries), batch.listed.tolist(), strict=True):
            found = [passages[place] for place in places if place >= 0]
            whole = own(held, example)
            assert found[0] == whole[0]
            assert len(set(found)) == len(found) == min(len(whole), NEGATIVES + 1)
            assert set(found) <= set(whole)
            assert all(place == -1 for place in places[len(found) :])
            drawn.setdefault(example, set()).update(found)
    assert all(drawn[example] == set(own(held, example)) for example in range(EXAMPLES))


def test_scores_stand_with_their_passages() -> None:
    """Harm: the student is taught the score of another passage, or a padded place has one."""
    held = examples()
    for step in range(20):
        batch = held.batch(step)
        assert batch.queries is not None
        assert batch.listed is not None
        assert batch.scores is not None
        passages = numbers(batch.texts)
        for row, example in enumerate(numbers(batch.queries)):
            for place, score in zip(batch.listed[row].tolist(), batch.scores[row].tolist(), strict=True):
                expected = np.nan if place < 0 or example == 5 else example * 100 + passages[place]
                np.testing.assert_equal(score, expected)


def naive_allowed(held: ExampleBatches, batch: Batch) -> list[list[bool]]:
    """One query and one passage at a time."""
    assert batch.queries is not None
    assert batch.listed is not None
    asked = numbers(batch.queries)
    lists = [{place for place in row if place >= 0} for row in batch.listed.tolist()]

    def may(query: int, place: int) -> bool:
        if place in lists[query]:
            return True
        if not held.in_batch[asked[query]]:
            return False
        for mate, other in enumerate(asked):
            group = held.group[other] == held.group[asked[query]] and held.group[other] >= 0
            if mate != query and place in lists[mate] and (group or held.same[other] == held.same[asked[query]]):
                return False
        return True

    return [[may(query, place) for place in range(len(batch.texts.ids))] for query in range(len(asked))]


def test_allowed_equals_a_loop() -> None:
    """Harm: passages of the same class, of the same question or of the query itself are pushed away."""
    held = examples()
    hidden = 0
    for step in range(40):
        batch = held.batch(step)
        assert batch.allowed is not None
        assert batch.allowed.tolist() == naive_allowed(held, batch)
        hidden += int((~batch.allowed).sum())
    assert hidden > 100


def pair(**changed: object) -> Batch:
    """Two queries: the first lists passages 0 and 1, the second 2 and 3."""
    held = ExampleBatches(
        queries=numbered(2), passages=numbered(9), lists=np.array([0, 1, 2, 3]), starts=np.array([0, 2, 4]),
        in_batch=np.array([True, True]), group=np.array([-1, -1]), same=np.array([0, 1]),
        sampler=Sampler(np.zeros(2, np.int64), 2, 0), negatives=1, seed=0,
    )  # fmt: skip
    return replace(held, **changed).batch(0)


def seen_by(batch: Batch) -> dict[int, set[int]]:
    """The passages that count against each query."""
    assert batch.queries is not None
    assert batch.allowed is not None
    passages = np.array(numbers(batch.texts))
    rows = zip(numbers(batch.queries), batch.allowed.numpy(), strict=True)
    return {query: set(passages[row].tolist()) for query, row in rows}


ALL = {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {0: ALL, 1: ALL}),
        ({"group": np.array([4, 4])}, {0: {0, 1}, 1: {2, 3}}),
        ({"group": np.array([4, 5])}, {0: ALL, 1: ALL}),
        ({"same": np.array([7, 7])}, {0: {0, 1}, 1: {2, 3}}),
        ({"in_batch": np.array([False, True])}, {0: {0, 1}, 1: ALL}),
        ({"lists": np.array([0, 1, 2, 0]), "same": np.array([7, 7])}, {0: {0, 1}, 1: {0, 2}}),  # its own list stays
        ({"lists": np.array([0, 1, 0, 3])}, {0: {0, 1, 3}, 1: {0, 1, 3}}),  # both have one positive: one column
        ({"negatives": 0}, {0: {0, 2}, 1: {0, 2}}),
    ],
)
def test_who_counts_against_whom(changed: dict[str, object], expected: dict[int, set[int]]) -> None:
    """Harm: each case by itself: same group, same query, rows that keep to themselves, shared passages."""
    assert seen_by(pair(**changed)) == expected


def test_passage_listed_twice_is_read_once() -> None:
    """Harm: a shared positive is its own negative under a second number."""
    batch = pair(lists=np.array([0, 1, 0, 3]))
    assert batch.listed is not None
    assert sorted(numbers(batch.texts)) == [0, 1, 3]
    assert batch.listed[0, 0] == batch.listed[1, 0]


def test_targets_come_from_their_tables_and_are_nan_elsewhere() -> None:
    """Harm: a query without a cached vector is regressed on somebody else's."""
    tables = [np.arange(10, dtype=np.float16).reshape(5, 2), 100 + np.arange(6, dtype=np.float16).reshape(3, 2)]
    lookup = Lookup(tables, np.array([0, -1, 1, 0, 1]), np.array([4, 2, 0, 1, 2]))
    found = lookup[np.array([2, 0, 1, 1, 3, 4])]
    np.testing.assert_array_equal(found, [[100, 101], [8, 9], [np.nan] * 2, [np.nan] * 2, [2, 3], [104, 105]])
    assert found.dtype == np.float32
    assert lookup[np.zeros(0, np.int64)].shape == (0, 2)


def test_targets_of_a_batch_belong_to_its_texts() -> None:
    """Harm: passages are sorted and their vectors are not."""
    queries = Lookup([np.arange(EXAMPLES, dtype=np.float16)[:, None]], np.zeros(EXAMPLES, int), np.arange(EXAMPLES))
    known = np.where(np.arange(DISTINCT) % 3 == 0, -1, 0)
    passages = Lookup([1000 + np.arange(DISTINCT, dtype=np.float16)[:, None]], known, np.arange(DISTINCT))
    batch = replace(examples(), query_targets=queries, passage_targets=passages).batch(6)
    assert batch.queries is not None
    assert batch.query_targets is not None
    assert batch.text_targets is not None
    assert batch.query_targets[:, 0].tolist() == numbers(batch.queries)
    expected = [np.nan if number % 3 == 0 else 1000 + number for number in numbers(batch.texts)]
    np.testing.assert_equal(batch.text_targets[:, 0].tolist(), expected)


def test_fewer_examples_than_a_batch() -> None:
    """Harm: a small set divides by zero."""
    held = replace(examples(), sampler=Sampler(np.zeros(EXAMPLES, np.int64), 1000, 0))
    batch = held.batch(2)
    assert batch.queries is not None
    assert sorted(numbers(batch.queries)) == list(range(EXAMPLES))


def test_score_lists_are_those_that_training_sees() -> None:
    """Harm: the temperature is chosen for lists of another length, or for scores that are not there."""
    held = examples()
    scores, present = held.score_lists()
    scored = [example for example in range(EXAMPLES) if example != 5]
    assert scores.shape == present.shape == (EXAMPLES - 1, NEGATIVES + 1)
    for at, example in enumerate(scored):
        whole = own(held, example)
        found = scores[at][present[at]] - example * 100
        assert present[at].sum() == min(len(whole), NEGATIVES + 1)
        assert set(found.tolist()) <= set(whole)
        assert found[0] == whole[0]
    assert np.isfinite(scores).all()
    assert 0 < len(held.score_lists(limit=7)[0]) <= 7


def test_scores_that_come_late_are_found() -> None:
    """Harm: ten thousand rows without scores come first, and a training on the scores of the rest is refused."""
    held = examples()
    assert held.scores is not None
    late = held.scores.copy()
    late[: held.starts[EXAMPLES - 3]] = np.nan
    scores, present = replace(held, scores=late).score_lists(limit=2)
    assert len(scores) == 2
    assert present[:, 0].all()


def test_matrices_are_the_teachers_cosines_of_what_a_step_reads() -> None:
    """Harm: the temperature is chosen for other passages than a batch holds, or for products of long vectors."""
    generator = np.random.default_rng(3)
    asked, read = (generator.normal(size=(rows, 3)).astype(np.float32) for rows in (EXAMPLES, DISTINCT))
    queries = Lookup([asked], np.zeros(EXAMPLES, int), np.arange(EXAMPLES))
    passages = Lookup([read], np.where(np.arange(DISTINCT) % 3 == 0, -1, 0), np.arange(DISTINCT))
    held = replace(examples(), query_targets=queries, passage_targets=passages)
    scores, present = held.matrices(batches=3)
    rows = iter(zip(scores, present, strict=True))
    for step in range(3):
        batch = held.batch(step)
        assert batch.queries is not None
        for query in numbers(batch.queries):
            found, there = next(rows)
            for at, passage in enumerate(numbers(batch.texts)):
                assert there[at] == (passage % 3 > 0)
                if there[at]:
                    cosine = asked[query] @ read[passage] / np.linalg.norm(asked[query]) / np.linalg.norm(read[passage])
                    assert found[at] == pytest.approx(cosine, abs=1e-6)
            assert not there[len(batch.texts.ids) :].any()
    assert next(rows, None) is None
    assert np.isfinite(scores).all()
    few, _ = held.matrices(batches=3, limit=3 * 2 * scores.shape[1])
    assert len(few) < len(scores)
    nothing = replace(held, query_targets=replace(queries, table=np.full(EXAMPLES, -1)))
    assert not len(nothing.matrices(batches=3)[0])
    one = replace(held, query_targets=replace(queries, table=np.where(np.arange(EXAMPLES) == 7, 0, -1)))
    assert 1 <= len(one.matrices(batches=3)[0]) <= 3  # in one batch of an epoch


def test_to_moves_every_part_and_keeps_what_is_absent() -> None:
    """Harm: a mask stays on the CPU, or a missing target becomes something."""
    batch = examples().batch(0)
    moved = batch.to(torch.device("meta"))
    assert parts(moved).keys() == parts(batch).keys()
    assert all(held.device.type == "meta" for held in parts(moved).values())
    assert equal(batch.to(torch.device("cpu")), batch)


def test_rivals_are_other_queries_with_another_answer() -> None:
    """Harm: a query is told from itself, from its own repetition, or from one that the same passage answers."""
    held = examples()
    for step in range(4):
        batch = held.batch(step)
        assert batch.rivals is not None and batch.queries is not None and batch.listed is not None
        asked = numbers(batch.queries)
        answers = [numbers(batch.texts)[at] for at in batch.listed[:, 0].tolist()]
        for one, mine in enumerate(asked):
            for two, other in enumerate(asked):
                grouped = held.group[mine] == held.group[other] >= 0
                alike = grouped or held.same[mine] == held.same[other] or answers[one] == answers[two]
                assert bool(batch.rivals[one, two]) == bool(held.in_batch[mine] and not alike)
        assert batch.rivals.any()


def test_vectors_in_parts_stay_on_disk(tmp_path: Path) -> None:
    """Harm: a teacher's vectors, written in parts as `embed` writes them, are copied into memory before the first step:
    eight gigabytes for a million texts of an LLM.
    """
    rows, dim = 1024, 128
    held = np.random.default_rng(3).normal(size=(3 * rows + 5, dim)).astype(np.float16)
    for part, start in enumerate(range(0, len(held), rows)):
        written = {"vector": held[start : start + rows]}
        tables.write(tmp_path / "vectors", tables.vectors(dim), written, part=part)
    texts = numbered(len(held))
    tracemalloc.start()  # numpy's own memory counts, mapped files do not
    try:
        taught = tables.mapped(tables.opened(tmp_path / "vectors")["vector"])
        found = [TextBatches([texts], [taught], 64, 0).batch(step) for step in range(3)]
        chosen = np.random.default_rng(4).permutation(len(held))[:100]
        numbering = np.arange(len(held))
        looked_up = Lookup([taught], np.where(numbering % 2, 0, -1), numbering[::-1])[chosen]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taught.shape == held.shape
    assert peak < 0.6 * held.nbytes  # three batches in fp32, and row numbers
    for batch in found:
        assert batch.text_targets is not None
        np.testing.assert_array_equal(batch.text_targets.numpy(), held[numbers(batch.texts)].astype(np.float32))
    expected = np.where((chosen % 2 == 1)[:, None], held[::-1][chosen].astype(np.float32), np.nan)
    np.testing.assert_array_equal(looked_up, expected)
