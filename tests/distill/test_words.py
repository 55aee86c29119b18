"""Hashes of words and of runs of words, against a loop."""

import random

import numpy as np
import pytest

from distill import words


def naive(given: list[str]) -> int:
    """Of one run."""
    joined = 0
    for word in given:
        joined = (joined * int(words.FACTOR) + words.digest(word)) % 2**64
    return joined


@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_runs_are_those_of_each_text(length: int) -> None:
    """Harm: the end of one text and the start of the next are a run, or a cut run passes for a whole one."""
    draw = random.Random(length)
    texts = [draw.choices(["fog", "over", "the", "river"], k=draw.randrange(12)) for _ in range(60)] + [["fog"], []]
    hashes, text = words.flat(texts)
    assert text.tolist() == [number for number, said in enumerate(texts) for _ in said]
    found, whole = words.runs(hashes, text, length)
    expected = [said[at : at + length] for said in texts for at in range(len(said))]
    assert found.tolist() == [naive(run) for run in expected]
    assert whole.tolist() == [len(run) == length for run in expected]


def test_no_words_have_no_runs() -> None:
    """Harm: a batch of empty texts stops the work with an index error."""
    hashes, text = words.flat([[], []])
    assert [len(part) for part in words.runs(hashes, text, 3)] == [0, 0]
    assert isinstance(hashes, np.ndarray) and hashes.dtype == np.uint64
