"""Candidates to judgements: what a language model or a cross-encoder says of each pair, as raw numbers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from distill import artifact, console, ranking, tables
from distill.artifact import Facts
from distill.engine import Worker, work
from distill.errors import Refused
from distill.interfaces import LanguageModel, Reranker
from distill.models import Judge
from distill.prompts import LABELS, Judging
from distill.runtime import Runtime
from distill.stages import stage


def _check(prompt: Judging) -> None:
    if len({each.answers for each in prompt.relevance}) < 2:
        raise Refused("prompt.relevance: needed: an example that answers its query and one that does not.")


@stage(version=2, resumes=True, check=_check)
def judge(
    *,
    passages: Path,
    candidates: Path,
    model: Judge,
    asked: Literal["all", "disputed"] = "all",
    prompt: Judging = Judging(),
    depth: int | None = None,
    words: int = 60,
    part_rows: int = 100,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Ask a judge of each pair of a query and a candidate, and keep its raw numbers: `label` chooses.

    A language model is asked twice: how likely is the query after the passage, and does the passage answer it (Gecko,
    arXiv 2403.20327, section 3.3). A cross-encoder gives a logit. Judges may follow each other: one reads the other's
    artifact and adds to it, so that a dear one is asked only where the cheap ones do not agree.

    Args:
        passages: What the candidates count.
        candidates: Artifact of `mine`, or of another `judge`.
        model: The language model or cross-encoder that judges.
        asked: Of which queries: of all, or of the disputed, where those before do not all put the same candidate first.
        prompt: Examples that a language model is shown.
        depth: Candidates judged of each query, the most similar; all if None. The others keep NaN.
        words: Of a passage that the judge is shown.
        part_rows: Queries committed together; what a kill can lose.
        runtime: Engine, devices.
        out: The artifact.

    Returns:
        Pairs judged, the share of the pairs that was saved, how often each two opinions put the same candidate first.

    Raises:
        Refused: The candidates hold this judge's opinion already, or none that could be disputed; or the judge gives
            what is no number.
    """
    artifact.check_refers(candidates, "passages", passages)
    held = tables.read(candidates, "judgements", "candidates")
    before = tables.opinions(held)
    if asked == "disputed" and len(before) < 2:
        raise Refused(
            f"judge: asked: disputed; {candidates} has the opinion {before[0]} alone. Needed: a second one before: "
            "several teachers or `lexical: true` in `mine`, or a `judge` step with a cross-encoder."
        )
    console.say(f"{out.name}: {_cost(held, before, asked, depth)}")
    parts = -(-len(held) // part_rows)
    todo = tables.missing(out / "judgements", parts)
    left = sum(min(part_rows, len(held) - part * part_rows) for part in todo)
    settings = (passages, candidates, model, asked, prompt, depth, words, part_rows, out)
    work(partial(_worker, *settings), todo, left, out.name, runtime)
    refers = artifact.facts(candidates)["refers"]
    return _facts(out, before, depth) | {
        "rows": len(held),
        "refers": refers,
        "model": tables.notes(out / "judgements")[0]["model"],
    }


def _cost(held: pa.Table, before: Sequence[str], asked: str, depth: int | None) -> str:
    """How many pairs there are to judge, and of how many; said before the first is."""
    each = held.schema.field("passages").type.list_size
    queries = len(held)
    if asked == "disputed":
        queries = int(ranking.disputed([tables.matrix(held[name]) for name in before]).sum())
    pairs = queries * min(depth or each, each)
    return f"{pairs:,} of {len(held) * each:,} pairs are to be judged ({queries:,} of {len(held):,} queries)"


def _worker(
    passages: Path,
    candidates: Path,
    model: Judge,
    asked: str,
    prompt: Judging,
    depth: int | None,
    words: int,
    part_rows: int,
    out: Path,
) -> Worker:
    from distill.console import Bar

    judging = _able(model())
    corpus = tables.read(passages, "passages")
    held = tables.read(candidates, "judgements", "candidates")
    before = tables.opinions(held)
    k = held.schema.field("passages").type.list_size
    first = min(depth or k, k)
    fields = _fields(judging, prompt, k)
    if again := [field.name for field in fields if field.name in before]:
        raise Refused(f"judge: {candidates} has {again[0]} already. Judge what `mine` made, or take another judge.")
    schema = pa.schema([*held.schema, *fields])

    def do(part: int, bar: Bar) -> None:
        rows = held.slice(part * part_rows, part_rows).combine_chunks()
        known = {name: tables.matrix(rows[name]) for name in before}
        chosen = np.flatnonzero(ranking.disputed(list(known.values())) if asked == "disputed" else np.ones(len(rows)))
        listed = tables.matrix(rows["passages"])[chosen, :first]
        distinct, numbers = np.unique(listed, return_inverse=True)
        shown = [" ".join(text.split()[:words]) for text in tables.passage_texts(corpus, distinct)]
        texts = [shown[number] for number in numbers.reshape(-1)]
        queries = [query for query in tables.texts(rows["query"].take(pa.array(chosen))) for _ in range(first)]
        columns = {name: rows[name] for name in held.schema.names}
        for field, values in zip(fields, _said(judging, prompt, queries, texts), strict=True):
            full = np.full((len(rows), k), np.nan, np.float32)
            _check_said(judging.name, field.name, values, queries)
            full[chosen, :first] = values.reshape(len(chosen), first)
            columns[field.name] = full
        tables.write(out / "judgements", schema, columns, part=part, note={"model": judging.name})
        bar.step(len(rows), f"{len(texts):,} pairs")

    return do


def _able(judging: object) -> LanguageModel | Reranker:
    if isinstance(judging, (LanguageModel, Reranker)):
        return judging
    raise Refused(f"judge: {type(judging).__name__} is neither a LanguageModel nor a Reranker. Make it one of them.")


def _fields(judging: LanguageModel | Reranker, prompt: Judging, k: int) -> list[pa.Field]:
    """The columns that a judge fills."""
    if isinstance(judging, Reranker):
        return [tables.opinion("rerankings", k, {"scale": "logit", "model": judging.name})]
    told = {"scale": "log-probability", "model": judging.name}
    asking = {"likelihoods": prompt.asks_likelihood, "relevances": prompt.asks_relevance}
    return [tables.opinion(name, k, told | {"prompt": each.digest}) for name, each in asking.items()]


def _said(judging: LanguageModel | Reranker, prompt: Judging, queries: list[str], texts: list[str]) -> list[np.ndarray]:
    """What a judge says of each pair, a column each."""
    if not queries:
        return [np.zeros(0, np.float32)] * (1 if isinstance(judging, Reranker) else 2)
    if isinstance(judging, Reranker):
        return [judging.score(queries, texts)]
    likelihood, relevance = prompt.asks_likelihood, prompt.asks_relevance
    return [
        judging.log_likelihood(
            [likelihood.filled(passage=text) for text in texts],
            [f" {query}" for query in queries],
            shared=likelihood.shared,
        ),
        judging.classify(
            [relevance.filled(passage=text, query=query) for text, query in zip(texts, queries, strict=True)],
            LABELS,
            shared=relevance.shared,
        )[:, 0],
    ]


def _check_said(judge: str, opinion: str, values: np.ndarray, queries: list[str]) -> None:
    """Make sure that a judge gave numbers: NaN in these columns says that nobody asked, and `label` would go by others.

    Raises:
        Refused: It did not.
    """
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise Refused(
            f"judge: {judge} gives {values[wrong[0]]} as {opinion} of {len(wrong)} of {len(values)} pairs, the first "
            f"of the query {queries[wrong[0]]!r:.60}; needed: finite numbers. Look at the model, or take another."
        )


def _facts(out: Path, before: list[str], depth: int | None) -> dict[str, object]:
    from distill.scores import histogram

    held = tables.opened(out / "judgements")
    known = {name: tables.matrix(held[name]) for name in tables.opinions(held)}
    new = [name for name in known if name not in before]
    judged = np.isfinite(known[new[0]])
    first = min(depth or judged.shape[1], judged.shape[1])
    agreed = {
        f"{one} and {other}": round(share, 4)
        for number, one in enumerate(known)
        for other in list(known)[number + 1 :]
        if (share := ranking.agreement(known[one], known[other])) is not None
    }
    return {
        "pairs": int(judged.sum()),
        "saved": round(1 - float(judged.sum()) / (len(held) * first), 4),
        "put_the_same_first": agreed,
        "histograms": {tables.OPINIONS[name]: histogram(known[name][judged]) for name in new},
    }
