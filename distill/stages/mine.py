"""Queries and vectors to candidates: the passages that the teacher finds for each query."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill import artifact, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.stages import stage

if TYPE_CHECKING:
    import pyarrow as pa

    from distill import search

BLOCK = 8192  # queries searched at once: bounds memory

TEACHERS = 3
"""Teachers at most: so many columns there are."""


def _check(
    passages: Path, queries: Path, passage_vectors: tuple[Path, ...], query_vectors: tuple[Path, ...], lexical: bool
) -> None:
    if not passage_vectors and not lexical:
        raise Refused("nothing to search with. Give passage_vectors and query_vectors, say `lexical: true`, or both.")
    if len(passage_vectors) != len(query_vectors) or len(passage_vectors) > TEACHERS:
        raise Refused(
            f"{len(passage_vectors)} passage_vectors and {len(query_vectors)} query_vectors; needed: one of each for a "
            f"teacher, in the same order, of {TEACHERS} teachers at most."
        )


@stage(version=2, check=_check)
def mine(
    *,
    passages: Path,
    queries: Path,
    passage_vectors: tuple[Path, ...] = (),
    query_vectors: tuple[Path, ...] = (),
    lexical: bool = False,
    depth: int = 20,
    out: Path,
) -> Facts:
    """Find each query's candidates, exactly: what a teacher finds, or what several searches find together.

    The lists of several are fused by reciprocal rank (constant 60), and what is kept is put in order of the first
    teacher's similarity, by which `label` chooses; without a teacher, of BM25's score. The seed is only a first guess
    of the positive.

    Args:
        passages: What is searched.
        queries: What is asked.
        passage_vectors: Of the passages, by each teacher; the first one's similarities are those that `label` goes by.
        query_vectors: Of the queries, by the same teachers.
        lexical: Whether BM25 searches too, or alone.
        depth: Passages for each query; at most as many as there are.
        out: The artifact.

    Returns:
        Where the seeds came (histogram of ranks), the spread of similarities in a list, how many candidates say nearly
        the same as the seed.
    """
    from distill import console, search

    named = [_embedder(passages, queries, *pair) for pair in zip(passage_vectors, query_vectors, strict=True)]
    if len(set(named)) < len(named):
        raise Refused(f"mine: {named[0]} embeds twice. Name each teacher once.")
    asked, corpus = tables.read(queries, "queries"), tables.read(passages, "passages")
    spaces = [_Space(*pair, len(corpus), len(asked)) for pair in zip(passage_vectors, query_vectors, strict=True)]
    if depth > len(corpus):
        raise Refused(f"mine: depth: {depth}, with {len(corpus)} passages to find. Lower `depth` to as many or fewer.")
    tables.check_rows(f"{queries}: seed", asked["seed"].to_numpy(), len(corpus))
    words = search.Lexical(tables.passage_texts(corpus)) if lexical else None
    meanings = _meanings(named, lexical)
    schema = tables.candidates(depth, meanings)
    ranks, spreads, repeats = [], [], 0
    with console.bar(out.name, len(asked)) as bar:
        for part, start in enumerate(range(0, len(asked), BLOCK)):
            block = asked.slice(start, BLOCK).combine_chunks()
            found = _found(block, start, spaces, words, depth)
            seeds = block["seed"].to_numpy()
            twins = _twins(corpus, found["passages"], seeds)
            hit = found["passages"] == seeds[:, None]
            rank = np.where(hit.any(1), hit.argmax(1), -1)
            columns = {name: block[name] for name in tables.QUERIES.names} | {"twins": twins, "seed_rank": rank}
            tables.write(out / "candidates", schema, columns | found, part=part)
            ranks.append(rank)
            similarities = found["similarities"]
            spreads.append(similarities[:, 0] - similarities[:, -1])
            repeats += int(((twins == seeds[:, None]) & ~hit).sum())
            bar.step(len(block))
    return _facts(np.concatenate(ranks), np.concatenate(spreads)) | {
        "rows": len(asked),
        "model": ", ".join(meaning["model"] for meaning in meanings.values()),
        "twins_of_the_seed": repeats,
        "refers": {"passages": artifact.fingerprint(passages), "queries": artifact.fingerprint(queries)},
    }


def _meanings(teachers: Sequence[str], lexical: bool) -> dict[str, Mapping[str, str]]:
    """What the numbers of each column mean."""
    names = ["similarities", *(f"similarities_{number}" for number in range(2, len(teachers) + 1))]
    meanings: dict[str, Mapping[str, str]] = {
        name: {"scale": "cosine", "model": teacher} for name, teacher in zip(names, teachers, strict=False)
    }
    if lexical:
        meanings["lexical" if teachers else "similarities"] = {"scale": "BM25", "model": "BM25"}
    return meanings


class _Space:
    """The vectors of passages and queries by one teacher, memory-mapped."""

    def __init__(self, passage_vectors: Path, query_vectors: Path, passages: int, queries: int) -> None:
        self.passages, self.queries = _vectors(passage_vectors), _vectors(query_vectors)
        _check_sizes(self.passages, self.queries, passages, queries)


def _found(
    block: "pa.Table", start: int, spaces: Sequence[_Space], words: "search.Lexical | None", depth: int
) -> dict[str, np.ndarray]:
    """The candidates of some queries, the most similar first, with what each search says of them."""
    from distill import search

    asked = tables.texts(block["query"])
    vectors = [space.queries[start : start + len(block)].astype(np.float32) for space in spaces]
    lists = [search.top_k(one, space.passages, depth) for one, space in zip(vectors, spaces, strict=True)]
    if words is not None:
        rows, scores = words.top_k(asked, depth)
        lists.append((rows if not spaces else np.where(scores > 0, rows, -1), scores))
    if len(lists) == 1:
        listed, first = lists[0]
        columns = {"passages": listed, "similarities": first}
    else:
        listed = search.fused([rows for rows, _ in lists], depth)
        first = search.products(vectors[0], spaces[0].passages, listed)
        order = np.argsort(-first, axis=1, kind="stable")
        listed = np.take_along_axis(listed, order, 1)
        columns = {"passages": listed, "similarities": np.take_along_axis(first, order, 1)}
    for number, (one, space) in enumerate(zip(vectors[1:], spaces[1:], strict=True), 2):
        columns[f"similarities_{number}"] = search.products(one, space.passages, listed)
    if words is not None and spaces:
        columns["lexical"] = _looked_up(listed, *lists[-1])
    seeds = block["seed"].to_numpy()
    if spaces:
        columns["seed_similarity"] = search.products(vectors[0], spaces[0].passages, seeds[:, None])[:, 0]
    else:
        assert words is not None
        columns["seed_similarity"] = words.score(asked, seeds)
    return columns


def _looked_up(listed: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The score of each listed passage in a list of its own; 0 where it is not, for that is less than all there."""
    found = np.zeros(listed.shape, np.float32)
    for place in range(rows.shape[1]):
        found = np.where(listed == rows[:, place, None], scores[:, place, None], found)
    return found


