"""Models to results: every model on every query or text of benchmarks, with intervals, sizes and latency."""

import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import artifact, console, files, lineage, recipe, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.models import Model
from distill.runtime import Runtime
from distill.stages import stage, summed

if TYPE_CHECKING:
    import numpy as np

    from distill.benchmark import Benchmark, Smaller, Values
    from distill.interfaces import Embedder
    from distill.metrics import Bootstrap

LEXICAL = "bm25"
WARM_UP = 3  # the first calls allocate
REPETITIONS = 30
PATIENCE = 10.0  # seconds after which a slow model's latency is known well enough
STUDENT = 0.9  # of the teacher's bytes, at most; a teacher's stages differ by an adapter
DEEPEST = 100_000  # passages of a query: each takes memory
TASKS_TOLD_APART = 20  # written queries may each have a task of their own: no table of those
APART = 1000  # seeds of one benchmark from those of the next: its tasks have some of their own

Folders = Path | tuple[Path, ...]


def _check(
    passages: Folders,
    examples: Folders,
    models: Mapping[str, Model],
    teacher: str,
    lexical: bool,
    depth: int,
    widths: tuple[int, ...],
    vectors: Folders,
) -> None:
    searched, asked = _all(passages), _all(examples)
    if len(searched) != len(asked) or not asked:
        raise Refused(
            f"examples: {len(asked)}, with {len(searched)} `passages`; needed: as many of each, in one order, so that "
            "every benchmark has passages of its own."
        )
    if len(set(asked)) < len(asked):
        raise Refused("examples: one artifact stands there twice. Name each once.")
    if len(set(named := lineage.names(asked))) < len(asked):
        raise Refused(f"examples: {', '.join(named)}; two have one name in tables. Rename a folder.")
    if teacher and teacher not in models:
        raise Refused(
            f"teacher: {teacher!r} is none of the models ({', '.join(models)}). Name one, or say teacher: ''."
        )
    if lexical and LEXICAL in models:
        raise Refused(f"models: {LEXICAL!r} is the lexical search. Give the model another name, or say lexical: false.")
    if not 10 <= depth <= DEEPEST:
        raise Refused(f"depth: {depth}; needed: 10, which nDCG@10 reads, to {DEEPEST:,}.")
    if _all(vectors) and not any(hasattr(getattr(model, "func", model), "space") for model in models.values()):
        raise Refused(
            "vectors are searched by models in the space of the one that embedded them (students.Projected, or "
            "students.Exported of one), and `models` has none. Name one, or leave `vectors` out."
        )
    if len(set(widths)) < len(widths) or any(width < 1 for width in widths):
        raise Refused(f"widths: {list(widths)}; needed: widths of 1 or more, each once.")


def _all(folders: Folders) -> tuple[Path, ...]:
    return (folders,) if isinstance(folders, Path) else folders


