"""A model to the folder that others load: sentence-transformers, ONNX, int8; the same numbers, or none."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from distill import artifact, console, files, lineage, recipe, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.models import Model
from distill.runtime import cores
from distill.stages import stage

if TYPE_CHECKING:
    import onnxruntime

    from distill.interfaces import Embedder, TokenRows
    from distill.portable import Portable

FP32 = "onnx/model.onnx"
INT8 = "onnx/model_quantized.onnx"
"""Where transformers.js and sentence-transformers look."""

AWKWARD = (
    "",
    " ",
    "a",
    "two\nlines\tand a tab",
    "検索のための日本語の文章です。",
    "emoji 👩🏽‍🚀 and e\u0301 combined",
    "ᏣᎳᎩ, ١٢٣, ἀγορά",
    "far too long " * 1000,
)
SIDES = {"document": None, "query": ""}
"""Names of the prompts in the exported folder, and the task that makes the student read a text as that side."""

TEXTS = 256
FEWEST = 20  # texts; with fewer, ten nearest neighbours are nearly all there are
AT_ONCE = 2048  # tokens


@dataclass(frozen=True)
class Gates:
    """How far an export may stray from the student before it is not delivered."""

    difference: float = 1e-5
    """Largest difference of a coordinate of a unit vector: of sentence-transformers, and of ONNX in fp32."""
    cosine_mean: float = 0.99
    """Least mean cosine between int8 and the student, over texts."""
    cosine_min: float = 0.97
    """Least cosine of any text."""
    neighbours: float = 0.8
    """Least mean share of a text's ten nearest neighbours that stay the same in int8."""


def _check(passages: Path | None, precision: str, reduce_range: bool, texts: int, gates: Gates) -> None:
    idle = [
        name for name in ("cosine_mean", "cosine_min", "neighbours") if getattr(gates, name) != getattr(Gates, name)
    ]
    if precision == "fp32" and (reduce_range or idle):
        named = "reduce_range" if reduce_range else f"gates.{idle[0]}"
        raise Refused(f"{named} is of the int8 file, and precision is fp32. Leave it out.")
    if passages is None and texts != TEXTS:
        raise Refused(f"texts: {texts}: those are of `passages`, and there are none. Name some, or leave it out.")


@stage(version=1, check=_check, compared=("passages",), warns=True)
def export(
    *,
    model: Model,
    passages: Path | None = None,
    precision: Literal["int8", "fp32"] = "int8",
    reduce_range: bool = False,
    texts: int = TEXTS,
    gates: Gates = Gates(),
    out: Path,
) -> Facts:
    """Write a student as a sentence-transformers folder with ONNX files, once they give the student's vectors.

    Args:
        model: The step that trained it; or `students.Projected` with that step, whose vectors are of its teacher's
            space.
        passages: Artifact whose passages the exports are compared on; int8 needs one.
        precision: Whether an int8 file is written beside the fp32 one.
        reduce_range: Seven bits for int8 weights, for x86 processors without VNNI: their sums overflow with eight.
        texts: Passages compared, evenly spaced over the table.
        gates: What the exports must reach. A miss in fp32 refuses the step; in int8 it leaves that file out.
        out: The artifact; the folder to ship is its `model`.

    Returns:
        Largest and mean differences, cosines, neighbours in common, bytes of each file, seconds.

    Raises:
        Refused: The model is no mean-pooled transformer, the extra `edge` is missing, or fp32 misses its gate.
    """
    from distill import card, models, portable

    real = _sample(passages, texts, precision)
    step = _step(model)
    student = models.embedder(model)
    parts = portable.parts(student)
    told = lineage.told(step.name, artifact.facts(step))
    seconds: dict[str, float] = {}
    with files.replacing(out / "model") as folder, console.bar("export", 3) as bar:
        folder.mkdir()
        with _timed("write", seconds, bar):
            _write(parts, folder)
        with _timed("compare", seconds, bar):
            ours = _read_by_student(student, real)
            parity = _parity(folder, real, ours, _reads_empty(parts))
            _refuse_difference(parity, gates)
        with _timed("int8", seconds, bar):
            real_ours = ours["document"][len(AWKWARD) :]
            int8 = _int8(folder, real, real_ours, gates, reduce_range) if precision == "int8" else None
        facts = _facts(parts, folder, parity, int8, len(real))
        title = f"{step.absolute().parent.name} {step.name}"
        (folder / "README.md").write_text(card.markdown(title, card.steps(step), told, facts))
        _write_manifest(folder)
    return {**facts, "opens": "model", "seconds_of": seconds}


def _step(model: Model) -> Path:
    """The step that trained what is exported."""
    found = [path for path in recipe.paths(model) if artifact.is_artifact(path)]
    # A start names steps too: what it is cut out of, and whose texts tell its tokens. None of them trained it.
    is_trained = isinstance(model, Path) or hasattr(getattr(model, "func", model), "space")
    if not is_trained or len(found) != 1:
        raise Refused("model: no step trained it. Name the step that did, or students.Projected with that step.")
    return found[0]


@contextmanager
def _timed(name: str, seconds: dict[str, float], bar: console.Bar) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - began, 2)
    bar.step(note=name)


def _sample(passages: Path | None, texts: int, precision: str) -> list[str]:
    """Passages to compare on, evenly spaced over their table."""
    found: list[str] = []
    if passages is not None:
        table = tables.read(passages, "passages")
        found = tables.passage_texts(table, np.unique(np.linspace(0, len(table) - 1, texts).astype(np.int64)))
    if precision == "int8" and len(found) < FEWEST:
        raise Refused(
            f"int8 is measured on {len(found)} passages; needed {FEWEST} or more. Name `passages` with as many, raise "
            "`texts`, or say precision: fp32."
        )
    return found


