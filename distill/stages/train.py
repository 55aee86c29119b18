"""Examples or cached vectors to a model: teacher and student, each of their stages, and the controls."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distill import artifact, console, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.models import Model
from distill.objective import LEAST_TEMPERATURE, LOSSES, Objective, Schedule
from distill.runtime import Runtime, joins
from distill.stages import stage

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from distill.batches import ExampleBatches, Lookup, TextBatches
    from distill.fit import Curve, Dev
    from distill.interfaces import Embedder
    from distill.listing import Listing
    from distill.tokens import Texts

LISTED = ("by_task", "balance", "near")  # what schedule says of examples
DEV = ("dev_steps", "dev_queries", "dev_passages", "patience")  # what schedule says of `dev`
CHUNK = 20_000  # texts tokenised at once: bounds memory, whatever the size of the corpus


def _check(
    examples: tuple[Path, ...],
    queries: tuple[Path, ...],
    vectors: tuple[Path, ...],
    kinds: tuple[str, ...],
    objective: Objective,
    schedule: Schedule,
    dev: Path | None,
    runtime: Runtime,
    keep_projector: bool,
) -> None:
    """Refuse a call in which something is missing, or would do nothing without a word."""
    if not examples and not vectors:
        raise Refused("neither examples nor vectors. Give examples to contrast, or a teacher's vectors to regress on.")
    _check_losses(objective, bool(examples), bool(vectors))
    _check_idle(objective, bool(examples))
    if not examples and (idle := [name for name in LISTED if getattr(schedule, name) != getattr(Schedule, name)]):
        raise Refused(f"schedule.{idle[0]} is of examples, and there are none. Leave it out.")
    if not examples and (objective.in_batch is not True or objective.contrastive not in (0, Objective.contrastive)):
        raise Refused("objective.contrastive and in_batch are of examples, and there are none. Leave them out.")
    if keep_projector and not objective.regression:
        raise Refused("keep_projector: it is trained by objective.regression, which has no weight. Give it one.")
    if vectors and not (objective.needs("vectors") or schedule.near):
        raise Refused(
            "vectors are for objective.regression, relational and matrix, and for schedule.near, which are not asked "
            "for. Leave `vectors` out."
        )
    if schedule.near and schedule.near < schedule.queries:
        raise Refused(f"schedule.near: {schedule.near}; needed: {schedule.queries} (the queries of a step) or more.")
    if schedule.near and not vectors:
        raise Refused("schedule.near needs vectors of the queries. Name their embed step in `vectors`.")
    idle = [name for name in DEV if getattr(schedule, name) != getattr(Schedule, name)] if dev is None else []
    if idle:
        raise Refused(f"schedule.{idle[0]} is of `dev`, and there is none. Name a benchmark in `dev`, or leave it out.")
    if runtime.chunk and runtime.chunk_tokens:
        raise Refused("runtime.chunk counts texts and runtime.chunk_tokens tokens of the same. Give one.")
    if examples and queries:
        raise Refused("queries are those of the examples here. Leave `queries` out, or `examples`.")
    if kinds and not examples:
        raise Refused("kinds are of examples, and there are none. Leave `kinds` out.")
    for name, folders in (("examples", examples), ("queries", queries), ("vectors", vectors)):
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise Refused(f"{name}: one artifact stands there twice. Name each once.")


OF_EXAMPLES = {name for name, needed in LOSSES.items() if "examples" in needed}


def _check_losses(objective: Objective, examples: bool, vectors: bool) -> None:
    """Refuse losses without what they need, and an objective with nothing to minimise."""
    if (taught := objective.needs("vectors")) and not vectors:
        raise Refused(f"objective.{taught[0]} needs vectors. Name the embed steps in `vectors`.")
    alone = [name for name in objective.needs("examples") if name != "contrastive"]  # which has a weight by default
    if alone and not examples:
        raise Refused(f"objective.{alone[0]} is of examples, and there are none. Leave it out.")
    active = {name for name in LOSSES if getattr(objective, name)} - (set() if examples else OF_EXAMPLES)
    if not active - {"spread"}:
        losses = ", ".join(f"`{name}`" for name in LOSSES if name in OF_EXAMPLES)
        raise Refused(
            f"nothing to minimise. Give `regression` or `relational` a weight in objective; with examples, {losses}."
        )
    if objective.widths and not active - {"regression"}:
        raise Refused("objective.widths are of losses beside `regression`, and there are none. Leave them out.")
    if len(set(objective.widths)) < len(objective.widths) or any(width < 1 for width in objective.widths):
        raise Refused(f"objective.widths: {list(objective.widths)}; needed: widths of 1 or more, each once.")


SETTINGS = {
    ("contrastive",): ("temperature", "same_tower", "unique_ids", "margin", "hardness", "learn_temperature"),
    ("kl", "cosent"): ("student_temperature",),
    ("kl",): ("teacher_temperature",),
    ("matrix",): ("matrix_temperature",),
    ("margin_mse",): ("margin_scale",),
    ("regression",): ("distance",),
}
"""Of which losses a setting is that would else do nothing."""


def _check_idle(objective: Objective, examples: bool) -> None:
    """Refuse a setting that would do nothing."""
    for losses, names in SETTINGS.items():
        there = any(getattr(objective, loss) and (examples or loss not in OF_EXAMPLES) for loss in losses)
        if idle := [name for name in names if getattr(objective, name) != getattr(Objective, name) and not there]:
            of = " or ".join(f"`{loss}`" for loss in losses)
            needed = "a weight and examples" if OF_EXAMPLES & set(losses) else "a weight"
            raise Refused(f"objective.{idle[0]} is of {of}, which needs {needed}. Leave it out.")
    if objective.learn_temperature and objective.temperature < LEAST_TEMPERATURE:
        raise Refused(
            f"objective.temperature: {objective.temperature}; needed: {LEAST_TEMPERATURE} or more where it is learned."
        )
    for name, why in (("same_tower", "takes queries"), ("unique_ids", "tells apart what is")):
        if getattr(objective, name) and not objective.in_batch:
            raise Refused(f"objective.{name} {why} of the batch, and in_batch is false. Leave one out.")


@stage(version=3, resumes=True, check=_check, compared=("dev",), warns=True)
def train(
    *,
    model: Model,
    passages: Path,
    examples: tuple[Path, ...] = (),
    queries: tuple[Path, ...] = (),
    vectors: tuple[Path, ...] = (),
    kinds: tuple[Literal["retrieval", "classification", "clustering", "sts"], ...] = (),
    objective: Objective = Objective(),
    schedule: Schedule = Schedule(),
    dev: Path | None = None,
    keep_projector: bool = False,
    seed: int = 0,
    runtime: Runtime = Runtime(),
    out: Path,
) -> Facts:
    """Train an embedder.

    With `examples`: queries and their lists are compared. Without: regression and relations on `vectors`,
    where row i of a vectors table belongs to row i of `passages` or of one of `queries`.
    A step that goes on from another's model takes its weights and starts a fresh optimizer.
    With `dev`: nDCG@10 on a part of a benchmark every so many steps, and the weights that did best there are kept.

    Args:
        model: The step whose model is trained further, or a class to start from.
        passages: What the examples' row numbers count.
        examples: Artifacts that hold examples; blended.
        queries: Artifacts whose queries have vectors.
        vectors: A teacher's vectors of the passages and of the queries, in any order.
        kinds: Kinds of example that are used; all if empty.
        objective: The losses and their weights.
        schedule: Steps, size, rate; how often `dev` is looked at.
        dev: Artifact with passages, and examples of retrieval. What is reported in the end needs another benchmark:
            the weights were chosen by this one.
        keep_projector: Whether the map from the student's space to the teacher's, which regression trains, is kept
            beside the model. With it `students.Projected` embeds queries for passages that the teacher embedded.
        seed: Of order, dropout and projector, and of what is drawn from `dev`.
        runtime: Devices and strategy.
        out: The artifact.

    Returns:
        Examples used and dropped, or texts; steps skipped; the teacher's temperatures, with the entropy that they
        leave; the last step's measures; what was best on `dev`.

    Raises:
        Refused: There is nothing to minimise, or something that is named would do nothing.
    """
    from distill import fit, models

    embedder = models.embedder(model)
    if not any(held.requires_grad for held in embedder.parameters()):
        raise Refused(
            f"train: {models.label(model)} has no weights that learn. Name the step that trained it, or a class."
        )
    batches, objective, told = prepared(
        embedder, passages=passages, examples=examples, queries=queries, vectors=vectors, kinds=kinds,
        objective=objective, schedule=schedule, seed=seed, cache=out / "tokens",
    )  # fmt: skip
    looked_at = None if dev is None else _dev(embedder, dev, schedule, seed)
    dim = _dim(vectors) if objective.regression else None
    with _interruptible():
        curve, skipped = fit.fit(
            embedder,
            batches,
            objective,
            schedule,
            name=out.name,
            folder=out,
            teacher_dim=dim,
            seed=seed,
            runtime=runtime,
            dev=looked_at,
            keep=_keep(vectors, out) if keep_projector and not joins(out) else None,
        )
    if joins(out):  # the process that started this one writes the artifact
        return {}
    models.save(embedder, out)
    step, measure, value = zip(*curve, strict=True)
    tables.write(out / "curves", tables.CURVES, {"step": step, "measure": measure, "value": value})
    last = {name: round(amount, 5) for at, name, amount in curve if at == step[-1]}
    if dev:
        told["dev"] = _best(curve, schedule, out.name)
    return told | {"skipped_steps": skipped, "last": last, "refers": {"passages": artifact.fingerprint(passages)}}


def prepared(
    embedder: "Embedder",
    *,
    passages: Path,
    examples: tuple[Path, ...] = (),
    queries: tuple[Path, ...] = (),
    vectors: tuple[Path, ...] = (),
    kinds: tuple[str, ...] = (),
    objective: Objective,
    schedule: Schedule,
    seed: int = 0,
    cache: Path,
) -> tuple["ExampleBatches | TextBatches", Objective, dict[str, object]]:
    """What a training reads, for `train` and for a Trainer of one's own.

    Args:
        embedder: Its tokenizer reads the texts, once.
        passages: As for `train`, and so are the others.
        examples: Artifacts that hold examples.
        queries: Artifacts whose queries have vectors.
        vectors: A teacher's vectors.
        kinds: Kinds of example that are used.
        objective: The losses.
        schedule: Size of a batch and what it is drawn from.
        seed: Of the order.
        cache: A folder for the token ids; of these texts and this tokenizer alone, for what is there is not read again.

    Returns:
        Batch k of the training; the objective with its temperatures found; what there is to tell.

    Raises:
        Refused: Something that is named would do nothing, or a loss has nothing to learn from.
    """
    for folder in vectors:
        artifact.holds(folder, "vectors")
    teachers = sorted({str(artifact.facts(held).get("model")) for held in vectors})
    if len(teachers) > 1:
        raise Refused(f"train: vectors of {', '.join(teachers)}; their spaces differ. Name those of one teacher.")
    if wrong := [width for width in objective.widths if width >= embedder.dim]:
        raise Refused(
            f"train: objective.widths: {wrong[0]}; needed: from 1 to {embedder.dim - 1}, for the model's is whole."
        )
    if examples:
        listed, told = _examples(embedder, passages, examples, vectors, kinds, objective, schedule, seed, cache)
        return listed, replace(objective, **_temperatures(objective, listed, told)), told
    batches = _texts(embedder, passages, queries, vectors, schedule, seed, cache)
    without: dict[str, Any] = dict.fromkeys(OF_EXAMPLES, 0.0)
    return batches, replace(objective, **without, learn_temperature=False), {"texts": batches.texts}


def _dev(embedder: "Embedder", dev: Path, schedule: Schedule, seed: int) -> "Dev":
    """A part of a benchmark, tokenised."""
    from distill import benchmark
    from distill.fit import Dev

    benchmark.check(dev)
    held = tables.read(dev, "passages"), tables.read(dev, "examples")
    part = benchmark.sample(*held, str(dev), schedule.dev_queries, schedule.dev_passages, seed)
    return Dev.of(part, embedder)


def _best(curve: "Curve", schedule: Schedule, name: str) -> dict[str, object]:
    """What was seen on `dev`; said, where the start was better than all that followed."""
    from distill.fit import MEASURE

    looks = [(value, step) for step, measure, value in curve if measure == MEASURE]
    (start, _), *others = looks
    best = max(value for value, _ in others)
    if best < start:
        console.say(f"{name}: nDCG@10 on dev fell from {start:.3f} to {best:.3f}: this training harms there.", "yellow")
    step = next(step for value, step in others if value == best)
    ended = looks[-1][1] if looks[-1][1] < schedule.steps else None
    return {"start": round(start, 5), "best": round(best, 5), "step": step, "ended": ended}


def _keep(vectors: tuple[Path, ...], out: Path) -> "Callable[[nn.Linear], None]":
    """What writes the projector, with the name of the model whose space it leads to."""
    from distill import projection

    return partial(projection.save, folder=out / projection.FOLDER, space=str(artifact.facts(vectors[0]).get("model")))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning makes a silent exit of Ctrl-C, and leaves Ctrl-C switched off: put both right."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from error


def _temperatures(objective: Objective, batches: "ExampleBatches", told: dict[str, object]) -> dict[str, Any]:
    """The temperatures of targets: as given, or those that leave the wanted entropy.

    Raises:
        Refused: At a temperature, or a scale of margins, that was given, the teacher's scores teach nothing.
    """
    from distill import scores

    found: dict[str, Any] = {}
    if objective.needs("scores"):
        lists = batches.score_lists()
    if objective.margin_mse:
        scores.check_margins(*lists, objective.margin_scale, "train: objective.margin_scale")
    for loss, name in (("kl", "teacher_temperature"), ("matrix", "matrix_temperature")):
        given, found[name] = getattr(objective, name), 1.0
        if not getattr(objective, loss):
            continue
        held = lists if loss == "kl" else batches.matrices()
        if loss == "matrix" and (held[1].sum(1) < 2).all():
            raise Refused(
                "train: objective.matrix: in the first batches there is no query with a vector of the teacher beside "
                "two passages with one. Embed what the examples hold, or leave matrix out."
            )
        try:
            found[name] = scores.auto_temperature(*held) if given == "auto" else float(given)
        except Refused as error:
            raise Refused(f"train: objective.{name}: {error}") from None
        entropy = scores.check_targets(*held, found[name], f"train: objective.{name}")
        told[name] = round(found[name], 6)
        told[name.replace("temperature", "entropy")] = round(entropy, 4)
    return found


def _examples(
    embedder: "Embedder",
    passages: Path,
    examples: tuple[Path, ...],
    vectors: tuple[Path, ...],
    kinds: tuple[str, ...],
    objective: Objective,
    schedule: Schedule,
    seed: int,
    cache: Path,
) -> tuple["ExampleBatches", dict[str, object]]:
    from distill import listing
    from distill.batches import ExampleBatches, Places
    from distill.sampling import Sampler
    from distill.tokens import tokenized

    for folder in examples:
        artifact.check_refers(folder, "passages", passages)
        _check_trains(folder)
    corpus = tables.read(passages, "passages")
    held = [tables.read(folder, "examples") for folder in examples]
    rows = listing.read(
        held,
        [str(folder) for folder in examples],
        len(corpus),
        kinds,
        in_batch=objective.in_batch,
        graded=bool(objective.cosent),
        unique_ids=objective.unique_ids,
    )
    if not len(rows.query):
        raise Refused(f"train: no example is left: {_why_none(rows.dropped, objective)}.")
    _check_lists(rows, objective, schedule)
    asked = [_asked(folder) for folder in examples]
    embedded = _embedded(vectors, {_name("passages", passages), *asked})
    targets = _query_targets(embedded, asked, rows), _passage_targets(embedded.get(_name("passages", passages)), rows)
    _check_targets(objective, schedule, queries=targets[0] is not None, passages=targets[1] is not None)
    batches = ExampleBatches(
        queries=tokenized(cache / "queries", embedder, _pieces(rows.query, rows.task)),
        passages=tokenized(cache / "passages", embedder, _listed_texts(corpus, rows)),
        lists=rows.lists,
        starts=rows.starts,
        in_batch=rows.in_batch,
        group=rows.group,
        same=rows.same,
        sampler=Sampler(
            rows.mixed, schedule.queries, seed, schedule.by_task, schedule.balance, schedule.near, targets[0]
        ),
        negatives=schedule.negatives,
        seed=seed,
        scores=rows.scores,
        query_targets=targets[0] if objective.needs("vectors") else None,
        passage_targets=targets[1],
        places=Places([str(folder / "examples") for folder in examples], rows.artifact, rows.row),
    )
    return batches, {"examples": len(rows.query), "dropped": rows.dropped}


def _check_trains(examples: Path) -> None:
    """Refuse a benchmark's lists, in which the passages behind the first are answers too.

    Raises:
        Refused: `ingest` read them with `benchmark: true`.
    """
    import pyarrow.compute as pc

    if artifact.verb(examples) != "ingest":
        return
    held = tables.read(examples, "examples")
    graded = pc.and_(pc.greater(pc.list_value_length(held["scores"]), 0), pc.equal(held["kind"], "retrieval"))
    if pc.any(pc.and_(graded, pc.greater(pc.list_value_length(held["passages"]), 1))).as_py():
        raise Refused(
            f"train: {examples} was read as a benchmark, whose lists hold further answers behind the first, and they "
            "would be negatives. Read it with `benchmark: false`."
        )


def _why_none(dropped: Mapping[str, int], objective: Objective) -> str:
    """Where all examples went, and what brings them back."""
    ways = {
        "another kind": "of another kind than `kinds` names (name theirs too)",
        "nothing to compare with": (
            "with nothing to compare with: they have no negatives of their own, and "
            + (
                "none of the batch may be theirs (`mine` and `label` find them negatives)"
                if objective.in_batch
                else "objective.in_batch is false (mine some with `mine` and `label`, or say true)"
            )
        ),
    }
    told = [f"{count:,} {ways.get(rule, rule)}" for rule, count in dropped.items() if count]
    return "; ".join(told) or "there were none"


def _check_targets(objective: Objective, schedule: Schedule, queries: bool, passages: bool) -> None:
    """Make sure that what needs a teacher's vectors of queries or passages has them, and that none are for nothing."""
    taught = objective.needs("vectors")
    if taught and not (queries or passages):
        raise Refused(
            "train: none of `vectors` embeds the passages or the examples' queries. Add the embed step that does."
        )
    if objective.matrix and not (queries and passages):
        missing = "the passages" if queries else "the examples' queries"
        raise Refused(
            f"train: objective.matrix compares queries with passages, and none of `vectors` embeds {missing}. "
            "Add the embed step that does."
        )
    if schedule.near and not queries:
        raise Refused("train: schedule.near: none of `vectors` embeds the examples' queries. Add the embed step.")
    if passages and not taught:
        raise Refused(
            "train: vectors of the passages are for objective.regression, relational and matrix, which have no weight. "
            "Leave them out."
        )


