"""Readers of tables: a row of the file is a passage, a query with its passages, a labelled text, or a pair."""

import math
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill.errors import Refused
from distill.readers import files
from distill.readers.files import Record
from distill.readers.rows import Labelled, Pair, Passage, Reader, Retrieval, Row

if TYPE_CHECKING:
    import datasets

NEEDED = {
    "passages": ("text",),
    "retrieval": ("query", "positive"),
    "classification": ("text", "label"),
    "clustering": ("text", "label"),
    "sts": ("sentence1", "sentence2", "score"),
    "nli": ("premise", "hypothesis", "label"),
}
"""Columns that a table of each kind must have."""

OPTIONAL = {"passages": ("key", "title"), "retrieval": ("negatives",)}
"""Columns that it may have."""

MEANT = {
    "task": ("retrieval", "classification", "clustering", "sts", "nli"),
    "benchmark": ("retrieval", "classification", "clustering", "sts"),
    "scale": ("sts",),
    "positive": ("classification", "clustering"),
}
"""The kinds to which a setting means something."""

ENTAILED, NEUTRAL, OPPOSED = ("entailment", "0"), ("neutral", "1", "-1"), ("contradiction", "not_entailment", "2")
"""Labels of `nli`, in words and as the common data sets number them."""


@dataclass(frozen=True, kw_only=True)
class Tabular(Reader):
    """What all tables have in common: which kind a row is, and what its columns are called."""

    kind: Literal["passages", "retrieval", "classification", "clustering", "sts", "nli"] = "passages"
    """What a row is. `passages`: text, and key, title where there are such columns. `retrieval`: query,
    positive, and negatives (a text or a list of texts each). `classification`, `clustering`: text, label.
    `sts`: sentence1, sentence2, score. `nli`: premise, hypothesis, label; a premise is a query, what it entails its
    positives, what contradicts it its negatives, and the premises of a file are held in memory."""
    task: str = ""
    """The instruction for the queries; needed for every kind but passages."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The file's names of columns that are called otherwise, as `query: question`."""
    benchmark: bool = False
    """For evaluation: every passage of a query with its grade in one row, every pair with its score, every labelled
    text by itself. Otherwise as training wants them: a row for each positive, and only pairs that are alike."""
    scale: float = 5.0
    """Score of two texts that mean the same (`sts`)."""
    positive: Literal["example", "label"] = "example"
    """Of a labelled text: another text of its label (NV-Embed, for more than two labels), or the label's own text
    (NV-Embed, for two)."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Only rows whose columns hold these texts, as `split: train`."""
    licence: str = ""
    """Of the text, as its owner names it."""
    limit: int | None = None
    """At most so many rows, from the start; all if None."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        Reader.__post_init__(self)
        for name, kinds in MEANT.items():
            if self.kind not in kinds and getattr(self, name) != getattr(Tabular, name):
                raise Refused(f"{name}: {getattr(self, name)!r:.40} means nothing to {self.kind}. Leave it out.")
        known = (*NEEDED[self.kind], *OPTIONAL.get(self.kind, ()))
        if unknown := [name for name in self.columns if name not in known]:
            forgotten = " Was `kind` forgotten?" if self.kind == "passages" else ""
            raise Refused(
                f"columns: {unknown[0]!r} means nothing to {self.kind}; it has {', '.join(known)}.{forgotten}"
            )
        if self.kind != "passages" and not self.task.strip():
            raise Refused(f"task: {self.kind} needs the instruction that a query is read with, such as 'Find ...'.")
        if self.benchmark and self.positive != Tabular.positive:
            raise Refused(f"positive: {self.positive!r} is of training, and this is a benchmark. Leave one out.")
        if not 0 < self.scale < math.inf:
            raise Refused(f"scale: {self.scale}; needed: the score of two texts that mean the same.")

    @property
    @abstractmethod
    def source(self) -> str:
        """Where the rows come from, in words."""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """The rows of the table as they are."""

    def read(self) -> Iterator[Row]:
        """The rows as what their kind says.

        Raises:
            Refused: A column is not there, or a value is missing or not what its column needs.
        """
        rows = enumerate(islice(self._chosen(), self.limit), start=1)
        if self.kind == "nli":
            yield from self._premises(rows)
            return
        for number, (at, record) in rows:
            self._check(at, record)
            yield self._row(at, str(number), record)

    def _chosen(self) -> Iterator[Record]:
        """The rows that `where` lets through."""
        for at, record in self.records():
            if absent := [column for column in self.where if column not in record]:
                raise Refused(f"{at}: where: no column {absent[0]!r}; there are: {', '.join(map(str, record))}.")
            if all(_said(record[column]) == value for column, value in self.where.items()):
                yield at, record

    def _premises(self, rows: Iterator[tuple[int, Record]]) -> Iterator[Retrieval]:
        """Each premise that entails something, once, with all that it entails and all that contradicts it."""
        held: dict[str, tuple[str, list[Passage], list[Passage]]] = {}
        labels = set()
        for number, (at, record) in rows:
            self._check(at, record)
            label = str(record[self.column("label")]).strip().lower()
            if label not in (*ENTAILED, *NEUTRAL, *OPPOSED):
                raise Refused(f"{at}: label {label!r:.40}. Needed: entailment, neutral or contradiction (0, 1, 2).")
            labels.add(label)
            _, entailed, opposed = held.setdefault(self._text(at, record, "premise"), (at, [], []))
            if label not in NEUTRAL:
                (entailed if label in ENTAILED else opposed).append(
                    self._passage(at, str(number), self._text(at, record, "hypothesis"))
                )
        if labels == {"0", "1"}:  # in three-way sets 1 is neutral; in two-way sets it is the opposite of 0
            raise Refused(f"{self.source}: only the labels 0 and 1. Write entailment and not_entailment, or neutral.")
        for premise, (at, entailed, opposed) in held.items():
            if entailed:
                yield Retrieval(self.task, premise, tuple(entailed), tuple(opposed), (), at)

    def column(self, meaning: str) -> str:
        """What the file calls a column."""
        return self.columns.get(meaning, meaning)

    def _check(self, at: str, record: Mapping[str, object]) -> None:
        """Every column that is needed, or that the user named, must be there and hold something."""
        for meaning in {*NEEDED[self.kind], *self.columns}:
            column = self.column(meaning)
            if column not in record:
                there = ", ".join(map(str, record))
                hint = self._hint(record) or f" Name it with columns: {{{meaning}: ...}}."
                raise Refused(f"{at}: no column {column!r}; there are: {there}.{hint}")
            if record[column] is None and meaning in NEEDED[self.kind]:
                raise Refused(f"{at}: nothing in column {column!r}. Fill it, or take the row out.")

    def _hint(self, record: Mapping[str, object]) -> str:
        """What else may be wrong where a column is missing."""
        return ""

    def _row(self, at: str, number: str, record: Mapping[str, object]) -> Row:
        if self.kind == "passages":
            key = record.get(self.column("key"))
            title = self._text(at, record, "title") if record.get(self.column("title")) is not None else ""
            return self._passage(at, number if key is None else str(key), self._text(at, record, "text"), title)
        if self.kind == "retrieval":
            return self._retrieval(at, number, record)
        if self.kind == "sts":
            first, second = (self._text(at, record, name) for name in ("sentence1", "sentence2"))
            pair = self._passage(at, number + "a", first), self._passage(at, number + "b", second)
            return Pair(self.task, *pair, self._score(at, record), self.benchmark)
        passage = self._passage(at, number, self._text(at, record, "text"))
        assert self.kind in ("classification", "clustering")
        return Labelled(
            self.kind, self.task, passage, self._label(at, record), self.positive == "label", self.benchmark
        )

    def _retrieval(self, at: str, number: str, record: Mapping[str, object]) -> Retrieval:
        positives = self._passages(at, number + "+", record, "positive")
        negatives = self._passages(at, number + "-", record, "negatives")
        if not positives:
            raise Refused(f"{at}: nothing in column {self.column('positive')!r}. Fill it, or take the row out.")
        grades = (1.0,) * len(positives) + (0.0,) * len(negatives) if self.benchmark else ()
        return Retrieval(self.task, self._text(at, record, "query"), positives, negatives, grades, at)

    def _passage(self, at: str, key: str, text: str, title: str = "") -> Passage:
        return Passage(self.source, key, title, text, at)

    def _text(self, at: str, record: Mapping[str, object], meaning: str) -> str:
        value = record[self.column(meaning)]
        if not isinstance(value, str):
            raise Refused(f"{at}: {value!r:.40} in column {self.column(meaning)!r}. Needed: text.")
        return value

    def _passages(self, at: str, key: str, record: Mapping[str, object], meaning: str) -> tuple[Passage, ...]:
        value = record.get(self.column(meaning))
        texts = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise Refused(f"{at}: {value!r:.40} in column {self.column(meaning)!r}. Needed: a text or a list of texts.")
        return tuple(self._passage(at, f"{key}{place}", text) for place, text in enumerate(texts))

    def _label(self, at: str, record: Mapping[str, object]) -> str:
        value = record[self.column("label")]
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # whole numbers of a column with gaps
        if not isinstance(value, (str, int)) or not str(value).strip():
            raise Refused(
                f"{at}: label {value!r:.40} in column {self.column('label')!r}. Needed: text or a whole number."
            )
        return str(value).strip()

    def _score(self, at: str, record: Mapping[str, object]) -> float:
        value = record[self.column("score")]
        try:
            score = float(str(value)) / self.scale
        except ValueError:
            score = math.nan
        if not 0 <= score <= 1:
            raise Refused(f"{at}: score {value!r:.40}. Needed: a number from 0 to {self.scale} (see scale).")
        return score


def _said(value: object) -> str:
    """A value as it would be written in a config."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


