"""Entropy against a loop; the automatic temperature on any scale."""

import math

import numpy as np
import pytest

from distill import scores
from distill.errors import Refused


def ragged(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lists of 1 to 8 cosines."""
    generator = np.random.default_rng(seed)
    present = np.arange(8) < generator.integers(1, 9, 200)[:, None]
    return generator.normal(0.5, 0.1, present.shape), present


def naive_entropy(values: list[float], temperature: float) -> float:
    weights = [math.exp((value - max(values)) / temperature) for value in values]
    return -sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights if w > 0)


def test_entropies_equal_a_loop() -> None:
    """Harm: padding counts as candidates, and the temperature is chosen for lists that nobody has."""
    held, present = ragged()
    for temperature in (0.01, 0.1, 3.0):
        found = scores.entropies(held, present, temperature)
        expected = [naive_entropy(row[there].tolist(), temperature) for row, there in zip(held, present, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_list_without_a_score_has_no_entropy() -> None:
    """Harm: a row that was never scored makes the mean NaN, which no artifact can hold."""
    found = scores.entropies(np.zeros((2, 3)), np.array([[False] * 3, [True] * 3]), 0.5)
    np.testing.assert_allclose(found, [0, math.log(3)])


@pytest.mark.parametrize(("factor", "shift"), [(1, 0), (1000, 0), (1e-6, 0), (1, 50), (1000, -4000)])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_auto_temperature_reaches_the_entropy_on_any_scale(factor: float, shift: float, share: float) -> None:
    """Harm: log-likelihoods of -4000 get the temperature of cosines: one-hot targets, which are no distillation."""
    held, present = ragged()
    given = held * factor + shift
    found = scores.auto_temperature(given, present, share)
    useful = present.sum(1) > 1
    reached = scores.entropies(given, present, found)[useful].mean()
    assert reached == pytest.approx(share * np.log(present.sum(1)[useful]).mean(), rel=1e-6)
    assert found / factor == pytest.approx(scores.auto_temperature(held, present, share), rel=1e-4)


def test_auto_temperature_reads_single_precision_without_loss() -> None:
    """Harm: scores come as fp32, where a shift by -4000 leaves few digits for the exponent."""
    held, present = ragged()
    given = (held * 1000 - 4000).astype(np.float32)
    found = scores.auto_temperature(given, present)
    assert found == pytest.approx(1000 * scores.auto_temperature(held, present), rel=1e-3)
    exact = scores.entropies(given.astype(np.float64), present, found)
    np.testing.assert_allclose(scores.entropies(given, present, found), exact, atol=1e-12)


def test_lists_that_no_temperature_changes_do_not_count() -> None:
    """Harm: where most lists hold equal scores, the search runs to a temperature of nothing and says so to no one."""
    held, present = ragged()
    alone = scores.auto_temperature(held, present)
    flat = np.concatenate([held, np.full((1000, 8), 0.5)])
    there = np.concatenate([present, np.ones((1000, 8), bool)])
    assert scores.auto_temperature(flat, there) == pytest.approx(alone)


def test_one_list_of_another_scale_does_not_bound_the_search() -> None:
    """Harm: an outlier of a million sets the range in which the temperature of all others is sought."""
    held, present = ragged()
    held[int(present.sum(1).argmax())] *= 1e9
    found = scores.auto_temperature(held, present)
    useful = present.sum(1) > 1
    reached = scores.entropies(held, present, found)[useful].mean()
    assert reached == pytest.approx(0.6 * np.log(present.sum(1)[useful]).mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("held", "present"),
    [
        (np.full((4, 3), 0.7), np.ones((4, 3), bool)),  # all equal
        (np.arange(4.0)[:, None], np.ones((4, 1), bool)),  # lists of one
        (np.random.default_rng(0).random((4, 3)), np.zeros((4, 3), bool)),  # nothing there
        (np.zeros((0, 3)), np.zeros((0, 3), bool)),  # no list
    ],
)
def test_scores_that_say_nothing_are_refused(held: np.ndarray, present: np.ndarray) -> None:
    """Harm: a student is taught a uniform distribution for hours."""
    with pytest.raises(Refused, match="teach nothing"):
        scores.auto_temperature(held, present)


def test_ties_for_the_first_place_are_refused_when_no_temperature_helps() -> None:
    """Harm: grades of 0 and 1 with many ones: the entropy cannot fall, so the targets become a hard vote."""
    held = np.tile([1.0, 1.0, 1.0, 0.0], (5, 1))
    with pytest.raises(Refused, match="first place"):
        scores.auto_temperature(held, np.ones(held.shape, bool))


def of_logits(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A cross-encoder's raw scores: positives about 8, negatives from -8 to 5."""
    generator = np.random.default_rng(seed)
    held = generator.uniform(-8, 5, (100, 24))
    held[:, 0] = generator.normal(8, 1, 100)
    return held, np.ones(held.shape, bool)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_targets_of_published_settings_pass(temperature: float) -> None:
    """Harm: what SimLM and RocketQAv2 trained with (raw logits, a temperature of 1) is refused."""
    held, present = of_logits()
    found = scores.check_targets(held, present, temperature, "t")
    each = [naive_entropy(row.tolist(), temperature) for row in held]
    assert found == pytest.approx(np.mean(each))


@pytest.mark.parametrize(("temperature", "said"), [(0.02, "one passage takes all"), (1000.0, "all are alike")])
def test_targets_that_collapse_are_refused_with_their_entropy_and_the_cure(temperature: float, said: str) -> None:
    """Harm: a one-hot or a uniform target trains for hours, and its curve falls."""
    held, present = of_logits()
    automatic = f"auto, which would be {scores.auto_temperature(held, present):.3g}"
    with pytest.raises(
        Refused, match=rf"^t: .* {said}: their mean entropy is \d\.\d+ nats, of 3\.178 .*{automatic}\.$"
    ):
        scores.check_targets(held, present, temperature, "t")


def test_lists_of_equal_scores_do_not_hide_that_the_others_collapsed() -> None:
    """Harm: a tenth of the lists, all ties, bring the mean entropy of one-hot targets above any threshold."""
    held, present = of_logits()
    held[:20] = 3.0
    with pytest.raises(Refused, match="one passage takes all"):
        scores.check_targets(held, present, 0.02, "t")
    with pytest.raises(Refused, match="equal or missing"):
        scores.check_targets(held[:20], present[:20], 1.0, "t")


def test_margins_that_no_student_can_have_are_refused_with_the_scale_that_it_can() -> None:
    """Harm: a student of cosines is to be ahead by 13: it only ever pushes apart as far as it can."""
    held, present = of_logits()
    widest = float(np.quantile(held[:, :1] - held[:, 1:], 0.99))
    with pytest.raises(Refused, match=rf"^t: 1: .*reach {widest:.3g} \(.* no two cosines .*With {widest:.2g} they"):
        scores.check_margins(held, present, 1.0, "t")
    scores.check_margins(held, present, widest, "t")
    scores.check_margins(*ragged(), 1.0, "t")
    with pytest.raises(Refused, match="hardly tell"):
        scores.check_margins(held, present, 1e5, "t")
    for nothing in (np.zeros(held.shape), held):
        with pytest.raises(Refused, match="equal or missing"):
            scores.check_margins(nothing, present & (nothing is not held), 1.0, "t")


def test_histogram_counts_every_finite_value() -> None:
    """Harm: one NaN in a column stops the step that draws it."""
    made = scores.histogram(np.array([0.0, 0.5, 1.0, math.nan, math.inf]), bins=2)
    assert made == {"edges": [0.0, 0.5, 1.0], "counts": [1, 2]}
    assert sum(scores.histogram(np.full(3, math.nan))["counts"]) == 0


@pytest.mark.parametrize("value", [0.5, -100.0, 1e-30])
def test_histogram_of_values_that_hardly_differ(value: float) -> None:
    """Harm: scores a rounding apart stop the step that has just paid for them, at its last figure."""
    near = np.array([value, np.nextafter(np.float32(value), np.float32(1e3))], np.float32)
    assert sum(scores.histogram(near)["counts"]) == 2
