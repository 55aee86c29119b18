"""What an evaluation says: claims, titles that do not flatter, doubts, legends."""

import itertools
from typing import Any

import pytest

from distill import findings
from distill.errors import Refused
from distill.page import NONE

STUDENTS = ("distilled", "int8")
VALUES = {"untrained": 0.1, "teacher_1": 0.62, "teacher": 0.64, "start": 0.50, "contrastive": 0.55, "distilled": 0.60}


def metrics(changed: dict[str, float], half: float = 0.01, **other: Any) -> dict[str, Any]:
    """What `evaluate` writes, for given means and one half width of every interval."""
    values = {name: value for name, value in (VALUES | changed).items() if value}

    def around(value: float) -> dict[str, float]:
        return {"value": value, "low": value - half, "high": value + half}

    measured: dict[str, Any] = {
        name: {**around(value), "retention": around(value / values["teacher"]), "above": {}}
        for name, value in values.items()
    }
    for one, another in itertools.permutations(values, 2):
        measured[one]["above"][another] = around(values[one] - values[another])
    counts: dict[str, Any] = {"queries": 300, "pairs": 0, "passages": 5000, "resamples": 2000}
    models = {name: {"what": f"Encoder@{name}"} for name in values}
    said = {"main": "ndcg@10", "teacher": "teacher", "models": models, "measures": {"ndcg@10": measured}, "tasks": {}}
    return counts | said | other


@pytest.mark.parametrize(
    ("changed", "half", "said"),
    [
        ({}, 0.01, "distilled keeps 93.8% of teacher's nDCG@10"),
        ({"distilled": 0.70}, 0.01, "distilled is above its teacher: 0.700 against 0.640 nDCG@10"),
        ({"distilled": 0.65}, 0.02, "distilled and its teacher cannot be told apart: 0.650 against 0.640 nDCG@10"),
    ],
)
def test_no_title_praises_a_share_above_the_whole(changed: dict[str, float], half: float, said: str) -> None:
    """Harm: 109 % of a poor teacher is read as a triumph, or chance as a student above its teacher."""
    assert findings.title(metrics(changed, half), STUDENTS)[0] == said


@pytest.mark.parametrize("value", [0.65, 0.70])
def test_no_card_shows_a_share_above_the_whole(value: float) -> None:
    """Harm: the title is honest, and the largest letters of the page say 109 %."""
    headline = findings.sections(metrics({"distilled": value}), STUDENTS, [], {})[0].markdown()
    assert "%" not in headline
    assert f"**+{value - 0.64:.3f}** nDCG@10 above teacher" in headline
    kept = findings.sections(metrics({}), STUDENTS, [], {})[0].markdown()
    assert "**93.8%** of teacher's nDCG@10" in kept


@pytest.mark.parametrize(
    ("start", "half", "said"),
    [
        (0.50, 0.01, None),
        (0.70, 0.01, "The teacher is below the student's start (0.640 against 0.700 nDCG@10)"),
        (0.64, 0.01, "The teacher is not shown to be better than the student's start (0.640 against 0.640 nDCG@10)"),
        (0.60, 0.05, "The teacher is not shown to be better than the student's start (0.640 against 0.600 nDCG@10)"),
        (0.0, 0.01, None),  # not evaluated
    ],
)
@pytest.mark.parametrize("distilled", [0.61, 0.90])
def test_a_teacher_no_better_than_the_start_is_said(
    start: float, half: float, said: str | None, distilled: float
) -> None:
    """Harm: a student is taught by what knows less than it did, and the page speaks of what it kept."""
    found = findings.cautions(metrics({"start": start, "distilled": distilled, "contrastive": 0.0}, half), STUDENTS)
    assert (said is None and not found) or (len(found) == 1 and found[0].startswith(str(said)))


@pytest.mark.parametrize(
    ("contrastive", "said"), [(0.55, None), (0.595, "is not shown to be better than"), (0.70, "is below")]
)
def test_a_teacher_whose_numbers_add_nothing_is_said(contrastive: float, said: str | None) -> None:
    """Harm: the same training without a teacher does as well, which only a table further down shows."""
    found = findings.cautions(metrics({"contrastive": contrastive}), STUDENTS)
    assert (said is None and not found) or (len(found) == 1 and f"distilled {said} contrastive" in found[0])