def _check_lists(rows: "Listing", objective: Objective, schedule: Schedule) -> None:
    """Make sure that the losses of lists have something to compare: they would else be zero from the first step.

    Raises:
        Refused: InfoNCE has no passage beside the positive, CoSENT no two pairs to put in order, or KL and MarginMSE
            no list of two that the teacher scored.
    """
    import numpy as np

    lengths = np.diff(rows.starts)
    scored = np.zeros(len(lengths), np.int64)
    if rows.scores is not None:
        known = np.isfinite(rows.scores)
        scored = np.add.reduceat(known, rows.starts[:-1], dtype=np.int64)
    if (ranked := objective.needs("scores")) and not (schedule.negatives and (scored > 1).any()):
        raise Refused(
            f"train: objective.{ranked[0]} needs lists of passages with scores, and no example has two that are read. "
            "`label` gives mined queries such lists; schedule.negatives says how many of each are read."
        )
    alone = np.minimum(lengths, schedule.negatives + 1) == 1
    if objective.contrastive and alone.all() and (schedule.queries == 1 or not objective.in_batch):
        raise Refused(
            "train: objective.contrastive sets a query's positive against other passages, and no step has any: "
            f"schedule.queries is {schedule.queries}, in_batch {str(objective.in_batch).lower()}, and no hard negative "
            "is read. Raise schedule.queries or schedule.negatives, or give examples with negatives."
        )
    alone &= scored > 0
    if objective.cosent and (rows.scores is None or len(np.unique(rows.scores[rows.starts[:-1]][alone])) < 2):
        raise Refused(
            f"train: objective.cosent puts pairs with different scores in order, and {alone.sum():,} of "
            f"{len(lengths):,} examples are pairs with a score. Read the pairs (kind: sts) with `benchmark: true`, "
            "which keeps each with its score (docs/teachers.md), or leave cosent out."
        )


