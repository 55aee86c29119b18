"""Benchmark text in training text: what must be found, what must not, and a naive loop that agrees."""

import random

import numpy as np

from distill import overlap

WORDS = [f"word{number}" for number in range(3000)]


def text(seed: int, words: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def naive(benchmark: list[str], given: str) -> bool:
    """Sets of runs, one loop a text."""

    def runs(sentence: str) -> set[tuple[str, ...]]:
        words = sentence.split()
        return {tuple(words[at : at + 8]) for at in range(len(words) - 7)}

    own, every = runs(given), [runs(sentence) for sentence in benchmark]
    shared = len(own & set().union(*every))
    held = any(other and len(own & other) >= 0.5 * len(other) for other in every)
    return given in benchmark or bool(own and shared >= 0.5 * len(own)) or held


def test_case_and_punctuation_do_not_hide_a_text() -> None:
    """Harm: a benchmark's question in other capitals is trained on, and the score is a lie."""
    held = overlap.index([["How do I sort a list?"], ["Straße nach Köln"]])
    found = overlap.find(held, ["how do i SORT a list", "STRASSE\nnach -- Köln!", "how do I sort a tuple", "", "?!"])
    assert found.same.tolist() == [True, True, False, False, False]
    assert not found.partly.any()


def test_agrees_with_a_loop_over_sets() -> None:
    """Harm: a slip in the hashing or in the borders between texts lets copies through."""
    benchmark = [text(number) for number in range(30)]
    mixed = []
    for number in range(200):
        share = random.Random(number).randrange(0, 41)
        words = benchmark[number % 30].split()[:share] + text(1000 + number).split()[share:]
        mixed.append(" ".join(words))
    held = overlap.index([benchmark[:7], benchmark[7:8], benchmark[8:]])
    found = overlap.find(held, mixed)
    expected = [naive(benchmark, given) for given in mixed]
    assert (found.same | found.partly).tolist() == expected
    assert 20 < sum(expected) < 180


def test_a_copy_inside_a_long_text_is_found() -> None:
    """Harm: a benchmark passage inside a longer training passage goes unseen: its share of that is small."""
    benchmark = text(1, 30)
    held = overlap.index([[benchmark, text(2)]])
    found = overlap.find(held, [f"{text(3, 300)} {benchmark} {text(4, 300)}", text(5, 600)])
    assert found.partly.tolist() == [True, False]


def test_runs_do_not_cross_texts() -> None:
    """Harm: the end of one text and the start of the next count as a run that neither holds."""
    words = text(1, 8).split()
    held = overlap.index([[" ".join(words)]])
    assert not overlap.find(held, [" ".join(words[:4]), " ".join(words[4:])]).partly.any()


def test_nothing_on_either_side() -> None:
    """Harm: an empty benchmark or an empty batch stops the work with an index error."""
    nothing = overlap.index([])
    assert not overlap.find(nothing, [text(1), "two words"]).same.any()
    assert overlap.find(overlap.index([[text(1)]]), []).partly.shape == (0,)
    assert overlap.find(overlap.index([["two words"]]), ["two words"]).same.tolist() == [True]
    assert isinstance(overlap.find(nothing, ["a"]).partly, np.ndarray)
