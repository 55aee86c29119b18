"""Texts that occur in a benchmark: the same but for case and punctuation, or sharing long runs of words.

Words are runs of letters and digits. Runs of words are compared by 64-bit hashes held in sorted arrays, so
the memory is 16 bytes for each run of each benchmark, and training text streams past.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt64

from distill import words

RUN = 8
"""Words of a run: eight in a row are rarely said twice by chance."""

SHARE = 0.5
"""Share of the one text's runs that the other holds, from which it counts as an occurrence."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Index:
    """Texts of benchmarks, as hashes; a benchmark goes by its place in the order they were given."""

    texts: UInt64[np.ndarray, "texts"]
    """Of whole texts, sorted, each once a benchmark."""
    holders: Int[np.ndarray, "texts"]
    """The benchmark of each."""
    runs: UInt64[np.ndarray, "runs"]
    """Of runs of words, sorted, each once a benchmark, that of the first benchmark first."""
    owners: Int[np.ndarray, "runs"]
    """The text that a run is counted for, of its benchmark: of those that hold it the one with the fewest runs. So a
    question is found that a passage of the benchmark quotes; half of a passage may be missed whose runs shorter texts
    hold too."""
    lengths: Int[np.ndarray, "owning"]
    """Runs of each text."""
    begins: Int[np.ndarray, "benchmarks"]
    """Number of the first text of each benchmark."""


@dataclass(frozen=True)
class Found:
    """Which texts occur in which benchmark."""

    same: Bool[np.ndarray, "texts benchmarks"]
    """Word for word."""
    partly: Bool[np.ndarray, "texts benchmarks"]
    """Not word for word, but half of it is in texts of the benchmark, or half of such a text in it. Half of a text may
    be in several benchmarks together; then it counts as of the one that holds the most."""


def index(benchmarks: Iterable[Iterable[Sequence[str]]]) -> Index:
    """The texts of benchmarks, made ready to be looked for.

    Args:
        benchmarks: Of each, its passages and queries, a few thousand at a time.
    """
    wholes, holders = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    runs, owners, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    begins = []
    for number, batches in enumerate(benchmarks):
        begins.append(sum(map(len, lengths)))
        texts, distinct, first, sizes = _hashed(batches)
        wholes.append(texts)
        holders.append(np.full(len(texts), number))
        runs.append(distinct)
        owners.append(first + begins[-1])
        lengths.append(sizes)
    texts, held = np.concatenate(wholes), np.concatenate(runs)
    by_text, by_run = np.argsort(texts, kind="stable"), np.argsort(held, kind="stable")  # benchmarks stay in order
    return Index(
        texts[by_text],
        np.concatenate(holders)[by_text],
        held[by_run],
        np.concatenate(owners)[by_run],
        np.concatenate(lengths),
        np.array(begins, np.int64),
    )


def _hashed(
    batches: Iterable[Sequence[str]],
) -> tuple[UInt64[np.ndarray, "texts"], UInt64[np.ndarray, "runs"], Int[np.ndarray, "runs"], Int[np.ndarray, "owning"]]:
    """Of one benchmark: its texts, its runs, each once, the text that a run is counted for, runs of each text."""
    wholes, runs, owners, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], []
    count = 0
    for batch in batches:
        said = [_words(text) for text in batch]
        hashes, texts = _runs(said)
        wholes.append(_wholes(said))
        runs.append(hashes)
        owners.append(texts + count)
        lengths.append(np.bincount(texts, minlength=len(batch)))
        count += len(batch)
    sizes, held = np.concatenate([np.zeros(0, np.int64), *lengths]), np.concatenate(owners)
    hashes = np.concatenate(runs)
    order = np.lexsort((sizes[held], hashes))
    hashes, held = hashes[order], held[order]
    new = np.ones(len(hashes), bool)
    new[1:] = hashes[1:] != hashes[:-1]
    return np.unique(np.concatenate(wholes)), hashes[new], held[new], sizes


def find(held: Index, texts: Sequence[str]) -> Found:
    """Which of some texts occur in which benchmark; a text without a word does in none."""
    said = [_words(text) for text in texts]
    same = np.zeros((len(texts), len(held.begins)), bool)
    of, at = _matches(held.texts, _wholes(said))
    same[of, held.holders[at]] = True
    same[np.fromiter((not found for found in said), bool, len(said))] = False
    hashes, text = _runs(said)
    run, at = _matches(held.runs, hashes)
    shared = np.zeros(same.shape, np.int64)  # runs of each text that occur in each benchmark
    np.add.at(shared, (text[run], _benchmarks(held, held.owners[at])), 1)
    half = np.maximum(SHARE * np.bincount(text, minlength=len(texts)), 1)
    partly = (shared >= half[:, None]) | _holding(held, text[run], held.owners[at], len(texts))
    together = np.bincount(text[np.unique(run)], minlength=len(texts)) >= half
    spread = np.flatnonzero(together & ~same.any(1) & ~partly.any(1))
    if len(spread):
        partly[spread, shared[spread].argmax(1)] = True
    return Found(same, partly & ~same)


def _matches(
    held: UInt64[np.ndarray, "held"], wanted: UInt64[np.ndarray, "wanted"]
) -> tuple[Int[np.ndarray, "matches"], Int[np.ndarray, "matches"]]:
    """Places in what is wanted, in order, and the places of the same hash in what is held, sorted."""
    left = np.searchsorted(held, wanted)
    there = np.flatnonzero(left < len(held))
    there = there[held[left[there]] == wanted[there]]
    left = left[there]
    times = np.searchsorted(held, wanted[there], side="right") - left
    steps = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return np.repeat(there, times), np.repeat(left, times) + steps


def _benchmarks(held: Index, owners: Int[np.ndarray, "owners"]) -> Int[np.ndarray, "owners"]:
    """The benchmark of each of some texts of theirs."""
    return np.searchsorted(held.begins, owners, side="right") - 1


def _holding(
    held: Index, of: Int[np.ndarray, "hits"], owners: Int[np.ndarray, "hits"], count: int
) -> Bool[np.ndarray, "texts benchmarks"]:
    """Texts that hold enough of one text of a benchmark, however much they say besides."""
    pairs, hits = np.unique(of * len(held.lengths) + owners, return_counts=True)
    texts, owning = np.divmod(pairs, max(len(held.lengths), 1))
    enough = hits >= SHARE * held.lengths[owning]
    found = np.zeros((count, len(held.begins)), bool)
    found[texts[enough], _benchmarks(held, owning[enough])] = True
    return found


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _wholes(said: Sequence[list[str]]) -> UInt64[np.ndarray, "texts"]:
    return np.fromiter((words.digest(" ".join(found)) for found in said), np.uint64, len(said))


def _runs(said: Sequence[list[str]]) -> tuple[UInt64[np.ndarray, "runs"], Int[np.ndarray, "runs"]]:
    """Hashes of the runs of words of each text, each once a text, and the text of each."""
    flat, text = words.flat(said)
    hashes, whole = words.runs(flat, text, RUN)
    hashes, text = hashes[whole], text[whole]
    order = np.lexsort((hashes, text))
    hashes, text = hashes[order], text[order]
    new = np.ones(len(order), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1])
    return hashes[new], text[new]