def _pieces(texts: list[str], tasks: list[str]) -> Iterator["Texts"]:
    for start in range(0, len(texts), CHUNK):
        yield texts[start : start + CHUNK], tasks[start : start + CHUNK]


def _all_texts(held: "pa.Table") -> Iterator["Texts"]:
    """The texts of a table of passages, or of queries with their tasks."""
    for start in range(0, len(held), CHUNK):
        part = held.slice(start, CHUNK)
        if "text" in part.column_names:
            yield tables.passage_texts(part), None
        else:
            yield tables.texts(part["query"]), tables.texts(part["task"])


def _listed_texts(corpus: "pa.Table", rows: "Listing") -> Iterator["Texts"]:
    """The distinct passages: bare ones first, then those that are read as queries."""
    for start in range(0, rows.bare, CHUNK):
        yield tables.passage_texts(corpus, rows.passage_row[start : min(start + CHUNK, rows.bare)]), None
    for start in range(rows.bare, len(rows.passage_row), CHUNK):
        part = slice(start - rows.bare, start - rows.bare + CHUNK)
        texts = tables.passage_texts(corpus, rows.passage_row[start : start + CHUNK])
        yield [mark + text for mark, text in zip(rows.passage_mark[part], texts, strict=True)], rows.passage_task[part]


