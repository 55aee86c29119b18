"""Candidates to judgements: what a language model says of each pair, as raw numbers."""

from functools import partial
from pathlib import Path

from distill import artifact, prompts, tables
from distill.artifact import Facts
from distill.engine import Worker, work
from distill.models import Writer
from distill.runtime import Runtime
from distill.stages import stage


@stage(version=1, resumes=True)
def judge(
    *,
    passages: Path,
    candidates: Path,
    model: Writer,
    depth: int | None = None,
    words: int = 60,
    part_rows: int = 1000,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Ask a language model twice of each pair: how likely is the query after the passage, and is it relevant.

    Gecko, arXiv 2403.20327, section 3.3. Nothing is normalised or thrown away: `label` chooses.

    Args:
        passages: What the candidates count.
        candidates: Artifact of `mine`.
        model: The language model that judges.
        depth: Candidates judged of each query, the most similar; all if None. The others keep NaN.
        words: Of a passage that the model is shown.
        part_rows: Queries committed together; what a kill can lose.
        runtime: Engine, devices.
        out: The artifact.

    Returns:
        Pairs judged, how often the two judgements and the teacher prefer the same candidate.
    """
    artifact.check_refers(candidates, "passages", passages)
    rows = len(tables.read(candidates, "candidates"))
    parts = -(-rows // part_rows)
    todo = tables.missing(out / "judgements", parts)
    left = sum(min(part_rows, rows - part * part_rows) for part in todo)
    work(partial(_worker, passages, candidates, model, depth, words, part_rows, out), todo, left, out.name, runtime)
    refers = artifact.facts(candidates)["refers"]
    return _facts(out) | {"rows": rows, "refers": refers, "model": tables.notes(out / "judgements")[0]["model"]}


def _worker(
    passages: Path, candidates: Path, model: Writer, depth: int | None, words: int, part_rows: int, out: Path
) -> Worker:
    import numpy as np

    from distill.console import Bar

    judging = model()
    corpus = tables.read(passages, "passages")
    held = tables.read(candidates, "candidates")
    k = held.schema.field("passages").type.list_size
    asked = min(depth or k, k)
    schema = tables.judgements(
        k,
        tables.scale(held, "similarities"),
        {
            "scale": "log-probability",
            "model": judging.name,
            "prompt": prompts.LIKELIHOOD.digest + prompts.RELEVANCE.digest,
        },
    )

    def do(part: int, bar: Bar) -> None:
        rows = held.slice(part * part_rows, part_rows).combine_chunks()
        listed = tables.matrix(rows["passages"])[:, :asked]
        distinct, numbers = np.unique(listed, return_inverse=True)
        shown = [" ".join(text.split()[:words]) for text in tables.passage_texts(corpus, distinct)]
        texts = [shown[number] for number in numbers.reshape(-1)]
        queries = [query for query in tables.texts(rows["query"]) for _ in range(asked)]
        likelihoods = judging.log_likelihood(
            [prompts.LIKELIHOOD.filled(passage=text) for text in texts],
            [f" {query}" for query in queries],
            shared=prompts.LIKELIHOOD.shared,
        )
        relevances = judging.classify(
            [prompts.RELEVANCE.filled(passage=text, query=query) for text, query in zip(texts, queries, strict=True)],
            prompts.LABELS,
            shared=prompts.RELEVANCE.shared,
        )[:, 0]
        columns = {name: rows[name] for name in held.schema.names}
        for name, values in (("likelihoods", likelihoods), ("relevances", relevances)):
            full = np.full((len(rows), k), np.nan, np.float32)
            full[:, :asked] = values.reshape(len(rows), asked)
            columns[name] = full
        tables.write(out / "judgements", schema, columns, part=part, note={"model": judging.name})
        bar.step(len(rows), f"{len(texts):,} pairs")

    return do


def _facts(out: Path) -> dict[str, object]:
    import numpy as np

    from distill.scores import histogram

    held = tables.opened(out / "judgements")
    likelihoods, relevances = (tables.matrix(held[name]) for name in ("likelihoods", "relevances"))
    judged = np.isfinite(likelihoods)
    best = [np.where(judged, values, -np.inf).argmax(1) for values in (likelihoods, relevances)]
    return {
        "pairs": int(judged.sum()),
        "judges_agree_on_the_best": round(float((best[0] == best[1]).mean()), 4),
        "teacher_agrees_with_likelihood": round(float((best[0] == 0).mean()), 4),
        "teacher_agrees_with_relevance": round(float((best[1] == 0).mean()), 4),
        "histograms": {
            "log P(query given passage)": histogram(likelihoods[judged]),
            "log P(relevant)": histogram(relevances[judged]),
        },
    }
