"""Words and runs of words as 64-bit hashes: the same in every process, whatever texts are hashed together."""

import hashlib
import re
from collections.abc import Sequence
from itertools import chain

import numpy as np
from jaxtyping import Bool, Int, UInt64

FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, and far from any pattern: hashes are joined by multiplying with it and adding."""


# Thai, Lao, Burmese and Khmer; Han and kana. Hangul has spaces.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts that put no spaces between words, as ranges of a regular expression."""

_LETTER = re.compile(f"[{UNSPACED}]")


def spaced(text: str) -> str:
    """A text in which each letter of a script without spaces stands alone, as a word does elsewhere."""
    return _LETTER.sub(r" \g<0> ", text)


def digest(text: str) -> int:
    """A text's hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def flat(words: Sequence[list[str]]) -> tuple[UInt64[np.ndarray, "words"], Int[np.ndarray, "words"]]:
    """The hashes of all words, end to end, and the text of each.

    Args:
        words: Of each text.
    """
    known = {word: digest(word) for word in set(chain.from_iterable(words))}
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    hashes = np.fromiter(map(known.__getitem__, chain.from_iterable(words)), np.uint64, int(lengths.sum()))
    return hashes, np.repeat(np.arange(len(words)), lengths)


def runs(
    hashes: UInt64[np.ndarray, "words"], text: Int[np.ndarray, "words"], length: int
) -> tuple[UInt64[np.ndarray, "words"], Bool[np.ndarray, "words"]]:
    """The run of words that starts at each word, and whether it is whole; the last of a text are cut at its end.

    Args:
        hashes: Of the words of all texts, end to end.
        text: That each word is of.
        length: Words of a run.
    """
    found, whole = hashes.copy(), np.ones(len(hashes), bool)
    for place in range(1, length):
        inside = text[place:] == text[:-place]
        longer = found[: len(inside)]
        np.copyto(longer, longer * FACTOR + hashes[place:], where=inside)
        whole[: len(inside)] &= inside
        whole[len(inside) :] = False
    return found, whole
