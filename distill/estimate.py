"""What steps would cost before they run: rows, tokens, time, disk. Arithmetic in plain view, never a promise.

A forward pass costs 2 operations a parameter and token, lookup tables left out; training costs 6, or 4
where the base is frozen and only adapters learn: the gradient passes through it (2) and none is kept (2);
activations that are computed twice cost 2 more.
Time is operations over what the machine reaches: its peak times a share that was measured.
"""

import dataclasses
import functools
import inspect
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from distill import artifact, readers, recipe, tables
from distill.console import duration
from distill.errors import Refused
from distill.objective import Objective, Schedule
from distill.runtime import Runtime, best_device, computes_bf16, cores

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Step(Protocol):
    """A step of an experiment, as far as its cost goes."""

    @property
    def name(self) -> str:
        """Its folder's name."""

    @property
    def verb(self) -> str:
        """Its stage."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Parsed: paths lead to folders, classes are `functools.partial`."""

    @property
    def out(self) -> Path:
        """The artifact's folder."""


@dataclass(frozen=True)
class Cost:
    """What a step would cost; None where it cannot be told."""

    rows: int | None
    tokens: int | None
    seconds: float | None
    bytes: int
    """On disk at the fullest: checkpoints and token ids, which go or may go when the step is done, included."""
    machine: str = ""
    """Where the time is reckoned for; empty where no model runs."""


@dataclass(frozen=True)
class Share:
    """Of a machine's peak, what one kind of work reaches."""

    cpu: float
    gpu: float


SHARES = {
    "train": Share(0.42, 0.40),
    "embed": Share(0.50, 0.40),
    "read": Share(0.32, 0.40),
    "write": Share(0.18, 0.01),
    "search": Share(0.38, 0.0),  # on the processor alone
}
"""Kinds of work: training; embedding; a language model's reading of prompts; its writing, token by token, which
waits for memory; products of vectors in fp32. Padding and all else that is no use included. CPU: Gemma-3-270M and
MiniLM on 2 cores with bf16, 2026-11-22. GPU: assumed, not measured."""

FILLING = 4096
"""Width of a model that fills a GPU; a narrower one reaches a share in proportion (assumed)."""

PARTED = ("embed", "generate", "judge")
"""Verbs whose parts an engine deals to workers; beside them only `train` runs on several devices."""

GPUS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
}
"""Dense bf16 operations a second, from data sheets, by a word of the device's name; the first that is there counts."""

ASSUMED = "H100"
"""The GPU of a plan that asks for more devices than this machine has."""

PASSAGE, QUERY, TASK = 75.0, 15.0, 25.0
"""Tokens of a text that is not there yet, and of the instruction before a query."""

CUT = 0.85
"""Of a model's length, what texts fill that are longer than it on average: some are short."""

BYTES_A_TOKEN = 5.0
BYTES_A_TEXT = 400
"""Of a file of texts, a row."""

DOCS = {"train": 6100, "test": 1200}
"""Passages that Python's documentation and four packages hold; measured with their versions of 2026-11."""
ASKED = 0.65
"""Of those, the share that has a query."""

KEPT = 0.85
"""Of the queries that a small language model writes, the share that the rules keep."""

IMPORT = 5.0
"""Seconds, once a process, until the libraries are there."""
START = 1.5
"""Seconds until a model of no size works."""
WEIGHTS_A_SECOND = 3e8
"""Parameters read from disk."""
UNPACK_BYTES_A_SECOND = 5e7
"""Of weights that a package carries, when they are unpacked for the first time."""
LATENCY = 10.0
"""Seconds at most for one model's latency on one core."""
EXPORT = 45.0
"""Seconds: tracing takes most of them, whatever the model's size."""
TEXTS_A_SECOND = 5000.0
"""Read and checked by `ingest`."""
TOKENS_A_SECOND = 3e5
"""Made of text, by one core."""
PARSING = 8.0
"""Seconds, once a process, for all of Python's documentation."""


class _Unknown(Exception):
    """How many rows there will be cannot be told."""


@dataclass(frozen=True)
class _Texts:
    """Rows of a table and their mean tokens."""

    rows: int
    tokens: float

    def mean(self, length: int) -> float:
        """Tokens of a text, cut to a model's length."""
        return min(self.tokens, CUT * length)

    def cut(self, length: int) -> float:
        """Tokens of all, each text cut to a model's length."""
        return self.rows * self.mean(length)


