"""Choices from raw judgements, against hand-worked rows and plain loops."""

import math

import numpy as np
import pytest

from distill import ranking

NAN = math.nan


def test_fusion_of_a_hand_worked_row() -> None:
    """Harm: the judgements prefer one passage and the label names another."""
    likelihoods = np.array([[-9.0, -3.0, -5.0, -4.0]])  # ranks 4 1 3 2
    relevances = np.array([[-0.1, -0.9, -0.5, -0.2]])  # ranks 1 4 3 2
    assert ranking.ranks(likelihoods).tolist() == [[4, 1, 3, 2]]
    np.testing.assert_allclose(
        ranking.fuse(likelihoods, relevances), [[1 / 4 + 1, 1 + 1 / 4, 1 / 3 + 1 / 3, 1 / 2 + 1 / 2]]
    )
    assert ranking.fuse(likelihoods, relevances).argmax() == 0  # ties go to the more similar passage


def test_no_smoothing_constant_by_default() -> None:
    """Harm: with Cormack's 60 two middling ranks beat one first place, which is not Gecko's choice of a positive."""
    likelihoods, relevances = np.array([[5.0, 4, 1, 3, 2]]), np.array([[1.0, 4, 5, 3, 2]])  # 1 5, 2 2, 5 1
    assert ranking.fuse(likelihoods, relevances).argmax() == 0
    smoothed = ranking.fuse(likelihoods, relevances, constant=60)
    assert smoothed.argmax() == 1
    assert smoothed[0, 1] == pytest.approx(2 / 62)


def test_unjudged_candidates_rank_last() -> None:
    """Harm: `judge` stops at a depth, and a passage nobody looked at becomes the positive."""
    likelihoods = np.array([[-50.0, -60.0, NAN, NAN], [NAN, NAN, NAN, NAN], [-math.inf, NAN, -1.0, NAN]])
    assert ranking.ranks(likelihoods).tolist() == [[1, 2, 3, 4], [1, 2, 3, 4], [2, 3, 1, 4]]
    fused = ranking.fuse(likelihoods, likelihoods)
    assert fused.argmax(1).tolist() == [0, 0, 2]
    for judged in range(1, 9):  # even if the two judgements disagree as much as they can
        row = np.full((1, 10), NAN)
        row[0, :judged] = np.arange(judged)
        other = np.full((1, 10), NAN)
        other[0, :judged] = -np.arange(judged)
        assert ranking.fuse(row, other).argmax() < judged


def naive_negatives(
    passages: list[int], similarities: list[float], right: set[int], highest: float, negatives: int, skip: int
) -> list[int]:
    """Rows of the negatives, one candidate after the other."""
    taken: list[int] = []
    passed = 0
    for row, similarity in zip(passages, similarities, strict=True):
        if row not in right:
            passed += 1
            if passed > skip and similarity < highest and len(taken) < negatives:
                taken.append(row)
    return taken


RULES = {
    "share": lambda positive: 0.9 * positive,
    "margin": lambda positive: positive - 0.9,
    "absolute": lambda _: 0.9,
    "naive": lambda _: math.inf,
}


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("rule", RULES)
def test_hard_negatives_equal_a_loop(rule: str, skip: int) -> None:
    """Harm: the positive, the seed or a likely unlabelled positive is pushed away as a negative."""
    generator = np.random.default_rng(0)
    passages = np.stack([generator.permutation(40)[:12] for _ in range(300)])
    similarities = -np.sort(-generator.random((300, 12)), axis=1) * 2
    best = generator.integers(0, 12, 300)
    everyone = np.arange(300)
    positives, values = passages[everyone, best], similarities[everyone, best]
    seeds = np.where(generator.random(300) < 0.8, passages[everyone, generator.integers(0, 12, 300)], 99)
    same = generator.integers(0, 150, 300)
    known = ranking.answers(passages, positives, seeds, same)
    chosen = ranking.hard_negatives(similarities, known, ranking.ceilings(values, rule, 0.9), 4, skip)
    for row in everyone:
        right = {positives[row], *seeds[same == same[row]]}
        highest = RULES[rule](values[row])
        found = passages[row][chosen[row]].tolist()
        assert found == naive_negatives(passages[row].tolist(), similarities[row], right, highest, 4, skip)
        assert not right & set(found)
    if rule != "naive":
        assert set(chosen.sum(1).tolist()) >= {2, 3, 4}


def test_hard_negatives_are_the_most_similar_under_the_ceiling() -> None:
    """Harm: easy negatives are taken, from which nothing is learnt."""
    listed = np.array([[5, 7, 1, 8, 2, 3]])
    known = ranking.answers(listed, np.array([5]), np.array([8]), np.array([0]))
    highest = ranking.ceilings(np.array([0.97]), "share", 0.95)
    chosen = ranking.hard_negatives(np.array([[0.97, 0.96, 0.9, 0.8, 0.7, 0.6]]), known, highest, 2)
    assert chosen.tolist() == [[False, False, True, False, True, False]]  # 7 is over 0.9215, 8 is the seed


def test_a_share_of_a_positive_below_zero_lies_below_it() -> None:
    """Harm: 95 % of -0.4 is -0.38, and the negatives are more similar than the positive."""
    assert ranking.ceilings(np.array([-0.4, 0.4]), "share", 0.95).tolist() == pytest.approx([-0.42, 0.38])


def test_scores_of_a_passage_among_candidates_or_elsewhere() -> None:
    """Harm: the positive of a list gets the score of another passage."""
    passages, scores = np.array([[4, 2], [3, 1], [0, 5]]), np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    wanted = np.array([2, 3, 9])
    found = ranking.scores_of(passages, scores, wanted, None)
    assert found[:2].tolist() == [0.2, 0.3]
    assert math.isnan(found[2])
    assert ranking.scores_of(passages, scores, wanted, np.array([7.0, 8.0, 9.0])).tolist() == [0.2, 0.3, 9.0]


def test_padding_keeps_each_list_apart() -> None:
    """Harm: a padded zero, or a candidate that was not judged, is read as a score."""
    found, present = ranking.padded([[1.0, 2.0, 3.0], [4.0], [NAN, 5.0]])
    assert present.tolist() == [[True, True, True], [True, False, False], [False, True, False]]
    assert found[present].tolist() == [1, 2, 3, 4, 5]
    assert np.isfinite(found).all()
