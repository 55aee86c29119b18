"""Candidates for each query: exact dense search at the speed of the matrix product, and BM25."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from distill.errors import Refused
from distill.runtime import best_device

BLOCK = 1 << 18  # passages in memory at once
AT_ONCE = 2048  # queries on a GPU at once: with a block of passages, 2 GB of products


def top_k(
    queries: Float[np.ndarray, "queries dim"], passages: Float[np.ndarray, "passages dim"], k: int
) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
    """The k passages of the largest inner product with each query, the best first, and that product.

    Exact, at the limit of the matrix product (FAISS flat; torch where there is a GPU); passages are read in
    blocks, so they may be memory-mapped fp16 and memory does not grow with the corpus.

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
    """The k best of one block. Of equal ones any are found: where they cross the cut, more are asked for."""
    find = _by_torch if best_device().type == "cuda" else _by_faiss
    rows, scores = np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.float32)
    left, width = np.arange(len(asked)), min(k + 1, len(part))
    while len(left):
        found, at = find(asked[left], part, width)
        if not np.isfinite(found).all():
            raise Refused("a vector of a query or passage is not finite. Look at the model, or embed again in fp32.")
        rows[left], scores[left] = _first(at, found, k)
        left = left[(found[:, k - 1] == found[:, -1]) & (width < len(part))]
        width = min(4 * width, len(part))
    return rows, scores


Found = tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]
"""The largest products of each query, and the rows of the passages."""


def _by_faiss(asked: Float[np.ndarray, "queries dim"], part: Float[np.ndarray, "passages dim"], k: int) -> Found:
    import faiss

    scores, rows = faiss.knn(asked, part, k, metric=faiss.METRIC_INNER_PRODUCT)
    return np.where(rows < 0, np.nan, scores), rows


def _by_torch(asked: Float[np.ndarray, "queries dim"], part: Float[np.ndarray, "passages dim"], k: int) -> Found:
    """On a GPU, in fp32 as elsewhere, so many queries at a time that their products fit beside the passages."""
    import torch

    device = best_device()
    passages = torch.from_numpy(part).to(device).T
    best = [
        torch.topk(torch.from_numpy(asked[start : start + AT_ONCE]).to(device) @ passages, k, dim=1)
        for start in range(0, len(asked), AT_ONCE)
    ]
    scores, rows = (torch.cat([found[side] for found in best]).cpu().numpy() for side in (0, 1))
    return scores, rows


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
