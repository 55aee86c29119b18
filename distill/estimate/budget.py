"""What a student may be within a budget: depth, width, tokens and start, with the arithmetic in plain view.

A budget is of megabytes in int8 (the ONNX file), of milliseconds a query on one core (in torch, in fp32, as `evaluate`
measures; ONNX and int8 are faster), or of parameters. Of what fits, the one is proposed that gives up least, in this
order: tokens that a corpus does not need, which costs its texts nothing; layers, down to two; the transformer. Narrower
ones are listed: before training they are worse than a table, and a short one does not mend it (docs/results.md).
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from distill import console, hub, narrow, surgery, vocabulary
from distill.errors import Refused, with_article

FEWEST = 2
"""Layers that are kept before width is given up."""

WIDTHS = 6
"""Narrower widths that are tried, evenly spaced."""

STATIC = (512, 256, 128, 64, 32)
"""Widths of a table without a transformer."""

SCALE, VECTOR = 5, 4
"""Bytes in int8: of a matrix's output, its scale and zero; of a number that stays in fp32, such as a bias."""

GRAPH, GRAPH_LAYER, GRAPH_TABLE = 12_000, 8_800, 2_600
"""Bytes of an ONNX file beside its weights: once, for each layer, and of a table without a transformer. Measured."""

CALL, CALL_LAYER = 0.4e-3, 0.25e-3
"""Seconds of a query beside its products: the text read and the vector pooled, and what each layer calls. Measured."""


@dataclass(frozen=True)
class Budget:
    """What a student may cost; None is no bound."""

    megabytes: float | None = None
    """Of the ONNX file in int8, in 10^6 bytes."""
    milliseconds: float | None = None
    """Of a query on one core."""
    parameters: float | None = None
    """Of all: tables too."""

    def broken(self, student: "Student") -> list[str]:
        """The bounds that a student does not keep."""
        pairs = [
            ("megabytes", self.megabytes, student.bytes / 1e6),
            ("milliseconds", self.milliseconds, 1e3 * student.seconds),
            ("parameters", self.parameters, student.parameters),
        ]
        return [name for name, bound, value in pairs if bound is not None and value > bound]


@dataclass(frozen=True)
class Shape:
    """Numbers in the parts of an encoder, by what they cost."""

    width: int
    positions: int
    """Rows of tables beside that of tokens: positions, types."""
    layer_matrices: int
    """Of one layer: what is multiplied, a byte each in int8."""
    layer_vectors: int
    """Of one layer: biases and norms, which stay in fp32."""
    layer_outputs: int
    """Of one layer: outputs of its matrices."""
    others: int
    """Numbers outside layers and tables."""


@dataclass(frozen=True)
class Student:
    """One that could be."""

    start: str
    """In words."""
    layers: int
    """0 of a table without a transformer."""
    width: int
    tokens: int
    parameters: int
    computing: int
    """Parameters that every token meets."""
    bytes: int
    """Of the ONNX file in int8."""
    seconds: float
    """Of a query on one core."""
    gives_up: tuple[int, ...]
    """The less, in the order of what is given up, the better."""


