"""Texts that occur in a benchmark: the same but for case and punctuation, or sharing long runs of words.

Words are runs of letters and digits. Runs of words are compared by 64-bit hashes held in sorted arrays, so
the memory is 16 bytes for each run of the benchmark, and training text streams past.
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
    """A benchmark's texts, as hashes."""

    texts: UInt64[np.ndarray, "texts"]
    """Of whole texts, sorted."""
    runs: UInt64[np.ndarray, "runs"]
    """Of runs of words, sorted, each once."""
    owners: Int[np.ndarray, "runs"]
    """The text that a run was first seen in."""
    lengths: Int[np.ndarray, "owning"]
    """Runs of each text."""


@dataclass(frozen=True)
class Found:
    """Which texts occur in a benchmark."""

    same: Bool[np.ndarray, "texts"]
    """Word for word."""
    partly: Bool[np.ndarray, "texts"]
    """Not word for word, but half of it is in a text of the benchmark, or half of such a text in it."""


def index(batches: Iterable[Sequence[str]]) -> Index:
    """The texts of a benchmark, made ready to be looked for.

    Args:
        batches: Its passages and queries, a few thousand at a time.
    """
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
    distinct, first = np.unique(np.concatenate(runs), return_index=True)
    sizes = np.concatenate([np.zeros(0, np.int64), *lengths])
    return Index(np.unique(np.concatenate(wholes)), distinct, np.concatenate(owners)[first], sizes)


def find(held: Index, texts: Sequence[str]) -> Found:
    """Which of some texts occur in a benchmark; a text without a word does not."""
    said = [_words(text) for text in texts]
    worded = np.fromiter((bool(found) for found in said), bool, len(said))
    same = np.isin(_wholes(said), held.texts) & worded
    hashes, of = _runs(said)
    at = np.searchsorted(held.runs, hashes)
    hit = np.zeros(len(hashes), bool)
    inside = at < len(held.runs)
    hit[inside] = held.runs[at[inside]] == hashes[inside]
    total = np.bincount(of, minlength=len(texts))
    own = np.bincount(of[hit], minlength=len(texts)) >= np.maximum(SHARE * total, 1)
    return Found(same, (own | _holding(held, of[hit], at[hit], len(texts))) & ~same)


def _holding(
    held: Index, of: Int[np.ndarray, "hits"], at: Int[np.ndarray, "hits"], count: int
) -> Bool[np.ndarray, "texts"]:
    """Texts that hold enough of one text of the benchmark, however much they say besides."""
    pairs, hits = np.unique(np.stack([of, held.owners[at]]), axis=1, return_counts=True)
    enough = hits >= SHARE * held.lengths[pairs[1]]
    found = np.zeros(count, bool)
    found[pairs[0][enough]] = True
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