@stage(version=3, resumes=True, check=_check)
def evaluate(
    *,
    passages: Folders,
    examples: Folders,
    models: dict[str, Model],
    teacher: str = "teacher",
    lexical: bool = True,
    depth: int = 100,
    resamples: int = 2000,
    latency: bool = True,
    widths: tuple[int, ...] = (),
    quantized: bool = False,
    vectors: Folders = (),
    seed: int = 0,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Measure models on one benchmark or several, one model after the other; a killed run goes on with those left.

    Each benchmark is searched by itself. Of several, each is reported, and of each measure the mean over those that
    have it.

    Args:
        passages: Artifact that holds all passages to search; of several benchmarks, a list of them.
        examples: Artifact that holds the queries with their graded passages (kind retrieval), pairs with people's
            scores (sts), and texts with their class (classification: told from eight of each; clustering: put together
            by k-means), as readers give them with `benchmark: true`; others are left out and counted. Of several
            benchmarks, a list in the order of `passages`.
        models: What is measured, by the name it has in tables: a step that trained it, or a class.
        teacher: The one of `models` that retention is relative to; empty for none.
        lexical: Whether BM25 is measured beside them.
        depth: Passages retrieved for each query.
        resamples: How often queries are drawn again for the intervals.
        latency: Whether the time of one query on one CPU core is measured.
        widths: Widths that vectors are cut to and searched at too, as after `objective.widths`. A model that has no
            more is left out at that width.
        quantized: Whether passages are searched too in int8, in one bit a number, and in one bit with the first forty
            put in order by int8, at the whole width and at `widths`. Ranges are those of the benchmark's passages.
        vectors: A teacher's vectors of the passages, as `embed` made them, of some or all benchmarks in any order. The
            queries of every model in that space, the teacher itself among them, are searched in them as well: what is
            found there is `asymmetric_ndcg@10`.
        seed: Of the intervals, of the texts of a class that are told, of clusters, and of ties between equal bits.
        runtime: How fast.
        out: Where the results go.

    Returns:
        Of each model: nDCG@10 (where there is no retrieval, Spearman, accuracy or V-measure), retention, size, latency.

    Raises:
        Refused: `teacher` is not among the models, or there is nothing to measure on.
    """
    from distill import benchmark as room

    benchmarks, smaller = _opened(_all(passages), _all(examples)), room.Smaller(widths, quantized)
    searched = any(held.queries for held in benchmarks.values())
    if smaller != room.Smaller() and not searched:
        raise Refused("evaluate: widths and quantized are of retrieval, and no benchmark has queries. Leave them out.")
    names = [*models, *([LEXICAL] if lexical and searched else [])]
    cached = _cached(_all(vectors), dict(zip(benchmarks, _all(passages), strict=True)))
    # By name: two configs that name the same models in another order have one recipe.
    measured = {note["model"] for note in tables.notes(out / "results")}
    left = [name for name in names if name not in measured]
    for part, name in zip(tables.missing(out / "results", len(names)), left, strict=True):
        console.say(f"{name} ({part + 1} of {len(names)})")
        if name in models:
            values, costs = _model(name, models[name], benchmarks, smaller, cached, depth, latency, seed, runtime)
        else:
            values = {at: room.words(held, depth) for at, held in benchmarks.items() if held.queries}
            costs = {"what": "BM25: words in common"}
        rows = [
            (name, at, asked.task, asked.row, measure, value)
            for at, found in values.items()
            for measure, (group, column) in found.items()
            for asked, value in zip(group, column, strict=True)
        ]
        columns = dict(zip(tables.RESULTS.names, zip(*rows, strict=True), strict=True))
        tables.write(out / "results", tables.RESULTS, columns, part=part, note={"model": name, "costs": costs})
    summary = _summary(out / "results", benchmarks, teacher, resamples, seed)
    files.write_json(out / "metrics.json", summary)
    facts = _facts(summary)
    if unmet := [width for width in widths if all(costs.get("dim", 0) <= width for costs in _costs(summary))]:
        console.say(f"widths: {unmet[0]}: no model's vectors are wider, so nothing was cut to it.", "yellow")
    if warning := _chosen(models, _all(examples)):
        console.say(f"{out.name}: {warning}", "yellow")
        facts = {**facts, "warning": warning}
    return {
        **facts,
        "dropped": summed(held.dropped for held in benchmarks.values()),
        "refers": _refers(_all(passages), _all(examples)),
    }


def _chosen(models: Mapping[str, Model], examples: tuple[Path, ...]) -> str:
    """Which models have weights that were chosen on a benchmark that they are measured on, in words; mostly none."""
    benchmarks = dict(zip(map(artifact.fingerprint, examples), lineage.names(examples), strict=True))
    told = []
    for name, model in models.items():
        made = [path for path in recipe.paths(model) if artifact.is_artifact(path)]
        on = sorted(benchmarks[seen] for path in made for seen in lineage.chosen_on(path) if seen in benchmarks)
        told += [f"{name} on {', '.join(dict.fromkeys(on))}"] if on else []
    if not told:
        return ""
    return f"weights were chosen (`dev`) by what they are measured on here: {'; '.join(told)}. Measure on another."


def _opened(passages: tuple[Path, ...], examples: tuple[Path, ...]) -> dict[str, "Benchmark"]:
    """Each benchmark by its name."""
    from distill import benchmark as room

    for searched, asked in zip(passages, examples, strict=True):
        artifact.check_refers(asked, "passages", searched)
        room.check(asked)
    return {
        name: room.opened(tables.read(searched, "passages"), tables.read(asked, "examples"), str(asked))
        for name, searched, asked in zip(lineage.names(examples), passages, examples, strict=True)
    }


def _refers(passages: tuple[Path, ...], examples: tuple[Path, ...]) -> dict[str, str]:
    """The tables that results count rows of; of several benchmarks, with their names."""
    found = {}
    for name, searched, asked in zip(lineage.names(examples), passages, examples, strict=True):
        after = f" of {name}" if len(examples) > 1 else ""
        found[f"examples{after}"] = artifact.fingerprint(asked)
        found[f"passages{after}"] = artifact.fingerprint(searched)
    return found


@dataclass(frozen=True)
class Cached:
    """Vectors of benchmarks' passages that a model made before."""

    model: str
    folders: Mapping[str, Path]
    """By the name of the benchmark."""


def _cached(vectors: tuple[Path, ...], passages: Mapping[str, Path]) -> Cached | None:
    """The artifact of vectors of each benchmark that has one.

    Raises:
        Refused: One would not be used, or they are of two spaces.
    """
    if not vectors:
        return None
    made: dict[str, Path] = {}
    found: dict[str, Path] = {}
    twice: list[tuple[Path, Path]] = []
    for folder in vectors:
        facts, refers = artifact.facts(folder), artifact.embedded(folder)
        of = [at for at, held in passages.items() if refers == f"passages:{artifact.fingerprint(held)}"]
        if not of:
            raise Refused(
                f"evaluate: vectors {folder} embeds none of `passages`. Name what embeds one, or leave it out."
            )
        made[str(facts["model"])] = folder
        twice += [(found[at], folder) for at in of if at in found]
        found |= dict.fromkeys(of, folder)
    if len(made) > 1:
        raise Refused(f"evaluate: vectors of {', '.join(made)}; their spaces differ. Name those of one teacher.")
    if twice:
        raise Refused(f"evaluate: vectors {twice[0][0]} and {twice[0][1]} embed the same passages. Name one.")
    return Cached(next(iter(made)), found)


def _made(label: str) -> str:
    """What made a model, without its name: steps may be renamed."""
    return label.rpartition("@")[2]


def _embedded(name: str, space: str, label: str, cached: Cached | None) -> dict[str, "np.ndarray"]:
    """The vectors that the queries of a model are searched in, by benchmark; none of a model in a space of its own."""
    if cached is None or (not space and _made(label) != _made(cached.model)):
        return {}
    if space and _made(space) != _made(cached.model):
        raise Refused(f"evaluate: {name} leads to the space of {space}; vectors are of {cached.model}. Name its own.")
    return {at: tables.matrix(tables.read(folder, "vectors")["vector"]) for at, folder in cached.folders.items()}


def _model(
    name: str,
    model: Model,
    benchmarks: Mapping[str, "Benchmark"],
    smaller: "Smaller",
    cached: "Cached | None",
    depth: int,
    latency: bool,
    seed: int,
    runtime: Runtime,
) -> tuple[dict[str, "Values"], dict[str, object]]:
    """What one model gets on each benchmark, and what it costs."""
    import torch

    from distill import benchmark as room
    from distill import models
    from distill.runtime import best_device

    loaded = models.embedder(model)
    embedded = _embedded(name, getattr(loaded, "space", ""), models.label(model), cached)
    costs: dict[str, object] = {"what": models.label(model), **_size(loaded)}
    if latency:
        costs["latency"] = _latency(loaded, benchmarks)
    loaded.to(best_device())
    with console.bar(name, sum(held.texts for held in benchmarks.values())) as bar:
        found = {
            at: room.answers(loaded, held, depth, seed, runtime, bar, smaller, embedded.get(at))
            for at, held in benchmarks.items()
        }
    del loaded
    gc.collect()  # the next model needs the room
    torch.cuda.empty_cache()
    searched = {at: seconds for at, (_, seconds) in found.items() if seconds is not None}
    passages = sum(len(benchmarks[at].passages) for at in searched)
    speed = round(passages / sum(searched.values()), 1) if searched else None
    return {at: values for at, (values, _) in found.items()}, {**costs, "passages_per_second": speed}


def _size(model: "Embedder") -> dict[str, object]:
    """Parameters, bytes and width; of an exported file, the file's bytes."""
    from torch import nn

    looked_up = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    parameters = list(model.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters) or None,
        "parameters_computing": sum(p.numel() for p in parameters if id(p) not in looked_up) or None,
        "bytes": getattr(model, "file_bytes", None) or sum(p.numel() * p.element_size() for p in parameters) or None,
        "dim": model.dim,
    }


