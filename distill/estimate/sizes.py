"""How many rows and tokens there will be, and how large models are, before anything is made."""

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from distill import artifact, readers, recipe, tables
from distill.errors import Refused


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


PASSAGE, QUERY, TASK = 75.0, 15.0, 25.0
"""Tokens of a text that is not there yet, and of the instruction before a query."""

CUT = 0.85
"""Of a model's length, what texts fill that are longer than it on average: some are short."""

BYTES_A_TOKEN = 5.0
BYTES_A_TEXT, BYTES_A_LINE = 400, 20
"""Of a file of texts, a row; of a file of judgements."""
FILLED = 0.75
"""Of the length that passages may have, where a folder's texts are cut: 0.71 to 0.77 of 200, 400 and 1000 characters,
measured on this project's documentation. Files shorter than that are a passage each."""

DOCS = {"train": 6100, "test": 1200}
"""Passages that Python's documentation and four packages hold; measured with their versions of 2026-11."""
ASKED = 0.65
"""Of those, the share that has a query."""

KEPT = 0.85
"""Of the queries that a small language model writes, the share that the rules keep."""
USABLE = 0.5
"""Of the records that a language model makes up; measured with the smallest there is."""
IMPORT = 5.0
"""Seconds, once a process, until the libraries are there."""
START = 1.5
"""Seconds until a model of no size works."""
WEIGHTS_A_SECOND = 3e8
"""Parameters read from disk."""
UNPACK_BYTES_A_SECOND = 5e7
"""Of weights that a package carries, when they are unpacked for the first time."""


class Unknown(Exception):
    """How many rows there will be cannot be told."""


@dataclass(frozen=True)
class Texts:
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
class Weights:
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


class Plan:
    """The steps of an experiment, those that are not made yet among them."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = {step.out: step for step in steps.values()}
        self._seen: set[str] = set()

    def texts(self, folder: Path, table: str) -> Texts:
        """Rows and tokens of a table, finished or planned.

        Raises:
            Unknown: It is neither.
        """
        if artifact.is_done(folder):
            return _measured(folder, table)
        if folder not in self._steps:
            raise Unknown
        step = self._steps[folder]
        if step.verb == "ingest":
            return ingested(self, step.settings, table)
        if step.verb == "synthesize":
            return Texts(round(int(step.settings["limit"]) * USABLE), PASSAGE)
        if step.verb == "generate":
            return Texts(round(drawn(self, step.settings) * KEPT), QUERY)
        source = {"mine": "queries", "judge": "candidates", "label": "candidates"}.get(step.verb)
        if source is None:
            raise Unknown
        return self.texts(step.settings[source], "queries")

    def depth(self, folder: Path) -> int:
        """Candidates of each query."""
        if folder not in self._steps:
            return 20
        step = self._steps[folder]
        return self.depth(step.settings["candidates"]) if step.verb == "judge" else int(step.settings["depth"])

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

    def weights(self, model: object) -> Weights | None:
        """A model's size, followed through the steps that train it; None if it cannot be told."""
        if isinstance(model, Path):
            if model in self._steps:
                made = self._steps[model]
                return self.weights(
                    made.settings["models"][0] if made.verb == "average" else made.settings.get("model")
                )
            return _stored(model)
        if isinstance(model, functools.partial):
            given = {
                name: parameter.default
                for name, parameter in inspect.signature(model.func).parameters.items()
                if parameter.default is not inspect.Parameter.empty
            } | model.keywords
            if isinstance(folder := given.get("folder"), Path):
                return self.weights(folder)
            if isinstance(start := given.get("model"), Path):  # what it is made smaller from
                return _smaller(given, self.weights(start))
            return described(given)
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


def _measured(folder: Path, table: str) -> Texts:
    counts = tables.describe(folder)
    held = next((name for name in (table, "judgements", "candidates", "examples") if name in counts), None)
    if held is None:
        raise Unknown
    if held != "passages":
        return Texts(counts[held], QUERY)
    size = sum(int(str(note["bytes"])) for note in tables.notes(folder / held))
    return Texts(counts[held], size / max(counts[held], 1) / BYTES_A_TOKEN)


def ingested(plan: Plan, settings: Mapping[str, Any], table: str) -> Texts:
    """Rows and tokens of a table that `ingest` has not made yet."""
    rows = tokens = 0.0
    for source in settings["sources"]:
        given, each = _given(plan, source)
        amount = given.get(table, 0.0)
        rows, tokens = rows + amount, tokens + amount * (each if table == "passages" else QUERY)
    return Texts(round(rows), tokens / max(rows, 1))