@dataclass(frozen=True)
class _Weights:
    """A model as its arguments describe it."""

    base: str
    parameters: int
    computing: int
    """Parameters of the base that every token meets."""
    lookup: int
    """Parameters of the table of tokens; as many multiply a state where the next token is told."""
    block: int
    """Parameters of a pooling block that every token meets."""
    trained: int
    width: int
    length: int
    frozen: bool
    """Only adapters and the pooling block learn."""
    task: float
    """Tokens of the instruction that it reads before a query; none if its prompt is fixed."""

    def asked(self) -> float:
        """Tokens of a query."""
        return min(QUERY + self.task, self.length)

    @property
    def forward(self) -> float:
        """Operations a token."""
        return 2.0 * (self.computing + self.block)

    @property
    def training(self) -> float:
        """Operations a token."""
        return (4.0 if self.frozen else 6.0) * self.computing + 6.0 * self.block

    @property
    def load(self) -> float:
        """Seconds until it works."""
        return START + self.parameters / WEIGHTS_A_SECOND


@dataclass(frozen=True)
class _Work:
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


@dataclass(frozen=True)
class Machine:
    """What computes."""

    name: str
    peak: float
    """Operations a second of one device."""
    gpu: bool
    devices: int = 1
    """How many share the work."""


@functools.lru_cache(maxsize=1)
def _processor() -> Machine:
    """The CPU of this machine, measured once a process."""
    import torch

    where = torch.device("cpu")
    peak = _product(where, 1536)
    return Machine(f"{cores()} cores measured at {peak / 1e9:.0f} GFLOP/s {_kind(where)}", peak, False)


@functools.lru_cache(maxsize=1)
def _here() -> Machine:
    """What models run on here: one GPU, by its data sheet or measured once a process, or the CPU."""
    import torch

    where = best_device()
    if where.type != "cuda":
        return _processor()
    name = torch.cuda.get_device_name(where)
    known = next((peak for word, peak in GPUS.items() if re.search(rf"\b{word}\b", name)), None)
    if known and _kind(where) == "bf16":
        return Machine(f"{name}, {known / 1e12:.0f} TFLOP/s bf16 by its data sheet", known, True)
    peak = _product(where, 8192)
    return Machine(f"{name} measured at {peak / 1e12:.1f} TFLOP/s {_kind(where)}", peak, True)


def _kind(where: "torch.device") -> str:
    return "bf16" if computes_bf16(where) else "fp32"


def _product(where: "torch.device", side: int) -> float:
    """Operations a second of the best of a few products of square matrices, within 0.4 s."""
    import torch

    dtype = torch.bfloat16 if computes_bf16(where) else torch.float32
    one, other = (torch.ones(side, side, dtype=dtype, device=where) for _ in range(2))
    best, end = math.inf, time.perf_counter() + 0.4
    while time.perf_counter() < end or best == math.inf:
        began, worked = time.perf_counter(), time.process_time()
        float((one @ other)[0, 0])  # reading a number waits for the device
        passed, worked = time.perf_counter() - began, time.process_time() - worked
        # Work of the processor's own threads, so that a busy machine is not taken for a slow one.
        best = min(best, passed if where.type == "cuda" else worked / torch.get_num_threads())
    return 2 * side**3 / best


def _machine(step: Step) -> Machine:
    """Where a step runs: here, or on assumed GPUs if it asks for more devices than are here."""
    import torch

    if step.verb == "mine":
        return _processor()
    runtime = step.settings.get("runtime")
    runtime = runtime if isinstance(runtime, Runtime) else Runtime()
    wanted = runtime.devices * runtime.nodes
    is_shared = step.verb == "train" or (runtime.engine == "ray" and step.verb in PARTED)
    shared = wanted if is_shared else 1
    if wanted <= max(1, torch.cuda.device_count()):
        return dataclasses.replace(_here(), devices=shared)
    name = f"{wanted} x {ASSUMED}, assumed to reach {SHARES['train'].gpu:.0%} of {GPUS[ASSUMED] / 1e12:.0f} TFLOP/s"
    return Machine(name, GPUS[ASSUMED], True, shared)


