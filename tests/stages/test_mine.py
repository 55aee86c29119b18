"""Candidates against every product written out in loops; only vectors that fit are searched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill import artifact, files, search, tables
from distill.errors import Refused
from distill.stages import mine as module
from distill.stages.mine import mine

DIM = 16
MODEL = "Words@0123456789ab"


def signs(generator: np.random.Generator, rows: int) -> np.ndarray:
    """Unit vectors whose products are exact in any precision and often equal."""
    return generator.choice([-0.25, 0.25], (rows, DIM)).astype(np.float16)


def decided(passages: np.ndarray, queries: np.ndarray, depth: int) -> np.ndarray:
    """The queries whose last candidate is not as similar as the first that is left out."""
    products = -np.sort(-(queries.astype(np.float64) @ passages.T.astype(np.float64)), axis=1)
    return queries[products[:, depth - 1] > products[:, depth]]


def artifact_of(
    folder: Path, facts: dict[str, object], *parts: tuple[str, tables.pa.Schema, dict[str, object]]
) -> Path:
    """A finished artifact that holds these tables."""
    with artifact.claim(folder, {"verb": "made", "version": 1, "settings": {"name": folder.name}}, {}, {}):
        for name, schema, columns in parts:
            tables.write(folder / name, schema, columns)
        artifact.finish(folder, facts)
    return folder


def passages_of(folder: Path, rows: int) -> Path:
    columns = {name: [f"{name} {row}" for row in range(rows)] for name in tables.PASSAGES.names}
    return artifact_of(folder, {}, ("passages", tables.PASSAGES, columns))


def queries_of(folder: Path, seeds: list[int], passages: Path) -> Path:
    rows = range(len(seeds))
    columns = {"task": [f"task {row % 3}" for row in rows], "query": [f"query {row}" for row in rows], "seed": seeds}
    facts = {"refers": {"passages": artifact.fingerprint(passages)}}
    return artifact_of(folder, facts, ("queries", tables.QUERIES, columns))


def vectors_of(folder: Path, table: str, source: Path, held: np.ndarray, model: str = MODEL) -> Path:
    facts = {"model": model, "refers": {"embedded": f"{table}:{artifact.fingerprint(source)}"}}
    return artifact_of(folder, facts, ("vectors", tables.vectors(held.shape[1]), {"vector": held}))


def world(folder: Path, passages: np.ndarray, queries: np.ndarray, seeds: list[int] | None = None) -> dict[str, Any]:
    """What `mine` reads, with these vectors."""
    folder.mkdir(exist_ok=True)
    corpus = passages_of(folder / "corpus", len(passages))
    asked = queries_of(folder / "queries", seeds or [row % len(passages) for row in range(len(queries))], corpus)
    return {
        "passages": corpus,
        "queries": asked,
        "passage_vectors": (vectors_of(folder / "passage_vectors", "passages", corpus, passages),),
        "query_vectors": (vectors_of(folder / "query_vectors", "queries", asked, queries),),
    }


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    """Fifty passages and thirty queries; many passages are equally similar, but not the ninth and the tenth."""
    generator = np.random.default_rng(3)
    passages = signs(generator, 50)
    return world(tmp_path / "in", passages, decided(passages, signs(generator, 300), 9)[:30])


def held(folder: Path) -> np.ndarray:
    return tables.matrix(tables.read(folder, "vectors")["vector"])


def naive(made: dict[str, Any], depth: int) -> list[dict[str, object]]:
    """The candidates of each query, one product after the other; of equal ones the first passage first."""
    rows = []
    corpus = held(made["passage_vectors"][0]).tolist()
    asked = tables.read(made["queries"], "queries").to_pylist()
    for row, vector in zip(asked, held(made["query_vectors"][0]).tolist(), strict=True):
        products = [sum(a * b for a, b in zip(vector, other, strict=True)) for other in corpus]
        order = sorted(range(len(corpus)), key=lambda passage: (-products[passage], passage))[:depth]
        rows.append(
            row
            | {
                "passages": order,
                "twins": order,
                "similarities": [products[passage] for passage in order],
                "seed_rank": order.index(row["seed"]) if row["seed"] in order else -1,
                "seed_similarity": products[row["seed"]],
            }
        )
    return rows


def found(out: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = tables.read(out, "candidates").to_pylist()
    return rows


@pytest.mark.parametrize("block", [8192, 30, 7, 1])
def test_candidates_equal_a_double_loop(
    made: dict[str, Any], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a query's list is another query's, or equally similar passages stand in an order of chance."""
    monkeypatch.setattr(module, "BLOCK", block)
    mine(**made, depth=9, out=tmp_path / "out")
    expected = naive(made, 9)
    assert found(tmp_path / "out") == expected
    assert {row["seed_rank"] == -1 for row in expected} == {True, False}
    assert any(len(set(row["similarities"])) < 9 for row in expected)  # ties are part of what is compared
    assert len(tables.notes(tmp_path / "out" / "candidates")) == -(-30 // block)


def test_the_list_is_cut_in_the_order_of_the_passages(tmp_path: Path) -> None:
    """Harm: of copies of one passage another is listed, depending on how the corpus is cut into blocks."""
    generator = np.random.default_rng(3)
    made = world(tmp_path / "in", signs(generator, 50), signs(generator, 30))
    mine(**made, depth=9, out=tmp_path / "out")
    assert found(tmp_path / "out") == naive(made, 9)


def test_a_seed_outside_the_list_keeps_its_similarity(tmp_path: Path) -> None:
    """Harm: the ceiling of a query whose seed was not found is taken from another passage."""
    passages = np.eye(4, DIM)
    queries = np.array([[0.8, 0.6, 0, 0], [0, 0.6, 0.8, 0], [0.1, 0, 0.6, -0.8]])
    asked = np.concatenate([queries, np.zeros((3, DIM - 4))], 1)
    made = world(tmp_path / "in", passages.astype(np.float16), asked.astype(np.float16), seeds=[1, 3, 3])
    mine(**made, depth=2, out=tmp_path / "out")
    rows = found(tmp_path / "out")
    assert [row["passages"] for row in rows] == [[0, 1], [2, 1], [2, 0]]
    assert [row["seed_rank"] for row in rows] == [1, -1, -1]
    assert [row["seed_similarity"] for row in rows] == pytest.approx([0.6, 0, -0.8], abs=1e-3)


def test_a_seed_that_is_found_has_one_similarity(tmp_path: Path) -> None:
    """Harm: the same pair has two numbers, and a passage over the ceiling of the one is under that of the other."""
    generator = np.random.default_rng(5)
    passages, queries = (generator.normal(size=(rows, 64)) for rows in (300, 80))
    passages, queries = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (passages, queries))
    queries = (passages[:80] + queries) / np.linalg.norm(passages[:80] + queries, axis=1, keepdims=True)
    made = world(tmp_path / "in", passages.astype(np.float16), queries.astype(np.float16))
    mine(**made, depth=5, out=tmp_path / "out")
    seen = [row for row in found(tmp_path / "out") if row["seed_rank"] >= 0]
    assert len(seen) > 70
    for row in seen:
        assert row["passages"][row["seed_rank"]] == row["seed"]
        assert row["similarities"][row["seed_rank"]] == pytest.approx(row["seed_similarity"], abs=1e-6)


