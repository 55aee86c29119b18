"""Labelled texts and pairs as examples: what must hold for every draw, and what cannot be paired."""

import numpy as np
import pytest

from distill import pairing
from distill.errors import Refused


def classes(count: int = 400, labels: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that are not 0, 1, 2, ... and classes of very different sizes."""
    rng = np.random.default_rng(3)
    return rng.permutation(10 * count)[:count], rng.geometric(0.4, count) % labels


def test_positive_is_of_the_class_and_negatives_are_not() -> None:
    """Harm: a student is taught that texts of one class are far apart, or that a text answers itself."""
    rows, labels = classes()
    made = pairing.of_labels(rows, labels, negatives=5, seed=0)
    label = dict(zip(rows.tolist(), labels.tolist(), strict=True))
    for query, (positive, *negatives) in zip(made.queries.tolist(), made.passages.tolist(), strict=True):
        assert positive != query
        assert label[positive] == label[query]
        assert len(negatives) == len(set(negatives)) == 5
        assert all(label[negative] != label[query] for negative in negatives)
    kept = sum(count for count in np.bincount(labels) if count > 1)
    assert len(made.queries) == kept
    assert made.dropped["only text of its label"] == len(rows) - kept


def test_groups_are_the_classes() -> None:
    """Harm: batch-mates of one class become each other's negatives."""
    rows, labels = classes()
    made = pairing.of_labels(rows, labels, negatives=2, seed=0)
    label = dict(zip(rows.tolist(), labels.tolist(), strict=True))
    pairs = {(group, label[query]) for group, query in zip(made.groups.tolist(), made.queries.tolist(), strict=True)}
    assert len(pairs) == len({group for group, _ in pairs}) == len({name for _, name in pairs})


def test_every_other_text_is_drawn_alike() -> None:
    """Harm: some texts are negatives all the time, others never, and the student learns which."""
    rows, labels = np.arange(12), np.repeat([0, 1, 2], [2, 4, 6])
    counts = np.zeros((12, 12))
    for seed in range(1500):
        made = pairing.of_labels(rows, labels, negatives=3, seed=seed)
        for query, listed in zip(made.queries, made.passages, strict=True):
            counts[query, listed[1:]] += 1
    for query in range(12):
        others = labels != labels[query]
        assert counts[query][~others].sum() == 0
        share = counts[query][others] / 1500
        np.testing.assert_allclose(share, 3 / others.sum(), atol=0.06)


def test_seed_decides() -> None:
    """Harm: the same recipe makes other examples."""
    one, same, other = (pairing.of_labels(*classes(), negatives=4, seed=seed).passages for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_few_other_texts_are_all_drawn() -> None:
    """Harm: a small set is refused, or a negative is listed twice."""
    made = pairing.of_labels(np.arange(5), np.array([0, 0, 0, 1, 1]), negatives=7, seed=0)
    assert made.passages.shape == (5, 3)
    assert all(set(listed[1:]) == {3, 4} for listed in made.passages[:3])
    assert set(made.passages[4, 1:].tolist()) <= {0, 1, 2}


def test_texts_of_two_labels_and_repeats_are_left_out() -> None:
    """Harm: a text is its own negative."""
    rows = np.array([1, 1, 2, 2, 3, 4, 5])
    labels = np.array([0, 1, 0, 0, 0, 1, 1])
    made = pairing.of_labels(rows, labels, negatives=2, seed=0)
    assert sorted(made.queries.tolist()) == [2, 3, 4, 5]
    assert made.dropped == {"repeated in its label": 1, "of two labels": 1, "only text of its label": 0}


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], []])
def test_nothing_to_tell_apart_is_refused(labels: list[int]) -> None:
    """Harm: examples without a negative, whose loss is zero, train for hours."""
    with pytest.raises(Refused, match="fewer than two classes"):
        pairing.of_labels(np.arange(len(labels)), np.array(labels, np.int64), negatives=1, seed=0)


def test_pairs_go_both_ways_and_spare_what_is_linked() -> None:
    """Harm: half of what a symmetric pair can teach is lost, or a paraphrase is drawn as a negative."""
    first, second = np.array([10, 11, 20, 30, 40, 50]), np.array([11, 12, 21, 31, 41, 50])
    scores = np.array([0.8, 1.0, 0.9, 0.79, 1.0, 1.0])
    made = pairing.of_pairs(first, second, scores, negatives=2, seed=0)
    found = set(zip(made.queries.tolist(), made.passages[:, 0].tolist(), strict=True))
    assert found == {(10, 11), (11, 10), (11, 12), (12, 11), (20, 21), (21, 20), (40, 41), (41, 40)}
    assert made.dropped == {"pair not alike": 2}
    linked = [{10, 11, 12}, {20, 21}, {40, 41}]
    for query, listed in zip(made.queries.tolist(), made.passages.tolist(), strict=True):
        own = next(texts for texts in linked if query in texts)
        assert not own & set(listed[1:])
        assert len(set(listed[1:])) == 2
    assert len(set(made.groups.tolist())) == 3


def test_long_chains_are_one_class() -> None:
    """Harm: paraphrases linked through many others are drawn as each other's negatives."""
    rng = np.random.default_rng(0)
    chain = rng.permutation(500)
    first, second = np.append(chain[:-1], 900), np.append(chain[1:], 901)
    made = pairing.of_pairs(first, second, np.ones(len(first)), negatives=2, seed=0)
    assert len(set(made.groups.tolist())) == 2


def test_scores_on_another_scale_are_refused_by_name() -> None:
    """Harm: scores of 0 to 1 read as 0 to 5 keep no pair, and nobody is told."""
    with pytest.raises(Refused, match="the best has 20%"):
        pairing.of_pairs(np.array([1, 2]), np.array([3, 4]), np.array([0.2, 0.1]), negatives=1, seed=0)


def test_the_texts_of_labels_as_positives_and_negatives() -> None:
    """Harm: a text is told from its own label, or the only other label of two is not its negative."""
    rows, labels, names = np.arange(30), np.arange(30) % 3, np.array([90, 91, 92])
    made = pairing.of_label_texts(rows, labels, names, 7, seed=1)
    assert made.queries.tolist() == rows.tolist()
    for row, listed in zip(made.queries, made.passages.tolist(), strict=True):
        assert listed[0] == 90 + row % 3
        assert sorted(listed) == [90, 91, 92]
    two = pairing.of_label_texts(rows, labels % 2, names[:2], 1, seed=1)
    assert two.passages.tolist() == [[90 + n % 3 % 2, 91 - n % 3 % 2] for n in range(30)]
    assert set(pairing.of_label_texts(rows, labels, names, 1, seed=1).passages[:, 1].tolist()) == {90, 91, 92}
    with pytest.raises(Refused, match="fewer than two classes"):
        pairing.of_label_texts(rows, labels * 0, names[:1], 1, seed=1)