class _Plan:
    """The steps of an experiment, those that are not made yet among them."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = {step.out: step for step in steps.values()}
        self._seen: set[str] = set()

    def texts(self, folder: Path, table: str) -> _Texts:
        """Rows and tokens of a table, finished or planned.

        Raises:
            _Unknown: It is neither.
        """
        if artifact.is_done(folder):
            return _measured(folder, table)
        if folder not in self._steps:
            raise _Unknown
        step = self._steps[folder]
        if step.verb == "ingest":
            return _ingested(step.settings, table)
        if step.verb == "generate":
            return _Texts(round(_drawn(self, step.settings) * KEPT), QUERY)
        source = {"mine": "queries", "judge": "candidates", "label": "candidates"}.get(step.verb)
        if source is None:
            raise _Unknown
        return self.texts(step.settings[source], "queries")

    def depth(self, folder: Path) -> int:
        """Candidates of each query."""
        if folder in self._steps:
            settings = self._steps[folder].settings
            return int(settings["depth"]) if "depth" in settings else 20
        return 20

    def width(self, folder: Path) -> int | None:
        """Of the vectors of an artifact."""
        if artifact.is_done(folder):
            return int(str(artifact.read_json(folder / "done.json").get("dim", 0))) or None
        weights = self.weights(self._steps[folder].settings["model"]) if folder in self._steps else None
        return weights.width if weights else None

    def negatives(self, folder: Path) -> int:
        """The most negatives that a row of an artifact's examples has."""
        settings = self._steps[folder].settings if folder in self._steps else {}
        return int(settings.get("negatives", 7))

    def weights(self, model: object) -> _Weights | None:
        """A model's size, followed through the steps that train it; None if it cannot be told."""
        if isinstance(model, Path):
            if model in self._steps:
                return self.weights(self._steps[model].settings.get("model"))
            return _stored(model)
        if isinstance(model, functools.partial):
            given = {
                name: parameter.default
                for name, parameter in inspect.signature(model.func).parameters.items()
                if parameter.default is not inspect.Parameter.empty
            } | model.keywords
            folder = given.get("folder")
            return self.weights(folder) if isinstance(folder, Path) else _described(given)
        return None

    def first(self, what: str) -> bool:
        """Whether this is asked for the first time: what is done once a process is counted once."""
        new = what not in self._seen
        self._seen.add(what)
        return new

    def begin(self, models: Sequence[object]) -> tuple[float, float]:
        """Seconds and bytes until models work: libraries imported, packaged weights unpacked, weights read."""
        held = [weights for weights in map(self.weights, models) if weights]
        seconds = IMPORT if held and self.first("libraries") else 0.0
        size = 0.0
        for weights in held:
            seconds += weights.load
            if weights.base.startswith("package:") and not _is_unpacked(weights.base) and self.first(weights.base):
                size += 2.0 * weights.parameters
                seconds += 2.0 * weights.parameters / UNPACK_BYTES_A_SECOND
        return seconds, size


def _is_unpacked(base: str) -> bool:
    from distill import unpack

    return (unpack.cache() / base.removeprefix("package:")).is_dir()


def _measured(folder: Path, table: str) -> _Texts:
    counts = tables.describe(folder)
    held = next((name for name in (table, "judgements", "candidates", "examples") if name in counts), None)
    if held is None:
        raise _Unknown
    if held != "passages":
        return _Texts(counts[held], QUERY)
    size = sum(int(str(note["bytes"])) for note in tables.notes(folder / held))
    return _Texts(counts[held], size / max(counts[held], 1) / BYTES_A_TOKEN)


def _ingested(settings: Mapping[str, Any], table: str) -> _Texts:
    rows = tokens = 0.0
    for source in settings["sources"]:
        given, each = _given(source)
        amount = given.get(table, 0.0)
        rows, tokens = rows + amount, tokens + amount * (each if table == "passages" else QUERY)
    return _Texts(round(rows), tokens / max(rows, 1))


def _given(source: readers.Reader) -> tuple[dict[str, float], float]:
    """Rows of each table that a source will give, and tokens of its texts."""
    limit = math.inf if source.limit is None else source.limit
    if isinstance(source, readers.PythonDocs):
        passages = min(limit, DOCS[source.split])
        asked = passages * ASKED
        return {"passages": passages, "queries": asked, "examples": asked + 0.8 * passages}, PASSAGE
    each = BYTES_A_TEXT / BYTES_A_TOKEN
    if isinstance(source, readers.BEIR):
        asked = min(limit, _rows(source.path, "queries", 100))
        return {"passages": _rows(source.path, "corpus"), "queries": asked, "examples": asked}, each
    rows = min(limit, sum(_rows(path) for path in recipe.paths(source)) or math.inf)
    if rows == math.inf:
        raise _Unknown
    kind = getattr(source, "kind", "passages")
    given = {"passages": 2 * rows if kind == "sts" else rows}
    if kind != "passages":
        given["examples"] = rows
    if kind == "retrieval":
        given["queries"] = rows
    return given, each


