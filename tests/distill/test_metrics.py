"""Measures against rows worked out by hand and against naive loops; intervals against what they promise."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from distill import metrics


def naive(ranking: list[int], grades: dict[int, float], depth: int) -> dict[str, float]:
    """The textbook, one loop a measure."""
    gains = [max(grades.get(row, 0.0), 0.0) for row in ranking]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    dcg, best = (
        sum(gain / math.log2(place + 2) for place, gain in enumerate(values[:10])) for values in (gains, ideal)
    )
    first = next((place for place, gain in enumerate(gains[:10]) if gain > 0), None)
    found = {k: sum(gain > 0 for gain in gains[:k]) / len(ideal) for k in (10, depth)}
    return {
        "ndcg@10": dcg / best,
        "mrr@10": 0.0 if first is None else 1 / (first + 1),
        "recall@10": found[10],
        f"recall@{depth}": found[depth],
    }


def test_hand_worked_row() -> None:
    """Harm: a published number that no textbook formula gives."""
    found = metrics.retrieval(np.array([[7, 3, 9]]), [{3: 1.0, 9: 2.0, 7: 0.0}], depth=20)
    dcg = 1 / math.log2(3) + 2 / math.log2(4)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert found["ndcg@10"][0] == pytest.approx(dcg / ideal, abs=1e-6)
    assert found["mrr@10"][0] == pytest.approx(0.5)
    assert found["recall@10"][0] == 1


def test_positives_not_retrieved_count_against_the_model() -> None:
    """Harm: a model that misses a positive gets the nDCG of one that has none to miss."""
    found = metrics.retrieval(np.array([[1, 2]]), [{1: 1.0, 50: 1.0}], depth=20)
    assert found["ndcg@10"][0] == pytest.approx(1 / (1 + 1 / math.log2(3)), abs=1e-6)
    assert found["recall@20"][0] == 0.5


def test_missed_positives_do_not_fall_into_a_short_list() -> None:
    """Harm: with fewer rows retrieved than the depth, what was missed is counted as found."""
    found = metrics.retrieval(np.array([[5], [-1]]), [{1: 1.0}, {1: 1.0, 2: 3.0}], depth=100)
    assert all((column == 0).all() for column in found.values())


def test_equal_to_naive_loops() -> None:
    """Harm: graded, negative, missing or unretrieved judgements are read wrongly in some mixture."""
    generator = np.random.default_rng(3)
    rankings, judged = [], []
    for _ in range(200):
        ranking = generator.permutation(60)[:30]
        ranking[generator.integers(20, 31) :] = -1
        rankings.append(ranking)
        rows = generator.permutation(60)[: generator.integers(1, 25)].tolist()
        judged.append({row: float(generator.integers(-1, 4)) for row in rows} | {rows[0]: 1.0})
    found = metrics.retrieval(np.array(rankings), judged, depth=25)
    for number, (ranking, grades) in enumerate(zip(rankings, judged, strict=True)):
        for measure, value in naive(ranking.tolist(), grades, 25).items():
            assert found[measure][number] == pytest.approx(value, abs=1e-5), (number, measure)


def test_depth_of_ten_has_one_recall() -> None:
    """Harm: two columns of the same name."""
    assert metrics.measures(10) == ["ndcg@10", "mrr@10", "recall@10"]
    assert list(metrics.retrieval(np.array([[0]]), [{0: 1.0}], depth=10)) == metrics.measures(10)


def test_bootstrap_equals_naive_loop() -> None:
    """Harm: models are drawn on different queries, so that differences are not paired."""
    generator = np.random.default_rng(0)
    values = {"a": generator.random(40), "b": generator.random(40), "c": generator.random(40)}
    held = metrics.bootstrap(values, resamples=50, seed=5)
    again = np.random.default_rng(5)
    for drawn in held.drawn:
        rows = [int(row) for row in again.integers(0, 40, 40)]
        for model, value in zip(held.models, drawn, strict=True):
            assert value == pytest.approx(sum(values[model][row] for row in rows) / 40)
    differences = held.drawn[:, 0] - held.drawn[:, 2]
    found = held.difference("a", "c")
    assert found.value == pytest.approx(values["a"].mean() - values["c"].mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))


def test_same_seed_same_interval() -> None:
    """Harm: a verdict changes when the report is made again."""
    values = {"a": np.linspace(0, 1, 30)}
    one, same, other = (metrics.bootstrap(values, 200, seed).mean("a") for seed in (1, 1, 2))
    assert one == same != other


def test_pairing_finds_a_small_steady_difference() -> None:
    """Harm: an unpaired interval hides a gain that every query shows."""
    hard = np.random.default_rng(1).random(200)
    held = metrics.bootstrap({"new": hard * 0.9 + 0.05, "old": hard * 0.9, "same": hard * 0.9}, 500, 0)
    assert held.difference("new", "old").decided
    assert held.mean("new").low < held.mean("old").high  # the intervals of the means overlap
    assert not held.difference("old", "same").decided
    assert held.difference("old", "new").high < 0


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Harm: 95 % on the page is 80 % in truth."""
    generator = np.random.default_rng(2)
    hits = 0
    for seed in range(200):
        found = metrics.bootstrap({"a": generator.beta(2, 3, 80)}, 300, seed).mean("a")
        hits += found.low <= 0.4 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_retention_is_a_ratio_of_means() -> None:
    """Harm: a mean of ratios, which a single easy query dominates; or a division by nothing."""
    held = metrics.bootstrap({"teacher": np.array([0.1, 1.0] * 20), "student": np.array([0.3, 0.7] * 20)}, 300, 0)
    kept = held.retention("student", "teacher")
    assert kept is not None
    assert kept.value == pytest.approx(1.0 / 1.1)
    assert kept.low < kept.value < kept.high
    whole = held.retention("teacher", "teacher")
    assert whole is not None
    assert (whole.low, whole.high) == (1, 1)
    assert metrics.bootstrap({"teacher": np.zeros(5), "a": np.ones(5)}, 10, 0).retention("a", "teacher") is None


