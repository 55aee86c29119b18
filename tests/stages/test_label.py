"""Choices from judgements written by hand, and against the same choices made in loops."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill import artifact, files, tables
from distill.errors import Refused
from distill.stages import label as module
from distill.stages.label import label

NAN = math.nan
COSINE = {"scale": "cosine", "model": "Words@1"}
SAID = {"scale": "log-probability", "model": "letters", "prompt": "0123"}
REFERS: dict[str, object] = {"passages": "of the corpus", "queries": "of the queries"}


def row(
    seed: int,
    passages: list[int],
    similarities: list[float],
    likelihoods: list[float] | None = None,
    relevances: list[float] | None = None,
    seed_similarity: float = 0.1,
) -> dict[str, Any]:
    """One query; its rank and, where it is listed, its similarity follow from the list."""
    rank = passages.index(seed) if seed in passages else -1
    return {
        "task": f"find {seed}", "query": f"query of {seed}", "seed": seed, "passages": passages, "twins": passages,
        "similarities": similarities, "likelihoods": likelihoods, "relevances": relevances,
        "seed_rank": rank, "seed_similarity": similarities[rank] if rank >= 0 else seed_similarity,
    }  # fmt: skip


def written(folder: Path, *parts: list[dict[str, Any]]) -> Path:
    """An artifact of judgements, or of candidates if nobody judged these rows."""
    depth = len(parts[0][0]["passages"])
    judged = parts[0][0]["likelihoods"] is not None
    name = "judgements" if judged else "candidates"
    said = {"likelihoods": SAID, "relevances": SAID} if judged else {}
    schema = tables.candidates(depth, {"similarities": COSINE, **said})
    with artifact.claim(folder, {"verb": name, "version": 1, "settings": {"name": folder.name}}, {}, {}):
        for number, rows in enumerate(parts):
            columns = {field: [held[field] for held in rows] for field in schema.names}
            tables.write(folder / name, schema, columns, part=number)
        artifact.finish(folder, {"refers": REFERS})
    return folder


def examples(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables.read(out, "examples").to_pylist()
    return rows


def chosen(out: Path) -> list[list[int]]:
    return [example["passages"] for example in examples(out)]


HAND = [
    # ranks 4 1 3 2 and 3 1 4 2: passage 11 is preferred, and 10 is its seed
    row(10, [10, 11, 12, 13], [0.9, 0.8, 0.7, 0.6], [-9, -1, -5, -4], [-3, -1, -4, -2]),
    # ranks 1 2 3 4 and 2 1 3 4: a tie goes to the more similar, which is the seed
    row(20, [20, 21, 22, 23], [0.9, 0.88, 0.85, 0.2], [-1, -2, -3, -4], [-2, -1, -3, -4]),
    # its seed is not listed; 32 is preferred, and only 33 is less similar
    row(30, [31, 34, 32, 33], [0.9, 0.8, 0.7, 0.6], [-4, -3, -1, -2], [-4, -3, -1, -2], seed_similarity=0.5),
]


def test_choices_of_hand_worked_rows(tmp_path: Path) -> None:
    """Harm: the passage that the judges prefer is pushed away, or that the query was written from."""
    made = written(tmp_path / "judged", HAND)
    label(candidates=made, negatives=2, ceiling=0.95, out=tmp_path / "out")
    # 0.95 x 0.8 is 0.76: 12 and 13. 0.95 x 0.9 is 0.855: 22 (0.85) and 23. 0.95 x 0.7 is 0.665: 33.
    assert chosen(tmp_path / "out") == [[11, 12, 13], [20, 22, 23], [32, 33]]
    scores = [[0.8, 0.7, 0.6], [0.9, 0.85, 0.2], [0.7, 0.6]]
    assert [example["scores"] for example in examples(tmp_path / "out")] == [pytest.approx(held) for held in scores]


def test_the_seed_may_stay_the_positive(tmp_path: Path) -> None:
    """Harm: the run without relabelling, which it is compared with, relabels, or has another ceiling."""
    made = written(tmp_path / "judged", HAND)
    facts = label(candidates=made, positive="seed", out=tmp_path / "out")
    # The unlisted seed has a similarity of 0.5, and no candidate is under 0.475.
    assert chosen(tmp_path / "out") == [[10, 11, 12, 13], [20, 22, 23], [30]]
    assert examples(tmp_path / "out")[2]["scores"] == [0.5]
    assert (facts["relabelled"], facts["without_negatives"]) == (0, 1)


def test_supervised_pairs_get_their_hard_negatives(tmp_path: Path) -> None:
    """Harm: candidates that nobody judged are relabelled, or a positive that was not found is lost."""
    bare = [{**held, "likelihoods": None, "relevances": None} for held in HAND]
    made = written(tmp_path / "mined", bare)
    facts = label(candidates=made, negatives=1, out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[10, 11], [20, 22], [30]]
    assert facts["score"] == {"column": "similarities", **COSINE}
    for scores in ("likelihoods", "relevances"):
        with pytest.raises(Refused, match=f"scores are {scores}, and .* has similarities. Take such"):
            label(candidates=made, scores=scores, out=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_columns_of_an_example(tmp_path: Path) -> None:
    """Harm: an example trains under another task, or its origin names another query."""
    made = written(tmp_path / "judged", HAND[:1], HAND[1:])
    facts = label(candidates=made, within=1, out=tmp_path / "out")
    common = {"kind": "retrieval", "in_batch": True, "symmetric": False, "group": -1}
    lists = ("passages", "scores")
    told = [{name: held for name, held in row.items() if name not in lists} for row in examples(tmp_path / "out")]
    assert told == [
        common | {"task": f"find {seed}", "query": f"query of {seed}", "origin": origin}
        for seed, origin in ((10, 0), (20, 1))
    ]
    label(candidates=made, out=tmp_path / "all")
    assert [example["origin"] for example in examples(tmp_path / "all")] == [0, 1, 2]
    assert facts["refers"] == REFERS


def test_what_nobody_judged_is_no_positive(tmp_path: Path) -> None:
    """Harm: `judge` stopped at a depth, and a passage that it did not look at is taught as the answer."""
    judged, depth = 2, 6
    rows = []
    for number, (likely, relevant) in enumerate(itertools.product(itertools.permutations([-1.0, -900.0]), repeat=2)):
        passages = [number * 10 + place for place in range(depth)]
        similarities, rest = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [NAN] * (depth - judged)
        rows.append(row(number * 10 + 5, passages, similarities, [*likely, *rest], [*relevant, *rest]))
    label(candidates=written(tmp_path / "judged", rows), negatives=3, out=tmp_path / "out")
    assert [list_[0] % 10 for list_ in chosen(tmp_path / "out")] == [0, 0, 0, 1]
    assert all(len(list_) == 4 for list_ in chosen(tmp_path / "out"))  # as negatives they serve


def test_scores_of_the_language_model(tmp_path: Path) -> None:
    """Harm: a pair that nobody judged has a score, or the list's scores are of two scales."""
    half = [row(10, [12, 11, 10, 13], [0.9, 0.8, 0.7, 0.6], [-7, -2, NAN, NAN], [-0.5, -0.25, NAN, NAN])]
    made = written(tmp_path / "judged", half)
    for scores, expected in (("likelihoods", [-2, NAN]), ("relevances", [-0.25, NAN])):
        facts = label(candidates=made, ceiling=0.95, scores=scores, out=tmp_path / scores)
        (example,) = examples(tmp_path / scores)
        assert example["passages"] == [11, 13]
        np.testing.assert_array_equal(example["scores"], expected)
        assert facts["score"] == {"column": scores, **SAID}
        assert "temperature_for_entropy_0.6" not in facts  # one score a list says nothing