def _latency(model: "Embedder", benchmarks: Mapping[str, "Benchmark"]) -> dict[str, float]:
    """Milliseconds from the text of one query to its vector, on one CPU core, in the weights' own arithmetic."""
    import numpy as np
    import torch

    asked = [each for held in benchmarks.values() for each in held.asked]
    query = sorted(asked, key=lambda each: len(each.text))[len(asked) // 2]
    model.cpu()
    taken: list[float] = []
    with _one_core(), torch.inference_mode():
        started = time.perf_counter()
        while len(taken) < WARM_UP + REPETITIONS:
            began = time.perf_counter()
            model(model.tokenize([query.text], [query.task]).take(np.zeros(1, np.int64)))
            taken.append(1000 * (time.perf_counter() - began))
            if len(taken) > 2 * WARM_UP and time.perf_counter() - started > PATIENCE:
                break
    warm = taken[WARM_UP:]
    return {"p50": float(np.median(warm)), "p95": float(np.quantile(warm, 0.95)), "repetitions": len(warm)}


@contextmanager
def _one_core() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


COUNTED = ("queries", "pairs", "texts", "passages")
"""What a benchmark holds; texts are those of a class."""


def _summary(
    results: Path, benchmarks: Mapping[str, "Benchmark"], teacher: str, resamples: int, seed: int
) -> dict[str, object]:
    """What `metrics.json` says: of each model what it costs, of each measure every value and difference.

    Of several benchmarks the measures are means over those that have them, and `benchmarks` holds each by its name.
    """
    from distill import benchmark as room

    columns = _columns(results)
    held = {
        at: room.bootstraps(columns[at], benchmark, resamples, seed + APART * number)
        for number, (at, benchmark) in enumerate(benchmarks.items())
    }
    means = room.together(list(held.values()))
    each: dict[str, dict[str, Any]] = {
        at: {
            **_counts(benchmark),
            "measures": {measure: _compared(found, teacher) for measure, found in held[at].items()},
            "tasks": _by_task(columns[at], benchmark),
        }
        for at, benchmark in benchmarks.items()
    }
    alone = next(iter(each.values()))
    several = {
        **{name: sum(found[name] for found in each.values()) for name in COUNTED},
        "measures": {measure: _compared(found, teacher) for measure, found in means.items()},
        "tasks": {},
        "benchmarks": each,
    }
    return {
        "main": next(iter(means)),
        "teacher": teacher,
        "resamples": resamples,
        "models": {str(note["model"]): note["costs"] for note in tables.notes(results)},
        "smaller": _smaller(columns, resamples, seed),
        **(alone if len(each) == 1 else several),
    }


def _costs(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(summary["models"].values())


def _smaller(
    columns: Mapping[str, Mapping[str, Mapping[str, "np.ndarray"]]], resamples: int, seed: int
) -> dict[str, list[dict[str, object]]]:
    """Of each model nDCG@10 of its vectors at each width and in each form, and how far below whole ones in fp32."""
    from distill import benchmark as room
    from distill import compact, metrics

    drawn = [
        room.smaller_ones(found, resamples, seed + APART * number) for number, found in enumerate(columns.values())
    ]
    made: dict[str, list[dict[str, object]]] = {}
    for model in dict.fromkeys(model for held in drawn for model in held):
        mean = metrics.average([held[model] for held in drawn if model in held])
        for name in mean.models[1:]:
            width, form = room.parsed(name)
            searched, beside = compact.stored(form, width)
            told = {"width": width, "form": form, "bytes": searched, "bytes_beside": beside}
            above = mean.difference(name, room.MAIN[0])
            made.setdefault(model, []).append({**told, **asdict(mean.mean(name)), "above": asdict(above)})
    return made


def _counts(benchmark: "Benchmark") -> dict[str, int]:
    texts = len(benchmark.classes) + len(benchmark.clusters)
    counts = (len(benchmark.queries), len(benchmark.pairs), texts, len(benchmark.passages))
    return dict(zip(COUNTED, counts, strict=True))


def _columns(results: Path) -> dict[str, dict[str, dict[str, "np.ndarray"]]]:
    """By benchmark, measure and model, one value for each query."""
    import numpy as np

    rows = tables.opened(results)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    names = ("model", "benchmark", "measure", "value")
    for model, at, measure, value in zip(*(rows[name].to_pylist() for name in names), strict=True):
        found.setdefault(at, {}).setdefault(measure, {}).setdefault(model, []).append(value)
    return {
        at: {measure: {model: np.array(held) for model, held in models.items()} for measure, models in measures.items()}
        for at, measures in found.items()
    }


def _compared(held: "Bootstrap", teacher: str) -> dict[str, dict[str, object]]:
    """Of each model its value, what it keeps of the teacher's, and how far it is above each other."""
    made: dict[str, dict[str, object]] = {}
    for model in held.models:
        kept = held.retention(model, teacher) if teacher in held.models else None
        above = {other: asdict(held.difference(model, other)) for other in held.models if other != model}
        made[model] = {**asdict(held.mean(model)), "retention": asdict(kept) if kept else None, "above": above}
    return made


def _by_task(columns: Mapping[str, Mapping[str, "np.ndarray"]], benchmark: "Benchmark") -> dict[str, object]:
    """The main measure by task, where there are a few."""
    import numpy as np

    tasks = np.array([query.task for query in benchmark.queries])
    named = sorted(set(tasks.tolist()))
    if not 1 < len(named) <= TASKS_TOLD_APART:
        return {}
    models = next(iter(columns.values()))
    return {
        task: {"queries": int((tasks == task).sum())}
        | {"models": {model: float(column[tasks == task].mean()) for model, column in models.items()}}
        for task in named
    }


def _is_small(name: str, summary: Mapping[str, Any]) -> bool:
    """Whether a model could be its teacher's student: what others keep of the teacher says nothing."""
    own, whole = (summary["models"][each].get("bytes") or math.inf for each in (name, summary["teacher"]))
    return bool(own < STUDENT * whole)


def _facts(summary: Mapping[str, Any]) -> dict[str, object]:
    """The main table, printed with what else models are compared by, and given back."""
    from distill import benchmark as room

    others = [name for name in room.MAIN if name in summary["measures"] and name != summary["main"]]
    compared = [summary["measures"][name] for name in others]
    main, measured = summary["main"], summary["measures"][summary["main"]]
    models = {}
    for name, costs in summary["models"].items():
        if name in measured:
            kept = {key: measured[name][key] for key in ("value", "low", "high", "retention")}
            models[name] = kept | {"bytes": costs.get("bytes"), "latency": costs.get("latency")}
    rows = [
        (
            name,
            f"{held['value']:.3f} [{held['low']:.3f}, {held['high']:.3f}]",
            *(f"{values[name]['value']:.3f}" if name in values else "-" for values in compared),
            f"{held['retention']['value']:.1%}" if held["retention"] and _is_small(name, summary) else "-",
            f"{held['bytes'] / 1e6:.1f} MB" if held["bytes"] else "-",
            f"{held['latency']['p50']:.1f}" if held["latency"] else "-",
        )
        for name, held in models.items()
    ]
    counted = {key: summary[key] for key in ("main", "teacher", *COUNTED)}
    title = ", ".join(f"{summary[name]:,} {name}" for name in COUNTED if summary[name])
    each = summary.get("benchmarks", {})
    title = f"mean of {len(each)} benchmarks: {title}" if each else title
    columns = ("model", f"{main} [95 %]", *others, f"of {summary['teacher']}'s", "size", "ms a query, one core")
    console.table(title, columns, rows)
    if summary["smaller"]:
        _show_smaller(summary["smaller"])
    if each:
        _show_each(each, list(models))
        counted["benchmarks"] = {at: {name: held[name] for name in COUNTED} for at, held in each.items()}
    return {**counted, "models": models}


def _show_smaller(smaller: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A line for each width and form of vectors."""
    rows = [
        (
            model,
            f"{held['width']:,}",
            held["form"],
            f"{held['bytes']:,}" + (f" + {held['bytes_beside']:,}" if held["bytes_beside"] else ""),
            f"{held['value']:.3f} [{held['low']:.3f}, {held['high']:.3f}]",
            f"{held['above']['value']:+.3f} [{held['above']['low']:+.3f}, {held['above']['high']:+.3f}]",
        )
        for model, found in smaller.items()
        for held in found
    ]
    columns = ("model", "width", "form", "bytes a vector", "ndcg@10 [95 %]", "above whole vectors in fp32")
    console.table("vectors made smaller", columns, rows)


def _show_each(benchmarks: Mapping[str, Any], models: Sequence[str]) -> None:
    """A line for every benchmark by itself: what models are compared by there, and how far each comes."""
    from distill import benchmark as room

    rows = [
        (
            at,
            name,
            *(
                f"{held['measures'][name][model]['value']:.3f}" if model in held["measures"][name] else "-"
                for model in models
            ),
        )
        for at, held in benchmarks.items()
        for name in room.MAIN
        if name in held["measures"]
    ]
    console.table("each benchmark by itself", ("benchmark", "measure", *models), rows)