def _rows(path: Path, part: str = "", each: int = BYTES_A_TEXT) -> float:
    """Rows of a file, or of a folder's files whose names begin so: told by Parquet, reckoned from bytes."""
    files = [path] if path.is_file() else [file for file in path.rglob(f"{part}*") if file.is_file()]
    found = 0.0
    for file in files:
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            found += pq.read_metadata(file).num_rows
        else:
            found += max(1.0, file.stat().st_size / each)
    return found


def _described(given: Mapping[str, Any]) -> _Weights | None:
    """A model from the arguments that its class takes: base, revision, layers, rank, latents, heads, length."""
    from distill import hub

    base = given.get("base")
    if not isinstance(base, str):
        return None
    try:
        size = hub.size(base, given.get("revision"))
    except (Refused, OSError, ValueError):
        return None
    computing = size.parameters - size.embedding_parameters
    if given.get("layers"):
        computing = round(computing * len(given["layers"]) / size.layers)
    width, rank = size.width, int(given.get("rank") or 0)
    is_block = bool(rank) and given.get("pooling") != "mean"
    latents, heads = int(given.get("latents") or 0), int(given.get("heads") or 0)
    # Queries and outputs of each head and a gated layer of four widths; keys and values meet the latents alone.
    block = heads * (2 * width**2 + 2 * latents * width) + 12 * width**2 if is_block else 0
    adapters = 20 * width * rank * size.layers  # the sides of the seven matrices of a block add up to 20 widths
    learning = adapters + (heads * 4 * width**2 + 12 * width**2 + latents * width if is_block else 0)
    parameters = size.embedding_parameters + computing
    return _Weights(
        base=base,
        parameters=parameters,
        computing=computing,
        lookup=size.embedding_parameters,
        block=block,
        trained=learning if rank else parameters,
        width=width,
        length=int(given.get("length") or 1 << 30),
        frozen=bool(rank),
        task=0.0 if "query_prompt" in given else TASK,
    )


def _stored(folder: Path) -> _Weights | None:
    """The model of an artifact outside the experiment, as its recipe tells."""
    if not artifact.is_artifact(folder):
        return None
    settings = artifact.read_json(folder / "recipe.json").get("settings")
    model = settings.get("model") if isinstance(settings, dict) else None
    given = model.get("init_args") if isinstance(model, dict) else None
    return _described(given) if isinstance(given, dict) else _described({"base": str(folder / "model")})


def _left(step: Step, table: str, parts: int) -> float:
    """The share of a step's parts that is not committed yet."""
    return len(tables.missing(step.out / table, parts)) / max(parts, 1)