def _name(table: str, folder: Path) -> str:
    """How the facts of `embed` name what was embedded."""
    return f"{table}:{artifact.fingerprint(folder)}"


def _asked(examples: Path) -> str:
    """The same for the queries that examples are of."""
    refers = artifact.facts(examples)["refers"]
    assert isinstance(refers, dict)
    return f"queries:{refers['queries']}"


def _embedded(vectors: tuple[Path, ...], wanted: set[str]) -> dict[str, Path]:
    """The artifact of vectors of each table that is wanted and embedded.

    Raises:
        Refused: One would not be used.
    """
    found: dict[str, Path] = {}
    for folder in vectors:
        name = artifact.embedded(folder)
        if name in found:
            raise Refused(f"train: vectors {found[name]} and {folder} embed the same texts. Name one.")
        if name not in wanted:
            raise Refused(
                f"train: vectors {folder} embeds neither `passages` nor the queries that are trained on. "
                "Name what it embeds, or leave it out."
            )
        found[name] = folder
    return found


def _open(vectors: Path) -> tables.Stacked:
    return tables.mapped(tables.read(vectors, "vectors")["vector"])


def _dim(vectors: tuple[Path, ...]) -> int:
    return _open(vectors[0]).shape[1]


def _passage_targets(vectors: Path | None, rows: "Listing") -> "Lookup | None":
    import numpy as np

    from distill.batches import Lookup

    if vectors is None or not rows.bare:
        return None
    bare = np.arange(len(rows.passage_row)) < rows.bare
    return Lookup([_open(vectors)], np.where(bare, 0, -1), rows.passage_row)


