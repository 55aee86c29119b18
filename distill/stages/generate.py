"""Passages to queries: a language model writes a task and a query for each seed passage."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from distill import artifact, duplicates, lineage, overlap, queries, tables
from distill.artifact import Facts
from distill.engine import Worker, work
from distill.errors import Refused
from distill.models import Writer
from distill.prompts import Writing
from distill.runtime import Runtime
from distill.stages import stage, summed


def _check(prompt: Writing) -> None:
    if not prompt.kinds or not all(kind.strip() for kind in prompt.kinds):
        raise Refused(f"prompt.kinds: {list(prompt.kinds)}; needed: at least one kind of task, in words.")
    if not prompt.examples:
        raise Refused("prompt.examples: none; needed: at least one, for the answer's form is read off it.")


@stage(version=2, resumes=True, check=_check, compared=("exclude",))
def generate(
    *,
    passages: Path,
    model: Writer,
    prompt: Writing = Writing(),
    exclude: tuple[Path, ...] = (),
    limit: int = 5000,
    temperature: float = 0.9,
    top_p: float = 0.95,
    tokens: int = 56,
    words: int = 60,
    seed: int = 0,
    part_rows: int = 1000,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Write a task and a query, together, for passages drawn at random (Gecko, arXiv 2403.20327, section 3.2).

    Args:
        passages: What is drawn from.
        model: The language model that writes.
        prompt: What it is told: examples, and the kinds of task that are drawn from.
        exclude: Benchmarks, whose texts no query may repeat; the passages' own were kept out by `ingest`.
        limit: Passages drawn; each gets one query.
        temperature: Of the sampling.
        top_p: Least set of tokens with this probability is sampled from.
        tokens: The most that is written for a passage, task included.
        words: Of a passage that the model is shown.
        seed: Of the draw and of the sampling.
        part_rows: Passages committed together; what a kill can lose.
        runtime: Engine, devices.
        out: The artifact.

    Returns:
        Rows kept, and dropped by rule: unparsable, of the wrong length, leaked from the prompt, its task again, copied
        from the passage, in another language than it, in a benchmark, duplicate or nearly so of an earlier one.

    Raises:
        Refused: No query is usable.
    """
    count = len(tables.read(passages, "passages"))
    drawn = np.random.default_rng(seed).permutation(count)[:limit]
    parts = -(-len(drawn) // part_rows)
    todo = tables.missing(out / "drafts", parts)
    left = sum(len(drawn[part * part_rows : (part + 1) * part_rows]) for part in todo)
    settings = (model, passages, prompt, drawn, part_rows, temperature, top_p, tokens, words, seed, out)
    work(partial(_worker, *settings), todo, left, out.name, runtime)
    notes = tables.notes(out / "drafts")
    rows, sifted, found = _sift(out, overlap.index(map(tables.all_texts, exclude)))
    dropped = {**summed(note["dropped"] for note in notes), **sifted}
    if not rows:
        for table in ("drafts", "queries"):  # so that another model or temperature is not taken for another recipe's
            shutil.rmtree(out / table)
        raise Refused(
            f"generate: none of {len(drawn)} queries is usable ({dropped}). "
            + ("Use a stronger `model`, or a lower `temperature`." if temperature else "Use a stronger `model`.")
        )
    return {
        "rows": rows,
        "asked": len(drawn),
        "dropped": dropped,
        "model": notes[0]["model"],
        "prompt": prompt.prompt.digest,
        "contamination": {
            name: {"word for word": int(found.same[:, at].sum()), "in part": int(found.partly[:, at].sum())}
            for at, name in enumerate(lineage.names(exclude))
        },
        "refers": {"passages": artifact.fingerprint(passages)},
    }


def _sift(out: Path, excluded: overlap.Index) -> tuple[int, dict[str, int], overlap.Found]:
    """Write the drafts that repeat nothing: how many, how many each rule dropped, and what was found of benchmarks."""
    drafts = tables.opened(out / "drafts")
    written = tables.texts(drafts["query"])
    same, near = np.zeros((2, len(written)), bool)
    found = overlap.find(excluded, written)
    leaked = (found.same | found.partly).any(1)
    plain = pa.array([queries.plain(query) for query in written], pa.string()).dictionary_encode().indices.to_numpy()
    rows = np.arange(len(written))
    same[np.setdiff1d(rows, np.unique(plain, return_index=True)[1])] = True
    same &= ~leaked
    left = np.flatnonzero(~leaked & ~same)
    near[left] = duplicates.firsts(duplicates.signatures([written[row] for row in left])) != np.arange(len(left))
    kept = np.flatnonzero(~(leaked | same | near))
    tables.write(out / "queries", tables.QUERIES, drafts.take(pa.array(kept)))
    sums = {"in a benchmark": leaked, "duplicate": same, "near-duplicate": near}
    return len(kept), {rule: int(mask.sum()) for rule, mask in sums.items()}, found


def _worker(
    model: Writer,
    passages: Path,
    prompt: Writing,
    drawn: np.ndarray,
    part_rows: int,
    temperature: float,
    top_p: float,
    tokens: int,
    words: int,
    seed: int,
    out: Path,
) -> Worker:
    from distill.console import Bar

    writer, said = model(), prompt.prompt
    corpus = tables.read(passages, "passages")

    def do(part: int, bar: Bar) -> None:
        rows = drawn[part * part_rows : (part + 1) * part_rows]
        texts = [" ".join(text.split()[:words]) for text in tables.passage_texts(corpus, rows)]
        kinds = queries.kinds(prompt.kinds, len(rows), (seed, part))
        asked = [said.filled(passage=text, kind=kind) for text, kind in zip(texts, kinds, strict=True)]
        written = writer.complete(
            asked,
            shared=said.shared,
            stop="\n\n",
            tokens=tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed * 1_000_003 + part,
        )
        kept, dropped = queries.usable(written, texts, said.shared)
        columns = {
            "task": [task for _, task, _ in kept],
            "query": [query for _, _, query in kept],
            "seed": [int(rows[number]) for number, _, _ in kept],
        }
        note = {"dropped": dropped, "model": writer.name}
        tables.write(out / "drafts", tables.QUERIES, columns, part=part, note=note)
        bar.step(len(rows), f"{len(kept)} of {len(rows)} usable")

    return do
