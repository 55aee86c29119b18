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
        ranking.fuse([likelihoods, relevances]), [[1 / 4 + 1, 1 + 1 / 4, 1 / 3 + 1 / 3, 1 / 2 + 1 / 2]]
    )
    assert ranking.fuse([likelihoods, relevances]).argmax() == 0  # ties go to the more similar passage


def test_no_smoothing_constant_by_default() -> None:
    """Harm: with Cormack's 60 two middling ranks beat one first place, which is not Gecko's choice of a positive."""
    likelihoods, relevances = np.array([[5.0, 4, 1, 3, 2]]), np.array([[1.0, 4, 5, 3, 2]])  # 1 5, 2 2, 5 1
    assert ranking.fuse([likelihoods, relevances]).argmax() == 0
    smoothed = ranking.fuse([likelihoods, relevances], constant=60)
    assert smoothed.argmax() == 1
    assert smoothed[0, 1] == pytest.approx(2 / 62)


def test_unjudged_candidates_rank_last() -> None:
    """Harm: `judge` stops at a depth, and a passage nobody looked at becomes the positive."""
    likelihoods = np.array([[-50.0, -60.0, NAN, NAN], [NAN, NAN, NAN, NAN], [-math.inf, NAN, -1.0, NAN]])
    assert ranking.ranks(likelihoods).tolist() == [[1, 2, 3, 4], [1, 2, 3, 4], [2, 3, 1, 4]]
    fused = ranking.fuse([likelihoods, likelihoods])
    assert fused.argmax(1).tolist() == [0, 0, 2]
    for judged in range(1, 9):  # even if the two judgements disagree as much as they can
        row = np.full((1, 10), NAN)
        row[0, :judged] = np.arange(judged)
        other = np.full((1, 10), NAN)
        other[0, :judged] = -np.arange(judged)
        assert ranking.fuse([row, other]).argmax() < judged


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
    """Harm: the positive, the seed, a twin of either or a likely unlabelled positive is pushed away as a negative."""
    generator = np.random.default_rng(0)
    passages = np.stack([generator.permutation(40)[:12] for _ in range(300)])
    similarities = -np.sort(-generator.random((300, 12)), axis=1) * 2
    best = generator.integers(0, 12, 300)
    everyone = np.arange(300)
    positives, values = passages[everyone, best], similarities[everyone, best]
    seeds = np.where(generator.random(300) < 0.8, passages[everyone, generator.integers(0, 12, 300)], 99)
    twins = np.where(generator.random((300, 12)) < 0.2, seeds[:, None], passages)  # some are copies of the seed,
    twins[:, 5:] = np.where(generator.random((300, 7)) < 0.2, twins[:, [3]], twins[:, 5:])  # some of the fourth
    same = generator.integers(0, 150, 300)
    known = ranking.answers(passages, twins, positives, seeds) | ranking.Repeated.of(same, seeds).answers(passages, 0)
    able = ranking.able(similarities, known, ranking.ceilings(values, rule, 0.9), skip)
    chosen = ranking.hard_negatives(able, similarities, similarities, 4)
    for row in everyone:
        right = {positives[row], *seeds[same == same[row]]}
        twin = twins[row, best[row]]
        right |= {p for p, t in zip(passages[row], twins[row], strict=True) if t in (seeds[row], twin)}
        highest = RULES[rule](values[row])
        found = passages[row][chosen[row]].tolist()
        assert found == naive_negatives(passages[row].tolist(), similarities[row], right, highest, 4, skip)
        assert not right & set(found)
    if rule != "naive":
        assert set(chosen.sum(1).tolist()) >= {2, 3, 4}


def test_repeated_queries_are_the_same_in_any_block() -> None:
    """Harm: of two rows that ask the same, one lies in another block, and its answer becomes a negative."""
    generator = np.random.default_rng(1)
    passages, seeds = generator.integers(0, 30, (200, 9)), generator.integers(0, 20, 200)
    repeated = ranking.Repeated.of(generator.integers(0, 90, 200), seeds)
    parts = [repeated.answers(passages[start : start + 7], start) for start in range(0, 200, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), repeated.answers(passages, 0))
    assert repeated.answers(passages, 0).any()


def test_hard_negatives_are_the_most_similar_under_the_ceiling() -> None:
    """Harm: easy negatives are taken, from which nothing is learnt."""
    listed, similarities = np.array([[5, 7, 1, 8, 2, 3]]), np.array([[0.97, 0.96, 0.9, 0.8, 0.7, 0.6]])
    known = ranking.answers(listed, listed, np.array([5]), np.array([8]))
    able = ranking.able(similarities, known, ranking.ceilings(np.array([0.97]), "share", 0.95))
    chosen = ranking.hard_negatives(able, similarities, similarities, 2)
    assert chosen.tolist() == [[False, False, True, False, True, False]]  # 7 is over 0.9215, 8 is the seed


SIMILARITIES = np.array([[0.9, 0.8, 0.79, 0.78, 0.5, 0.45, 0.1]])