@dataclass(frozen=True, kw_only=True)
class File(Tabular):
    """What tables that are one file have in common."""

    path: Path
    """The file."""

    def __post_init__(self) -> None:
        """Refuse what is no file."""
        Tabular.__post_init__(self)
        files.check_is_file(self.path)

    @property
    def source(self) -> str:
        """The file's name."""
        return self.path.name


@dataclass(frozen=True, kw_only=True)
class JSONL(File):
    """A file with one JSON object a line."""

    def records(self) -> Iterator[Record]:
        """The objects of the file."""
        return files.json_lines(self.path)


@dataclass(frozen=True, kw_only=True)
class CSV(File):
    """A file of separated values; its first line names the columns."""

    delimiter: str = ","
    """The character between two values."""

    def __post_init__(self) -> None:
        """Refuse a delimiter that separates nothing."""
        File.__post_init__(self)
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise Refused(f"delimiter: {self.delimiter!r}; needed: one character, such as ',' or a tab.")

    def records(self) -> Iterator[Record]:
        """The rows of the file."""
        return files.separated(self.path, self.delimiter)

    def _hint(self, record: Mapping[str, object]) -> str:
        """One column with separators in its name: they are others than was said."""
        name = next(iter(record)) if len(record) == 1 else ""
        found = next((mark for mark in (";", "\t", ",", "|") if mark in name), "")
        return f" Are values separated by {found!r}? Say so with delimiter." if found else ""