def test_a_seed_that_nobody_judged_has_no_example(tmp_path: Path) -> None:
    """Harm: a list without its positive's score is learnt from, and everything but the positive is pulled close."""
    rows = [
        row(10, [11, 10, 12, 13], [0.9, 0.8, 0.7, 0.6], [-1, -2, -3, NAN], [-1, -2, -3, NAN]),
        row(20, [21, 22, 23, 20], [0.9, 0.8, 0.7, 0.6], [-1, -2, -3, NAN], [-1, -2, -3, NAN]),
        row(30, [31, 32, 33, 34], [0.9, 0.8, 0.7, 0.6], [-1, -2, -3, NAN], [-1, -2, -3, NAN]),
    ]
    made = written(tmp_path / "judged", rows)
    facts = label(candidates=made, positive="seed", scores="likelihoods", out=tmp_path / "out")
    (example,) = examples(tmp_path / "out")
    assert (example["passages"], example["origin"]) == ([10, 12, 13], 0)
    np.testing.assert_array_equal(example["scores"], [-2, -3, NAN])
    assert facts["rows"] == 1
    assert sum(facts["dropped"].values()) == 2


@pytest.mark.parametrize(("within", "kept"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (None, [0, 1, 2, 3])])
def test_queries_whose_seed_is_found_late_are_dropped(within: int | None, kept: list[int], tmp_path: Path) -> None:
    """Harm: a query that does not find its own passage, likely a bad one, is taught all the same."""
    judged: dict[str, Any] = {"likelihoods": [-1.0, -2.0, -3.0], "relevances": [-1.0, -2.0, -3.0]}
    rows = [row(seed, [0, 1, 2], [0.9, 0.5, 0.4], **judged) for seed in (0, 1, 2, 7)]
    facts = label(candidates=written(tmp_path / "judged", rows), within=within, out=tmp_path / "out")
    assert [example["origin"] for example in examples(tmp_path / "out")] == kept
    late = {"seed not found early enough": 4 - len(kept)} if len(kept) < 4 else {}
    assert (facts["rows"], facts["dropped"]) == (len(kept), late)
    assert facts["relabelled"] == round((len(kept) - 1) / len(kept), 4)


