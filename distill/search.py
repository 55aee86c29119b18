"""Candidates for each query: exact dense search at the speed of the matrix product, and BM25."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Real

from distill.errors import Refused
from distill.runtime import best_device

BLOCK = 1 << 18  # passages in memory at once
GATHERED = 512  # queries whose own passages are gathered at once
AT_ONCE = 2048  # queries on a GPU at once: with a block of passages, 2 GB of products


def top_k(
    queries: Real[np.ndarray, "queries dim"], passages: Real[np.ndarray, "passages dim"], k: int
) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
    """The k passages of the largest inner product with each query, the best first, and that product.

    Exact, at the limit of the matrix product (FAISS flat; torch where there is a GPU); passages are read in
    blocks, so they may be memory-mapped fp16 or int8, and memory does not grow with the corpus.

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


class Lexical:
    """Passages indexed for BM25 (k1 1.2, b 0.75; English stems, no stop words).

    Raises:
        Refused: No passage has a word.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        import bm25s
        import Stemmer

        self.rows = len(passages)
        self._stemmer = Stemmer.Stemmer("english")
        self._index = bm25s.BM25(k1=1.2, b=0.75)
        numbers, known = self._read(passages, numbered=True)
        if not known:
            raise Refused(
                f"BM25 has nothing to look for: none of {len(passages)} passages has a word of two letters or more "
                "that is no English stop word. Search with vectors alone."
            )
        self._index.index((numbers, known), show_progress=False)

    def _read(self, texts: Sequence[str], *, numbered: bool) -> Sequence[object]:
        """The stems of each text; numbered, as the index takes them."""
        import bm25s

        found: Sequence[object] = bm25s.tokenize(
            list(texts), stopwords="en", stemmer=self._stemmer, return_ids=numbered, show_progress=False
        )
        return found

    def top_k(
        self, queries: Sequence[str], k: int
    ) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
        """The k passages of the largest score for each query; those without a word of it have 0.

        Raises:
            Refused: There are fewer than k passages.
        """
        _enough(k, self.rows)
        rows, scores = self._index.retrieve(self._read(queries, numbered=True), k=k, show_progress=False)
        return np.asarray(rows, np.int64), np.asarray(scores, np.float32)

    def score(self, queries: Sequence[str], rows: Int[np.ndarray, "queries"]) -> Float[np.ndarray, "queries"]:
        """The score of one passage for each query."""
        words = self._read(queries, numbered=False)
        return np.array(
            [self._index.get_scores(asked)[row] if asked else 0.0 for asked, row in zip(words, rows, strict=True)],
            np.float32,
        )


def products(
    queries: Float[np.ndarray, "queries dim"],
    passages: Real[np.ndarray, "passages dim"],
    rows: Int[np.ndarray, "queries k"],
) -> Float[np.ndarray, "queries k"]:
    """The inner product of each query with some passages of its own, in fp32."""
    found = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), GATHERED):
        part = slice(start, start + GATHERED)
        asked, held = queries[part].astype(np.float32), passages[rows[part]].astype(np.float32)
        np.einsum("qd,qkd->qk", asked, held, out=found[part])
    return found


def fused(
    lists: Sequence[Int[np.ndarray, "queries k"]], depth: int, constant: int = 60
) -> Int[np.ndarray, "queries depth"]:
    """The first passages of several lists together, by reciprocal rank (Cormack et al. 2009).

    Args:
        lists: Passages found for each query, the best first, none twice in a list; -1 is none. Of equal sums the
            passage of an earlier list comes first.
        depth: Passages wanted; the lists must hold as many different ones.
        constant: Added to each rank, from 1.
    """
    parts = [
        _fused([found[start : start + GATHERED] for found in lists], depth, constant)
        for start in range(0, len(lists[0]), GATHERED)
    ]
    return np.concatenate([np.zeros((0, depth), np.int64), *parts])


def _fused(
    lists: Sequence[Int[np.ndarray, "queries k"]], depth: int, constant: int
) -> Int[np.ndarray, "queries depth"]:
    sums = []
    for number, found in enumerate(lists):
        total = np.zeros(found.shape)
        for other in lists:
            value = 1 / (constant + np.arange(1, other.shape[1] + 1))
            total += ((found[:, :, None] == other[:, None, :]) * value).sum(2)
        again = [(found[:, :, None] == other[:, None, :]).any(2) for other in lists[:number]]
        sums.append(np.where(np.any([found < 0, *again], axis=0), -1.0, total))
    order = np.argsort(-np.concatenate(sums, 1), axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(np.concatenate(lists, 1), order, 1)


def _enough(k: int, passages: int) -> None:
    if not 0 < k <= passages:
        raise Refused(f"k is {k}, with {passages} passages to search; needed: 1 to {passages}.")
