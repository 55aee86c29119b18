"""Vectors made smaller, and searched so: fewer numbers of each, eight bits a number, or one.

Passages are what costs room, so they are what is made smaller. A query stays as it is: against eight bits it is
compared in fp32, with the scale of each number multiplied into it; against one bit by its own signs.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Int8

from distill import search

Form = Literal["float", "int8", "binary", "rescored"]
"""How passages are kept: fp32; eight bits a number; the sign alone; signs to find by and eight bits to sort by."""

FORMS: tuple[Form, ...] = ("float", "int8", "binary", "rescored")
RESCORED = 4
"""Passages found by their signs for each that is wanted, which eight bits then put in order (2 in sentence-transformers
6.2, 4 where its authors recommend the method)."""

BLOCK = 1 << 16
"""Vectors made smaller at once."""

LEVELS = 255
"""Steps between the least and the greatest value of a number."""


def cut(vectors: Float[np.ndarray, "texts dim"], width: int) -> Float[np.ndarray, "texts width"]:
    """The first numbers of each vector, at unit length; a vector of zeros stays one, and whole ones as they are."""
    if width == vectors.shape[1]:
        return vectors
    short = vectors[:, :width].astype(np.float32)
    length = np.linalg.norm(short, axis=1, keepdims=True)
    return short / np.where(length > 0, length, 1)


def scale(vectors: Float[np.ndarray, "texts dim"]) -> tuple[Float[np.ndarray, "dim"], Float[np.ndarray, "dim"]]:
    """Where eight bits begin and how long a step is, for each number: its range over a corpus in 255 steps."""
    start, end = vectors.min(0), vectors.max(0)
    step = (end - start) / np.float32(LEVELS)
    return start, np.where(step == 0, np.float32(1), step)


def int8(
    vectors: Float[np.ndarray, "texts dim"], start: Float[np.ndarray, "dim"], step: Float[np.ndarray, "dim"]
) -> Int8[np.ndarray, "texts dim"]:
    """Eight bits a number, clipped to its range: the codes of `sentence_transformers.quantize_embeddings`."""
    made = np.empty(vectors.shape, np.int8)
    for part in _blocks(len(vectors)):
        made[part] = np.clip(np.floor((vectors[part] - start) / step), 0, LEVELS) - 128
    return made


def signs(vectors: Float[np.ndarray, "texts dim"]) -> Int8[np.ndarray, "texts dim"]:
    """One bit a number, as 1 and -1: the product of two is their width less twice their Hamming distance."""
    return 2 * (vectors > 0).astype(np.int8) - np.int8(1)


def _blocks(rows: int) -> Iterator[slice]:
    """Rows a part at a time, so that nothing in fp32 is held of all."""
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))


def stored(form: Form, width: int) -> tuple[int, int]:
    """Bytes of a vector that search reads of every passage, and of the few that are put in order."""
    bits = -(-width // 8)
    return {"float": (4 * width, 0), "int8": (width, 0), "binary": (bits, 0), "rescored": (bits, width)}[form]


def top_k(
    form: Form,
    queries: Float[np.ndarray, "queries dim"],
    passages: Float[np.ndarray, "passages dim"],
    k: int,
    seed: int = 0,
) -> Int[np.ndarray, "queries k"]:
    """The k passages that come first for each query when passages are kept in this form, the best first; exact.

    Signs give many passages one distance. Those are put in an order drawn by lot and the same for all queries: their
    order in the table may tell which are answers, as where a benchmark's answers stand before its other passages.

    Args:
        form: How passages are kept.
        queries: Unit vectors.
        passages: Unit vectors; their ranges are those of eight bits.
        k: How many are wanted; of fewer passages, all.
        seed: Of the lot.
    """
    k = min(k, len(passages))
    if form == "float":
        return search.top_k(queries, passages, k)[0]
    start, step = scale(passages)
    if form == "int8":
        return search.top_k(queries * step, int8(passages, start, step), k)[0]
    lot = np.random.default_rng(seed).permutation(len(passages))
    found = k if form == "binary" else min(RESCORED * k, len(passages))
    rows = lot[search.top_k(signs(queries), signs(passages)[lot], found)[0]]
    if form == "binary":
        return rows
    scores = search.products(queries * step, int8(passages, start, step), rows)
    return np.take_along_axis(rows, np.argsort(-scores, axis=1, kind="stable")[:, :k], 1)