def test_facts_say_what_the_rows_say(made: dict[str, Any], tmp_path: Path) -> None:
    """Harm: the teacher is judged by a share of found seeds that is not of these lists."""
    facts = mine(**made, depth=9, out=tmp_path / "out")
    expected = naive(made, 9)
    ranks = [row["seed_rank"] for row in expected]
    assert facts["seed_found"] == round(sum(rank >= 0 for rank in ranks) / 30, 4)
    assert facts["seed_within"] == {
        str(k): round(sum(0 <= rank < k for rank in ranks) / 30, 4) for k in (1, 3, 5, 10, 20, 100)
    }
    spreads = [row["similarities"][0] - row["similarities"][-1] for row in expected]
    assert facts["mean_spread"] == round(sum(spreads) / 30, 4)
    assert sum(facts["histograms"]["spread of similarities in a list"]["counts"]) == 30
    assert (facts["rows"], facts["model"]) == (30, MODEL)
    assert 0 < facts["seed_within"]["1"] < facts["seed_found"] < 1


def test_what_the_numbers_mean_and_count_is_kept(made: dict[str, Any], tmp_path: Path) -> None:
    """Harm: cosines are softened as log-probabilities, or row numbers are joined with another corpus."""
    facts = mine(**made, depth=4, out=tmp_path / "out")
    assert tables.scale(tables.read(tmp_path / "out", "candidates"), "similarities") == {
        "scale": "cosine",
        "model": MODEL,
    }
    assert facts["refers"] == {name: artifact.fingerprint(made[name]) for name in ("passages", "queries")}
    artifact.check_refers(tmp_path / "out", "passages", made["passages"])
    other = passages_of(tmp_path / "other", 50)
    with pytest.raises(Refused, match="another table of passages"):
        artifact.check_refers(tmp_path / "out", "passages", other)