class Choices:
    """What can be made of one base.

    Args:
        base: As for `students.Encoder`.
        revision: Full commit of a hub name.
        corpus: Artifacts whose texts must be read as before when tokens are taken out; if empty, all stay.
        query: Tokens of a query.

    Raises:
        Refused: Its architecture is one of which students cannot be cut.
    """

    def __init__(self, base: str, revision: str | None = None, corpus: Sequence[Path] = (), query: int = 16) -> None:
        folder = hub.locate(base, revision)
        self._config = hub.config(folder)
        if query > (read := getattr(self._config, "max_position_embeddings", query)):
            raise Refused(f"size: --query {query}; {base} reads {read} tokens. Ask for fewer.")
        self._layers = int(self._config.num_hidden_layers)
        self._query = query
        self._rates: dict[int, float] = {}
        with torch.device("meta"):
            self._model = model = transformers.AutoModel.from_config(self._config)
        if surgery.layers_of(model) is None or model.get_input_embeddings().embedding_dim != self._config.hidden_size:
            raise Refused(
                f"size: {base}: what can be made of {with_article(type(model).__name__)} is not known, for its layers "
                "are not found or its table is not as wide as they. Name another base."
            )
        self._whole = self._tokens = model.get_input_embeddings().num_embeddings
        if corpus:
            tokenizer = hub.tokenizer(folder, model)
            self._tokens = len(vocabulary.prune(tokenizer, vocabulary.texts_of(corpus)).ids)

    def all(self) -> Iterator[Student]:
        """Those worth a look: the base, with fewer tokens, with fewer layers, narrower, a table."""
        yield self.encoder(self._layers, self._config.hidden_size, self._whole)
        for width in [self._config.hidden_size, *self._widths()]:
            shape = shape_of(self._config, width)
            for layers in range(self._layers, 0, -1):
                if (layers, width, self._tokens) != (self._layers, self._config.hidden_size, self._whole):
                    yield self.encoder(layers, width, self._tokens, shape)
        yield from (self.static(width) for width in STATIC if width <= min(self._config.hidden_size, self._tokens - 1))

    def encoder(self, layers: int, width: int, tokens: int, shape: Shape | None = None) -> Student:
        """A student with so many layers, dimensions and tokens."""
        shape = shape or shape_of(self._config, width)
        whole = self._config.hidden_size
        given_up = [
            *(["fewer tokens"] if tokens < self._whole else []),
            *([f"{layers} of {self._layers} layers"] if layers < self._layers else []),
            *([f"{width} of {whole} wide"] if width < whole else []),
        ]
        # Wide and at least two deep is better than narrow, and of two alike the deeper; of narrow ones the larger.
        is_kept = width == whole and layers >= min(FEWEST, self._layers)
        computing = layers * (shape.layer_matrices + shape.layer_vectors) + shape.others
        return Student(
            start=", ".join(given_up) or "as it is",
            layers=layers,
            width=width,
            tokens=tokens,
            parameters=(tokens + shape.positions) * width + computing,
            computing=computing,
            bytes=encoder_bytes(shape, layers, tokens),
            seconds=CALL + layers * CALL_LAYER + self.operations(shape, layers) / self._rate(width),
            gives_up=(0, tokens < self._whole, -layers) if is_kept else (2, -computing, -width),
        )

    def static(self, width: int) -> Student:
        """A table without a transformer."""
        size = self._tokens * width
        start = f"a table {width} wide" + (", fewer tokens" if self._tokens < self._whole else "")
        return Student(start, 0, width, self._tokens, size, 0, size + GRAPH_TABLE, CALL, (1, -width))

    def operations(self, shape: Shape, layers: int) -> float:
        """Of a query: two a parameter and token, and its tokens with one another, twice."""
        return layers * self._query * (2.0 * shape.layer_matrices + 4.0 * self._query * shape.width)

    def arithmetic(self, student: Student) -> list[str]:
        """How the numbers of a student came about, a line each."""
        if not student.layers:
            return [
                f"parameters: {student.tokens:,} tokens x {student.width} = {student.parameters:,}",
                f"int8: {student.parameters:,} + {GRAPH_TABLE:,} of the graph = {student.bytes / 1e6:.1f} MB",
                f"a query: nothing is multiplied; {1e3 * CALL:.1f} ms to read and to average",
            ]
        shape, rate = shape_of(self._config, student.width), self._rate(student.width)
        each = shape.layer_matrices + shape.layer_vectors
        vectors = student.layers * shape.layer_vectors + shape.others
        tables = (student.tokens + shape.positions) * student.width
        products = self.operations(shape, student.layers)
        return [
            f"parameters: ({student.tokens:,} tokens + {shape.positions:,} positions and types) x {student.width} + "
            f"{student.layers} layers x {each:,} + {shape.others:,} = {student.parameters:,}",
            f"int8: {tables + student.layers * shape.layer_matrices:,} of tables and matrices x 1 byte + {vectors:,} "
            f"of biases and norms x {VECTOR} + {student.layers * shape.layer_outputs:,} scales x {SCALE} + graph "
            f"{GRAPH + student.layers * GRAPH_LAYER:,} = {student.bytes / 1e6:.1f} MB",
            f"a query of {self._query} tokens: {products / 1e9:.2f} GFLOP at {rate / 1e9:.0f} GFLOP/s, measured on one "
            f"core with products {student.width} wide, + {1e3 * (CALL + student.layers * CALL_LAYER):.1f} ms of calls "
            f"= {1e3 * student.seconds:.1f} ms",
        ]

    def _widths(self) -> list[int]:
        """Narrower widths of whole heads, the widest first; none where the base cannot be made narrower."""
        heads = getattr(self._config, "num_attention_heads", 1)
        each = self._config.hidden_size // heads
        try:
            narrow.check(self._model, each)
        except Refused:
            return []
        step = max(1, math.ceil((heads - 1) / WIDTHS))
        return [each * count for count in range(heads - 1, 0, -step)]

    def _rate(self, width: int) -> float:
        if width not in self._rates:
            self._rates[width] = products_a_second(self._query, width)
        return self._rates[width]


def chosen(choices: Sequence[Student], budget: Budget) -> Student | None:
    """Of those within a budget, the one that gives up least."""
    fit = [student for student in choices if not budget.broken(student)]
    return min(fit, key=lambda student: student.gives_up, default=None)


