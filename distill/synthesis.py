"""Made-up examples (E5-Mistral, arXiv 2401.00368, section 3.1): what is asked, and what of the answers is kept."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distill import prompts, queries
from distill.prompts import Prompt

Group = Literal["short_long", "long_short", "short_short", "long_long", "sts"]

TASK_WORDS = 30
"""The most of a task."""

RULES = ("unparsable", "wrong length", "unfinished", "repeats itself", "leaked", "copied", "same twice")
"""Why a record is dropped, in the order in which that is looked for."""

WORDS = (50, 100, 200, 300, 400, 500)
"""Words that a document is asked to have."""

LONG = 10
"""Words of a long text at least, whatever was asked for; of a short one at most four times as many."""

ENDS = tuple('.!?")\u2026\u201d\u00bb\u3002\uff01\uff1f\u300d\u0964\u061f')
"""What the last task of a list, or the last text of a record if it is long, ends with, unless it was cut short."""

LETTERS = 15
"""Of a text without spaces, as many count as a word at least."""

DRAWN: Mapping[str, Sequence[str]] = {
    "kind": ("extremely long-tail", "long-tail", "common"),
    "length": ("less than 5 words", "5 to 15 words", "at least 10 words"),
    "clarity": ("clear", "understandable with some effort", "ambiguous"),
    "level": ("high school", "college", "PhD"),
    "unit": ("sentence", "phrase", "passage"),
    "high": ("4", "4.5", "5"),
    "low": ("2.5", "3", "3.5"),
}
"""What is drawn anew for each record, uniformly."""


@dataclass(frozen=True)
class Shape:
    """A group of tasks: what its examples are made of."""

    kind: Literal["retrieval", "classification", "sts"]
    """Of the examples that come of it."""
    prompt: Prompt
    has_negative: bool
    about: str
    """How its list of tasks begins."""
    tasks: tuple[str, ...]
    """Tasks that a list begins with, three at a time; one alone if it is not brainstormed."""
    query: bool = False
    """Whether the query is long."""
    passage: bool = False
    """Whether the other texts are."""


SHAPES: Mapping[Group, Shape] = {
    "short_long": Shape(
        "retrieval",
        prompts.SHORT_LONG,
        True,
        "A short query is given, and a long document is wanted.",
        (
            "Given a health question, find a page of a hospital that answers it.",
            "Given the name of a historical event, find an account by somebody who was there.",
            "Given a claim about the climate, find a study that supports or refutes it.",
            "Given an error message of a program, find a discussion that solves it.",
            "Given a recipe's name, find instructions for people who cannot eat gluten.",
            "Given a traveller's wish, find the description of a place that fulfils it.",
        ),
        passage=True,
    ),
    "long_short": Shape(
        "classification",
        prompts.LONG_SHORT,
        True,
        "A long text is given, and a short label is wanted.",
        (
            "Identify which emotion a letter of complaint expresses most.",
            "Classify a news article by the part of the economy that it is about.",
            "Decide what a customer who writes to a bank intends to do.",
            "Tell which school subject an exercise belongs to.",
            "Judge whether a product review is about the delivery, the quality or the price.",
            "Identify the political tone of a speech.",
        ),
        query=True,
    ),
    "short_short": Shape(
        "retrieval",
        prompts.SHORT_SHORT,
        False,
        "A short text is given, and a short text that matches it is wanted.",
        (
            "Given a definition, find the word that is defined.",
            "Given a company's motto, find a motto that says the same.",
            "Given a question about an animal, find a question that has the same answer.",
            "Match a headline with another headline on the same event.",
            "Given a chemical's trade name, find what it is made of.",
            "Given a proverb, find what it means.",
        ),
    ),
    "long_long": Shape(
        "retrieval",
        prompts.LONG_LONG,
        False,
        "A long text is given, and a long text that matches it is wanted.",
        (
            "Given a patient's history, find that of a patient with the same illness.",
            "Given the summary of a patent, find one that builds upon it.",
            "Given an editorial, find one that takes the opposite view.",
            "Given the description of a job, find the application that suits it best.",
            "Given a physics exercise, find one that is solved by the same law.",
            "Given a review of a novel, find a review of a novel that the same readers like.",
        ),
        query=True,
        passage=True,
    ),
    "sts": Shape("sts", prompts.STS, True, "", ("Retrieve semantically similar text.",)),
}


_FIELDS = re.compile(r"(?:^|(?<=\s))(Task|Query|Positive|Negative):")

EXAMPLES = frozenset(queries.plain(task) for shape in SHAPES.values() for task in shape.tasks)
"""Tasks that are no ideas of the model's."""


