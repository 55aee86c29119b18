"""Readers of folders: text and Markdown files, and benchmarks laid out as BEIR does."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.errors import Refused
from distill.readers import files
from distill.readers.files import Record
from distill.readers.rows import Passage, Reader, Retrieval, Row, is_storable

TEXT_ENDINGS = (".md", ".markdown", ".txt")

HIGHEST = 1e6
"""Grade at most: what is higher is no grade, and in the 32 bits that hold it may be infinite."""

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True, kw_only=True)
class TextFolder(Reader):
    """Text and Markdown files below a folder, split into passages at headings and paragraphs."""

    path: Path
    """The folder."""
    length: int = 1000
    """Characters of a passage at most. A student reads only the start of what is longer than its tokens."""
    licence: str = ""
    """Of the text, as its owner names it."""
    limit: int | None = None
    """At most so many passages; all if None."""

    def __post_init__(self) -> None:
        """Refuse a length that leaves no room for a sentence, and what is no folder."""
        Reader.__post_init__(self)
        files.check_is_folder(self.path)
        if self.length < 100:
            raise Refused(f"length: {self.length} characters; needed: at least 100.")

    def read(self) -> Iterator[Passage]:
        """Passages in the order of the files' names; the title is the headings above, or the file's name.

        Raises:
            Refused: The folder is not there, has no such file, or a file or its name is not UTF-8.
        """
        found = sorted(file for file in self.path.rglob("*") if file.is_file() and file.suffix.lower() in TEXT_ENDINGS)
        if not found:
            raise Refused(f"{self.path}: no file that ends in {', '.join(TEXT_ENDINGS)}. Check the path.")
        given = 0
        for file in found:
            name = file.relative_to(self.path).as_posix()
            if not is_storable(name):
                raise Refused(f"{self.path}: the file name {name!r} is not UTF-8. Rename the file.")
            for number, (title, text) in enumerate(passages_of(files.text(file), file.stem, self.length)):
                if given == self.limit:
                    return
                given += 1
                yield Passage(self.path.name, f"{name}#{number}", title, text, f"{file}, passage {number}")


def passages_of(text: str, title: str, length: int) -> Iterator[tuple[str, str]]:
    """The text below each heading, cut between paragraphs into passages; each with the headings it stands under.

    "Details" alone says nothing; "Backups > Details" does.

    Args:
        text: Plain text or Markdown.
        title: What the text before the first heading is called.
        length: Characters of a passage at most.
    """
    for heading, paragraphs in _sections(text, title):
        waiting = ""
        for paragraph in (piece for long in paragraphs for piece in _pieces(long, length)):
            if waiting and len(waiting) + 2 + len(paragraph) > length:
                yield heading, waiting
                waiting = ""
            waiting += ("\n\n" if waiting else "") + paragraph
        if waiting:
            yield heading, waiting


def _sections(text: str, title: str) -> Iterator[tuple[str, list[str]]]:
    """Headings with the paragraphs below them; a `#` inside fenced code is no heading."""
    lines: list[str] = []
    above: list[tuple[int, str]] = []
    fenced = False
    for line in text.split("\n"):
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        yield title, _paragraphs(lines)
        level = len(heading[1])
        above = [*((over, name) for over, name in above if over < level), (level, heading[2])]
        title, lines = " > ".join(name for _, name in above), []
    yield title, _paragraphs(lines)


def _paragraphs(lines: list[str]) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", "\n".join(lines)) if part.strip()]


def _pieces(paragraph: str, length: int) -> Iterator[str]:
    """A paragraph cut where it is too long: after a sentence, else between words, else anywhere."""
    while len(paragraph) > length:
        head = paragraph[: length + 1]
        ends = [match.end() for match in re.finditer(r"[.!?]\s", head)]
        cut = ends[-1] if ends else head.rfind(" ") if " " in head.strip() else length
        yield paragraph[:cut].strip()
        paragraph = paragraph[cut:].strip()
    yield paragraph


@dataclass(frozen=True, kw_only=True)
class BEIR(Reader):
    """A folder with a corpus, queries, and judgements of which passage answers which query.

    Either corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/SPLIT.tsv (query-id, corpus-id,
    score); or corpus.parquet (id, title, text), queries.parquet (id, text) and qrels.parquet (query_id,
    corpus_id, score, split).
    """

    path: Path
    """The folder."""
    task: str = "Given a question, retrieve passages that answer it"
    """The instruction for the queries."""
    split: str = "test"
    """Which judgements are read."""
    benchmark: bool = True
    """For evaluation: a query's judged passages with their grades in one row. Otherwise as training wants
    them: a row for each positive, and passages judged irrelevant as its negatives."""
    licence: str = ""
    """Of the text, as its owner names it."""
    limit: int | None = None
    """At most so many queries that have a positive, spread evenly over all such, for neighbours are often about one
    passage; the corpus stays whole. All if None."""
    only_judged: bool = False
    """Read those passages alone that are judged for the queries that are read: to train on a part of a large set."""

    def __post_init__(self) -> None:
        """Refuse what is no folder."""
        Reader.__post_init__(self)
        files.check_is_folder(self.path)
        if self.only_judged and self.benchmark:
            raise Refused(
                "only_judged: true: a benchmark is searched whole, or its figures say nothing. Leave it out, or say "
                "`benchmark: false` to train on it."
            )

    def read(self) -> Iterator[Row]:
        """The corpus, then the queries that have judgements.

        Raises:
            Refused: A file or a field is missing, two queries have one id, or a judgement names a query that
                is not there.
        """
        judged = self._judgements()
        asked = self._asked(judged)
        for query, judgements in judged.items():
            if query not in asked:
                raise Refused(
                    f"{judgements[0][2]}: no query {query!r} in the queries. Take the line out, or add the query."
                )
        names = list(asked)
        if self.limit is not None:
            names = [query for query in asked if any(grade > 0 for _, grade, _ in judged[query])]
        kept = min(len(names), self.limit or len(names))
        names = [names[place * len(names) // kept] for place in range(kept)]
        needed = {passage for query in names for passage, _, _ in judged[query]} if self.only_judged else None
        for at, record in self._records("corpus"):
            title = "" if record.get("title") is None else _text(at, record, "title")
            key = self._id(at, record)
            if needed is None or key in needed:
                yield Passage(self.path.name, key, title, _text(at, record, "text"), at)
        for query in names:
            yield self._retrieval(asked[query], judged[query])

    def _asked(self, judged: Collection[str]) -> dict[str, str]:
        """The text of each query that has judgements."""
        asked: dict[str, str] = {}
        for at, record in self._records("queries"):
            query, text = self._id(at, record), _text(at, record, "text")
            if query in judged and asked.setdefault(query, text) != text:
                raise Refused(f"{at}: id {query!r} came before with another text. Give each query its own id.")
        return asked

    def _parquet(self) -> bool:
        return (self.path / "corpus.parquet").is_file()

    def _records(self, name: str) -> Iterator[Record]:
        if self._parquet():
            return files.parquet(self.path / f"{name}.parquet", ("id", "text"), ("title",))
        return files.json_lines(self.path / f"{name}.jsonl")

    def _id(self, at: str, record: Mapping[str, object]) -> str:
        return str(_there(at, record, "id" if self._parquet() else "_id"))

    def _judgements(self) -> dict[str, list[tuple[str, float, str]]]:
        """For each query: passage, grade, and the place it is said."""
        names = ("query_id", "corpus_id") if self._parquet() else ("query-id", "corpus-id")
        tsv = self.path / "qrels" / f"{self.split}.tsv"
        records = (
            files.parquet(self.path / "qrels.parquet", (*names, "score"), ("split",))
            if self._parquet()
            else files.separated(tsv, "\t")
        )
        judged: dict[str, list[tuple[str, float, str]]] = {}
        for at, record in records:
            if absent := [name for name in (*names, "score") if record.get(name) is None]:
                raise Refused(
                    f"{at}: no {absent[0]!r}; there are: {', '.join(record)}. Needed: {', '.join(names)}, score."
                )
            if record.get("split", self.split) == self.split:
                entry = str(record[names[1]]), _grade(at, record["score"]), at
                judged.setdefault(str(record[names[0]]), []).append(entry)
        if not judged:
            raise Refused(f"{self.path}: no judgement of split {self.split!r}. Choose another split.")
        return judged

    def _retrieval(self, query: str, judgements: list[tuple[str, float, str]]) -> Retrieval:
        best = sorted(judgements, key=lambda judgement: -judgement[1])
        positives = tuple(key for key, grade, _ in best if grade > 0)
        negatives = tuple(key for key, grade, _ in best if grade <= 0)
        grades = tuple(max(grade, 0.0) for _, grade, _ in best) if self.benchmark else ()
        return Retrieval(self.task, query, positives, negatives, grades, judgements[0][2])


def _there(at: str, record: Mapping[str, object], column: str) -> object:
    if record.get(column) is None:
        raise Refused(f"{at}: no {column!r}; there are: {', '.join(record)}. Needed: _id (id in Parquet) and text.")
    return record[column]


def _text(at: str, record: Mapping[str, object], column: str) -> str:
    value = _there(at, record, column)
    if not isinstance(value, str):
        raise Refused(f"{at}: {value!r:.40} in {column!r}. Needed: text.")
    return value


def _grade(at: str, value: object) -> float:
    try:
        grade = float(str(value))
    except ValueError:
        grade = math.nan
    if not abs(grade) <= HIGHEST:
        raise Refused(f"{at}: score {value!r:.40}. Needed: a number, {HIGHEST:,.0f} at most.")
    return grade