@pytest.mark.parametrize(
    ("changed", "other", "said"),
    [
        ({}, {}, ""),
        ({}, {"queries": 50, "passages": 100}, ""),
        ({}, {"queries": 49}, "49 queries (fewer than 50)"),
        ({}, {"passages": 99}, "99 passages (fewer than 100)"),
        ({"teacher": 0.995}, {}, "a teacher at 0.995 nDCG@10 (above 0.99)"),
        ({}, {"queries": 0, "pairs": 300, "passages": 20}, ""),  # pairs are not searched
        ({}, {"queries": 0, "pairs": 30}, "30 pairs (fewer than 50)"),
        (
            {"teacher": 1.0},
            {"queries": 3, "passages": 9},
            "3 queries (fewer than 50) and 9 passages (fewer than 100) and",
        ),
    ],
)
def test_a_benchmark_that_can_hardly_tell_is_said(changed: dict[str, float], other: dict[str, Any], said: str) -> None:
    """Harm: models are ranked by a handful of questions, or where each of them is perfect."""
    found = findings.warning(metrics(changed, **other))
    assert (found == "") if not said else said in found
    assert not found or found in findings.cautions(metrics(changed, **other), STUDENTS)


def test_the_lead_says_what_is_searched() -> None:
    """Harm: a score among 5,000 passages is taken for one among all there are."""
    assert "only the benchmark's own 5,000 passages are searched" in findings.title(metrics({}), STUDENTS)[1]
    assert "searched" not in findings.title(metrics({}, queries=0, pairs=300), STUDENTS)[1]


def test_of_several_benchmarks_each_is_told() -> None:
    """Harm: a mean hides where a student fails, or a benchmark of ten queries hides among large ones."""
    one, other = metrics({"distilled": 0.62}), metrics({"distilled": 0.58}, queries=10)
    several = metrics({}, benchmarks={"one": one, "other": other})
    assert "of 2 benchmarks, each asked by itself" in findings.title(several, STUDENTS)[1]
    assert findings.warning(several).startswith("other has 10 queries (fewer than 50): only large differences")
    tables, folded = (section.markdown() for section in findings.sections(several, STUDENTS, [], {})[1:])
    assert "nDCG@10 of each benchmark" in tables
    assert "| distilled | 0.620 [0.610, 0.630] | 0.580 [0.570, 0.590] |" in tables.replace("**", "")
    for what in ("nDCG@10, mean of all benchmarks", "nDCG@10 on one", "nDCG@10 on other"):
        assert f"Paired differences of {what}" in folded


def test_the_standing_claims_ask_whether_the_teacher_is_worth_it() -> None:
    """Harm: a second stage that makes the teacher worse, or a teacher below the start, is asked by nobody."""
    found = findings.verdicts(findings.CLAIMS, metrics({"teacher_1": 0.70, "start": 0.70}))
    assert found["teacher > teacher_1"][0] == found["teacher > start"][0] == "refuted"
    assert "distilled > bm25" not in found  # not evaluated here
    assert "distilled > bm25" in findings.verdicts([*findings.CLAIMS, "start > untrained"], metrics({}))


def test_without_a_teacher_there_is_no_word_of_one() -> None:
    """Harm: the report of an evaluation without a teacher fails, after everything else has worked."""
    found = metrics({}, teacher="")
    for held in found["measures"]["ndcg@10"].values():
        held["retention"] = None
    assert findings.title(found, STUDENTS)[0] == f"nDCG@10 of {len(VALUES)} models"
    assert findings.cautions(found, STUDENTS) == []
    assert findings.sections(found, STUDENTS, [], {})


def test_a_teacher_among_the_students_is_not_compared_with_itself() -> None:
    """Harm: `students: [teacher]` headlines 100 %, or ends in a traceback."""
    assert findings.title(metrics({}), ("teacher",))[0] == f"nDCG@10 of {len(VALUES)} models"


def test_a_claim_is_read_or_refused() -> None:
    """Harm: a claim that is never tested."""
    assert findings.parsed(" a>b ") == ("a", ">", "b")
    with pytest.raises(Refused, match="claims: "):
        findings.parsed("a >= b")


def test_facts_are_told_as_people_write_them() -> None:
    """Harm: a reader is shown True, None and 0.30000000000000004."""
    assert [findings.told(value) for value in (True, None, 1234567, 0.1 + 0.2, [1, 2.5])] == [
        "yes", NONE, "1,234,567", "0.3", "1, 2.5",
    ]  # fmt: skip
