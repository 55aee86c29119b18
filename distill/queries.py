"""What a language model wrote for a passage: parsed, and kept only if it is a query."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from distill.words import spaced

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

TASK_WORDS = 20
"""The most of a task; those of the prompt's own examples have half as many."""

SURE = 0.95
"""Probability from which a text's language is taken for known: of a few words it seldom is."""

LETTERS = 20
"""Letters below which a text's language is not asked for."""

ECHOED = 4, 0.5
"""Words of a run, and the share of a query in such runs of its task from which it asks for nothing else: "How do I find
a passage that answers it?" finds any passage."""

RULES = ("unparsable", "wrong length", "leaked", "repeats its task", "copied", "another language")


def kinds(among: Sequence[str], count: int, seed: Sequence[int]) -> list[str]:
    """A kind of task for each passage, uniformly."""
    drawn = np.random.default_rng(list(seed)).integers(len(among), size=count)
    return [among[number] for number in drawn]


def parse(written: str) -> tuple[str, str] | None:
    """Task and query of a completion of `prompts.Writing`; None if it does not have both, a line each."""
    task, mark, rest = (part.strip() for part in written.partition("Query:"))
    query = rest.split("\n")[0].strip()
    whole = mark and query and len(task.splitlines()) == 1
    return (" ".join(task.split()), query) if whole else None


def fault(task: str, query: str, passage: str, shared: str) -> str | None:
    """The first rule that a task with its query breaks.

    Args:
        task: The instruction that was written.
        query: What was written.
        passage: What it was written for.
        shared: The prompt's own examples, which must not come back.
    """
    words = spaced(query).split()
    # A task is read before each query: what runs on would leave the query no room.
    if not 3 <= len(words) <= 40 or not plain(query) or len(task.split()) > TASK_WORDS:
        return "wrong length"
    if holds(shared, query) or any(field in query for field in ("Passage:", "Kind:", "Task:", "Query:")):
        return "leaked"
    if echoes(task, query):
        return "repeats its task"
    if holds(passage, query):
        return "copied"
    languages = {language(query), language(passage)} - {None}
    return "another language" if len(languages) > 1 else None


def usable(
    written: Sequence[str], passages: Sequence[str], shared: str
) -> tuple[list[tuple[int, str, str]], dict[str, int]]:
    """The completions that hold a usable query.

    Args:
        written: A completion for each passage.
        passages: What they were written for.
        shared: The prompt's own examples.

    Returns:
        Number, task and query of each that is kept; how many each rule dropped.
    """
    dropped = dict.fromkeys(RULES, 0)
    kept: list[tuple[int, str, str]] = []
    for number, (text, passage) in enumerate(zip(written, passages, strict=True)):
        parsed = parse(text)
        rule = "unparsable" if parsed is None else fault(*parsed, passage, shared)
        if rule or parsed is None:
            dropped[rule or "unparsable"] += 1
        else:
            kept.append((number, *parsed))
    return kept, dropped


def language(text: str) -> str | None:
    """The language of a text, as two letters; None if it has too few to tell."""
    if sum(letter.isalpha() for letter in text) < LETTERS:
        return None
    name, probability = _identifier().classify(text)
    return str(name) if probability >= SURE else None


@functools.cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def holds(text: str, query: str) -> bool:
    """Whether a text has the words of a query, in a row, whatever the case and punctuation."""
    words, said = (" ".join(spaced(plain(each)).split()) for each in (query, text))
    return f" {words} " in f" {said} "


def echoes(task: str, query: str) -> bool:
    """Whether a query is its task again: the whole of it, or half of its words in runs of four."""
    if holds(task, query):
        return True
    length, share = ECHOED
    words, said = plain(query).split(), f" {plain(task)} "
    starts = range(len(words) - length + 1)
    found = [start for start in starts if f" {' '.join(words[start : start + length])} " in said]
    inside = {place for start in found for place in range(start, start + length)}
    return len(inside) >= share * len(words)


def plain(text: str) -> str:
    """The words of a text, whatever the case and punctuation."""
    # Marks belong to their letter: without its vowel signs a word of Hindi is another word.
    kept = (letter if letter.isalnum() or unicodedata.category(letter)[0] == "M" else " " for letter in text.casefold())
    return " ".join("".join(kept).split())
