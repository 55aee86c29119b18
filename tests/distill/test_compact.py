"""Vectors made smaller, against loops and sentence-transformers' own quantisation."""

import numpy as np
import pytest
from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_faiss

from distill import compact, metrics


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors whose numbers have ranges of their own, as those of models have."""
    generator = np.random.default_rng(seed)
    made = (generator.normal(size=(rows, dim)) * generator.uniform(0.2, 2, dim) + generator.normal(size=dim)).astype(
        np.float32
    )
    return made / np.linalg.norm(made, axis=1, keepdims=True)


QUERIES, PASSAGES = unit(12, 24, 0), unit(300, 24, 1)


def test_codes_are_those_of_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: what is measured is another quantisation than the one that users run."""
    start, step = compact.scale(PASSAGES)
    ours = compact.int8(PASSAGES, start, step)
    np.testing.assert_array_equal(ours, quantize_embeddings(PASSAGES, "int8"))
    ranges = np.stack([PASSAGES.min(0), PASSAGES.max(0)])
    monkeypatch.setattr(compact, "BLOCK", 5)  # and parts are put together in order
    np.testing.assert_array_equal(compact.int8(QUERIES, start, step), quantize_embeddings(QUERIES, "int8", ranges))
    bits = np.packbits(compact.signs(PASSAGES) > 0, axis=1)
    np.testing.assert_array_equal(bits, quantize_embeddings(PASSAGES, "ubinary"))


def test_a_number_that_never_changes_is_no_division_by_zero() -> None:
    """Harm: one dead number of a model makes every code of a corpus nonsense."""
    dead = PASSAGES.copy()
    dead[:, 3] = 0.25
    codes = compact.int8(dead, *compact.scale(dead))
    np.testing.assert_array_equal(codes, quantize_embeddings(dead, "int8"))
    assert set(codes[:, 3]) == {-128}


def naive(form: str, query: np.ndarray, passages: np.ndarray, k: int) -> list[float]:
    """The scores of the passages that come first, one query and one passage at a time."""
    low, high = passages.min(0), passages.max(0)
    step = (high - low) / 255
    restored = [[low[i] + step[i] * np.floor((p[i] - low[i]) / step[i]) for i in range(len(p))] for p in passages]
    fine = [sum(q * r for q, r in zip(query, row, strict=True)) for row in restored]
    if form == "int8":
        return sorted(fine, reverse=True)[:k]
    apart = [sum(bool(q > 0) != bool(x > 0) for q, x in zip(query, p, strict=True)) for p in passages]
    return [float(found) for found in sorted(apart)[:k]]


@pytest.mark.parametrize("form", ["int8", "binary"])
def test_search_equals_loops(form: compact.Form) -> None:
    """Harm: scales are multiplied in at the wrong side, or bits compared the wrong way round, and nDCG looks fine."""
    found = compact.top_k(form, QUERIES, PASSAGES, 7)
    for query, rows in zip(QUERIES, found, strict=True):
        assert len(set(rows.tolist())) == 7
        wanted = naive(form, query, PASSAGES, 7)
        start, step = compact.scale(PASSAGES)
        if form == "int8":
            codes = compact.int8(PASSAGES[rows], start, step).astype(np.float64)
            got = ((codes + 128) * step + start) @ query
        else:
            got = ((query > 0) != (PASSAGES[rows] > 0)).sum(1)
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_rescored_are_the_nearest_bits_in_the_order_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: rescoring looks at more than was found by bits, and promises what a binary index cannot give."""
    candidates = compact.top_k("binary", QUERIES, PASSAGES, 4 * 5)
    found = compact.top_k("rescored", QUERIES, PASSAGES, 5)
    start, step = compact.scale(PASSAGES)
    codes = compact.int8(PASSAGES, start, step).astype(np.float64)
    for query, rows, allowed in zip(QUERIES, found, candidates, strict=True):
        assert set(rows) <= set(allowed)
        order = sorted(allowed, key=lambda row: -float((codes[row] * step) @ query))
        assert rows.tolist() == order[:5]
    monkeypatch.setattr(compact, "RESCORED", len(PASSAGES))
    np.testing.assert_array_equal(
        compact.top_k("rescored", QUERIES, PASSAGES, 5), compact.top_k("int8", QUERIES, PASSAGES, 5)
    )


def test_distances_are_those_that_sentence_transformers_finds() -> None:
    """Harm: our binary search finds nearer passages than the index that users have, or farther ones."""
    bits = quantize_embeddings(PASSAGES, "ubinary")
    asked = quantize_embeddings(QUERIES, "ubinary")
    theirs, _ = semantic_search_faiss(
        asked, corpus_embeddings=bits, corpus_precision="ubinary", top_k=9, rescore=False, exact=True
    )
    ours = compact.top_k("binary", QUERIES, PASSAGES, 9)
    for query, rows, hits in zip(QUERIES > 0, ours, theirs, strict=True):
        apart = [(query != (PASSAGES[row] > 0)).sum() for row in rows]
        assert apart == sorted((query != (PASSAGES[hit["corpus_id"]] > 0)).sum() for hit in hits)


def test_ties_do_not_favour_what_stands_first() -> None:
    """Harm: answers stand first in many benchmarks, and equal bits in the order of the table find them."""
    passages = np.repeat(unit(1, 24, 5), 200, axis=0)
    rows = compact.top_k("binary", QUERIES, passages, 10)
    assert (rows == rows[0]).all()  # one order for all queries, drawn by lot
    assert rows[0].max() > 100
    assert (compact.top_k("binary", QUERIES, passages, 10, seed=1) != rows).any()


def test_cut_vectors_are_unit_vectors_of_the_first_numbers() -> None:
    """Harm: cut vectors keep their old lengths, and short ones never come first."""
    short = compact.cut(PASSAGES, 8)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        short * np.linalg.norm(PASSAGES[:, :8], axis=1, keepdims=True), PASSAGES[:, :8], atol=1e-6
    )
    assert not compact.cut(np.zeros((2, 4), np.float32), 2).any()


def test_bytes_are_counted_whole() -> None:
    """Harm: a width that is no multiple of eight is said to need less than it does."""
    assert [compact.stored(form, 12) for form in compact.FORMS] == [(48, 0), (12, 0), (2, 0), (2, 12)]
    assert quantize_embeddings(PASSAGES[:, :12], "ubinary").shape[1] == 2


def test_ndcg_alone_is_that_of_all_measures() -> None:
    """Harm: cut vectors are measured by another nDCG than whole ones."""
    generator = np.random.default_rng(3)
    rows = np.array([generator.permutation(30)[:15] for _ in range(40)])
    rows[0, 3:] = -1
    judged = [
        dict(zip(generator.permutation(30)[:14].tolist(), [1.0, *generator.integers(-1, 4, 13).tolist()], strict=True))
        for _ in rows
    ]
    np.testing.assert_allclose(metrics.ndcg(rows, judged), metrics.retrieval(rows, judged, 15)["ndcg@10"], atol=1e-6)
    few = metrics.ndcg(rows[:, :4], judged)
    np.testing.assert_allclose(few, metrics.retrieval(rows[:, :4], judged, 15)["ndcg@10"], atol=1e-6)