@dataclass(frozen=True, kw_only=True)
class Parquet(File):
    """A Parquet file; the checksums of its pages are compared."""

    def records(self) -> Iterator[Record]:
        """The rows of the file."""
        meanings = NEEDED[self.kind], OPTIONAL.get(self.kind, ())
        needed, optional = ([self.column(meaning) for meaning in group] for group in meanings)
        return files.parquet(self.path, [*needed, *self.where], optional)


@dataclass(frozen=True, kw_only=True)
class Datasets(Tabular):
    """A data set that the `datasets` library opens: of the hub at a commit, or a folder on this machine."""

    name: str = ""
    """Its name on the hub; needs `revision`."""
    revision: str = ""
    """Full commit, 40 hexadecimal digits: a branch may hold other rows tomorrow."""
    folder: Path | None = None
    """A folder that `datasets` saved, or one of data files; instead of a name."""
    config: str | None = None
    """Which of its configurations, where it has several."""
    split: str = "train"
    """Which of its splits."""

    def __post_init__(self) -> None:
        """Refuse a moving target, two data sets at once, and a file."""
        Tabular.__post_init__(self)
        if bool(self.name) == bool(self.folder):
            raise Refused("Datasets: say either name (with revision) or folder.")
        if self.folder and self.revision:
            raise Refused(f"revision: {self.revision!r} means nothing to a folder, which is as it is. Leave it out.")
        if self.folder:
            files.check_is_folder(self.folder)
        if self.name and Path(self.name).exists():  # `datasets` would read it instead of the hub
            raise Refused(f"name: {self.name} is a file or a folder here. Needed: a name on the hub, or `folder`.")
        if self.name and not re.fullmatch("[0-9a-f]{40}", self.revision):
            raise Refused(
                f"revision: {self.revision!r} of {self.name}; needed: the full commit, 40 hexadecimal digits."
            )

    @property
    def source(self) -> str:
        """The data set's name, or the folder's."""
        return self.folder.name if self.folder else self.name

    def records(self) -> Iterator[Record]:
        """The rows of the split, streamed.

        Raises:
            Refused: The data set cannot be opened, or read to its end.
        """
        where, number = f"{self.name or self.folder}, {self.split}", 0
        try:
            for number, record in enumerate(self._opened(), start=1):
                yield f"{where} row {number}", record
        except Exception as error:  # each format has a library of its own, with errors of its own
            said = " ".join(str(error).split())
            raise Refused(
                f"{where}, after row {number}: datasets cannot read it ({type(error).__name__}: {said}). "
                "Check name, split and files."
            ) from error

    def _opened(self) -> "datasets.Dataset | datasets.IterableDataset":
        import datasets

        if self.folder and any((self.folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(str(self.folder))
            if isinstance(saved, datasets.DatasetDict):
                return saved[self.split]
            if self.split not in ("train", str(saved.split)):  # silently other rows than were asked for
                raise ValueError(f"it was saved as one table of the split {saved.split}")
            return saved
        # A folder by its whole path: what is short and not there would be looked for on the hub.
        where = {"path": str(self.folder.absolute())} if self.folder else {"path": self.name, "revision": self.revision}
        # Streamed, for `datasets` would else keep a copy in a cache of its own.
        return datasets.load_dataset(**where, name=self.config, split=self.split, streaming=True)