@pytest.mark.parametrize(
    ("choice", "places"), [("nearest", [1, 2, 3]), ("spread", [1, 5, 6]), ("last", [2, 4, 6])], ids=str
)
def test_each_choice_takes_its_own(choice: ranking.Choice, places: list[int]) -> None:
    """Harm: an ablation of negatives compares a choice with itself."""
    able = np.array([[False, True, True, True, True, True, True]])
    preferred = np.array([[9.0, 8, 1, 7, 0, 6, 2]])  # 4, 2 and 6 are preferred least; 0 may not be
    chosen = ranking.hard_negatives(able, SIMILARITIES, preferred, 3, choice)
    assert np.flatnonzero(chosen[0]).tolist() == places  # spread: 0.8, then 0.45 to (0.8 + 0.1) / 2, then 0.1


@pytest.mark.parametrize("choice", ["nearest", "random", "spread", "last"])
def test_no_choice_takes_what_may_not_be_or_too_many(choice: ranking.Choice) -> None:
    """Harm: where few candidates may be negatives, the positive fills the list."""
    generator = np.random.default_rng(4)
    able, similarities = generator.random((500, 9)) < 0.4, -np.sort(-generator.random((500, 9)), axis=1)
    chosen = ranking.hard_negatives(able, similarities, generator.random((500, 9)), 4, choice)
    assert not (chosen & ~able).any()
    np.testing.assert_array_equal(chosen.sum(1), np.minimum(able.sum(1), 4))
    assert not ranking.hard_negatives(able, similarities, similarities, 0, choice).any()


def test_random_negatives_are_drawn_alike_and_by_the_seed() -> None:
    """Harm: `random` favours the near ones, or the same recipe makes other examples."""
    able = np.ones((4000, 8), bool)
    able[:, 0] = False
    similarities = np.linspace(1, 0, 8)[None].repeat(4000, 0)
    drawn = [ranking.hard_negatives(able, similarities, similarities, 2, "random", (seed,)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    np.testing.assert_allclose(drawn[0].mean(0)[1:], 2 / 7, atol=0.03)


def test_who_was_not_asked_does_not_vote() -> None:
    """Harm: a dear judge that was asked of every tenth query changes the others' positives to the first candidate."""
    teacher = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.9, 0.8, 0.7]])
    logits = np.array([[1.0, 3.0, 2.0], [5.0, 1.0, 2.0], [NAN, NAN, NAN]])
    likely = np.array([[-3.0, -2.0, -1.0], [NAN, NAN, NAN], [NAN, NAN, NAN]])
    opinions = {"similarities": teacher, "rerankings": logits, "likelihoods": likely}
    preferred = ranking.preferred(opinions, ["rerankings", "likelihoods"])
    np.testing.assert_allclose(preferred[0], [1 / 3 + 1 / 3, 1 + 1 / 2, 1 / 2 + 1])
    assert preferred.argmax(1).tolist() == [1, 0, 0]
    assert ranking.disputed([teacher, logits, likely]).tolist() == [True, False, False]
    assert ranking.disputed([logits, likely]).tolist() == [True, False, False]
    assert ranking.agreement(teacher, logits) == 0.5
    assert ranking.agreement(logits, likely) == 0.0
    assert ranking.agreement(teacher, np.full((3, 3), NAN)) is None


def test_a_positive_that_one_judge_alone_prefers_is_not_agreed_on() -> None:
    """Harm: a passage that says "answer Yes" gets the label, since one judge believes it."""
    listed = np.array([[4, 5, 6, 7]] * 3)
    opinions = {
        "similarities": np.array([[0.9, 0.8, 0.7, 0.6]] * 3),
        "likelihoods": np.array([[-1.0, -2, -3, -9], [-1, -2, -3, -4], [NAN] * 4]),
        "relevances": np.array([[-3.0, -2, -1, -0.01], [-1, -2, -3, -4], [NAN] * 4]),
    }
    positives = np.array([7, 4, 5])
    assert ranking.agreed(opinions, listed, positives, 1).tolist() == [False, True, False]
    assert ranking.agreed(opinions, listed, positives, 2).tolist() == [False, True, True]
    assert ranking.agreed(opinions, listed, positives, 4).tolist() == [True, True, True]
    assert not ranking.agreed(opinions, listed, np.array([1, 1, 1]), 4).any()  # nobody listed it


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


def test_who_says_the_same_of_all_agrees_with_nobody() -> None:
    """Harm: a judge that says the same of everything is reported to put the teacher's first candidate first."""
    teacher = np.array([[0.9, 0.8, 0.7]] * 3)
    flat = np.array([[0.0, 0, 0], [-1, NAN, -1], [1, 2, 0]])
    assert ranking.agreement(teacher, flat) == 0.0  # told of the third query alone
    assert ranking.agreement(flat[:2], teacher[:2]) is None


def test_of_equal_ones_the_last_is_the_one_least_like_the_query() -> None:
    """Harm: two judges swap the last two candidates, and the nearer one passes for the lowest, against the tie rule."""
    preferred = ranking.fuse([np.array([[4.0, 3, 2, 1]]), np.array([[4.0, 3, 1, 2]])])
    assert preferred[0, 2] == preferred[0, 3]
    chosen = ranking.hard_negatives(np.ones((1, 4), bool), preferred, preferred, 1, "last")
    assert chosen.tolist() == [[False, False, False, True]]