def _in_parts(step: Step, table: str, rows: int) -> float:
    return _left(step, table, -(-rows // int(step.settings["part_rows"])))


def _scaled(operations: Mapping[str, float] | None, by: float) -> dict[str, float] | None:
    return None if operations is None else {kind: amount * by for kind, amount in operations.items()}


def _tokenizing(tokens: float) -> float:
    return tokens / (TOKENS_A_SECOND * cores())


def _width(weights: _Weights | None) -> int:
    return weights.width if weights else FILLING


def _drawn(plan: _Plan, settings: Mapping[str, Any]) -> int:
    return min(int(settings["limit"]), plan.texts(settings["passages"], "passages").rows)


def _ingest(plan: _Plan, step: Step) -> _Work:
    rows = {table: _ingested(step.settings, table) for table in ("passages", "queries", "examples")}
    size = rows["passages"].rows * (rows["passages"].tokens * BYTES_A_TOKEN + 60)
    size += rows["queries"].rows * 180 + rows["examples"].rows * 280
    documented = any(isinstance(source, readers.PythonDocs) for source in step.settings["sources"])
    seconds = rows["passages"].rows / TEXTS_A_SECOND + (PARSING if documented and plan.first("documentation") else 0)
    return _Work(rows["passages"].rows, rows["passages"].cut(1 << 30), size, seconds)


def _train(plan: _Plan, step: Step) -> _Work:
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
        return _Work(rows, tokens, 4 * distinct, operations=None)
    # The model, and a checkpoint: weights and Adam's two moments, and its successor while that is written.
    size = 4 * distinct + 4.0 * weights.trained * (1 + 2 * 3)
    runtime = settings["runtime"]
    again = weights.forward if isinstance(runtime, Runtime) and runtime.recompute else 0.0
    operations = {"train": (weights.training + again) * tokens}
    return _Work(rows, tokens, size, 1 + _tokenizing(distinct), operations, weights.width)


def _generate(plan: _Plan, step: Step) -> _Work:
    settings = step.settings
    rows = _drawn(plan, settings)
    weights = plan.weights(settings["model"])
    shown = rows * (_words(plan, settings) + 20)
    written = rows * int(settings["tokens"])
    operations = None
    if weights:
        telling = weights.forward + 2.0 * weights.lookup
        operations = {"read": weights.forward * shown, "write": telling * written}
    left = _in_parts(step, "queries", rows)
    return _Work(rows, (shown + written) * left, rows * KEPT * 180, 0, _scaled(operations, left), _width(weights))


def _words(plan: _Plan, settings: Mapping[str, Any]) -> float:
    """Tokens that a language model is shown of a passage."""
    return min(plan.texts(settings["passages"], "passages").tokens, 1.35 * int(settings["words"]))


def _embed(plan: _Plan, step: Step) -> _Work:
    settings = step.settings
    table = "passages" if settings["passages"] is not None else "queries"
    texts = plan.texts(settings[table], table)
    weights = plan.weights(settings["model"])
    if table == "queries" and weights:
        texts = _Texts(texts.rows, texts.tokens + weights.task)
    tokens = texts.cut(weights.length if weights else 1 << 30)
    left = _in_parts(step, "vectors", texts.rows)
    if weights is None:
        return _Work(texts.rows, tokens * left, operations=None)
    tokens *= left
    size = 2.0 * texts.rows * weights.width * left
    return _Work(texts.rows, tokens, size, _tokenizing(tokens), {"embed": weights.forward * tokens}, weights.width)


def _mine(plan: _Plan, step: Step) -> _Work:
    asked = plan.texts(step.settings["queries"], "queries")
    searched = plan.texts(step.settings["passages"], "passages").rows
    depth = min(int(step.settings["depth"]), searched)
    width = plan.width(step.settings["passage_vectors"])
    operations = {"search": 2.0 * asked.rows * searched * width} if width else None
    return _Work(asked.rows, 0, asked.rows * (180 + 12.0 * depth), 1, operations)


def _judge(plan: _Plan, step: Step) -> _Work:
    settings = step.settings
    asked = plan.texts(settings["candidates"], "queries")
    depth = plan.depth(settings["candidates"])
    judged = depth if settings["depth"] is None else min(depth, int(settings["depth"]))
    weights = plan.weights(settings["model"])
    left = _in_parts(step, "judgements", asked.rows)
    pairs = asked.rows * judged * left
    tokens = 2 * pairs * (_words(plan, settings) + QUERY + 8)  # asked twice
    size = asked.rows * (180 + 20.0 * depth)
    if weights is None:
        return _Work(asked.rows, tokens, size, operations=None)
    telling = 2.0 * weights.lookup * pairs * (QUERY + 1)
    return _Work(asked.rows, tokens, size, 0, {"read": weights.forward * tokens + telling}, weights.width)


def _label(plan: _Plan, step: Step) -> _Work:
    rows = plan.texts(step.settings["candidates"], "queries").rows
    return _Work(rows, 0, rows * (200 + 12.0 * int(step.settings["negatives"])), 1 + rows / 50_000)


def _export(plan: _Plan, step: Step) -> _Work:
    weights = plan.weights(step.settings["model"])
    if weights is None:
        return _Work(0, operations=None)
    return _Work(0, 0, 9.0 * weights.parameters, EXPORT)  # fp32 twice, int8 once


def _evaluate(plan: _Plan, step: Step) -> _Work:
    settings = step.settings
    models = settings["models"]
    assert isinstance(models, dict)
    texts = plan.texts(settings["passages"], "passages")
    asked = plan.texts(settings["examples"], "examples").rows
    weights = [plan.weights(model) for model in models.values()]
    left = _left(step, "results", len(models) + int(bool(settings["lexical"])))
    tokens = [texts.cut(held.length) + asked * held.asked() if held else texts.cut(1 << 30) for held in weights]
    size = asked * 4.0 * 60 * (len(models) + 1)
    seconds = 2.0 + len(models) * (LATENCY if settings["latency"] else 0.0)
    known = [held.forward * read for held, read in zip(weights, tokens, strict=True) if held]
    operations = {"embed": sum(known)} if len(known) == len(weights) else None
    seconds += _tokenizing(sum(tokens))
    return _Work(asked, sum(tokens) * left, size, seconds * left, _scaled(operations, left), max(map(_width, weights)))


def _report(plan: _Plan, step: Step) -> _Work:
    return _Work(0, 0, 1e6, 3)


VERBS: dict[str, Callable[[_Plan, Step], _Work]] = {
    "ingest": _ingest,
    "train": _train,
    "generate": _generate,
    "embed": _embed,
    "mine": _mine,
    "judge": _judge,
    "label": _label,
    "export": _export,
    "evaluate": _evaluate,
    "report": _report,
}


def costs(steps: Mapping[str, Step], names: Sequence[str]) -> dict[str, Cost]:
    """What the named steps would cost. What cannot be told is None; a plan never fails for it.

    Args:
        steps: All steps of the experiment: what is not made yet is planned from the steps that make it.
        names: Those that have work left.
    """
    plan = _Plan(steps)
    return {name: _cost(plan, steps[name]) for name in names}


def _cost(plan: _Plan, step: Step) -> Cost:
    try:
        work = VERBS[step.verb](plan, step)
    except _Unknown:
        return Cost(None, None, None, 0)
    rows, tokens = work.rows, round(work.tokens)
    seconds, size = plan.begin(_models(step))
    if work.operations is None:
        return Cost(rows, tokens, None, round(work.bytes + size))
    if not work.operations:
        return Cost(rows, tokens, work.seconds + seconds, round(work.bytes + size))
    machine = _machine(step)
    for kind, amount in work.operations.items():
        share = SHARES[kind].gpu * min(1.0, work.width / FILLING) if machine.gpu else SHARES[kind].cpu
        seconds += amount / (machine.peak * share * machine.devices)
    return Cost(rows, tokens, work.seconds + seconds, round(work.bytes + size), machine.name)


def _models(step: Step) -> list[object]:
    several = step.settings.get("models")
    return list(several.values()) if isinstance(several, dict) else [step.settings.get("model")]


def sentence(costs: Mapping[str, Cost]) -> str:
    """The costs of all steps as a sentence."""
    if not costs:
        return "everything is done"
    told = [cost.seconds for cost in costs.values() if cost.seconds is not None]
    untold = [name for name, cost in costs.items() if cost.seconds is None]
    parts = [f"about {_about(sum(told))}, {_size(sum(cost.bytes for cost in costs.values()))} on disk"]
    if machines := list(dict.fromkeys(cost.machine for cost in costs.values() if cost.machine)):
        parts.append("on " + "; ".join(machines))
    if untold:
        parts.append(f"without {', '.join(untold)}, whose rows or model are not known yet")
    return ", ".join(parts)


def _about(seconds: float) -> str:
    return duration(seconds) if seconds < 90 or seconds >= 5400 else f"{math.ceil(seconds / 60)} min"


def _size(count: float) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= 0.1 * unit:
            return f"{count / unit:.1f} {name}"
    return "under 0.1 MB"


def _count(amount: int) -> str:
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if amount >= unit:
            return f"{amount / unit:.1f}{name}"
    return f"{amount:,}"


def shown(cost: Cost) -> tuple[str, str, str, str]:
    """Rows, tokens, time and disk as a plan's table shows them."""
    rows = "?" if cost.rows is None else f"{cost.rows:,}" if cost.rows else ""
    tokens = "?" if cost.tokens is None else _count(cost.tokens) if cost.tokens else ""
    return rows, tokens, "?" if cost.seconds is None else duration(cost.seconds), _size(cost.bytes)


def check_disk(costs: Mapping[str, Cost], folder: Path) -> None:
    """Make sure that the disk holds what the steps would write.

    Raises:
        Refused: It has less room than that.
    """
    wanted = sum(cost.bytes for cost in costs.values())
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise Refused(
            f"{folder}: {_size(free)} free, about {_size(wanted)} needed. "
            "Free some space, or set `output` to another disk."
        )