def test_no_input_is_changed(made: dict[str, Any], tmp_path: Path) -> None:
    """Harm: searching scales the vectors that training and evaluation read afterwards."""
    paths = [file for file in (tmp_path / "in").rglob("*") if file.is_file()]
    before = {file: (files.digest(file), file.stat().st_mtime_ns) for file in paths}
    mine(**made, depth=4, out=tmp_path / "out")
    assert {file: (files.digest(file), file.stat().st_mtime_ns) for file in paths} == before


def test_the_whole_corpus_may_be_listed_and_no_more(made: dict[str, Any], tmp_path: Path) -> None:
    """Harm: a depth that is refused leaves a folder that refuses the corrected one."""
    with pytest.raises(Refused, match=r"^mine: depth: 51, with 50 passages to find\."):
        mine(**made, depth=51, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    mine(**made, depth=50, out=tmp_path / "out")
    assert found(tmp_path / "out") == naive(made, 50)


def test_killed_between_parts_it_ends_in_the_same_bytes(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a list that was searched before a kill is missing, or stands twice."""
    monkeypatch.setattr(module, "BLOCK", 8)
    mine(**made, depth=4, out=tmp_path / "out")
    whole = artifact.version(tmp_path / "out")
    (tmp_path / "out" / "done.json").unlink()
    for name in ("part-00001.json", "part-00003.json", "part-00003.arrow"):
        (tmp_path / "out" / "candidates" / name).unlink()
    mine(**made, depth=4, out=tmp_path / "out")
    assert artifact.version(tmp_path / "out") == whole


MISFITS = {
    "passages for queries": ("query_vectors", "passages", "passages", MODEL, "does not embed the queries of"),
    "queries for passages": ("passage_vectors", "queries", "queries", MODEL, "does not embed the passages of"),
    "another corpus": ("passage_vectors", "passages", "other", MODEL, "does not embed the passages of"),
    "another model": ("query_vectors", "queries", "queries", "Words@other", "queries by Words@other. Use one model."),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_vectors_that_do_not_fit_are_refused(misfit: str, made: dict[str, Any], tmp_path: Path) -> None:
    """Harm: products of vectors that have nothing to do with each other look like similarities."""
    argument, table, source, model, said = MISFITS[misfit]
    made["other"] = passages_of(tmp_path / "other", 50)
    given = vectors_of(tmp_path / "given", table, made[source], held(made[argument][0]), model)
    del made["other"]
    with pytest.raises(Refused, match=said):
        mine(**{**made, argument: (given,)}, depth=4, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_vectors_that_do_not_say_what_they_embed_are_refused(made: dict[str, Any], tmp_path: Path) -> None:
    """Harm: vectors from elsewhere are taken on trust, row by row."""
    columns = {"vector": held(made["passage_vectors"][0])}
    given = artifact_of(tmp_path / "given", {"model": MODEL}, ("vectors", tables.vectors(DIM), columns))
    with pytest.raises(Refused, match="does not embed the passages of"):
        mine(**{**made, "passage_vectors": (given,)}, out=tmp_path / "out")


def test_queries_about_another_corpus_are_refused(made: dict[str, Any], tmp_path: Path) -> None:
    """Harm: seeds count rows of another table, and every relabelled share is a number of chance."""
    other = passages_of(tmp_path / "other", 50)
    vectors = vectors_of(tmp_path / "vectors", "passages", other, held(made["passage_vectors"][0]))
    with pytest.raises(Refused, match="counts rows of another table of passages"):
        mine(**{**made, "passages": other, "passage_vectors": (vectors,)}, out=tmp_path / "out")


@pytest.mark.parametrize("seed", [-1, 50])
def test_a_seed_that_is_no_passage_is_refused(seed: int, tmp_path: Path) -> None:
    """Harm: a seed of -1 is the last passage, and its similarity becomes a ceiling."""
    generator = np.random.default_rng(3)
    made = world(tmp_path / "in", signs(generator, 50), signs(generator, 2), seeds=[4, seed])
    with pytest.raises(Refused, match=f"seed: row {seed} is outside the passages table of 50 rows"):
        mine(**made, depth=4, out=tmp_path / "out")


# ---------------------------------------------------------------------------- several searches

TEXTS = [
    "The heron stands in shallow water and waits for fish.", "A heron nests in tall trees near rivers and lakes.",
    "Bread rises when yeast turns sugar into gas.", "Yeast is a fungus that brewers and bakers use.",
    "The heron stands in shallow water and waits for small fish.", "Copper conducts heat well.",
    "Rivers carry sand to the sea.", "Lakes freeze from the top.", "Bakers knead dough until it is smooth.",
    "A kettle of copper boils sooner.",
]  # fmt: skip
ASKED = ["where does the heron stand", "what do bakers use yeast for", "which metal conducts heat", "zzz qqq"]


def spoken(folder: Path, generator: np.random.Generator, teachers: int) -> dict[str, Any]:
    """Passages and queries of words, with vectors of several teachers that know nothing of them."""
    folder.mkdir(exist_ok=True)
    rows = range(len(TEXTS))
    columns = {
        "source": ["a"] * len(TEXTS),
        "key": [str(row) for row in rows],
        "title": [""] * len(TEXTS),
        "text": TEXTS,
    }
    corpus = artifact_of(folder / "corpus", {}, ("passages", tables.PASSAGES, columns))
    told = {"task": ["find it"] * len(ASKED), "query": ASKED, "seed": [0, 3, 5, 7]}
    facts = {"refers": {"passages": artifact.fingerprint(corpus)}}
    asked = artifact_of(folder / "queries", facts, ("queries", tables.QUERIES, told))
    made: dict[str, Any] = {"passages": corpus, "queries": asked, "passage_vectors": (), "query_vectors": ()}
    for number in range(teachers):
        for side, table, source, count in (
            ("passage_vectors", "passages", corpus, len(TEXTS)), ("query_vectors", "queries", asked, len(ASKED)),
        ):  # fmt: skip
            vectors = signs(generator, count)
            made[side] += (vectors_of(folder / f"{side}_{number}", table, source, vectors, f"teacher-{number}"),)
    return made


def test_words_alone_may_search(tmp_path: Path) -> None:
    """Harm: without a teacher there is no way to begin, or BM25's scores are taken for cosines."""
    made = spoken(tmp_path / "in", np.random.default_rng(0), 0)
    mine(**made, lexical=True, depth=4, out=tmp_path / "out")
    table = tables.read(tmp_path / "out", "candidates")
    rows = table.to_pylist()
    index = search.Lexical(TEXTS)
    for row, query in zip(rows, ASKED, strict=True):
        listed, scores = index.top_k([query], 4)
        assert row["passages"] == listed[0].tolist() and row["similarities"] == scores[0].tolist()
        everything = dict(zip(*(part[0].tolist() for part in index.top_k([query], len(TEXTS))), strict=True))
        assert row["seed_similarity"] == pytest.approx(everything[row["seed"]])
    assert tables.scale(table, "similarities") == {"scale": "BM25", "model": "BM25"}
    assert rows[0]["passages"][0] in (0, 4) and rows[1]["passages"][0] == 3 and max(rows[3]["similarities"]) == 0


@pytest.mark.parametrize(("teachers", "lexical"), [(1, True), (2, False), (3, True)])
def test_several_searches_are_fused_by_rank(teachers: int, lexical: bool, tmp_path: Path) -> None:
    """Harm: a passage that two searches find is listed twice or behind those of one, or a score is another's."""
    made, depth = spoken(tmp_path / "in", np.random.default_rng(teachers), teachers), 3
    mine(**made, lexical=lexical, depth=depth, out=tmp_path / "out")
    table = tables.read(tmp_path / "out", "candidates")
    products = [
        held(one).astype(np.float64) @ held(other).astype(np.float64).T
        for one, other in zip(made["query_vectors"], made["passage_vectors"], strict=True)
    ]
    words = search.Lexical(TEXTS)
    names = ["similarities", "similarities_2", "similarities_3"][:teachers] + ["lexical"] * lexical
    assert tables.opinions(table) == names
    for number, row in enumerate(table.to_pylist()):
        lists = [sorted(range(len(TEXTS)), key=lambda p, s=side: (-s[number, p], p))[:depth] for side in products]
        scored: dict[int, float] = {}
        if lexical:
            listed, scores = (part[0].tolist() for part in words.top_k([ASKED[number]], depth))
            scored = {passage: score for passage, score in zip(listed, scores, strict=True) if score > 0}
            lists.append(list(scored))
        sums: dict[int, float] = {}
        for found in lists:
            for place, passage in enumerate(found):
                sums[passage] = sums.get(passage, 0) + 1 / (60 + place + 1)
        first = sorted(sums, key=lambda passage: -round(sums[passage], 12))[:depth]  # equal sums: the earlier list
        wanted = sorted(first, key=lambda passage: -products[0][number, passage])
        assert sorted(row["passages"]) == sorted(wanted)
        for name, side in zip(names, products, strict=False):
            assert row[name] == pytest.approx([side[number, passage] for passage in row["passages"]])
        assert row["similarities"] == sorted(row["similarities"], reverse=True)
        if lexical:
            assert row["lexical"] == pytest.approx([scored.get(passage, 0.0) for passage in row["passages"]])


def test_passages_that_say_nearly_the_same_are_told(tmp_path: Path) -> None:
    """Harm: a copy of the seed with one word more is a hard negative."""
    made = spoken(tmp_path / "in", np.random.default_rng(0), 0)
    long = " ".join(f"word{number}" for number in range(40))
    texts = [long, "nothing of the kind here", f"{long} more", "other words again", f"{long} less", "last of them all"]
    columns = {"source": ["a"] * 6, "key": list("abcdef"), "title": [""] * 6, "text": texts}
    corpus = artifact_of(tmp_path / "corpus", {}, ("passages", tables.PASSAGES, columns))
    told = {"task": ["find it"] * 2, "query": ["word3 word5 here", "nothing of the kind"], "seed": [2, 1]}
    facts = {"refers": {"passages": artifact.fingerprint(corpus)}}
    asked = artifact_of(tmp_path / "asked", facts, ("queries", tables.QUERIES, told))
    made |= {"passages": corpus, "queries": asked}
    facts = mine(**made, lexical=True, depth=6, out=tmp_path / "out")
    for row, seed in zip(found(tmp_path / "out"), (2, 1), strict=True):
        listed = row["passages"]
        assert isinstance(listed, list)
        family = [passage for passage in [seed, *listed] if passage in (0, 2, 4)]
        assert row["twins"] == [family[0] if passage in (0, 2, 4) else passage for passage in listed]
    assert facts["twins_of_the_seed"] == 2


MISSING: list[tuple[dict[str, Any], str]] = [
    ({"passage_vectors": (), "query_vectors": ()}, "nothing to search with"),
    ({"query_vectors": ()}, "1 passage_vectors and 0 query_vectors"),
]


@pytest.mark.parametrize(("given", "said"), MISSING, ids=str)
def test_a_search_needs_something_to_search_with(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Harm: an empty list of candidates, or a traceback."""
    made = spoken(tmp_path / "in", np.random.default_rng(0), 1)
    with pytest.raises(Refused, match=said):
        mine(**{**made, **given}, depth=2, out=tmp_path / "out")
    twice = {name: made[name] * 2 for name in ("passage_vectors", "query_vectors")}
    with pytest.raises(Refused, match="teacher-0 embeds twice"):
        mine(**{**made, **twice}, depth=2, out=tmp_path / "out")