def _twins(corpus: "pa.Table", listed: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """For each candidate the first of the seed and the list that says nearly the same; itself if none."""
    from distill import duplicates

    lists = np.concatenate([seeds[:, None], listed], 1)
    distinct, numbers = np.unique(lists, return_inverse=True)
    signed = duplicates.signatures(tables.passage_texts(corpus, distinct))
    return np.take_along_axis(lists, duplicates.firsts_in_lists(signed, numbers.reshape(lists.shape)), 1)[:, 1:]


def _vectors(folder: Path) -> np.ndarray:
    return tables.matrix(tables.read(folder, "vectors")["vector"])


def _embedder(passages: Path, queries: Path, passage_vectors: Path, query_vectors: Path) -> str:
    """Make sure that the vectors are of these tables and of one model; gives the model."""
    artifact.check_refers(queries, "passages", passages)
    told = [artifact.facts(folder) for folder in (passage_vectors, query_vectors)]
    for facts, folder, name, source in zip(
        told, (passage_vectors, query_vectors), ("passages", "queries"), (passages, queries), strict=True
    ):
        refers = facts.get("refers")
        if not isinstance(refers, dict) or refers.get("embedded") != f"{name}:{artifact.fingerprint(source)}":
            raise Refused(f"mine: {folder} does not embed the {name} of {source}. Give the vectors that do.")
    if told[0]["model"] != told[1]["model"]:
        raise Refused(
            f"mine: passages are embedded by {told[0]['model']}, queries by {told[1]['model']}. Use one model."
        )
    return str(told[0]["model"])


def _check_sizes(corpus: np.ndarray, sought: np.ndarray, passages: int, queries: int) -> None:
    """Make sure that each text has its vector: a table made again under its recipe may hold other rows."""
    if (len(corpus), len(sought)) != (passages, queries) or corpus.shape[1] != sought.shape[1]:
        raise Refused(
            f"mine: {len(corpus)} vectors of {passages} passages and {len(sought)} of {queries} queries, "
            f"{corpus.shape[1]} and {sought.shape[1]} wide. Embed both again with one model."
        )


def _facts(ranks: np.ndarray, spreads: np.ndarray) -> dict[str, object]:
    from distill.scores import histogram

    bounds = [1, 3, 5, 10, 20, 100]
    return {
        "seed_found": round(float((ranks >= 0).mean()), 4),
        "seed_within": {str(k): round(float(((ranks >= 0) & (ranks < k)).mean()), 4) for k in bounds},
        "mean_spread": round(float(spreads.mean()), 4),
        "histograms": {"spread of similarities in a list": histogram(spreads)},
    }
