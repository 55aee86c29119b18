"""Candidates for each query: exact dense search at the speed of the matrix product, and BM25."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from distill.errors import Refused

BLOCK = 1 << 18  # passages in memory at once


def top_k(
    queries: Float[np.ndarray, "queries dim"], passages: Float[np.ndarray, "passages dim"], k: int
) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
    """The k passages of the largest inner product with each query, the best first, and that product.

    Exact (FAISS flat, which runs at the limit of the matrix product); passages are read in blocks,
    so they may be memory-mapped fp16 and memory does not grow with the corpus.

    Equal products stand in the order of the passages.

    Raises:
        Refused: There are fewer than k passages, or a vector is not finite.
    """
    _enough(k, len(passages))
    asked = np.ascontiguousarray(queries, np.float32)
    rows, scores = np.zeros((len(asked), 0), np.int64), np.zeros((len(asked), 0), np.float32)
    for start in range(0, len(passages), BLOCK):
        part = np.ascontiguousarray(passages[start : start + BLOCK], np.float32)
        at, found = _block(asked, part, min(k, len(part)))
        rows, scores = _first(np.concatenate([rows, at + start], 1), np.concatenate([scores, found], 1), k)
    return rows, scores


def _block(
    asked: Float[np.ndarray, "queries dim"], part: Float[np.ndarray, "passages dim"], k: int
) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
    """The k best of one block. Of equal ones FAISS keeps any: where they cross the cut, more are asked for."""
    import faiss

    rows, scores = np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.float32)
    left, width = np.arange(len(asked)), min(k + 1, len(part))
    while len(left):
        found, at = faiss.knn(asked[left], part, width, metric=faiss.METRIC_INNER_PRODUCT)
        if (at < 0).any():
            raise Refused("a vector of a query or passage is not finite. Look at the model, or embed again in fp32.")
        rows[left], scores[left] = _first(at, found, k)
        left = left[(found[:, k - 1] == found[:, -1]) & (width < len(part))]
        width = min(4 * width, len(part))
    return rows, scores


def _first(
    rows: Int[np.ndarray, "queries found"], scores: Float[np.ndarray, "queries found"], k: int
) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
    """The k best, equal ones by row."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


def lexical(
    queries: Sequence[str], passages: Sequence[str], k: int
) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
    """The k passages of the largest BM25 score for each query (k1 1.2, b 0.75; English stems, no stop words).

    Raises:
        Refused: There are fewer than k passages.
    """
    import bm25s
    import Stemmer

    _enough(k, len(passages))
    stemmer = Stemmer.Stemmer("english")
    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index(
        bm25s.tokenize(list(passages), stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False
    )
    asked = bm25s.tokenize(list(queries), stopwords="en", stemmer=stemmer, show_progress=False)
    rows, scores = index.retrieve(asked, k=k, show_progress=False)
    return np.asarray(rows, np.int64), np.asarray(scores, np.float32)


def _enough(k: int, passages: int) -> None:
    if not 0 < k <= passages:
        raise Refused(f"k is {k}, with {passages} passages to search; needed: 1 to {passages}.")