def brainstorm(group: Group, seed: Sequence[int]) -> str:
    """A list of tasks that has been begun, for a model to go on with."""
    shape = SHAPES[group]
    first, second, third = np.random.default_rng(list(seed)).permutation(shape.tasks)[:3]
    return prompts.BRAINSTORM.filled(about=shape.about, first=str(first), second=str(second), third=str(third))


def tasks(written: str) -> tuple[list[str], dict[str, int]]:
    """The tasks in what a model wrote after `brainstorm`, and how many are none, by rule."""
    found: list[str] = []
    dropped = dict.fromkeys(("wrong length", "unfinished", "leaked"), 0)
    pieces = written.split("Task:")
    for number, piece in enumerate(pieces):
        lines = piece.strip().splitlines()
        task = " ".join(lines[0].split()) if lines else ""
        if not task:
            continue
        if not 4 <= len(task.split()) <= TASK_WORDS:
            dropped["wrong length"] += 1
        elif number == len(pieces) - 1 and not task.endswith(ENDS):
            dropped["unfinished"] += 1
        elif _FIELDS.search(task) or queries.plain(task) in EXAMPLES:
            dropped["leaked"] += 1
        else:
            found.append(task)
    return found, dropped


def unique(held: Sequence[str]) -> list[str]:
    """Tasks once each, whatever their case and punctuation, in their order."""
    found: dict[str, str] = {}
    for task in held:
        found.setdefault(queries.plain(task), task)
    return list(found.values())


def ask(group: Group, task: str, languages: Sequence[str], words: int, random: np.random.Generator) -> str:
    """What a model is asked to make up an example of a task, with constraints drawn anew."""
    drawn = {name: str(random.choice(values)) for name, values in DRAWN.items()}
    drawn["words"] = str(random.choice([count for count in WORDS if count <= words]))
    return SHAPES[group].prompt.filled(task=task, language=str(random.choice(languages)), **drawn)


Record = tuple[str, str, str]
"""Query, positive, negative; the last is empty in groups that have none."""


def parse(written: str, group: Group) -> Record | None:
    """The record in what a model wrote after "Query:"; None unless each field is there, once and in order."""
    parts = _FIELDS.split(written)
    names = ["Positive", "Negative"] if SHAPES[group].has_negative else ["Positive"]
    if parts[1::2] != names:
        return None
    query, positive, *rest = (" ".join(part.split()) for part in parts[::2])
    record = query, positive, rest[0] if rest else ""
    return record if all(record[: 1 + len(names)]) else None


def usable(written: Sequence[str], group: Group) -> tuple[list[tuple[int, Record]], dict[str, int]]:
    """The answers that hold a record, with their numbers; and how many each rule dropped."""
    kept: list[tuple[int, Record]] = []
    dropped = dict.fromkeys(RULES, 0)
    for number, text in enumerate(written):
        record = parse(text, group)
        rule = fault(record, group) if record else "unparsable"
        if record and not rule:
            kept.append((number, record))
        else:
            dropped[rule or "unparsable"] += 1
    return kept, dropped


def fault(record: Record, group: Group) -> str | None:
    """The first rule that a record breaks, apart from those that need other records."""
    shape = SHAPES[group]
    query, positive, negative = record
    given = [(query, shape.query), (positive, shape.passage), *([(negative, shape.passage)] if negative else [])]
    if any(not _length_fits(text, long) for text, long in given):
        return "wrong length"
    if shape.passage and not (negative or positive).endswith(ENDS):
        return "unfinished"
    if any(_repeats_itself(text) for text, _ in given):
        return "repeats itself"
    if any(queries.holds(shape.prompt.shared, text) for text, _ in given if len(text.split()) > 3):
        return "leaked"
    if group == "short_long" and queries.holds(positive, query):
        return "copied"
    if group == "long_short" and (queries.holds(query, positive) or queries.holds(query, negative)):
        return "copied"
    if len({queries.plain(text) for text, _ in given}) < len(given):
        return "same twice"
    return None


def _repeats_itself(text: str) -> bool:
    """Whether most runs of three words came before, as where a small model goes round in circles."""
    words = queries.plain(text).split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(runs)) < 0.6 * len(runs)


def _length_fits(text: str, long: bool) -> bool:
    count = max(len(text.split()), len(text) // LETTERS)
    return bool(queries.plain(text)) and (count >= LONG if long else count <= 4 * LONG)
