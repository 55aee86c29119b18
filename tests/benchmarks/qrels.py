"""What judges and rules get right, by what people said of the same passages: relevance judgements of a BEIR folder.

python tests/benchmarks/qrels.py data/retrieval/msmarco_dl21 --grade 2 --out runs/qrels

Each question has one of its right passages as the seed; the others are hidden from judges and rules. The first table:
how often the candidate that a judge prefers is right. The second: how many of a rule's hard negatives are right.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill import ranking, tables
from distill.readers import Parquet
from distill.stages.embed import embed
from distill.stages.ingest import ingest
from distill.stages.judge import judge
from distill.stages.label import label
from distill.stages.mine import mine
from students import Encoder
from teachers import CausalLM

TASK = "Given a web search query, retrieve relevant passages that answer the query"

RULES: dict[str, dict[str, Any]] = {
    "the nearest (naive)": {"rule": "naive"},
    "the nearest, first 5 left out": {"rule": "naive", "skip": 5},
    "at random": {"rule": "naive", "choice": "random"},
    "spread": {"rule": "naive", "choice": "spread"},
    "last by the judges": {"rule": "naive", "choice": "last"},
    "under 95 % of the positive": {"rule": "share"},
    "under the positive - 0.05": {"rule": "margin"},
    "under 0.7": {"rule": "absolute"},
    "under 95 %, last by the judges": {"rule": "share", "choice": "last"},
}


def main() -> None:
    """Make what is missing, count, print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="corpus.parquet, queries.parquet, qrels.parquet")
    parser.add_argument("--split", default="test")
    parser.add_argument("--grade", type=int, default=1, help="from which a passage is right")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of which right passage is known")
    parser.add_argument("--judge", default="package:gemma-3-270m")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    out = given.out / f"{given.folder.name}_{given.seed}"
    right = _known(given.folder, given.split, given.grade, given.seed, out)
    judged = _judged(given.folder, out, given.judge, given.depth)
    held, passages = tables.read(judged, "judgements"), tables.read(out / "corpus", "passages")
    keys = np.array(passages["key"].to_pylist())
    answers = [right[query] for query in held["query"].to_pylist()]
    _of_judges(held, keys, answers)
    _of_rules(judged, out, keys, answers)


def _known(folder: Path, split: str, grade: int, seed: int, out: Path) -> dict[str, set[str]]:
    """The right passages of each question; writes one of each, drawn, as what is known."""
    qrels = pq.read_table(folder / "qrels.parquet")
    rows = qrels.filter(pc.and_(pc.equal(qrels["split"], split), pc.greater_equal(qrels["score"], grade))).to_pylist()
    asked = {row["id"]: row["text"] for row in pq.read_table(folder / "queries.parquet").to_pylist()}
    corpus = pq.read_table(folder / "corpus.parquet", columns=["id", "title", "text"])
    place = {key: number for number, key in enumerate(corpus["id"].to_pylist())}
    right: dict[str, list[str]] = {}
    for row in rows:
        right.setdefault(asked[row["query_id"]], []).append(row["corpus_id"])
    drawn = np.random.default_rng(seed)
    known = {query: held[drawn.integers(len(held))] for query, held in right.items()}
    texts = corpus.take(pa.array([place[key] for key in known.values()]))
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"query": list(known), "positive": texts["text"]}), out / "known.parquet")
    return {query: set(held) for query, held in right.items()}


def _judged(folder: Path, out: Path, base: str, depth: int) -> Path:
    """The judgements of the candidates; finished steps are not made again."""
    corpus = Parquet(path=folder / "corpus.parquet", columns={"key": "id"})
    known = Parquet(path=out / "known.parquet", kind="retrieval", task=TASK)
    ingest(sources=(corpus, known), out=out / "corpus")
    teacher = partial(Encoder, base="package:all-MiniLM-L6-v2", length=128)
    embed(passages=out / "corpus", model=teacher, out=out / "passage_vectors")
    embed(queries=out / "corpus", model=teacher, out=out / "query_vectors")
    vectors = {name: (out / name,) for name in ("passage_vectors", "query_vectors")}
    mine(passages=out / "corpus", queries=out / "corpus", depth=depth, out=out / "mined", **vectors)
    writer = partial(CausalLM, base=base, batch_tokens=8192)
    judge(passages=out / "corpus", candidates=out / "mined", model=writer, out=out / "judged")
    return out / "judged"


def _of_judges(held: pa.Table, keys: np.ndarray, answers: list[set[str]]) -> None:
    listed = tables.matrix(held["passages"])
    is_right = np.array([[key in said for key in keys[row]] for row, said in zip(listed, answers, strict=True)])
    opinions = {name: tables.matrix(held[name]) for name in tables.opinions(held)}
    both = [opinions["likelihoods"], opinions["relevances"]]
    orders = {
        "any candidate": None,
        "the teacher": opinions["similarities"],
        "query likelihood": both[0],
        "relevance": both[1],
        "both, fused (Gecko)": ranking.fuse(both),
        "both and the teacher, fused": ranking.fuse([*both, opinions["similarities"]]),
    }
    seeds = held["seed"].to_numpy()
    print(f"{len(held)} questions; right passages among the candidates: {is_right.mean():.1%}\n")
    print("| preferred by | right, % | is the seed, % |\n|---|---|---|")
    for name, order in orders.items():
        if order is None:
            print(f"| {name} | {100 * is_right.mean():.1f} | |")
            continue
        best = ranking.firsts(order)
        hit = is_right[np.arange(len(best)), best]
        same = listed[np.arange(len(best)), best] == seeds
        print(f"| {name} | {_told(hit)} | {100 * same.mean():.1f} |")


def _of_rules(judged: Path, out: Path, keys: np.ndarray, answers: list[set[str]]) -> None:
    print("\n| hard negatives, 7 at most | right answers among them, % | negatives a question |\n|---|---|---|")
    for number, (name, rule) in enumerate(RULES.items()):
        folder = out / f"examples_{number}"
        label(candidates=judged, positive="seed", out=folder, **rule)
        wrong, counts = [], []
        for row in tables.read(folder, "examples").to_pylist():
            taken = row["passages"][1:]
            counts.append(len(taken))
            if taken:
                wrong.append(np.mean([keys[passage] in answers[row["origin"]] for passage in taken]))
        print(f"| {name} | {_told(np.array(wrong))} | {np.mean(counts):.1f} |")


def _told(values: np.ndarray) -> str:
    """A mean in per cent with its interval: 2,000 draws of the questions."""
    if not len(values):
        return ""
    drawn = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