def test_when_nothing_is_left_another_choice_may_be_tried(tmp_path: Path) -> None:
    """Harm: a setting that was too strict leaves a folder that refuses the milder one."""
    made = written(tmp_path / "judged", HAND[2:])
    with pytest.raises(
        Refused, match=r"^label: no query of 1 is left; dropped: .*'seed not found early enough': 1\}\. Raise `within`"
    ):
        label(candidates=made, within=4, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert label(candidates=made, out=tmp_path / "out")["rows"] == 1
    with pytest.raises(Refused, match="was made by another recipe"):
        label(candidates=made, negatives=0, out=tmp_path / "out")


def test_no_negatives_where_none_are_wanted(tmp_path: Path) -> None:
    """Harm: 0 means all, or a run without hard negatives cannot be made to compare with."""
    facts = label(candidates=written(tmp_path / "judged", HAND), negatives=0, out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[11], [20], [32]]
    assert (facts["mean_negatives"], facts["without_negatives"]) == (0, 3)
    assert "temperature_for_entropy_0.6" not in facts
    assert facts["histograms"]["score of a hard negative"]["counts"] == [0] * 30


def test_equal_scores_make_examples_without_a_temperature(tmp_path: Path) -> None:
    """Harm: a model that says the same of every passage stops a run that does not read its scores."""
    same = row(9, [1, 2, 3], [0.9, 0.5, 0.4], [-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0])
    facts = label(candidates=written(tmp_path / "judged", [same]), scores="relevances", out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[1, 2, 3]]
    assert "temperature_for_entropy_0.6" not in facts


def drawn(count: int = 150, depth: int = 7) -> list[dict[str, Any]]:
    """Rows of chance: some seeds are not listed, some candidates not judged, some judgements are equal."""
    generator = np.random.default_rng(8)
    rows = []
    for _ in range(count):
        passages = generator.permutation(30)[:depth].tolist()
        similarities = np.sort(generator.random(depth).astype(np.float32))[::-1]
        judged = int(generator.integers(1, depth + 1))
        said = generator.integers(-4, 0, (2, depth)).astype(np.float32)
        said[:, judged:] = NAN
        seed = int(generator.integers(30))
        rows.append(row(seed, passages, similarities.tolist(), *said.tolist(), seed_similarity=generator.random()))
    return rows


def places(values: list[float]) -> list[int]:
    """Rank of each value, the largest 1; of equal ones the first; what is missing last."""
    order = sorted(range(len(values)), key=lambda at: (math.isnan(values[at]), -values[at], at))
    return [order.index(at) + 1 for at in range(len(values))]


def naive(
    held: dict[str, Any],
    negatives: int,
    ceiling: float,
    fusion: int,
    positive: str,
    scores: str,
    within: int | None,
    rule: str,
    skip: int,
    floor: float | None,
    judges: tuple[str, ...],
) -> tuple[list[int], list[float]] | None:
    """The example of one query, one candidate after the other; None if it is dropped."""
    passages, similarities, told = held["passages"], np.float32(held["similarities"]), held[scores]
    if within is not None and held["seed"] not in passages[:within]:
        return None
    answer, known = held["seed"], np.float32(held["seed_similarity"])
    if positive == "judged":
        ranked = zip(*(places(held[judge]) for judge in judges), strict=True)
        fused = [sum(1 / (fusion + place) for place in those) for those in ranked]
        best = fused.index(max(fused))
        assert not math.isnan(held["likelihoods"][best])
        answer, known = passages[best], similarities[best]
    first = told[passages.index(answer)] if answer in passages else float(known) if scores == "similarities" else NAN
    if math.isnan(first):
        return None
    if floor is not None and known < floor:
        return None
    list_, values = [answer], [first]
    highest = {"share": ceiling * known, "margin": known - ceiling, "absolute": ceiling, "naive": 9}[rule]
    for passage, similarity, score in zip(passages, similarities, told, strict=True):
        if passage in (answer, held["seed"]):
            continue
        skip -= 1
        if skip < 0 and similarity < np.float32(highest) and len(list_) <= negatives:
            list_.append(passage)
            values.append(score)
    return list_, values


SETTINGS: list[dict[str, Any]] = [
    {},
    {"fusion": 60},
    {"negatives": 2, "ceiling": 0.8},
    {"negatives": 1, "ceiling": 1.5, "scores": "likelihoods"},
    {"scores": "relevances", "within": 3},
    {"positive": "seed", "negatives": 3},
    {"positive": "seed", "scores": "likelihoods", "ceiling": 0.7},
    {"positive": "seed", "scores": "relevances", "within": 1},
    {"negatives": 0, "within": 2},
    {"rule": "margin", "ceiling": 0.1},
    {"rule": "absolute", "ceiling": 0.5, "skip": 2},
    {"rule": "naive", "floor": 0.6},
    {"judges": ("likelihoods",)},
    {"judges": ("relevances",), "scores": "likelihoods", "fusion": 60},
]


@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_examples_equal_a_loop(given: dict[str, Any], tmp_path: Path) -> None:
    """Harm: columns of two rows are mixed up where some are dropped, or two settings do not go together."""
    rows = drawn()
    facts = label(candidates=written(tmp_path / "judged", rows[:40], rows[40:]), **given, out=tmp_path / "out")
    settings: dict[str, Any] = {
        "negatives": 7, "ceiling": 0.95, "fusion": 0, "positive": "judged", "scores": "similarities", "within": None,
        "rule": "share", "skip": 0, "floor": None, "judges": ("likelihoods", "relevances"),
    } | given  # fmt: skip
    expected = {at: made for at, held in enumerate(rows) if (made := naive(held, **settings)) is not None}
    found = examples(tmp_path / "out")
    assert [example["origin"] for example in found] == list(expected)
    for example in found:
        passages, scores = expected[example["origin"]]
        assert example["passages"] == passages
        np.testing.assert_allclose(example["scores"], scores, rtol=1e-6)
        assert all(example[name] == rows[example["origin"]][name] for name in ("task", "query"))
    lengths = [len(passages) for passages, _ in expected.values()]
    kept = len(expected)
    assert facts["rows"] == kept
    assert sum(facts["dropped"].values()) == len(rows) - kept
    moved = sum(passages[0] != rows[at]["seed"] for at, (passages, _) in expected.items())
    assert facts["relabelled"] == round(moved / kept, 4)
    assert facts["mean_negatives"] == round(sum(lengths) / kept - 1, 3)
    assert facts["without_negatives"] == lengths.count(1)
    assert facts["score"]["column"] == settings["scores"]
    assert sum(facts["histograms"]["score of the positive"]["counts"]) == kept
    judged = sum(not math.isnan(score) for _, scores in expected.values() for score in scores[1:])
    assert sum(facts["histograms"]["score of a hard negative"]["counts"]) == judged


def test_the_temperature_told_gives_the_entropy_told(tmp_path: Path) -> None:
    """Harm: a temperature is taken from the facts that makes the targets flat, or one passage of all."""
    facts = label(candidates=written(tmp_path / "judged", drawn()), out=tmp_path / "out")
    found, wanted = [], []
    for example in examples(tmp_path / "out"):
        scores = example["scores"]
        if len(scores) > 1:
            weights = [math.exp((score - max(scores)) / facts["temperature_for_entropy_0.6"]) for score in scores]
            shares = [weight / sum(weights) for weight in weights]
            found.append(-sum(share * math.log(share) for share in shares if share > 0))
            wanted.append(0.6 * math.log(len(scores)))
    assert facts["entropy"] == pytest.approx(np.mean(found), abs=2e-3)
    assert facts["entropy"] == pytest.approx(np.mean(wanted), abs=2e-3)


def test_no_input_is_changed(tmp_path: Path) -> None:
    """Harm: the judgements, which cost hours, are those of one choice afterwards."""
    made = written(tmp_path / "judged", drawn())
    paths = [file for file in made.rglob("*") if file.is_file()]
    before = {file: (files.digest(file), file.stat().st_mtime_ns) for file in paths}
    label(candidates=made, scores="likelihoods", within=3, out=tmp_path / "out")
    assert {file: (files.digest(file), file.stat().st_mtime_ns) for file in paths} == before


def test_other_known_answers_of_a_query_are_no_negatives(tmp_path: Path) -> None:
    """Harm: a question with two right passages learns to push the second one away, from the rows of the first."""
    both = [row(10, [10, 11, 12], [0.9, 0.7, 0.6]), row(11, [10, 11, 12], [0.9, 0.7, 0.6])]
    both[1] |= {"task": both[0]["task"], "query": both[0]["query"]}
    other = row(12, [11, 12, 13], [0.9, 0.8, 0.1])
    made = written(tmp_path / "mined", [*both, other])
    label(candidates=made, rule="naive", out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[10, 12], [11, 12], [12, 11, 13]]


@pytest.mark.parametrize(("ceiling", "said"), [(0.01, "next to everything"), (5.0, "next to nothing")])
def test_a_ceiling_that_says_nothing_is_told(
    ceiling: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: 0.95 of a miner's flat cosines lets all false negatives in, or leaves no negative, and nobody looks."""
    facts = label(candidates=written(tmp_path / "judged", drawn()), ceiling=ceiling, out=tmp_path / "out")
    assert said in str(facts["warning"])
    assert said in " ".join(capsys.readouterr().out.split())
    assert "warning" not in label(candidates=tmp_path / "judged", out=tmp_path / "again")
    with pytest.raises(Refused, match="naive has none"):
        label(candidates=tmp_path / "judged", rule="naive", ceiling=0.5, out=tmp_path / "naive")


def test_further_positives_are_those_over_the_ceiling_that_the_judges_prefer_next(tmp_path: Path) -> None:
    """Harm: a query's second right passage is its negative, or a wrong one its positive since it stood next."""
    rows = [
        # 10, 11, 12 lie over 0.95 x 0.9 = 0.855; the judges prefer 10, 12, 13, 11
        row(10, [10, 11, 12, 13], [0.9, 0.88, 0.86, 0.5], [-1, -9, -2, -3], [-1, -9, -2, -3]),
        row(20, [20, 21, 22, 23], [0.9, 0.5, 0.4, 0.3], [-1, -2, -3, -4], [-1, -2, -3, -4]),
    ]
    made = written(tmp_path / "judged", rows)
    facts = label(candidates=made, positives=3, scores="likelihoods", out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[10, 13], [12, 13], [20, 21, 22, 23]]
    assert [example["scores"] for example in examples(tmp_path / "out")] == [[-1, -3], [-2, -3], [-1, -2, -3, -4]]
    assert [example["origin"] for example in examples(tmp_path / "out")] == [0, 0, 1]
    assert facts["rows"] == 3
    label(candidates=made, positives=4, out=tmp_path / "all")
    assert chosen(tmp_path / "all")[:3] == [[10, 13], [12, 13], [11, 13]]


def test_a_positive_that_stands_alone_is_dropped(tmp_path: Path) -> None:
    """Harm: a passage that talks the judge into a Yes becomes the answer to every query."""
    rows = [
        row(10, [10, 11, 12, 13], [0.9, 0.8, 0.7, 0.6], [-1, -2, -3, -4], [-3, -2, -4, -0.1]),
        row(20, [20, 21, 22, 23], [0.9, 0.8, 0.7, 0.6], [-2, -3, -4, -1], [-3, -2, -4, -0.1]),
    ]
    made = written(tmp_path / "judged", rows)
    facts = label(candidates=made, agreement=3, out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[10, 11, 12, 13]]
    assert facts["dropped"] == {"judges disagree": 1}  # 23 is the fourth for the teacher
    with pytest.raises(Refused, match="agreement: 0; needed: 1 or more"):
        label(candidates=made, agreement=0, out=tmp_path / "refused")


def test_twins_of_the_positive_and_of_the_seed_are_no_negatives(tmp_path: Path) -> None:
    """Harm: a copy of the right passage with one word changed is pushed away."""
    rows = [
        row(10, [11, 12, 13, 14, 15], [0.9, 0.8, 0.7, 0.6, 0.5], [-1, -2, -3, -4, -5], [-1, -2, -3, -4, -5]),
        row(20, [21, 20, 22, 23, 24], [0.9, 0.8, 0.7, 0.6, 0.5], [-1, -2, -3, -4, -5], [-1, -2, -3, -4, -5]),
    ]
    rows[0]["twins"] = [11, 10, 13, 11, 15]  # 12 repeats the seed, which is not listed; 14 the positive
    rows[1]["twins"] = [21, 20, 20, 23, 24]
    label(candidates=written(tmp_path / "judged", rows), rule="naive", out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[11, 13, 15], [21, 23, 24]]


@pytest.mark.parametrize(("choice", "expected"), [("last", [20, 22, 24]), ("spread", [20, 21, 24])])
def test_other_choices_of_negatives(choice: Any, expected: list[int], tmp_path: Path) -> None:
    """Harm: Gecko's lowest-ranked negative is the nearest one after all."""
    judged = {"likelihoods": [-1, -2, -9, -3, -8], "relevances": [-1, -2, -9, -3, -8]}
    made = written(tmp_path / "judged", [row(20, [20, 21, 22, 23, 24], [0.9, 0.8, 0.7, 0.6, 0.5], **judged)])
    label(candidates=made, choice=choice, negatives=2, out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [expected]


def test_rows_in_blocks_are_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the labels of a large corpus are not those of a small one, or a query's own block hides its answers."""
    rows = drawn()
    rows[149] |= {"task": rows[2]["task"], "query": rows[2]["query"]}
    made = written(tmp_path / "judged", rows[:40], rows[40:])
    whole = label(candidates=made, within=6, out=tmp_path / "whole")
    monkeypatch.setattr(module, "BLOCK", 13)
    cut = label(candidates=made, within=6, out=tmp_path / "cut")
    assert examples(tmp_path / "cut") == examples(tmp_path / "whole")
    assert len(tables.notes(tmp_path / "cut" / "examples")) == 12
    timed = ("seconds", "peak_memory_bytes")
    assert {name: held for name, held in cut.items() if name not in timed} == {
        name: held for name, held in whole.items() if name not in timed
    }


def test_what_was_not_judged_cannot_be_asked_for(tmp_path: Path) -> None:
    """Harm: an option that does nothing is taken, and its ablation compares a run with itself."""
    bare = [{**held, "likelihoods": None, "relevances": None} for held in HAND]
    made = written(tmp_path / "mined", bare)
    asked: dict[str, dict[str, Any]] = {
        "fusion": {"fusion": 60}, "choice: last": {"choice": "last"}, "positives": {"positives": 2},
    }  # fmt: skip
    for name, given in asked.items():
        with pytest.raises(Refused, match=f"label: {name} is of judgements, and .* was not judged"):
            label(candidates=made, **given, out=tmp_path / "out")
    judged = written(tmp_path / "judged", HAND)
    for given in ({"positives": 2, "rule": "naive"}, {"positives": 2, "positive": "seed"}, {"positives": 0}):
        with pytest.raises(Refused, match="positives: "):
            label(candidates=judged, **given, out=tmp_path / "out")
    with pytest.raises(Refused, match=r"scores are rerankings, and .* has similarities, likelihoods, relevances"):
        label(candidates=judged, scores="rerankings", out=tmp_path / "out")
    with pytest.raises(Refused, match=r"judges: rerankings did not judge .*; there: likelihoods, relevances"):
        label(candidates=judged, judges=("rerankings",), out=tmp_path / "out")
    with pytest.raises(Refused, match=r"judges: likelihoods did not judge .*; there: none"):
        label(candidates=made, judges=("likelihoods",), out=tmp_path / "out")
    with pytest.raises(Refused, match="judges: none"):
        label(candidates=judged, judges=(), out=tmp_path / "out")


def test_twins_of_a_further_positive_are_no_negatives(tmp_path: Path) -> None:
    """Harm: with several positives, a copy of the second one stands below it as its negative."""
    # 10 and 11 lie over 0.855; 12 repeats 11, 13 nothing.
    held = row(10, [10, 11, 12, 13], [0.9, 0.88, 0.84, 0.5], [-1, -2, -3, -4], [-1, -2, -3, -4])
    held["twins"] = [10, 11, 11, 13]
    label(candidates=written(tmp_path / "judged", [held]), positives=2, out=tmp_path / "out")
    assert chosen(tmp_path / "out") == [[10, 13], [11, 13]]
    label(candidates=tmp_path / "judged", out=tmp_path / "one")
    assert chosen(tmp_path / "one") == [[10, 12, 13]]  # 12 is no copy of the only positive


def test_what_nobody_judged_is_not_what_the_judges_put_last(tmp_path: Path) -> None:
    """Harm: below the judge's depth nobody looked, and the nearest of those pass for the judges' last or next."""
    said = [-1, -3, -2, NAN, NAN]
    made = written(tmp_path / "judged", [row(10, [10, 11, 12, 13, 14], [0.9, 0.89, 0.88, 0.87, 0.5], said, said)])
    label(candidates=made, rule="naive", choice="last", negatives=3, out=tmp_path / "last")
    assert chosen(tmp_path / "last") == [[10, 11, 12]]
    label(candidates=made, positives=5, out=tmp_path / "several")
    assert chosen(tmp_path / "several") == [[10, 14], [12, 14], [11, 14]]  # 13 lies over the ceiling, too


def test_where_nothing_is_left_to_filter_no_rule_is_blamed(tmp_path: Path) -> None:
    """Harm: with the positive as the only candidate, a warning says that the ceiling filters next to everything."""
    alone = [row(10, [10], [0.9]), row(20, [20], [0.8])]
    facts = label(candidates=written(tmp_path / "mined", alone), out=tmp_path / "out")
    assert "warning" not in facts
    assert facts["without_negatives"] == 2


def test_a_judge_that_is_left_out_neither_chooses_nor_drops(tmp_path: Path) -> None:
    """Harm: a judge that ranks as chance would is said to be left out, and still takes away what others agree on."""
    said = [row(10, [10, 11, 12], [0.9, 0.8, 0.1], [-1, -2, -3], [-3, -1, -2])]
    made = written(tmp_path / "judged", said)
    label(candidates=made, judges=("likelihoods",), agreement=1, out=tmp_path / "out")
    assert [passages[0] for passages in chosen(tmp_path / "out")] == [10]
    with pytest.raises(Refused, match="judges disagree"):
        label(candidates=made, agreement=1, out=tmp_path / "all")