def _query_targets(embedded: dict[str, Path], asked: list[str], rows: "Listing") -> "Lookup | None":
    import numpy as np

    from distill.batches import Lookup

    names = [name for name in dict.fromkeys(asked) if name in embedded]
    table = np.full(len(rows.query), -1, np.int64)
    for number, name in enumerate(asked):
        if name in embedded:
            table[(rows.artifact == number) & (rows.origin >= 0)] = names.index(name)
    return Lookup([_open(embedded[name]) for name in names], table, rows.origin) if (table >= 0).any() else None


def _texts(
    embedder: "Embedder",
    passages: Path,
    queries: tuple[Path, ...],
    vectors: tuple[Path, ...],
    schedule: Schedule,
    seed: int,
    cache: Path,
) -> "TextBatches":
    from distill.batches import TextBatches
    from distill.tokens import tokenized

    tokens, targets = [], []
    named = [("passages", passages), *(("queries", folder) for folder in queries)]
    embedded = _embedded(vectors, {_name(table, folder) for table, folder in named})
    for number, (table, folder) in enumerate(named):
        found = embedded.get(_name(table, folder))
        if found is None:
            raise Refused(f"train: none of `vectors` embeds the {table} of {folder}. Add the embed step that does.")
        tokens.append(tokenized(cache / f"{table}_{number}", embedder, _all_texts(tables.read(folder, table))))
        targets.append(_open(found))
    return TextBatches(tokens, targets, schedule.queries, seed, [str(folder / table) for table, folder in named])
