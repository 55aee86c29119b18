"""A table and a model to vectors: row i is the vector of row i."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distill import artifact, console, tables
from distill.artifact import Facts
from distill.engine import Worker, work
from distill.errors import Refused
from distill.models import Model
from distill.runtime import Runtime
from distill.stages import stage

if TYPE_CHECKING:
    import numpy as np

    from distill.console import Bar
    from distill.interfaces import Embedder

FILLED = 0.05
"""Share of texts that fill a model's length from which it is said."""

TOGETHER = 2_000
"""Texts whose windows are held at once."""


def _check(passages: Path | None, queries: Path | None, windows: int) -> None:
    if (passages is None) == (queries is None):
        raise Refused("name one table, `passages` or `queries`.")
    if queries is not None and windows > 1:
        raise Refused(f"windows: {windows}: those are of passages; queries are read whole. Leave it out.")


@stage(version=1, resumes=True, check=_check)
def embed(
    *,
    model: Model,
    passages: Path | None = None,
    queries: Path | None = None,
    windows: int = 1,
    part_rows: int = 50_000,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Embed every row of a table, once, for mining, regression and evaluation alike.

    Args:
        model: The step whose model embeds, or a class.
        passages: Whose passages are embedded; or
        queries: whose queries are, each with its task.
        windows: Pieces, each of as many tokens as the model reads, in which a longer passage is read; it has their
            mean. So a teacher that was trained on short texts can teach longer ones.
        part_rows: Rows committed together; what a kill can lose.
        runtime: Engine, devices, tokens read at once.
        out: The artifact.

    Returns:
        Rows, width, rows that fill the model's length (or are longer than its windows) and may be cut, mean cosine of
        pairs drawn at random, and what was embedded with which model.

    Raises:
        Refused: A vector is not finite; a model whose texts have no windows.
    """
    from distill import models

    name, source = ("passages", passages) if passages is not None else ("queries", queries)
    assert source is not None
    rows = len(tables.read(source, name))
    parts = -(-rows // part_rows)
    todo = tables.missing(out / "vectors", parts)
    left = sum(min(part_rows, rows - part * part_rows) for part in todo)
    work(partial(_worker, model, source, name, windows, part_rows, runtime, out), todo, left, out.name, runtime)
    facts = _facts(out)
    if (filled := int(str(facts["filled"]))) > FILLED * rows:
        read = "the model's length" if windows == 1 else f"{windows} windows of the model's length"
        console.say(f"{out.name}: {filled:,} of {rows:,} texts fill {read}; what stands behind is not read.")
    return facts | {
        "rows": rows,
        "model": models.label(model),
        "refers": {"embedded": f"{name}:{artifact.fingerprint(source)}", name: artifact.fingerprint(source)},
    }


def _worker(model: Model, source: Path, name: str, windows: int, part_rows: int, runtime: Runtime, out: Path) -> Worker:
    import numpy as np

    from distill import models
    from distill.console import Bar

    embedder = models.embedder(model)
    held = tables.read(source, name)

    def do(part: int, bar: Bar) -> None:
        rows = held.slice(part * part_rows, part_rows)
        texts = tables.passage_texts(rows) if name == "passages" else tables.texts(rows["query"])
        if windows > 1:
            made, note = _in_windows(embedder, texts, windows, runtime, bar)
        else:
            tasks = None if name == "passages" else tables.texts(rows["task"])
            made, note = _vectors(embedder, texts, tasks, runtime, bar)
        wrong = np.flatnonzero(~np.isfinite(made).all(1))
        if len(wrong):
            raise Refused(
                f"embed: {len(wrong)} of {len(made)} vectors are not finite, the first of {texts[wrong[0]]!r:.60}. "
                "Look at the model, or say `runtime.precision: fp32`."
            )
        tables.write(
            out / "vectors", tables.vectors(embedder.dim), {"vector": made.astype(np.float16)}, part=part, note=note
        )

    return do


def _vectors(
    embedder: "Embedder", texts: Sequence[str], tasks: Sequence[str] | None, runtime: Runtime, bar: "Bar | None"
) -> tuple["np.ndarray", dict[str, int]]:
    """A vector of each text, each cut to the model's length; tokens that were read, and texts that fill it."""
    import numpy as np

    from distill import encode

    rows = embedder.tokenize(texts, tasks)
    made = encode.vectors(embedder, rows, batch_tokens=runtime.batch_tokens, precision=runtime.precision, bar=bar)
    return made, {"tokens": len(rows.ids), "filled": int((rows.lengths >= getattr(embedder, "length", np.inf)).sum())}


def _in_windows(
    embedder: "Embedder", texts: Sequence[str], count: int, runtime: Runtime, bar: "Bar"
) -> tuple["np.ndarray", dict[str, int]]:
    """The same of texts that are read in windows."""
    import numpy as np

    from distill.windows import windows

    made, note = [], {"tokens": 0, "filled": 0}
    for first in range(0, len(texts), TOGETHER):
        read = windows(embedder, texts[first : first + TOGETHER], count)
        vectors, told = _vectors(embedder, read.pieces, None, runtime, None)
        made.append(read.mean(vectors))
        note = {"tokens": note["tokens"] + told["tokens"], "filled": note["filled"] + read.cut}
        bar.step(len(made[-1]))
    return np.concatenate(made), note


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
