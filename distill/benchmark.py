"""A benchmark: what is asked of a model, what it answers on each text, and how sure the mean of that is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from distill import artifact, compact, console, encode, metrics, search, tables
from distill.errors import Refused
from distill.interfaces import Embedder
from distill.metrics import Bootstrap
from distill.runtime import Runtime

COSINE, ACCURACY, CLUSTER = "cosine", "accuracy", "cluster"
"""What is kept of a pair, of a text of a class, and of a text to cluster: the cosine of the two, the share of
experiments in which its class was told right, and the number of its cluster."""

SPEARMAN, V_MEASURE = "spearman", "v_measure"
"""The measures that are of all pairs, or texts, of a task together."""

ASYMMETRIC = f"asymmetric_ndcg@{metrics.CUT}"
"""nDCG@10 of a model's queries among passages that another model embedded, whose space both share."""

SMALLER = "smaller"
"""What nDCG@10 of vectors made smaller is named by, with their width and form behind it."""

MAIN = (f"ndcg@{metrics.CUT}", ASYMMETRIC, SPEARMAN, ACCURACY, V_MEASURE)
"""What models are compared by in each kind of task."""


@dataclass(frozen=True)
class Asked:
    """A query with its graded passages, one side of a pair with its score for the other, or a text of a class."""

    row: int
    """In the examples table."""
    task: str
    text: str
    judged: dict[int, float]
    group: int = -1
    """Its class."""


@dataclass(frozen=True)
class Benchmark:
    """What is asked of a model."""

    passages: list[str]
    queries: list[Asked]
    pairs: list[Asked]
    classes: list[Asked]
    """Texts whose class is told from a few of each (kind classification)."""
    clusters: list[Asked]
    """Texts that are put together without being told anything (kind clustering)."""
    dropped: dict[str, int]

    @property
    def asked(self) -> list[Asked]:
        """All of it."""
        return [*self.queries, *self.pairs, *self.classes, *self.clusters]

    @property
    def texts(self) -> int:
        """Texts that a model reads."""
        return len(self.passages) * bool(self.queries) + len(self.asked) + len(self.pairs)


Values = dict[str, tuple[list[Asked], list[float]]]
"""Of each measure: who was asked, and what came out for each."""


def check(examples: Path) -> None:
    """Refuse lists of `label`.

    Raises:
        Refused: They hold what is near and not what is right: negatives would count as answers by their similarity.
    """
    if artifact.verb(examples) == "label":
        raise Refused(
            f"{examples} holds lists of `label`, likely negatives with a teacher's scores, and no benchmark: all of "
            "them would count as answers. Name the `ingest` that reads questions with their answers."
        )


def opened(passages: pa.Table, examples: pa.Table, name: str) -> Benchmark:
    """The benchmark that two tables are.

    Args:
        passages: What may be found.
        examples: What is asked; what cannot be measured is left out and counted. Rows of one query, as each of its
            answers has where `benchmark: true` was not said, are one.
        name: What to call it in an error.

    Raises:
        Refused: There is nothing to measure on, or a task has one score or one class.
    """
    made = Benchmark(tables.passage_texts(passages), [], [], [], [], {})
    answers: dict[tuple[str, str], dict[int, float]] = {}
    for row, example in enumerate(examples.to_pylist()):
        tables.check_rows(f"{name}, example {row}", example["passages"], len(passages))
        # Without grades the first passage is the positive, and the others are not.
        grades = example["scores"] or [1.0, *[0.0] * (len(example["passages"]) - 1)]
        judged = dict(zip(example["passages"], grades, strict=False))
        asked = Asked(row, example["task"], example["query"], judged, example["group"])
        if example["kind"] == "sts" and example["scores"]:
            made.pairs.append(asked)
        elif example["kind"] == "retrieval" and max(judged.values(), default=0) > 0:
            if (known := answers.setdefault((asked.task, asked.text), judged)) is judged:
                made.queries.append(asked)
            else:
                known |= {passage: max(grade, known.get(passage, grade)) for passage, grade in judged.items()}
                made.dropped["asked before"] = made.dropped.get("asked before", 0) + 1
        elif example["kind"] in ("classification", "clustering") and not judged and asked.group >= 0:
            (made.classes if example["kind"] == "classification" else made.clusters).append(asked)
        else:
            rule = "no positive" if example["kind"] == "retrieval" else f"kind {example['kind']}"
            made.dropped[rule] = made.dropped.get(rule, 0) + 1
    if not made.asked:
        raise Refused(f"{name} holds nothing to measure on: {made.dropped}. Read it with `benchmark: true`.")
    for task, pairs in _by_task(made.pairs).items():
        if len({score for pair in pairs for score in pair.judged.values()}) < 2:
            raise Refused(f"{name}: all pairs of {task!r} have one score, so nothing can be ranked. Take them out.")
    for told in (made.classes, made.clusters):
        told[:] = _told_apart(told, name, made.dropped)
    return made


