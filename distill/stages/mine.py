"""Queries and vectors to candidates: the passages that the teacher finds for each query."""

from pathlib import Path
from typing import TYPE_CHECKING

from distill import artifact, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.stages import stage

if TYPE_CHECKING:
    import numpy as np

BLOCK = 8192  # queries searched at once: bounds memory


@stage(version=1)
def mine(
    *,
    passages: Path,
    queries: Path,
    passage_vectors: Path,
    query_vectors: Path,
    depth: int = 20,
    out: Path,
) -> Facts:
    """Find each query's most similar passages, exactly. The seed is only a first guess of the positive.

    Args:
        passages: What is searched.
        queries: What is asked.
        passage_vectors: Of the passages.
        query_vectors: Of the queries, by the same model.
        depth: Passages for each query; at most as many as there are.
        out: The artifact.

    Returns:
        Where the seeds came (histogram of ranks), the spread of similarities in a list.
    """
    import numpy as np

    from distill import console, search

    model = _check(passages, queries, passage_vectors, query_vectors)
    asked = tables.read(queries, "queries")
    corpus, sought = (_vectors(folder) for folder in (passage_vectors, query_vectors))
    _check_sizes(corpus, sought, len(tables.read(passages, "passages")), len(asked))
    if depth > len(corpus):
        raise Refused(f"mine: depth: {depth}, with {len(corpus)} passages to find. Lower `depth` to as many or fewer.")
    seeds = asked["seed"].to_numpy()
    tables.check_rows(f"{queries}: seed", seeds, len(corpus))
    meaning = {"scale": "cosine", "model": model}
    ranks, spreads = [], []
    with console.bar(out.name, len(sought)) as bar:
        for part, start in enumerate(range(0, len(sought), BLOCK)):
            block = sought[start : start + BLOCK].astype(np.float32)
            rows, similarities = search.top_k(block, corpus, depth)
            seed = seeds[start : start + BLOCK]
            hit = rows == seed[:, None]
            rank = np.where(hit.any(1), hit.argmax(1), -1)
            columns = {name: asked[name].slice(start, BLOCK) for name in tables.QUERIES.names} | {
                "passages": rows,
                "similarities": similarities,
                "seed_rank": rank,
                "seed_similarity": (block * corpus[seed].astype(np.float32)).sum(1),
            }
            tables.write(out / "candidates", tables.candidates(depth, meaning), columns, part=part)
            ranks.append(rank)
            spreads.append(similarities[:, 0] - similarities[:, -1])
            bar.step(len(block))
    return _facts(np.concatenate(ranks), np.concatenate(spreads)) | {
        "rows": len(sought),
        "model": model,
        "refers": {"passages": artifact.fingerprint(passages), "queries": artifact.fingerprint(queries)},
    }


def _vectors(folder: Path) -> "np.ndarray":
    return tables.matrix(tables.read(folder, "vectors")["vector"])


def _check(passages: Path, queries: Path, passage_vectors: Path, query_vectors: Path) -> str:
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


def _check_sizes(corpus: "np.ndarray", sought: "np.ndarray", passages: int, queries: int) -> None:
    """Make sure that each text has its vector: a table made again under its recipe may hold other rows."""
    if (len(corpus), len(sought)) != (passages, queries) or corpus.shape[1] != sought.shape[1]:
        raise Refused(
            f"mine: {len(corpus)} vectors of {passages} passages and {len(sought)} of {queries} queries, "
            f"{corpus.shape[1]} and {sought.shape[1]} wide. Embed both again with one model."
        )


def _facts(ranks: "np.ndarray", spreads: "np.ndarray") -> dict[str, object]:
    from distill.scores import histogram

    bounds = [1, 3, 5, 10, 20, 100]
    return {
        "seed_found": round(float((ranks >= 0).mean()), 4),
        "seed_within": {str(k): round(float(((ranks >= 0) & (ranks < k)).mean()), 4) for k in bounds},
        "mean_spread": round(float(spreads.mean()), 4),
        "histograms": {"spread of similarities in a list": histogram(spreads)},
    }