def _write(parts: "Portable", folder: Path) -> None:
    from distill import onnx_graph, portable

    portable.write(parts, folder)
    onnx_graph.export(parts, folder / FP32)


def _asked(real: Sequence[str], side: str) -> list[str]:
    """What is compared of a side: the awkward texts first; of queries few real ones, since only the prompt differs."""
    return [*AWKWARD, *(real if side == "document" else real[:FEWEST])]


def _read_by_student(student: "Embedder", real: Sequence[str]) -> dict[str, np.ndarray]:
    """The student's own vectors of each side."""
    from distill import encode

    found = {}
    for side, task in SIDES.items():
        asked = _asked(real, side)
        rows = student.tokenize(asked, None if task is None else [task] * len(asked))
        found[side] = encode.vectors(student, rows, precision="fp32")
    return found


def _reads_empty(parts: "Portable") -> bool:
    """Whether an empty text can be read alone: a transformer needs a token, and some tokenizers put none around it."""
    from torch import nn

    return isinstance(parts.backbone, nn.Embedding) or bool(parts.tokenizer("")["input_ids"])


def _parity(
    folder: Path, real: Sequence[str], ours: Mapping[str, np.ndarray], reads_empty: bool
) -> dict[str, dict[str, float]]:
    """How far two readers of the folder, which have nothing but its files, are from the student.

    Args:
        folder: What was written.
        real: Passages.
        ours: The student's vectors of each side.
        reads_empty: Whether a text without tokens can be read by itself.
    """
    from sentence_transformers import SentenceTransformer

    from distill import onnx_graph, portable

    written, session = portable.read(folder), onnx_graph.session(folder / FP32, cores())
    reader = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    student, by_onnx, by_reader = [], [], []
    for side, vectors in ours.items():
        asked = _asked(real, side)
        rows = written.tokenize(asked, side)
        alone = [at for at in range(len(AWKWARD)) if reads_empty or rows.lengths[at]]
        student += [vectors, vectors[alone]]
        by_onnx += [_run(session, rows), *(onnx_graph.run(session, rows.take(np.array([at]))) for at in alone)]
        by_reader += [
            reader.encode(asked, prompt_name=side, show_progress_bar=False),
            *(reader.encode([asked[at]], prompt_name=side, show_progress_bar=False) for at in alone),
        ]
    wanted = np.concatenate(student)
    return {
        "sentence_transformers": onnx_graph.difference(wanted, np.concatenate(by_reader)),
        "onnx": onnx_graph.difference(wanted, np.concatenate(by_onnx)),
    }


def _run(session: "onnxruntime.InferenceSession", rows: "TokenRows") -> np.ndarray:
    """Vectors by ONNX Runtime, in order."""
    from distill import encode, onnx_graph

    chosen = list(encode.batches(rows.lengths, AT_ONCE))
    made = np.concatenate([onnx_graph.run(session, rows.take(some)) for some in chosen])
    return made[np.argsort(np.concatenate(chosen))]


def _refuse_difference(parity: Mapping[str, Mapping[str, float]], gates: Gates) -> None:
    for reader, apart in parity.items():
        if not apart["max"] <= gates.difference:  # a NaN is refused too
            raise Refused(
                f"export: {reader} does not give the student's vectors: largest difference {apart['max']:.1e}, gate "
                f"difference {gates.difference:g}. Nothing was exported. Is it pooled by its mean over prompt and text?"
            )


def _int8(folder: Path, real: Sequence[str], ours: np.ndarray, gates: Gates, reduce_range: bool) -> dict[str, object]:
    """Quantise and measure; a file that misses a gate is removed, and why is kept."""
    from distill import onnx_graph, portable

    onnx_graph.quantise(folder / FP32, folder / INT8, reduce_range=reduce_range)
    rows = portable.read(folder).tokenize(real, "document")
    found = onnx_graph.agreement(ours, _run(onnx_graph.session(folder / INT8, cores()), rows))
    if missed := _missed(found, gates):
        (folder / INT8).unlink()
        console.say(f"int8: refused, {', '.join(missed)}. The fp32 file is delivered without it.", "yellow")
        return {"delivered": False, "why": ", ".join(missed), **found}
    return {"delivered": True, "why": "", **found}


def _missed(found: Mapping[str, float], gates: Gates) -> list[str]:
    """Each gate that int8 does not pass, in words."""
    wanted = {"cosine_mean": gates.cosine_mean, "cosine_min": gates.cosine_min, "neighbours": gates.neighbours}
    return [f"{name} {found[name]:.4f} < {least:g}" for name, least in wanted.items() if not found[name] >= least]


def _facts(
    parts: "Portable", folder: Path, parity: Mapping[str, object], int8: Mapping[str, object] | None, texts: int
) -> dict[str, object]:
    written = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        "dim": parts.dim,
        "length": parts.length,
        **({"space": parts.space} if parts.space else {}),
        **({} if _reads_empty(parts) else {"empty": "cannot be read alone"}),
        "prompts": {"query": parts.query_prompt, "document": parts.passage_prompt},
        "texts": texts,
        "parity": parity,
        "int8": int8,
        "bytes": {file.relative_to(folder).as_posix(): file.stat().st_size for file in written},
    }


def _write_manifest(folder: Path) -> None:
    """List every file with its SHA-256, for those who get the folder without the artifact around it."""
    written = sorted(file for file in folder.rglob("*") if file.is_file())
    listed = {file.relative_to(folder).as_posix(): files.digest(file) for file in written}
    files.write_json(folder / "manifest.json", listed)