def test_spearman_equals_scipy_with_ties() -> None:
    """Harm: tied scores of people get an order that nobody gave them."""
    generator = np.random.default_rng(4)
    scores = generator.integers(0, 6, 80).astype(float)
    cosines = {"a": scores + generator.normal(0, 1, 80), "b": generator.normal(0, 1, 80)}
    held = metrics.bootstrap_spearman(cosines, scores, 100, 7)
    for model, column in cosines.items():
        found = held.mean(model)
        assert found.value == pytest.approx(spearmanr(column, scores).statistic, abs=1e-4)
        assert found.low < found.value < found.high
    rows = np.random.default_rng(7).integers(0, 80, 80)
    assert held.drawn[0, 0] == pytest.approx(spearmanr(cosines["a"][rows], scores[rows]).statistic, abs=1e-4)


def test_average_over_tasks() -> None:
    """Harm: scores of two data sets on two scales are ranked together."""
    one, other = (metrics.bootstrap({"a": np.full(4, value)}, 5, 0) for value in (0.2, 0.6))
    assert metrics.average([one, other]).mean("a").value == pytest.approx(0.4)


def test_v_measure_equals_the_librarys() -> None:
    """Harm: clusters are scored by a formula of our own."""
    from sklearn.metrics import v_measure_score

    generator = np.random.default_rng(0)
    for classes, width in ((3, 4), (5, 2), (2, 1)):
        told = generator.integers(0, classes, 40)
        found = generator.integers(0, width, 40)
        assert metrics.v_measure(found, told) == pytest.approx(v_measure_score(told, found), abs=1e-12)
    same = np.arange(4).repeat(3)
    assert metrics.v_measure(3 - same, same) == pytest.approx(1.0)
    drawn = metrics.bootstrap_v_measure({"m": (3.0 - same), "n": np.zeros(12)}, same, 20, 0)
    assert drawn.value.tolist() == pytest.approx([1.0, 0.0])
    assert drawn.drawn[:, 0].tolist() == pytest.approx([1.0] * 20)


def test_the_interval_of_a_v_measure_holds_it_and_covers_the_truth() -> None:
    """Harm: resampled clusters look better than the clusters, and the interval lies above its own value."""
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 10, 40_000)
    right = generator.random(40_000) < 0.5
    found = np.where(right, classes, generator.integers(0, 10, 40_000))
    held, widths = 0, []
    for _ in range(60):
        rows = generator.integers(0, 40_000, 400)
        interval = metrics.bootstrap_v_measure({"m": found[rows].astype(float)}, classes[rows], 200, 1).mean("m")
        assert interval.low < interval.value < interval.high
        biased = metrics.v_measure(found, classes) + 81 / (2 * 400 * np.log(10))  # of a small sample; Miller, 1955
        held += interval.low < biased < interval.high
        widths.append(interval.high - interval.low)
    assert held >= 50
    assert np.mean(widths) < 0.12


def test_what_is_told_of_a_class_is_not_asked() -> None:
    """Harm: a text's own class is among what the regression has learned, and every model is perfect."""
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 30)
    noise = generator.standard_normal((120, 300))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    assert 0.15 < metrics.few_shot(noise, classes, 0).mean() < 0.35  # chance is 0.25
    apart = np.eye(4)[classes] + 0.01 * noise[:, :4]
    assert metrics.few_shot(apart, classes, 0).tolist() == [1.0] * 120


def test_eight_of_each_class_are_told_and_half_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a large class is told better than a small one, or a class of two is never asked."""
    import sklearn.linear_model

    seen: list[np.ndarray] = []

    class Watched(sklearn.linear_model.LogisticRegression):  # type: ignore[misc]
        def fit(self, vectors: np.ndarray, classes: np.ndarray) -> "Watched":
            seen.append(vectors[:, 0].astype(int))
            return super().fit(vectors, classes)

    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", Watched)
    classes = np.repeat([0, 1, 2], [40, 10, 2])
    vectors = np.column_stack([np.arange(52.0), classes])
    assert np.isfinite(metrics.few_shot(vectors, classes, 3)).all()
    for told in seen:
        assert np.bincount(classes[told]).tolist() == [8, 5, 1]
    assert not set(seen[0][-1:]) & set(seen[1][-1:])


def test_clusters_find_what_lies_apart() -> None:
    """Harm: clusters of texts that a model holds well apart come out mixed."""
    classes = np.repeat(np.arange(3), 20)
    vectors = np.eye(3)[classes] + 0.05 * np.random.default_rng(0).standard_normal((60, 3))
    assert metrics.v_measure(metrics.clusters(vectors, classes, 0), classes) == pytest.approx(1.0)
