"""What there is to do in a step: rows, tokens, operations, bytes; a small function for each verb."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from distill import readers, recipe, tables
from distill.estimate.machine import FILLING
from distill.estimate.sizes import (
    BYTES_A_TOKEN,
    KEPT,
    QUERY,
    TASK,
    USABLE,
    WEIGHTS_A_SECOND,
    Plan,
    Step,
    Texts,
    Weights,
    drawn,
    ingested,
)
from distill.objective import Objective, Schedule
from distill.runtime import Runtime, cores
from distill.synthesis import WORDS

LATENCY = 5.0
"""Seconds at most for one model's latency on one core."""
EXPORT = 15.0
"""Seconds: tracing takes most of them, whatever the model's size."""
TEXTS_A_SECOND = 5000.0
"""Read and checked by `ingest`."""
TOKENS_A_SECOND = 3e5
"""Made of text, by one core."""
LIST = 300
"""Tokens of a list of tasks."""
PARSING = 8.0
"""Seconds, once a process, for all of Python's documentation."""


@dataclass(frozen=True)
class Work:
    """What there is to do in a step."""

    rows: int
    tokens: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0
    """That no model runs."""
    operations: Mapping[str, float] | None = field(default_factory=dict)
    """By kind of work; None if a model's size is not known."""
    width: int = FILLING
    """Of the model."""


def _left(step: Step, table: str, parts: int) -> float:
    """The share of a step's parts that is not committed yet."""
    return len(tables.missing(step.out / table, parts)) / max(parts, 1)


