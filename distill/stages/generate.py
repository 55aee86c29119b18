"""Passages to queries: a language model writes a task and a query for each seed passage."""

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distill import artifact, prompts, tables
from distill.artifact import Facts
from distill.engine import Worker, work
from distill.errors import Refused
from distill.models import Writer
from distill.runtime import Runtime
from distill.stages import stage, summed

if TYPE_CHECKING:
    import numpy as np


@stage(version=1, resumes=True)
def generate(
    *,
    passages: Path,
    model: Writer,
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
        Rows kept, and dropped by rule: unparsable, of the wrong length, copied, leaked, duplicate of another
        in the same part.
    """
    import numpy as np

    count = len(tables.read(passages, "passages"))
    drawn = np.random.default_rng(seed).permutation(count)[:limit]
    parts = -(-len(drawn) // part_rows)
    todo = tables.missing(out / "queries", parts)
    left = sum(len(drawn[part * part_rows : (part + 1) * part_rows]) for part in todo)
    settings = (model, passages, drawn, part_rows, temperature, top_p, tokens, words, seed, out)
    work(partial(_worker, *settings), todo, left, out.name, runtime)
    notes = tables.notes(out / "queries")
    dropped = summed(note["dropped"] for note in notes)
    rows = len(tables.opened(out / "queries"))
    if not rows:
        shutil.rmtree(out / "queries")  # so that another model or temperature is not taken for another recipe's work
        raise Refused(
            f"generate: none of {len(drawn)} queries is usable ({dropped}). "
            + ("Use a stronger `model`, or a lower `temperature`." if temperature else "Use a stronger `model`.")
        )
    return {
        "rows": rows,
        "asked": len(drawn),
        "dropped": dropped,
        "model": notes[0]["model"],
        "prompt": prompts.WRITE.digest,
        "refers": {"passages": artifact.fingerprint(passages)},
    }


def _worker(
    model: Writer,
    passages: Path,
    drawn: "np.ndarray",
    part_rows: int,
    temperature: float,
    top_p: float,
    tokens: int,
    words: int,
    seed: int,
    out: Path,
) -> Worker:
    from distill import queries
    from distill.console import Bar

    writer = model()
    corpus = tables.read(passages, "passages")

    def do(part: int, bar: Bar) -> None:
        rows = drawn[part * part_rows : (part + 1) * part_rows]
        texts = [" ".join(text.split()[:words]) for text in tables.passage_texts(corpus, rows)]
        kinds = queries.kinds(len(rows), (seed, part))
        asked = [prompts.WRITE.filled(passage=text, kind=kind) for text, kind in zip(texts, kinds, strict=True)]
        written = writer.complete(
            asked,
            shared=prompts.WRITE.shared,
            stop="\n\n",
            tokens=tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed * 1_000_003 + part,
        )
        kept, dropped = queries.usable(written, texts, prompts.WRITE.shared)
        columns = {
            "task": [task for _, task, _ in kept],
            "query": [query for _, _, query in kept],
            "seed": [int(rows[number]) for number, _, _ in kept],
        }
        note = {"dropped": dropped, "model": writer.name, "prompt": prompts.WRITE.digest}
        tables.write(out / "queries", tables.QUERIES, columns, part=part, note=note)
        bar.step(len(rows), f"{len(kept)} of {len(rows)} usable")

    return do