def sample(passages: pa.Table, examples: pa.Table, name: str, asked: int, searched: int, seed: int) -> Benchmark:
    """A part of a benchmark's retrieval that is quick to measure: easier than the whole, for less is searched.

    Args:
        passages: What may be found.
        examples: What is asked.
        name: What to call it in an error.
        asked: Queries, drawn at random; all if there are fewer.
        searched: Passages: those that are judged for the queries, and others drawn at random.
        seed: Of both draws.

    Raises:
        Refused: There is no retrieval in it.
    """
    random = np.random.default_rng(seed)
    kinds = np.asarray(examples["kind"].to_pylist(), dtype=object)
    if not (kinds == "retrieval").any():
        raise Refused(f"{name} holds no query to search passages with. Name an artifact with examples of retrieval.")
    drawn = examples.take(np.sort(random.permutation(np.flatnonzero(kinds == "retrieval"))[:asked]))
    lists = drawn["passages"].combine_chunks()
    judged = np.unique(lists.flatten().to_numpy())
    tables.check_rows(name, judged, len(passages))
    others = random.permutation(np.setdiff1d(np.arange(len(passages)), judged))
    held = np.sort(np.concatenate([judged, others[: max(0, searched - len(judged))]]))
    numbers = pa.array(np.searchsorted(held, lists.flatten().to_numpy()))
    starts = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
    renumbered = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), numbers)
    texts = {"title": [""] * len(held), "text": tables.passage_texts(passages, held)}
    at = drawn.schema.get_field_index("passages")
    return opened(pa.table(texts), drawn.set_column(at, "passages", renumbered), name)


def _told_apart(texts: list[Asked], name: str, dropped: dict[str, int]) -> list[Asked]:
    """The texts that share their class with another."""
    kept: list[Asked] = []
    for task, held in _by_task(texts).items():
        groups = np.array([text.group for text in held])
        common = np.isin(groups, [group for group in set(groups.tolist()) if (groups == group).sum() > 1])
        if len(set(groups[common].tolist())) < 2:
            raise Refused(
                f"{name}: {len(held)} texts of {len(set(groups.tolist()))} classes of {task!r}; needed: at least two "
                "classes of two texts. Take them out, or add others."
            )
        if alone := int((~common).sum()):
            dropped["only text of its class"] = dropped.get("only text of its class", 0) + alone
        kept += [text for text, is_common in zip(held, common, strict=True) if is_common]
    return kept


