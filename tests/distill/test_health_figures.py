"""Figures of training data against loops, row by row, on data with gaps, ties and repetitions."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from distill import health, tables
from distill.errors import Refused

NAN = math.nan


def opinions(seed: int, rows: int = 60, k: int = 7) -> np.ndarray:
    """Numbers of chance with ties; some are missing, some rows are of one number."""
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 5, (rows, k)).astype(np.float32)
    values[generator.random((rows, k)) < 0.2] = NAN
    values[:4] = 2.0
    values[4:6] = NAN
    return values


def test_words_are_those_of_a_split() -> None:
    """Harm: texts of other scripts and odd spaces get a length that nobody would count."""
    texts = [
        "",
        "  ",
        " one\ttwo \n three ",
        "no\u00a0break\u3000wide\u2003em",
        "naïve — ça",
        "日本 語",
        "a\x0bb\x1cc\x85d",
    ]
    assert health.words(pa.array(texts)).tolist() == [len(text.split()) for text in texts]


def test_equal_texts_have_equal_numbers_in_all_columns() -> None:
    """Harm: two rows count as one query because their task and query run together the same way."""
    one = pa.chunked_array([["a", "a b"], ["a", "a"]])
    other = pa.chunked_array([["b c"], ["c", "b c", "d"]])
    numbers = health.numbered(one, other).tolist()
    assert [numbers.index(number) for number in numbers] == [0, 1, 0, 3]
    assert health.repeated(np.array(numbers)).tolist() == [False, False, True, False]
    spelt = pa.chunked_array([["What's  NEW?", "what s new"], ["What is new", "ÉTÉ!"], ["été"]])
    assert health.repeated(health.numbered(health.plain(spelt))).tolist() == [False, True, False, False, True]


def test_the_most_frequent_texts_come_first() -> None:
    """Harm: the mix of tasks is that of the first part of a table, or leaves out the largest."""
    column = pa.chunked_array([["b", "a", "c"], ["c", "a"], ["c", "d"]])
    assert health.most_frequent(column, 2) == ([("c", 3), ("a", 2)], 4)


def test_histograms_share_their_edges_and_lose_no_value() -> None:
    """Harm: two figures side by side mislead, or one outlier presses all others into one bar."""
    generator = np.random.default_rng(0)
    named = {"one": generator.normal(0, 1, 1000), "other": np.append(generator.normal(3, 1, 500), [1e6, NAN, math.inf])}
    found = health.distributions(named)
    assert found["one"]["histogram"]["edges"] == found["other"]["histogram"]["edges"]
    assert found["one"]["histogram"]["edges"][-1] < 10
    for name, values in named.items():
        kept = values[np.isfinite(values)]
        assert found[name]["count"] == sum(found[name]["histogram"]["counts"]) == len(kept)
        assert found[name]["mean"] == pytest.approx(kept.mean(), rel=1e-5)
        assert found[name]["percentiles"]["75"] == pytest.approx(np.percentile(kept, 75), rel=1e-5)
    assert health.distributions({"none": np.array([NAN])}) == {"none": {"count": 0}}


@pytest.mark.parametrize("values", [[3], [0, 0, 0], list(range(100)), [*range(70), 1000], [1, 2, 2, 3]])
def test_each_bar_of_whole_numbers_stands_for_as_many(values: list[int]) -> None:
    """Harm: lengths show a comb of gaps that the texts do not have."""
    held = health.distributions({"words": np.array(values)})["words"]["histogram"]
    inside = [[number for number in range(-5, 2000) if low < number < high]
              for low, high in itertools.pairwise(held["edges"])]  # fmt: skip
    assert len({len(numbers) for numbers in inside}) == 1
    assert sum(held["counts"]) == len(values)
    middle = range(1, len(inside) - 1)
    assert [held["counts"][at] for at in middle] == [sum(v in inside[at] for v in values) for at in middle]


def test_a_rectangle_holds_the_lists_that_were_asked_for() -> None:
    """Harm: the scores of one row are read as those of the next."""
    lists = [[1, 2, 3], [4], [5, 6], [7, 8, 9]]
    flat, starts = np.concatenate(lists), np.cumsum([0, *map(len, lists)])
    for rows in ([0, 1, 2, 3], [3, 1], [1], []):
        found = health.rectangle(flat, starts, np.array(rows, np.int64), -1)
        assert [[value for value in row if value >= 0] for row in found.tolist()] == [lists[row] for row in rows]


def test_spreads_equal_a_loop() -> None:
    """Harm: a padded or unjudged place counts as a score, and every list seems to be spread."""
    scores = opinions(1)
    found = health.spreads(scores)
    for row, values in enumerate(scores.tolist()):
        kept = [value for value in values if not math.isnan(value)]
        if len(kept) < 2:
            assert all(math.isnan(found[name][row]) for name in ("spread", "deviation", "equal"))
        else:
            assert found["spread"][row] == max(kept) - min(kept)
            assert found["deviation"][row] == pytest.approx(np.std(kept))
            assert found["equal"][row] == (max(kept) == min(kept))
        rest = [value for value in values[1:] if not math.isnan(value)]
        if math.isnan(values[0]) or not rest:
            assert math.isnan(found["above"][row])
        else:
            assert found["above"][row] == (max(rest) > values[0])


def entropy(values: list[float], temperature: float) -> float:
    weights = [math.exp((value - max(values)) / temperature) for value in values]
    return -sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_entropy_at_a_temperature_equals_a_loop(temperature: float) -> None:
    """Harm: lists of one passage, which have no entropy, pull the mean down, and a flat teacher looks sharp."""
    scores = opinions(2)
    found = health.sharpness(scores, temperature)
    lists = [[v for v in row if not math.isnan(v)] for row in scores.tolist()]
    expected = [entropy(kept, temperature) for kept in lists if len(kept) > 1]
    most = [math.log(len(kept)) for kept in lists if len(kept) > 1]
    assert found["temperature"] == temperature
    assert found["entropy"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert found["effective"] == pytest.approx(np.mean(np.exp(expected)), rel=1e-4)
    assert found["share"]["mean"] == pytest.approx(np.mean(np.array(expected) / most), rel=1e-4)
    assert found["share"]["count"] == len(expected)


def test_the_automatic_temperature_is_that_of_training() -> None:
    """Harm: the page promises another sharpness than the training will have."""
    from distill.scores import auto_temperature

    scores = np.random.default_rng(3).normal(size=(50, 8))
    found = health.sharpness(scores, "auto")
    assert found["temperature"] == found["automatic"] == auto_temperature(scores, np.ones(scores.shape, bool))
    assert found["share"]["mean"] == pytest.approx(0.6, abs=1e-4)
    assert found["refused"] == ""


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (np.full((4, 3), 0.7), "so they teach nothing"),
        (np.full((4, 3), NAN), "so they teach nothing"),
        (np.tile([1.0, 1.0, 1.0, 0.0], (5, 1)), "share the first place"),
    ],
)
def test_scores_that_say_nothing_are_told_and_stop_nothing(scores: np.ndarray, said: str) -> None:
    """Harm: the report on bad data fails on the data that it is for."""
    found = health.sharpness(scores, "auto")
    assert said in found["refused"]
    assert not found["refused"].startswith("teacher_temperature")
    assert (found["temperature"], found["automatic"], "share" in found) == (None, None, False)
    told = health.sharpness(scores, 1.0)
    assert told["temperature"] == 1.0
    assert ("share" in told) == bool(np.isfinite(scores).any())


def test_agreement_equals_a_loop() -> None:
    """Harm: candidates that one judge never saw count as its worst, and a tie as a choice of the first."""
    one, other = opinions(4), opinions(5)
    found = health.agreement(one, other)
    seen = 0
    for row, (a, b) in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
        both = [(x, y) for x, y in zip(a, b, strict=True) if not math.isnan(x) and not math.isnan(y)]
        if len(both) < 2 or any(len(set(column)) == 1 for column in zip(*both, strict=True)):
            assert all(math.isnan(values[row]) for values in found.values())
            continue
        seen += 1
        x, y = ([*column] for column in zip(*both, strict=True))
        firsts = [{at for at, value in enumerate(values) if value == max(values)} for values in (x, y)]
        same = np.mean([i == j for i in firsts[0] for j in firsts[1]])  # each picks one of its best by chance
        assert found["same_best"][row] == pytest.approx(same)
        assert found["by_chance"][row] == 1 / len(both)
        assert found["correlation"][row] == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert 20 < seen < len(one)


def test_an_opinion_agrees_with_itself_and_not_with_its_opposite() -> None:
    """Harm: the sign of an opinion is lost, and a judge that is always wrong passes for a good one."""
    values = np.random.default_rng(6).normal(size=(9, 6))
    assert health.agreement(values, values)["correlation"] == pytest.approx(np.ones(9))
    opposed = health.agreement(values, -values)
    assert opposed["correlation"] == pytest.approx(-np.ones(9))
    assert not opposed["same_best"].any()


def block(rows: int = 200, k: int = 7, listed: int = 4) -> health.Block:
    """Rows of chance; some positives and negatives are no candidates, some lists are short."""
    generator = np.random.default_rng(7)
    passages = np.stack([generator.permutation(9)[:k] for _ in range(rows)])
    lists = np.stack([generator.permutation(9)[:listed] for _ in range(rows)])
    lists[np.arange(listed) >= generator.integers(1, listed + 1, rows)[:, None]] = -1
    named = ("similarities", "lexical", "rerankings", "likelihoods", "relevances")
    said = {name: opinions(8 + place, rows, k) - 3 for place, name in enumerate(named)}
    twins = np.where(generator.random((rows, k)) < 0.3, passages[:, :1], passages)
    seeds = np.where(generator.random(rows) < 0.5, lists[:, 0], 8)
    return health.Block(lists, passages, said, seeds, generator.normal(-1, 1, rows).astype(np.float32), twins)


def test_negatives_that_may_be_answers_equal_a_loop() -> None:
    """Harm: what is said of one passage counts for another, or of what nobody judged an answer is made."""
    held = block()
    expected: dict[str, list[float]] = {name: [] for name in health.negatives(held)}
    for row, listed in enumerate(held.listed.tolist()):
        candidates = held.passages[row].tolist()

        def said(name: str, passage: int, row: int = row, candidates: list[int] = candidates) -> float:
            if passage in candidates:
                return float(held.opinions[name][row][candidates.index(passage)])
            is_seed = passage == held.seeds[row] == held.listed[row][0]
            return float(held.seed_similarities[row]) if is_seed and name == "similarities" else NAN

        def stands_for(passage: int, row: int = row, candidates: list[int] = candidates) -> int:
            assert held.twins is not None
            return int(held.twins[row][candidates.index(passage)]) if passage in candidates else passage

        for negative in [passage for passage in listed[1:] if passage >= 0]:
            above = {
                name: NAN if math.isnan(said(name, negative) + said(name, listed[0]))
                else float(said(name, negative) > said(name, listed[0]))
                for name in held.opinions
            }  # fmt: skip
            for name, value in above.items():
                expected[f"above {name}"].append(value)
            judged = [
                above[name] for name in ("rerankings", "likelihoods", "relevances") if not math.isnan(above[name])
            ]
            expected["preferred"].append(max(judged) if judged else NAN)
            relevance = said("relevances", negative)
            expected["answer"].append(NAN if math.isnan(relevance) else float(math.exp(relevance) > 0.5))
            expected["unlisted"].append(float(negative not in candidates))
            expected["twin"].append(float(stands_for(negative) == stands_for(listed[0])))
    for name, values in health.negatives(held).items():
        np.testing.assert_array_equal(values, expected[name], name)
        assert 0 < np.nansum(values) < len(values), name


def test_an_answer_is_one_that_is_rather_said_than_not() -> None:
    """Harm: a bound that is a little off counts what the judge denies as an answer."""
    relevances = np.log(np.array([[0.9, 0.51, 0.49, 0.42]], np.float32))
    rows, one = np.arange(4)[None], np.zeros(1, np.int64)
    held = health.Block(rows, rows, {"relevances": relevances}, one, np.zeros(1, np.float32), None)
    assert health.negatives(held)["answer"].tolist() == [1, 0, 0]


def test_only_what_was_asked_is_told_of_negatives() -> None:
    """Harm: candidates that nobody judged are reported as free of answers."""
    whole = block()
    bare = health.Block(
        whole.listed, whole.passages, {"similarities": whole.opinions["similarities"]}, whole.seeds,
        whole.seed_similarities, None,
    )  # fmt: skip
    assert set(health.negatives(bare)) == {"unlisted", "above similarities"}


def test_means_of_blocks_are_means_of_all() -> None:
    """Harm: a small block weighs as much as a large one, or what is not known counts as zero."""
    values = np.array([1.0, NAN, 3.0, 5.0, NAN, 0.0, 2.0])
    means = health.Means()
    for part in (values[:1], values[1:2], values[2:]):
        means.add({"figure": part})
    means.add({"nothing": values[1:2]})
    assert means.share("figure") == {"share": round(float(np.nanmean(values)), 6), "of": 5, "left_out": 2}
    assert means.share("nothing") == {"share": None, "of": 0, "left_out": 1}
    assert "figure" in means
    assert "other" not in means


def test_ranks_are_those_of_the_candidates() -> None:
    """Harm: a passage that was not found counts as found first."""
    passages = np.array([[5, 6, 7], [8, 5, 9], [1, 2, 3]])
    ranks = health.rank_of(passages, np.array([5, 9, 7]))
    assert ranks.tolist() == [0, 2, -1]
    shares = health.rank_shares(np.array([0, 2, -1, 1, 9, 10, 500, 3]))
    assert shares == {"1": 0.125, "2 to 3": 0.25, "4 to 10": 0.25, "later": 0.25, "not found": 0.125}


def test_contradictions_equal_a_loop() -> None:
    """Harm: a row pushes away what another row of the same query pulls close, and nobody sees it."""
    generator = np.random.default_rng(9)
    asked, positives = generator.integers(0, 12, 60), generator.integers(0, 9, 60)
    counts = generator.integers(0, 4, 60)
    flat = generator.integers(0, 9, counts.sum())
    answers = set(zip(asked.tolist(), positives.tolist(), strict=True))
    expected = [(query, passage) in answers for query, passage in zip(np.repeat(asked, counts), flat, strict=True)]
    assert health.contradicted(asked, positives, flat, counts).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_passages_that_answer_most_come_first() -> None:
    """Harm: boilerplate that answers everything is not among the passages that are shown."""
    assert health.crowded(np.array([4, 7, 7, 2, 9, 9, 9]), 5) == [(9, 3), (7, 2)]
    assert health.crowded(np.array([4, 7, 7, 2, 9, 9, 9]), 1) == [(9, 3)]


@pytest.mark.parametrize(("moved", "rows", "samples", "halves"), [(50, 100, 20, (10, 10)), (3, 100, 20, (3, 17)),
                                                                  (97, 100, 20, (17, 3)), (0, 5, 20, (0, 5)),
                                                                  (5, 5, 3, (3, 0)), (2, 4, 0, (0, 0))])  # fmt: skip
def test_half_of_the_sample_is_relabelled(moved: int, rows: int, samples: int, halves: tuple[int, int]) -> None:
    """Harm: what needs a person's eye most, a changed positive, is not in the sample."""
    relabelled = np.random.default_rng(10).permutation(np.arange(rows) < moved)
    found = health.drawn(relabelled, samples, 1)
    assert len(set(found.tolist())) == len(found)
    assert relabelled[found].tolist() == [True] * halves[0] + [False] * halves[1]
    assert (health.drawn(relabelled, samples, 1) == found).all()
    if samples and rows > samples:
        assert set(health.drawn(relabelled, samples, 2).tolist()) != set(found.tolist())


