"""Exact search against argsort; BM25 finds a word in another form."""

from pathlib import Path

import numpy as np
import pytest

from distill import search
from distill.errors import Refused


@pytest.fixture(autouse=True, params=["faiss", "torch"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to find the largest products; the second is taken where there is a GPU, here on the processor."""
    if request.param == "torch":
        monkeypatch.setattr(search, "_by_faiss", search._by_torch)
        monkeypatch.setattr(search, "AT_ONCE", 4)


def corpus(rows: int = 300, dim: int = 16, seed: int = 0) -> np.ndarray:
    held = np.random.default_rng(seed).normal(size=(rows, dim))
    return (held / np.linalg.norm(held, axis=1, keepdims=True)).astype(np.float32)


def naive(queries: np.ndarray, passages: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All products, sorted; of equal ones the first row first."""
    products = queries.astype(np.float64) @ passages.astype(np.float64).T
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(products, order, 1)


@pytest.mark.parametrize("block", [1 << 18, 128, 100, 7, 1])
def test_top_k_equals_argsort_in_any_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: rows of later blocks are numbered from zero, or the last block is forgotten."""
    monkeypatch.setattr(search, "BLOCK", block)
    queries, passages = corpus(30, seed=1), corpus()
    rows, products = search.top_k(queries, passages, 20)
    expected_rows, expected = naive(queries, passages, 20)
    assert np.array_equal(rows, expected_rows)
    np.testing.assert_allclose(products, expected, atol=1e-6)
    assert rows.dtype == np.int64
    assert products.dtype == np.float32


def test_half_precision_memory_map_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: vectors as they lie on disk are not understood, or are rounded again."""
    monkeypatch.setattr(search, "BLOCK", 64)
    np.save(tmp_path / "vectors.npy", corpus().astype(np.float16))
    passages = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    queries = corpus(5, seed=1).astype(np.float16)
    rows, products = search.top_k(queries, passages, 10)
    expected_rows, expected = naive(queries, passages, 10)
    assert np.array_equal(rows, expected_rows)
    np.testing.assert_allclose(products, expected, atol=1e-6)


@pytest.mark.parametrize("block", [1 << 18, 11])
def test_equal_products_stand_in_the_order_of_the_passages(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the same corpus gives other candidates on a machine that searches in other blocks."""
    monkeypatch.setattr(search, "BLOCK", block)
    passages = corpus(60)
    passages[[20, 41, 59]] = passages[3]
    rows, products = search.top_k(passages[3:4], passages, 4)
    assert rows.tolist() == [[3, 20, 41, 59]]
    assert np.ptp(products) == 0
    alike = np.ones((40, 4), np.float32)
    assert search.top_k(alike[:25], alike, 6)[0].tolist() == [list(range(6))] * 25


def test_all_passages_may_be_asked_for() -> None:
    """Harm: a small corpus loses its last passage."""
    rows, _ = search.top_k(corpus(4, seed=1), corpus(9), 9)
    assert np.array_equal(np.sort(rows, axis=1), np.tile(np.arange(9), (4, 1)))


@pytest.mark.parametrize("k", [0, -1, 10])
def test_more_than_there_is_is_refused(k: int) -> None:
    """Harm: rows of -1 in the candidates, which name the last passage."""
    with pytest.raises(Refused, match=f"k is {k}, with 9 passages"):
        search.top_k(corpus(2), corpus(9), k)
    with pytest.raises(Refused, match=f"k is {k}, with 9 passages"):
        search.Lexical(["some words"] * 9).top_k(["a word"], k)


@pytest.mark.parametrize("side", [0, 1])
def test_vectors_that_are_not_finite_are_refused(side: int) -> None:
    """Harm: a vector of NaN is answered with row -1, and the last passage is judged in its place."""
    held = corpus(6), corpus(6, seed=1)
    held[side][2] = np.nan
    with pytest.raises(Refused, match="not finite"):
        search.top_k(*held, 6)


PASSAGES = [
    "Sorting a list in place.",
    "A dictionary keeps the order of insertion.",
    "Files are closed when the block is left.",
    "The list of files in a folder.",
]


def test_lexical_finds_another_form_of_a_word() -> None:
    """Harm: the baseline is weaker than anybody's BM25, and the models look better than they are."""
    rows, scores = search.Lexical(PASSAGES).top_k(["sorted lists", "insert into dictionaries", "closing a file"], 2)
    assert rows[:, 0].tolist() == [0, 1, 2]
    assert (scores[:, 0] > scores[:, 1]).all()
    assert (scores >= 0).all()


def test_lexical_gives_nothing_for_words_it_has_not_seen() -> None:
    """Harm: a query that shares no word is answered by chance, and a lucky row counts as found."""
    _, scores = search.Lexical(PASSAGES).top_k(["zygote quark", "the of a", ""], 3)
    assert (scores == 0).all()


def test_lexical_equals_the_formula() -> None:
    """Harm: other constants than the documented ones (k1 1.2, b 0.75)."""
    texts = ["red red blue", "blue green", "green green green yellow", "yellow"]
    rows, scores = search.Lexical(texts).top_k(["red green"], 4)
    words = [text.split() for text in texts]
    mean = sum(map(len, words)) / 4
    expected = []
    for held in words:
        total = 0.0
        for term in ("red", "green"):
            seen = sum(term in other for other in words)
            weight = np.log(1 + (4 - seen + 0.5) / (seen + 0.5))
            count = held.count(term)
            total += weight * count / (count + 1.2 * (1 - 0.75 + 0.75 * len(held) / mean))
        expected.append(total)
    np.testing.assert_allclose(scores[0], np.array(expected)[rows[0]], rtol=1e-5)


def test_passages_without_a_word_are_refused() -> None:
    """Harm: a corpus of signs and stop words stops deep inside the index with words that nobody understands."""
    for passages in (["?!", "the of a"], ["x"]):
        with pytest.raises(Refused, match=f"none of {len(passages)} passages has a word of two letters"):
            search.Lexical(passages)
    rows, scores = search.Lexical(["?!", "the fog", ""]).top_k(["fog"], 3)
    assert rows[0, 0] == 1 and scores[0].tolist()[1:] == [0, 0]
