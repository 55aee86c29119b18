"""Texts that nearly repeat one another, by MinHash (Broder 1997): signatures, and the first of those that are alike.

What is compared is the set of a text's runs of three words. A signature holds, for each of 64 orders of all runs, the
first run of the text; two texts agree at a place of it as often as their sets' Jaccard similarity says, with a standard
deviation of at most 0.0625.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, UInt32, UInt64

from distill import words
from distill.errors import Refused

RUN = 3
"""Words of a run; a text of fewer is one run."""

HASHES = 64
"""Places of a signature."""

CROWD = 16
"""Texts of one bucket that the others in it are compared with: a phrase that all share costs no more than this."""

_CHARACTERS = 1 << 20  # held as words and hashes at once
_PAIRS = 1 << 16  # compared at once
_WORD = re.compile(rf"[^\W{words.UNSPACED}]+|\w")
_FACTORS = np.array([words.digest(f"factor {place}") | 1 for place in range(HASHES)], np.uint64)
_OFFSETS = np.array([words.digest(f"offset {place}") for place in range(HASHES)], np.uint64)


def signatures(texts: Sequence[str]) -> UInt32[np.ndarray, "texts hashes"]:
    """What texts are compared by; a text's is the same whatever texts come with it.

    A word is a run of letters and digits, whatever their case and form (full width, composed accents). Where a script
    puts no spaces between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer), each letter is a word. A text of one or
    two words is one run, so it is like another only if they are the same. A text without any is the word that its
    marks are: `+++` is not `---`.
    """
    found = np.empty((len(texts), HASHES), np.uint32)
    for part in _parts(texts):
        hashes, text = words.flat([_words(given) for given in texts[part]])
        start = np.diff(text, prepend=-1) > 0
        run, whole = words.runs(hashes, text, RUN)
        kept = whole | start  # the first run of a text is its only one if it is cut
        run, first = run[kept], np.flatnonzero(start[kept])
        for place in range(HASHES):
            found[part, place] = np.minimum.reduceat(run * _FACTORS[place] + _OFFSETS[place], first) >> np.uint64(32)
    return found


def alike(
    one: UInt32[np.ndarray, "*#texts hashes"], other: UInt32[np.ndarray, "*#texts hashes"]
) -> Float[np.ndarray, "..."]:
    """The Jaccard similarity of texts as their signatures estimate it, from 0 to 1."""
    return np.asarray((one == other).mean(-1, dtype=np.float32))


def firsts(signatures: UInt32[np.ndarray, "texts hashes"], share: float = 0.8) -> Int[np.ndarray, "texts"]:
    """For each text, the row of the first that it nearly repeats; its own if there is none before it.

    The first text that agrees at `share` of the places; then the first that this one repeats, until one repeats none.
    Rows that follow change nothing for those before. Two texts that agree at that many places agree in all of at
    least one band of neighbouring places, so all such pairs are met, except where more than CROWD texts share a band.

    Args:
        signatures: Of the texts, in the order that makes one the first.
        share: Of the places: the similarity from which a text is a repetition.

    Raises:
        Refused: The share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise Refused(f"share {share}; needed: above 0, at most 1, such as 0.8.")
    needed = math.ceil(round(share * signatures.shape[1], 6))
    _, where, same = np.unique(_keys(signatures), return_index=True, return_inverse=True)
    first = where[same]
    rows = np.sort(where)  # texts that are equal are compared once
    for band in np.array_split(np.arange(signatures.shape[1]), signatures.shape[1] - needed + 1):
        for members, leaders in _met(_keys(signatures[np.ix_(rows, band)]), rows):
            better = leaders < first[members]
            _follow(first, signatures, members[better], leaders[better], needed)
    while (first != first[first]).any():
        first = first[first]
    return first


def firsts_in_lists(
    signatures: UInt32[np.ndarray, "texts hashes"], lists: Int[np.ndarray, "lists listed"], share: float = 0.8
) -> Int[np.ndarray, "lists listed"]:
    """For each text of each list, the place of the first in that list that is alike; its own if there is none.

    Args:
        signatures: Of the texts.
        lists: Rows of the texts.
        share: The similarity from which two are alike.
    """
    found = np.empty(lists.shape, np.int64)
    step = max(1, _PAIRS // lists.shape[1] ** 2)
    for start in range(0, len(lists), step):
        part = lists[start : start + step]
        signed = signatures[part]
        found[start : start + step] = (alike(signed[:, :, None], signed[:, None]) >= share).argmax(2)
    return found


def _parts(texts: Sequence[str]) -> Iterator[slice]:
    """Texts that fit into memory as words."""
    held = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts))) // _CHARACTERS
    edges = [0, *(np.flatnonzero(np.diff(held)) + 1).tolist(), len(texts)]
    yield from (slice(low, high) for low, high in pairwise(edges) if high > low)


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold()) or [text.strip()]


def _keys(places: UInt32[np.ndarray, "texts places"]) -> UInt64[np.ndarray, "texts"]:
    """Equal for rows that are equal."""
    found = np.zeros(len(places), np.uint64)
    for column in places.T:
        found = (found + column + np.uint64(1)) * words.FACTOR
        found ^= found >> np.uint64(32)
    return found


def _met(
    keys: UInt64[np.ndarray, "texts"], rows: Int[np.ndarray, "texts"]
) -> Iterator[tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]]:
    """Rows, and with each an earlier row of the same key: the first for all, then the second, up to CROWD."""
    order = np.argsort(keys, kind="stable")
    ordered, rows, at = keys[order], rows[order], np.arange(len(keys))
    new = np.ones(len(keys), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    leader = np.maximum.accumulate(np.where(new, at, 0))
    for _ in range(CROWD):
        later = leader < at
        at, leader = at[later], leader[later]
        yield rows[at], rows[leader]
        leader = leader + 1


def _follow(
    first: Int[np.ndarray, "texts"],
    signatures: UInt32[np.ndarray, "texts hashes"],
    members: Int[np.ndarray, "pairs"],
    leaders: Int[np.ndarray, "pairs"],
    needed: int,
) -> None:
    """Give each member its leader as the first, in place, if they agree at as many places as needed."""
    for start in range(0, len(members), _PAIRS):
        member, leader = members[start : start + _PAIRS], leaders[start : start + _PAIRS]
        near = (signatures[member] == signatures[leader]).sum(1) >= needed
        first[member[near]] = leader[near]
