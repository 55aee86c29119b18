"""Each bound turns, nothing is made up where nothing is known, and the page says what was found."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest

from distill import diagnosis, health
from distill.page import NONE, Page


def told(**values: Any) -> dict[str, Any]:
    """A share with its counts."""
    return {name: {"share": value, "of": 90, "left_out": 10} for name, value in values.items()}


def sound() -> dict[str, Any]:
    """Figures of data in which nothing is off."""
    lengths = np.arange(20, 60)
    scores = np.linspace(0.2, 0.9, 50)
    return {
        "rows": 12_345,
        "passages": 678,
        "kinds": [{"kind": "retrieval", "rows": 12_345, "share": 1.0}],
        "tasks": {"distinct": 3, "frequent": [{"task": "find it", "rows": 12_000, "share": 0.972}]},
        "negatives": {"mean": 6.5, "rows_without": 12, "rows_with_the_batch": 12_345},
        "words": health.distributions({"queries": lengths}) | health.distributions(
            {"positives": lengths, "hard negatives": lengths + 2}
        ),
        "scores": {
            "above": 0.02, "equal": 0.01, "not_scored": 7,
            **health.distributions({"spread": scores}), **health.distributions({"deviation": scores / 3}),
            **health.distributions({"positives": scores, "hard negatives": scores - 0.1}),
        },
        "entropy": {
            "temperature": 0.03, "automatic": 0.03, "refused": "", "entropy": 1.2, "effective": 3.9,
            **health.distributions({"share": np.linspace(0.4, 0.8, 50)}),
        },
        "positives": {
            "relabelled": 0.15, "rows_relabelled": 1852,
            "seed_rank": health.rank_shares(np.array([0, 0, 1, 4, -1] * 4)),
            "seed_rank_of_relabelled": {}, "positive_rank": health.rank_shares(np.array([0, 1])),
        },
        "agreement": [
            {"one": "similarities", "other": "relevances", "same_best": 0.4, "by_chance": 0.05, "correlation": 0.3,
             "queries": 12_000, "left_out": 345}
        ],
        "false_negatives": told(answer=0.05, preferred=0.2, twin=0.0, unlisted=0.0)
        | {"above similarities": {"share": 0.0, "of": 90, "left_out": 0}},
        "duplicates": {
            "queries": 0.01, "plain_queries": 0.02, "near_queries": 0.03, "pairs": 0.0, "contradicted": 0.0,
            "retrieval_rows": 12_345,
            "crowded": [{"passage": 5, "rows": 40, "text": "the passage that answers most"}],
        },
        "warnings": [],
    }  # fmt: skip


def test_sound_data_has_no_warning() -> None:
    """Harm: a page that always warns is a page that nobody reads."""
    checked = diagnosis.checks(sound())
    assert len(checked) == 15
    assert diagnosis.warnings(sound(), checked) == []
    assert diagnosis.title("examples", "judgements", sound())[0] == "examples: no warning"


OFF: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "Relabelled rows: 50.1%, wanted at most 50%.": (("positives", "relabelled"), 0.501),
    "Seeds that are no candidates: 31.0%": (("positives", "seed_rank", "not found"), 0.31),
    "Hard negatives that the language model takes for answers: 11.0%": (("false_negatives", "answer", "share"), 0.11),
    "Hard negatives that a judge prefers to the positive: 26.0%": (("false_negatives", "preferred", "share"), 0.26),
    "Hard negatives that say nearly the same as the positive: 0.1%, wanted none.": (
        ("false_negatives", "twin", "share"), 0.001),
    "Hard negatives that the teacher finds nearer": (("false_negatives", "above similarities", "share"), 0.2),
    "Hard negatives that are the positive of the same query": (("duplicates", "contradicted"), 0.001),
    "Lists in which a negative has a higher score": (("scores", "above"), 0.11),
    "Lists of equal scores": (("scores", "equal"), 0.11),
    "Rows whose query stands in an earlier row": (("duplicates", "queries"), 0.06),
    "Rows whose query and positive stand in an earlier row": (("duplicates", "pairs"), 0.06),
    "Rows that have the most frequent positive: 1.1%": (("duplicates", "crowded", 0, "rows"), 130),
    "One passage takes all. Take a higher temperature": (("entropy", "share", "mean"), 0.1),
    "hardly told apart. Take a lower temperature": (("entropy", "share", "mean"), 0.95),
    "Length alone tells a positive from a negative.": (("words", "positives", "percentiles", "50"), 90),
    "over those of a negative: 0.482, wanted 0.5 to 2.": (("words", "positives", "percentiles", "50"), 20),
    "Rank correlation of similarities and relevances: -0.2": (("agreement", 0, "correlation"), -0.2),
    "No automatic temperature: they teach nothing.": (("entropy", "refused"), "they teach nothing."),
}  # fmt: skip


@pytest.mark.parametrize("said", OFF)
def test_a_figure_beyond_its_bound_is_said_alone(said: str) -> None:
    """Harm: the one thing that is wrong with the data is not said, or drowns."""
    figures: Any = copy.deepcopy(sound())
    (*places, last), value = OFF[said]
    held = figures
    for place in places:
        held = held[place]
    held[last] = value
    (found,) = diagnosis.warnings(figures, diagnosis.checks(figures))
    assert said in found
    assert diagnosis.title("examples", "", figures | {"warnings": [found]})[0] == "examples: 1 warning"


def test_of_many_opinions_only_the_one_that_says_nothing_is_named() -> None:
    """Harm: one bad judge of six makes five warnings, and the good ones are blamed with it."""
    names, figures = ("similarities", "lexical", "likelihoods", "relevances"), sound()
    figures["agreement"] = [
        figures["agreement"][0] | {"one": one, "other": other, "correlation": 0.01 if other == "relevances" else 0.4}
        for one, other in itertools.combinations(names, 2)
    ]
    (found,) = diagnosis.warnings(figures, diagnosis.checks(figures))
    assert found.startswith("Rank correlation of relevances with the opinion most like it: 0.01, wanted at least 0.05.")
    assert found.endswith("Ask another judge, or label without it (`judges`).")


def test_what_rests_on_a_judge_of_chance_is_not_advised_on() -> None:
    """Harm: a lower ceiling is tried again and again, for negatives that a judge called answers by chance."""
    figures = sound()
    figures["agreement"] = [
        figures["agreement"][0] | {"one": one, "other": other, "correlation": 0.01 if other == lost else 0.4}
        for lost in ("relevances",)
        for one, other in itertools.combinations(("similarities", "likelihoods", lost), 2)
    ]
    figures["false_negatives"] |= told(answer=0.7, preferred=0.3)
    answers, preferred, chance = diagnosis.warnings(figures, diagnosis.checks(figures))
    for warning in (answers, preferred):
        assert warning.endswith("It rests on relevances, ranked as chance would: mend the judge first.")
    assert "rank correlation of relevances" in chance.lower()
    figures["agreement"][1] |= {"one": "similarities", "other": "likelihoods", "correlation": 0.01}
    figures["agreement"][0] |= {"one": "relevances", "other": "similarities", "correlation": 0.4}
    figures["agreement"][2] |= {"one": "relevances", "other": "likelihoods", "correlation": 0.01}
    answers, preferred, _ = diagnosis.warnings(figures, diagnosis.checks(figures))
    assert answers.endswith("Label with a lower ceiling.")  # likelihoods are lost, and that figure is of relevances
    assert "rests on likelihoods" in preferred


def test_a_passage_of_few_rows_is_no_crowd() -> None:
    """Harm: on small data two rows with one answer are a warning."""
    figures = sound()
    figures["duplicates"] |= {"crowded": [{"passage": 5, "rows": 19, "text": "x"}], "retrieval_rows": 100}
    assert diagnosis.warnings(figures, diagnosis.checks(figures)) == []


def bare() -> dict[str, Any]:
    """Figures of rows without scores, without candidates, without negatives."""
    none = {"count": 0}
    return sound() | {
        "scores": {}, "entropy": {}, "positives": {}, "agreement": [], "false_negatives": {},
        "words": sound()["words"] | {"hard negatives": none},
        "duplicates": sound()["duplicates"] | {"contradicted": None, "queries": None, "crowded": []},
    }  # fmt: skip


def test_what_is_not_known_is_not_checked_and_said() -> None:
    """Harm: rows that nobody judged are shown as judged and good."""
    checked = diagnosis.checks(bare())
    assert [check.name for check in checked] == ["rows whose query and positive stand in an earlier row"]
    text = page(bare())
    assert text.count("Not known: give `candidates`") == 2
    assert "These rows have no scores" in text
    assert "Fewer than two opinions" in text


def test_figures_that_could_not_be_told_are_dashes() -> None:
    """Harm: the page on data with gaps fails, or shows zero for what is not known."""
    figures = sound()
    figures["agreement"][0] |= dict.fromkeys(("same_best", "by_chance", "correlation"))
    figures["false_negatives"] |= told(answer=None, preferred=None)
    figures["scores"] |= {"above": None, "equal": None}
    figures["entropy"] = {"temperature": None, "automatic": None, "refused": "equal"}
    text = page(figures)
    assert text.count(NONE) >= 9
    assert "None" not in text
    names = [check.name for check in diagnosis.checks(figures)]
    assert not [name for name in names if "correlation" in name or "judge" in name or "lists" in name]


def page(figures: dict[str, Any]) -> str:
    whole = Page(*diagnosis.title("examples", "judgements", figures), figures["warnings"])
    whole.sections.extend(diagnosis.sections(figures, diagnosis.checks(figures)))
    return whole.html()


def test_the_page_shows_what_was_found() -> None:
    """Harm: the page and health.json tell two stories."""
    text = page(sound())
    for shown in (
        "12,345 rows of 678 passages, labelled from judgements", "15.0%", "5.0%", "20.0%", "of the largest entropy",
        "1,852 rows have another positive", "the most frequent of 3", "find it", "97.2%", "6.5 hard negatives a row",
        "the passage that answers most", "12,000", "345", "passages in play", "3.9", "at most 50%",
    ):  # fmt: skip
        assert shown in text, shown
    assert text.count("<svg") == 8
    assert text.count(">good<") == 15
