"""A table and a model to vectors: row i is the vector of row i."""

from functools import partial
from pathlib import Path

from distill import artifact, console, tables
from distill.artifact import Facts
from distill.engine import Worker, work
from distill.errors import Refused
from distill.models import Model
from distill.runtime import Runtime
from distill.stages import stage

FILLED = 0.05
"""Share of texts that fill a model's length from which it is said."""


def _check(passages: Path | None, queries: Path | None) -> None:
    if (passages is None) == (queries is None):
        raise Refused("name one table, `passages` or `queries`.")


@stage(version=1, resumes=True, check=_check)
def embed(
    *,
    model: Model,
    passages: Path | None = None,
    queries: Path | None = None,
    part_rows: int = 50_000,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Embed every row of a table, once, for mining, regression and evaluation alike.

    Args:
        model: The step whose model embeds, or a class.
        passages: Whose passages are embedded; or
        queries: whose queries are, each with its task.
        part_rows: Rows committed together; what a kill can lose.
        runtime: Engine, devices, tokens read at once.
        out: The artifact.

    Returns:
        Rows, width, rows that fill the model's length and may be cut, mean cosine of pairs drawn at random, and
        what was embedded with which model.

    Raises:
        Refused: A vector is not finite.
    """
    from distill import models

    name, source = ("passages", passages) if passages is not None else ("queries", queries)
    assert source is not None
    rows = len(tables.read(source, name))
    parts = -(-rows // part_rows)
    todo = tables.missing(out / "vectors", parts)
    left = sum(min(part_rows, rows - part * part_rows) for part in todo)
    work(partial(_worker, model, source, name, part_rows, runtime, out), todo, left, out.name, runtime)
    facts = _facts(out)
    if (filled := int(str(facts["filled"]))) > FILLED * rows:
        console.say(
            f"{out.name}: {filled:,} of {rows:,} texts fill the model's length; what stands behind is not read."
        )
    return facts | {
        "rows": rows,
        "model": models.label(model),
        "refers": {"embedded": f"{name}:{artifact.fingerprint(source)}", name: artifact.fingerprint(source)},
    }


def _worker(model: Model, source: Path, name: str, part_rows: int, runtime: Runtime, out: Path) -> Worker:
    import numpy as np

    from distill import encode, models
    from distill.console import Bar

    embedder = models.embedder(model)
    held = tables.read(source, name)

    def do(part: int, bar: Bar) -> None:
        rows = held.slice(part * part_rows, part_rows)
        texts = tables.passage_texts(rows) if name == "passages" else tables.texts(rows["query"])
        tokens = embedder.tokenize(texts, None if name == "passages" else tables.texts(rows["task"]))
        made = encode.vectors(embedder, tokens, batch_tokens=runtime.batch_tokens, precision=runtime.precision, bar=bar)
        wrong = np.flatnonzero(~np.isfinite(made).all(1))
        if len(wrong):
            raise Refused(
                f"embed: {len(wrong)} of {len(made)} vectors are not finite, the first of {texts[wrong[0]]!r:.60}. "
                "Look at the model, or say `runtime.precision: fp32`."
            )
        filled = int((tokens.lengths >= getattr(embedder, "length", np.inf)).sum())
        note = {"tokens": len(tokens.ids), "filled": filled}
        tables.write(
            out / "vectors", tables.vectors(embedder.dim), {"vector": made.astype(np.float16)}, part=part, note=note
        )

    return do


def _facts(out: Path) -> dict[str, object]:
    import numpy as np

    vectors = tables.mapped(tables.opened(out / "vectors")["vector"])
    drawn = np.random.default_rng(0).integers(vectors.shape[0], size=(2, 2000))
    one, other = (vectors[side].astype(np.float32) for side in drawn)
    different = drawn[0] != drawn[1]
    cosines = (one * other).sum(1)[different]
    notes = tables.notes(out / "vectors")
    return {
        "dim": vectors.shape[1],
        "tokens": sum(int(str(note["tokens"])) for note in notes),
        "filled": sum(int(str(note["filled"])) for note in notes),
        "mean_pairwise_cosine": round(float(cosines.mean()), 4) if different.any() else None,
    }