def _in_parts(step: Step, table: str, rows: int) -> float:
    return _left(step, table, -(-rows // int(step.settings["part_rows"])))


def _scaled(operations: Mapping[str, float] | None, by: float) -> dict[str, float] | None:
    return None if operations is None else {kind: amount * by for kind, amount in operations.items()}


def _tokenizing(tokens: float) -> float:
    return tokens / (TOKENS_A_SECOND * cores())


def _width(weights: Weights | None) -> int:
    return weights.width if weights else FILLING


def _ingest(plan: Plan, step: Step) -> Work:
    rows = {table: ingested(plan, step.settings, table) for table in ("passages", "queries", "examples")}
    size = rows["passages"].rows * (rows["passages"].tokens * BYTES_A_TOKEN + 60)
    size += rows["queries"].rows * 180 + rows["examples"].rows * 280
    documented = any(isinstance(source, readers.PythonDocs) for source in step.settings["sources"])
    seconds = rows["passages"].rows / TEXTS_A_SECOND + (PARSING if documented and plan.first("documentation") else 0)
    return Work(rows["passages"].rows, rows["passages"].cut(1 << 30), size, seconds)


def _train(plan: Plan, step: Step) -> Work:
    settings, schedule, goal = step.settings, step.settings["schedule"], step.settings["objective"]
    assert isinstance(schedule, Schedule) and isinstance(goal, Objective)
    weights = plan.weights(settings["model"])
    length = weights.length if weights else 1 << 30
    passages = plan.texts(settings["passages"], "passages")
    asked = weights.asked() if weights else QUERY + TASK
    taken = passages.mean(length)
    examples = settings["examples"]
    if examples:
        negatives = min(schedule.negatives, max(plan.negatives(folder) for folder in examples))
        each = asked + (1 + negatives) * taken
        distinct = sum(plan.texts(folder, "examples").rows for folder in examples) * asked + passages.rows * taken
    else:
        others = [plan.texts(folder, "queries") for folder in settings["queries"]]
        distinct = passages.rows * taken + sum(other.rows * asked for other in others)
        each = distinct / max(passages.rows + sum(other.rows for other in others), 1)
    rows = schedule.steps * schedule.queries
    tokens = rows * each
    if weights is None:
        return Work(rows, tokens, 4 * distinct, operations=None)
    # The model, and a checkpoint: weights and Adam's two moments, and its successor while that is written.
    size = 4 * distinct + 4.0 * weights.trained * (1 + 2 * 3)
    runtime = settings["runtime"]
    assert isinstance(runtime, Runtime)
    twice = bool(runtime.recompute) + bool(runtime.chunk or runtime.chunk_tokens)  # each, and both are thrice
    again = weights.forward * twice
    operations = {"train": (weights.training + again) * tokens}
    if settings["dev"] is not None:
        operations["embed"] = weights.forward * _looked_at(plan, step, asked, length)
    return Work(rows, tokens, size, 1 + _tokenizing(distinct), operations, weights.width)


def _looked_at(plan: Plan, step: Step, asked: float, length: int) -> float:
    """Tokens read at all looks at `dev`: before the first step, every so many steps, and after the last."""
    schedule, dev = step.settings["schedule"], step.settings["dev"]
    searched = plan.texts(dev, "passages")
    queries = min(schedule.dev_queries, plan.texts(dev, "examples").rows)
    each = queries * asked + min(schedule.dev_passages, searched.rows) * searched.mean(length)
    return (1 + -(-schedule.steps // schedule.dev_steps)) * each


def _generate(plan: Plan, step: Step) -> Work:
    settings = step.settings
    rows = drawn(plan, settings)
    weights = plan.weights(settings["model"])
    shown = rows * (_words(plan, settings) + 20)
    written = rows * int(settings["tokens"])
    operations = None
    if weights:
        telling = weights.forward + 2.0 * weights.lookup
        operations = {"read": weights.forward * shown, "write": telling * written}
    left = _in_parts(step, "drafts", rows)
    return Work(rows, (shown + written) * left, rows * KEPT * 180, 0, _scaled(operations, left), _width(weights))


def _synthesize(plan: Plan, step: Step) -> Work:
    settings = step.settings
    weights = plan.weights(settings["model"])
    lists, rows = len(settings["groups"]) * int(settings["tasks"]) / 10, int(settings["limit"])
    document = 1.35 * sum(count for count in WORDS if count <= settings["words"]) / len(WORDS)
    written = lists * min(LIST, settings["tokens"]) + rows * min(2 * document + QUERY, settings["tokens"])
    shown = (lists + rows) * 2 * TASK
    operations = None
    if weights:
        telling = weights.forward + 2.0 * weights.lookup
        operations = {"read": weights.forward * shown, "write": telling * written}
    left = _in_parts(step, "drafts", rows)
    size = 2 * rows * USABLE * BYTES_A_TOKEN * 2 * document
    return Work(rows, (shown + written) * left, size, 0, _scaled(operations, left), _width(weights))


def _words(plan: Plan, settings: Mapping[str, Any]) -> float:
    """Tokens that a language model is shown of a passage."""
    return min(plan.texts(settings["passages"], "passages").tokens, 1.35 * int(settings["words"]))


def _embed(plan: Plan, step: Step) -> Work:
    settings = step.settings
    table = "passages" if settings["passages"] is not None else "queries"
    texts = plan.texts(settings[table], table)
    weights = plan.weights(settings["model"])
    if table == "queries" and weights:
        texts = Texts(texts.rows, texts.tokens + weights.task)
    tokens = texts.cut(weights.length if weights else 1 << 30)
    left = _in_parts(step, "vectors", texts.rows)
    if weights is None:
        return Work(texts.rows, tokens * left, operations=None)
    tokens *= left
    size = 2.0 * texts.rows * weights.width * left
    return Work(texts.rows, tokens, size, _tokenizing(tokens), {"embed": weights.forward * tokens}, weights.width)


def _mine(plan: Plan, step: Step) -> Work:
    asked = plan.texts(step.settings["queries"], "queries")
    searched = plan.texts(step.settings["passages"], "passages").rows
    depth = min(int(step.settings["depth"]), searched)
    widths = [plan.width(folder) for folder in step.settings["passage_vectors"]]
    known = [width for width in widths if width]
    operations = {"search": 2.0 * asked.rows * searched * sum(known)} if len(known) == len(widths) else None
    return Work(asked.rows, 0, asked.rows * (180 + 12.0 * depth), 1, operations)


def _judge(plan: Plan, step: Step) -> Work:
    settings = step.settings
    asked = plan.texts(settings["candidates"], "queries")
    depth = plan.depth(settings["candidates"])
    judged = depth if settings["depth"] is None else min(depth, int(settings["depth"]))
    weights = plan.weights(settings["model"])
    left = _in_parts(step, "judgements", asked.rows)
    pairs = asked.rows * judged * left
    tokens = 2 * pairs * (_words(plan, settings) + QUERY + 8)  # asked twice; of the disputed alone, it is less
    size = asked.rows * (180 + 20.0 * depth)
    if weights is None:
        return Work(asked.rows, tokens, size, operations=None)
    telling = 2.0 * weights.lookup * pairs * (QUERY + 1)
    return Work(asked.rows, tokens, size, 0, {"read": weights.forward * tokens + telling}, weights.width)


def _label(plan: Plan, step: Step) -> Work:
    rows = plan.texts(step.settings["candidates"], "queries").rows
    return Work(rows, 0, rows * (200 + 12.0 * int(step.settings["negatives"])), 1 + rows / 50_000)


def _health(plan: Plan, step: Step) -> Work:
    rows = plan.texts(step.settings["examples"], "examples").rows
    return Work(rows, 0, 1e6, 2 + rows / 10_000)


def _average(plan: Plan, step: Step) -> Work:
    models = step.settings["models"]
    weights = plan.weights(models[0])
    if weights is None:
        return Work(0, operations=None)
    # Adapters of all are put side by side; whole weights are averaged.
    size = 4.0 * weights.trained * (len(models) if weights.frozen else 1)
    return Work(0, 0, size, len(models) * weights.trained / WEIGHTS_A_SECOND)


def _export(plan: Plan, step: Step) -> Work:
    weights = plan.weights(step.settings["model"])
    if weights is None:
        return Work(0, operations=None)
    return Work(0, 0, 9.0 * weights.parameters, EXPORT)  # fp32 twice, int8 once


def _evaluate(plan: Plan, step: Step) -> Work:
    settings = step.settings
    models = settings["models"]
    assert isinstance(models, dict)
    searched = [plan.texts(folder, "passages") for folder in recipe.paths(settings["passages"])]
    asked = sum(plan.texts(folder, "examples").rows for folder in recipe.paths(settings["examples"]))
    weights = [plan.weights(model) for model in models.values()]
    left = _left(step, "results", len(models) + int(bool(settings["lexical"])))
    tokens = [
        sum(texts.cut(held.length if held else 1 << 30) for texts in searched) + (asked * held.asked() if held else 0.0)
        for held in weights
    ]
    size = asked * 4.0 * 60 * (len(models) + 1)
    seconds = 2.0 + len(models) * (LATENCY if settings["latency"] else 0.0)
    known = [held.forward * read for held, read in zip(weights, tokens, strict=True) if held]
    operations = {"embed": sum(known)} if len(known) == len(weights) else None
    seconds += _tokenizing(sum(tokens))
    return Work(asked, sum(tokens) * left, size, seconds * left, _scaled(operations, left), max(map(_width, weights)))


def _report(plan: Plan, step: Step) -> Work:
    return Work(0, 0, 1e6, 3)


VERBS: dict[str, Callable[[Plan, Step], Work]] = {
    "ingest": _ingest,
    "train": _train,
    "average": _average,
    "synthesize": _synthesize,
    "generate": _generate,
    "embed": _embed,
    "mine": _mine,
    "judge": _judge,
    "label": _label,
    "health": _health,
    "export": _export,
    "evaluate": _evaluate,
    "report": _report,
}