def _given(plan: Plan, source: readers.Reader) -> tuple[dict[str, float], float]:
    """Rows of each table that a source will give, and tokens of its texts."""
    limit = math.inf if source.limit is None else source.limit
    if isinstance(source, readers.PythonDocs):
        passages = min(limit, DOCS[source.split])
        asked = passages * ASKED
        return {"passages": passages, "queries": asked, "examples": asked + 0.8 * passages}, PASSAGE
    if isinstance(source, readers.Synthetic):
        records = min(limit, plan.texts(source.path, "records").rows)
        return {"passages": 2 * records, "queries": records, "examples": records}, PASSAGE
    each = BYTES_A_TEXT / BYTES_A_TOKEN
    if isinstance(source, readers.BEIR):
        queries, passages = _rows(source.path, "queries", 100), _rows(source.path, "corpus")
        asked = min(limit, queries)
        if source.only_judged:
            passages = min(passages, _rows(source.path, "qrels", BYTES_A_LINE) * asked / max(1.0, queries))
        return {"passages": passages, "queries": asked, "examples": asked}, each
    if isinstance(source, readers.TextFolder):
        size = FILLED * source.length
        return {"passages": min(limit, _rows(source.path, each=size))}, size / BYTES_A_TOKEN
    rows = min(limit, sum(_rows(path) for path in recipe.paths(source)) or math.inf)
    if rows == math.inf:
        raise Unknown
    kind = getattr(source, "kind", "passages")
    if kind in ("classification", "clustering") and getattr(source, "benchmark", False):
        return {"examples": rows}, each  # no passages: nothing is to find them
    given = {"passages": 2 * rows if kind == "sts" else rows}
    if kind != "passages":
        given["examples"] = rows
    if kind == "retrieval":
        given["queries"] = rows
    return given, each


def _rows(path: Path, part: str = "", each: float = BYTES_A_TEXT) -> float:
    """Rows of a file, or of a folder's files whose paths in it begin so: told by Parquet, reckoned from bytes."""
    inside = [file for file in path.rglob("*") if str(file.relative_to(path)).startswith(part)]
    files = [path] if path.is_file() else [file for file in inside if file.is_file()]
    found = 0.0
    for file in files:
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            found += pq.read_metadata(file).num_rows
        else:
            found += max(1.0, file.stat().st_size / each)
    return found


def described(given: Mapping[str, Any]) -> Weights | None:
    """A model from the arguments that its class takes: base, revision, layers, width, rank, latents, heads, length.

    Tokens that a student's `vocabulary` will take out are not known before its texts are read.
    """
    from distill import hub

    base = given.get("base")
    if not isinstance(base, str):
        return None
    try:
        size = hub.size(base, given.get("revision"))
    except (Refused, OSError, ValueError):
        return None
    computing = size.parameters - size.embedding_parameters
    if layers := given.get("layers"):
        computing = round(computing * (layers if isinstance(layers, int) else len(layers)) / size.layers)
    width, rank = int(given.get("width") or size.width), int(given.get("rank") or 0)
    lookup = round(size.embedding_parameters * width / size.width)
    computing = 0 if "smoothing" in given else round(computing * (width / size.width) ** 2)  # a table computes nothing
    frozen = bool(rank) and given.get("trained") != "all"
    block, pooling = _pooling(given, width)
    # The sides of the seven matrices of a block add up to 20 widths.
    learning = 20 * width * rank * size.layers + pooling
    parameters = lookup + computing
    return Weights(
        base=base,
        parameters=parameters,
        computing=computing,
        lookup=lookup,
        block=block,
        trained=learning if frozen else parameters + pooling,
        width=width,
        length=int(given.get("length") or 1 << 30),
        frozen=frozen,
        task=0.0 if "query_prompt" in given else TASK,
    )


def _smaller(given: Mapping[str, Any], whole: Weights | None) -> Weights | None:
    """A model made of one that was trained, which it is at most as large as; as it is where its class cuts nothing."""
    if whole is None or "base" not in given:
        return whole
    made = described({**given, "base": whole.base})
    if made is None:
        return None
    computing, lookup = min(made.computing, whole.computing), min(made.lookup, whole.lookup)
    width, parameters = min(made.width, whole.width), computing + lookup
    return replace(made, computing=computing, lookup=lookup, width=width, parameters=parameters, trained=parameters)


def _pooling(given: Mapping[str, Any], width: int) -> tuple[int, int]:
    """Parameters of a pooling block that each token meets, and all of them."""
    latents, heads = int(given.get("latents") or 0), int(given.get("heads") or 0)
    gated = 12 * width**2  # of four widths
    each, every = {
        # Queries and outputs of each head; keys and values meet the latents alone.
        "latent_attention": (heads * (2 * width**2 + 2 * latents * width), heads * 4 * width**2 + latents * width),
        "folded_latent_attention": (2 * heads * latents * width, 2 * heads * latents * width),
        "self_attention": (heads * 4 * width**2, heads * 4 * width**2),
        "multi_layer": (1, 4 * width**2 + latents * width),  # it meets a few vectors of a text, not its tokens
    }.get(given.get("pooling", "latent_attention" if latents else "mean"), (0, 0))
    return (each + gated * (each > 1), every + gated) if each else (0, 0)


def _stored(folder: Path) -> Weights | None:
    """The model of an artifact outside the experiment, as its recipe tells."""
    if not artifact.is_artifact(folder):
        return None
    settings = artifact.read_json(folder / "recipe.json").get("settings")
    model = settings.get("model") if isinstance(settings, dict) else None
    given = model.get("init_args") if isinstance(model, dict) else None
    return described(given) if isinstance(given, dict) else described({"base": str(folder / "model")})


def drawn(plan: Plan, settings: Mapping[str, Any]) -> int:
    """How many passages `generate` draws."""
    return min(int(settings["limit"]), plan.texts(settings["passages"], "passages").rows)