def table(passages: list[list[int]], scores: list[list[float]]) -> pa.Table:
    count = len(passages)
    held = {
        "kind": ["retrieval"] * count, "task": ["t"] * count, "query": [f"q {row}" for row in range(count)],
        "passages": passages, "scores": scores, "in_batch": [True] * count, "symmetric": [False] * count,
        "group": [-1] * count, "origin": [-1] * count,
    }  # fmt: skip
    return pa.table(held, schema=tables.EXAMPLES)


def test_rows_of_several_parts_are_flattened_in_order() -> None:
    """Harm: behind a part's border, lists begin at the wrong place, and each positive is a negative."""
    lists, scores = [[3, 1], [2], [0, 1, 2], [4]], [[0.5, 0.25], [], [1.0, 2.0, 3.0], []]
    whole = pa.concat_tables([table(lists[:1], scores[:1]), table(lists[1:], scores[1:])]).slice(0, 4)
    for start in (0, 1):
        rows = health.Rows.of(whole.slice(start), "rows", 5)
        assert rows.positives.tolist() == [held[0] for held in lists[start:]]
        assert rows.lengths.tolist() == [len(held) for held in lists[start:]]
        assert rows.flat[rows.is_negative].tolist() == [passage for held in lists[start:] for passage in held[1:]]
        assert np.diff(rows.score_starts).tolist() == [len(held) for held in scores[start:]]
        assert rows.asked.tolist() == [[0, 0, 1, 2], [0, 1, 2]][start]  # each part begins with query 0


@pytest.mark.parametrize(
    ("lists", "scores", "said"),
    [
        ([[1], []], [[], []], "row 1 has 0 passages and 0 scores; needed: a positive at least"),
        ([[1, 2]], [[0.5]], "row 0 has 2 passages and 1 scores"),
        ([[1, 9]], [[]], "row 9 is outside the passages table of 5 rows"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused(lists: list[list[int]], scores: list[list[float]], said: str) -> None:
    """Harm: figures of broken rows look like figures."""
    with pytest.raises(Refused, match=said):
        health.Rows.of(table(lists, scores), "examples", 5)