def show(budget: Budget, base: str, revision: str | None, corpus: Sequence[Path], query: int) -> None:
    """Print what there is, what of it keeps a budget, the proposal with its arithmetic, and how a config names it.

    Raises:
        Refused: There is no bound, one is not above zero, or nothing keeps them all.
    """
    bounds = {name: bound for name, bound in vars(budget).items() if bound is not None}
    if not bounds or not all(bound > 0 for bound in bounds.values()) or query < 1:
        told = ", ".join(f"{name} {bound:g}" for name, bound in bounds.items()) or "no bound"
        raise Refused(f"size: {told}, query {query}; needed: --megabytes, --milliseconds or --parameters, above zero.")
    choices = Choices(base, revision, corpus, query)
    found = list(choices.all())
    best = chosen(found, budget)
    deepest = {student.width: student for student in reversed(found) if student.layers}
    rows = [
        (
            student.start,
            f"{student.parameters / 1e6:.1f}M",
            f"{student.bytes / 1e6:.1f}",
            f"{1e3 * student.seconds:.1f}",
            "proposed" if student is best else ", ".join(budget.broken(student)),
        )
        for student in found
        # Of narrow ones the deepest of each width is enough to see.
        if student is best or student.gives_up[0] == 0 or student is deepest.get(student.width) or not student.layers
    ]
    console.table(f"{base} within a budget", ("start", "all", "MB int8", "ms in torch", "is beyond"), rows)
    if best is None:
        raise Refused(f"size: nothing made of {base} keeps the budget. Raise it, or take a smaller base.")
    if not corpus:
        console.say("Tokens that your texts do not need are the first to go: name their steps with --corpus.")
    for line in (best.start, *choices.arithmetic(best)):
        console.say(line)
    console.say(settings(best, base, revision, [str(folder) for folder in corpus]))


def shape_of(config: transformers.PreTrainedConfig, width: int) -> Shape:
    """What an encoder of this configuration consists of, counted without its weights.

    Args:
        config: Of the base.
        width: Hidden dimensions: the base's, or fewer.
    """
    made = config if width == config.hidden_size else narrow.config_of(config, width)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(made)
    inside: dict[str, int] = {"matrices": 0, "vectors": 0, "outputs": 0, "positions": 0, "others": 0}
    tokens = model.get_input_embeddings()
    for name, module in model.named_modules():
        for held in module.parameters(recurse=False):
            if module is tokens or "pooler" in name:  # no vector of ours passes BERT's pooler
                continue
            if isinstance(module, torch.nn.Embedding) and module.embedding_dim == width:
                inside["positions"] += held.numel() // width
            elif not any(part in f".{name}." for part in (".layer.", ".layers.")):
                inside["others"] += held.numel()
            elif held.ndim > 1:
                inside["matrices"] += held.numel()
                inside["outputs"] += len(held)
            else:
                inside["vectors"] += held.numel()
    each = {name: inside[name] // made.num_hidden_layers for name in ("matrices", "vectors", "outputs")}
    return Shape(width, inside["positions"], each["matrices"], each["vectors"], each["outputs"], inside["others"])


def encoder_bytes(shape: Shape, layers: int, tokens: int) -> int:
    """Of the ONNX file in int8: a byte for each number of tables and matrices, more for what stays in fp32."""
    bytes_of_layer = shape.layer_matrices + VECTOR * shape.layer_vectors + SCALE * shape.layer_outputs + GRAPH_LAYER
    return (tokens + shape.positions) * shape.width + layers * bytes_of_layer + VECTOR * shape.others + GRAPH


def products_a_second(rows: int, width: int, numbers: int = 10_000_000) -> float:
    """Operations a second of one core that multiplies so few rows with ever other matrices, as a query does.

    Args:
        rows: Tokens of the query.
        width: Of the model.
        numbers: In all the matrices: more than a core keeps near itself, as of a model.
    """
    held = torch.ones(max(1, numbers // width**2), width, width)
    given = torch.ones(rows, width)
    threads, best = torch.get_num_threads(), math.inf
    torch.set_num_threads(1)
    try:
        for _ in range(5):
            began = time.process_time()  # so that a busy machine is not taken for a slow one
            for matrix in held:
                given @ matrix
            best = min(best, time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    return 2.0 * rows * held.numel() / best


def settings(student: Student, base: str, revision: str | None, corpus: Sequence[str]) -> str:
    """A student as a config names it."""
    lines = [f"base: {base}", *([f"revision: {revision}"] if revision else [])]
    if student.layers and "layers" in student.start:
        lines.append(f"layers: {student.layers}")
    if "wide" in student.start:
        lines.append(f"width: {student.width}")
    if "fewer tokens" in student.start:
        lines.append(f"vocabulary: [{', '.join(corpus)}]")
    kind = "Encoder" if student.layers else "Static"
    return f"class_path: students.{kind}\ninit_args:\n" + "\n".join(f"  {line}" for line in lines)