def _by_task(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    found: dict[str, list[Asked]] = {}
    for each in asked:
        found.setdefault(each.task, []).append(each)
    return found


@dataclass(frozen=True)
class Smaller:
    """What vectors are made smaller to, beside whole ones in fp32."""

    widths: tuple[int, ...] = ()
    quantized: bool = False

    def forms(self, dim: int) -> list[tuple[int, compact.Form]]:
        """Width and form of each, the whole width first; widths that a model has not are left out."""
        widths = [dim, *sorted((width for width in self.widths if width < dim), reverse=True)]
        forms = compact.FORMS if self.quantized else compact.FORMS[:1]
        return [(width, form) for width in widths for form in forms][1:]


def named(width: int, form: compact.Form) -> str:
    """The measure of vectors of this width and form."""
    return f"{SMALLER} {width} {form}"


def parsed(measure: str) -> tuple[int, compact.Form]:
    """Width and form of what `named` named."""
    _, width, form = measure.split()
    return int(width), next(known for known in compact.FORMS if known == form)


def answers(
    model: Embedder,
    benchmark: Benchmark,
    depth: int,
    seed: int,
    runtime: Runtime,
    bar: console.Bar,
    smaller: Smaller = Smaller(),
    embedded: Float[np.ndarray, "passages dim"] | None = None,
) -> tuple[Values, float | None]:
    """What a model gets on the benchmark, and the seconds that it reads passages for; None if there is no search.

    Args:
        model: It.
        benchmark: What it is asked.
        depth: Passages retrieved for each query.
        seed: Of the few texts of a class that are told, and of the first middles of clusters.
        runtime: How fast.
        bar: Shows how far it is.
        smaller: Widths and forms of vectors that are searched too.
        embedded: The passages as another model embedded them, in this one's space.
    """

    def embed(texts: Sequence[str], tasks: Sequence[str] | None) -> Float[np.ndarray, "texts dim"]:
        rows = model.tokenize(texts, tasks)
        made = encode.vectors(model, rows, batch_tokens=runtime.batch_tokens, precision=runtime.precision, bar=bar)
        if not np.isfinite(made).all():
            raise Refused("a vector is not finite. Look at the model, or say runtime: {precision: fp32}.")
        return made

    def read(asked: Sequence[Asked]) -> Float[np.ndarray, "texts dim"]:
        return embed([each.text for each in asked], [each.task for each in asked])

    values: Values = {}
    seconds = None
    if queries := benchmark.queries:
        began = time.perf_counter()
        passages = embed(benchmark.passages, None)
        seconds = time.perf_counter() - began
        vectors, judged = read(queries), [query.judged for query in queries]
        rows, _ = search.top_k(vectors, passages, min(depth, len(passages)))
        found = metrics.retrieval(rows, judged, depth)
        if embedded is not None:
            rows, _ = search.top_k(vectors, embedded, min(metrics.CUT, len(passages)))
            found[ASYMMETRIC] = metrics.ndcg(rows, judged)
        for width, form in smaller.forms(model.dim):
            rows = compact.top_k(form, compact.cut(vectors, width), compact.cut(passages, width), metrics.CUT, seed)
            found[named(width, form)] = metrics.ndcg(rows, judged)
        values |= {measure: (queries, column.tolist()) for measure, column in found.items()}
    if pairs := benchmark.pairs:
        others = [benchmark.passages[next(iter(pair.judged))] for pair in pairs]
        values[COSINE] = pairs, (read(pairs) * embed(others, [pair.task for pair in pairs])).sum(1).tolist()
    for measure, texts in ((ACCURACY, benchmark.classes), (CLUSTER, benchmark.clusters)):
        judge = metrics.few_shot if measure == ACCURACY else metrics.clusters
        for task in _by_task(texts).values():
            told, found_of = values.setdefault(measure, ([], []))
            told += task
            found_of += judge(read(task), _classes(task), seed).tolist()
    return values, seconds


def words(benchmark: Benchmark, depth: int) -> Values:
    """What BM25 gets; a passage that shares no word with the query counts as not found."""
    asked = [query.text for query in benchmark.queries]
    rows, scores = search.Lexical(benchmark.passages).top_k(asked, min(depth, len(benchmark.passages)))
    found = metrics.retrieval(np.where(scores > 0, rows, -1), [query.judged for query in benchmark.queries], depth)
    return {measure: (benchmark.queries, column.tolist()) for measure, column in found.items()}


def _classes(asked: Sequence[Asked]) -> Int[np.ndarray, "texts"]:
    """The class of each, counted from 0."""
    return np.unique([each.group for each in asked], return_inverse=True)[1]


def bootstraps(
    columns: Mapping[str, Mapping[str, Float[np.ndarray, "asked"]]], benchmark: Benchmark, resamples: int, seed: int
) -> dict[str, Bootstrap]:
    """Every measure of every model, drawn again; nDCG@10 first where there is retrieval. Not of vectors made smaller.

    Spearman, accuracy and V-measure are means over tasks, as in MTEB.

    Args:
        columns: By measure and model, what came out for each who was asked, in the order of `answers`.
        benchmark: What was asked.
        resamples: How often.
        seed: Of the draws.
    """
    apart = (COSINE, ACCURACY, CLUSTER, SMALLER)
    held = {
        name: metrics.bootstrap(models, resamples, seed)
        for name, models in columns.items()
        if name.partition(" ")[0] not in apart
    }
    for measure, kept, asked in (
        (SPEARMAN, COSINE, benchmark.pairs),
        (ACCURACY, ACCURACY, benchmark.classes),
        (V_MEASURE, CLUSTER, benchmark.clusters),
    ):
        if kept in columns:
            held[measure] = metrics.average(_tasks(measure, columns[kept], asked, resamples, seed))
    return held


def smaller_ones(
    columns: Mapping[str, Mapping[str, Float[np.ndarray, "asked"]]], resamples: int, seed: int
) -> dict[str, Bootstrap]:
    """Of each model nDCG@10 of its whole vectors and of those made smaller, drawn together.

    Args:
        columns: By measure and model, what came out for each who was asked.
        resamples: How often.
        seed: Of the draws.
    """
    names = [name for name in columns if name.partition(" ")[0] == SMALLER]
    return {
        model: metrics.bootstrap(
            {name: columns[name][model] for name in (MAIN[0], *names) if model in columns[name]}, resamples, seed
        )
        for model in dict.fromkeys(model for name in names for model in columns[name])
    }


def together(held: Sequence[Mapping[str, Bootstrap]]) -> dict[str, Bootstrap]:
    """The mean of each measure over the benchmarks that have it, each drawn by itself; those of retrieval first."""
    order = ("", SPEARMAN, ACCURACY, V_MEASURE)
    named = dict.fromkeys(name for measures in held for name in measures)
    return {
        name: metrics.average([measures[name] for measures in held if name in measures])
        for name in sorted(named, key=lambda name: order.index(name) if name in order else 0)
    }


def _tasks(
    measure: str,
    columns: Mapping[str, Float[np.ndarray, "asked"]],
    asked: Sequence[Asked],
    resamples: int,
    seed: int,
) -> list[Bootstrap]:
    """A measure on each task."""
    parts, names = [], np.array([each.task for each in asked])
    for number, (task, held) in enumerate(_by_task(asked).items()):
        found = {model: column[names == task] for model, column in columns.items()}
        if measure == SPEARMAN:
            scores = np.array([next(iter(pair.judged.values())) for pair in held])
            parts.append(metrics.bootstrap_spearman(found, scores, resamples, seed + number))
        elif measure == V_MEASURE:
            parts.append(metrics.bootstrap_v_measure(found, _classes(held), resamples, seed + number))
        else:
            parts.append(metrics.bootstrap(found, resamples, seed + number))
    return parts
