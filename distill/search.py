"""Candidates for each query: exact dense search at the speed of the matrix product, and BM25."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from distill.errors import Refused


def top_k(
    queries: Float[np.ndarray, "queries dim"], passages: Float[np.ndarray, "passages dim"], k: int
) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
    """The k passages of the largest inner product with each query, the best first, and that product.

    Exact (FAISS flat, which runs at the limit of the matrix product); passages are read in blocks,
    so they may be memory-mapped fp16 and memory does not grow with the corpus.

    Raises:
        Refused: There are fewer than k passages.
    """
    import faiss

    _enough(k, len(passages))
    block = max(k, 1 << 18)
    best: tuple[np.ndarray, np.ndarray] | None = None
    asked = np.ascontiguousarray(queries, np.float32)
    for start in range(0, len(passages), block):
        part = np.ascontiguousarray(passages[start : start + block], np.float32)
        scores, rows = faiss.knn(asked, part, min(k, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
        best = (rows + start, scores) if best is None else _merged(best, (rows + start, scores), k)
    assert best is not None
    return best[0].astype(np.int64), best[1]


def _merged(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    rows, scores = (np.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
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
