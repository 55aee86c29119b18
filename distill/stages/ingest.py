"""Foreign text to passages, queries and examples; a benchmark's text is kept out."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from distill import artifact, console, lineage, overlap, pairing, recipe, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.lineage import KEPT, PARTLY, SAME
from distill.readers import Labelled, Pair, Passage, Reader, Retrieval, Row
from distill.readers.rows import is_storable
from distill.stages import stage

PART = 50_000
"""Rows of a part, which is what is held in memory of a table."""

AT_ONCE = 4096
"""Rows that are looked for in a benchmark together."""

LONGEST = 100_000
"""Characters of a text at most: what is longer is a book or a broken file, and no model reads it whole."""

DROPPED = -1

LEAKED = "in a benchmark, "


def _check(sources: tuple[Reader, ...], exclude: tuple[Path, ...], contamination: str, negatives: int) -> None:
    if negatives < 1:
        raise Refused(f"negatives: {negatives}; needed: at least 1, for labelled texts have no others.")
    if contamination == "tag" and not exclude:
        raise Refused("contamination: tag marks rows that occur in `exclude`, and nothing is excluded. Leave it out.")
    for source in sources:
        if source.limit is not None and source.limit < 1:
            raise Refused(f"limit: {source.limit} of {type(source).__name__}; needed: at least 1, or none at all.")


@stage(version=2, check=_check, compared=("exclude",))
def ingest(
    *,
    sources: tuple[Reader, ...],
    exclude: tuple[Path, ...] = (),
    contamination: Literal["drop", "tag"] = "drop",
    negatives: int = 7,
    seed: int = 0,
    out: Path,
) -> Facts:
    """Bring data in: passages, what is known to be asked of them, and examples to train on or evaluate with.

    Each text is kept once. A labelled text, and either text of a pair, is a passage as well. What is judged of
    one query of a benchmark, in however many rows, is one example.

    Args:
        sources: Readers (`distill.readers`), in order.
        exclude: Artifacts, benchmarks above all, whose texts may not be in this one: passages and queries
            that occur in them are dropped and counted.
        contamination: Whether such rows are dropped, or kept and listed in the table `contaminated`.
        negatives: For labelled texts and pairs, texts of other classes drawn for each query. NV-Embed used 7.
        seed: Of those draws.
        out: The artifact.

    Returns:
        Rows of each table and kind, rows dropped by rule, and how often each excluded benchmark was found.
    """
    for source in sources:
        _check_apart(source, out)
    intake = _Intake(out, lineage.names(exclude), overlap.index(map(tables.all_texts, exclude)), contamination == "tag")
    with console.bar("ingest", len(sources)) as progress:
        for source in sources:
            intake.take(source)
            progress.step(note=f"{intake.passages.rows:,} passages")
    intake.judge()
    intake.pair(negatives, seed)
    own = artifact.fingerprint(out)
    return {**intake.facts(), "refers": {"passages": own, "queries": own}}


def _check_apart(source: Reader, out: Path) -> None:
    """Make sure that what is written is not read: a folder that grows with each run is another each time.

    Raises:
        Refused: A folder that is read holds the artifact.
    """
    for path in recipe.paths(source):
        if out.resolve().is_relative_to(path.resolve()):
            raise Refused(
                f"{path}, which {type(source).__name__} reads, holds the output {out}: it would be another folder at "
                "every run. Choose an output elsewhere, or read a folder beside it."
            )


class _Table:
    """A table that grows by rows and is written in parts."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema, self.rows = folder, schema, 0
        self._waiting: list[tuple[object, ...]] = []
        self._parts = 0

    def add(self, *row: object) -> int:
        """The number of the row."""
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) == PART:
            self.flush()
        return self.rows - 1

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            columns = dict(zip(self.schema.names, map(list, zip(*self._waiting, strict=True)), strict=True))
            tables.write(self.folder, self.schema, columns, part=self._parts)
            self._waiting, self._parts = [], self._parts + 1


class _Intake:
    """The tables as they are filled: each text once, and a rule for whatever is dropped."""

    def __init__(self, out: Path, excluded: Sequence[str], held: overlap.Index, tags: bool) -> None:
        self.out = out
        self.passages = _Table(out / "passages", tables.PASSAGES)
        self.queries = _Table(out / "queries", tables.QUERIES)
        self.examples = _Table(out / "examples", tables.EXAMPLES)
        self.contaminated = _Table(out / "contaminated", tables.CONTAMINATED)
        self.dropped: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self._excluded, self._held, self._tags = excluded, held, tags
        self._found = {name: Counter({SAME: 0, PARTLY: 0}) for name in excluded}
        # Texts that occur in a benchmark, with its name and the rule: of the rows at hand; where they are kept, all.
        self._leaked: dict[str, dict[str, str]] = {}
        self._rows: dict[bytes, int] = {}  # digest of title and text: row, or DROPPED
        self._keys: dict[str, bytes] = {}  # of the source at hand: digest
        self._asked: set[bytes] = set()
        self._judged: dict[tuple[str, str], dict[int, float]] = {}  # of a benchmark: task and query, row, grade
        self._groups = 0
        self._classes: dict[tuple[str, str, str], int] = {}  # of a benchmark: kind, task and label, group
        self._apart: dict[tuple[str, str, str], set[int]] = {}  # of a benchmark: kind, task and text, groups
        self._labelled: dict[tuple[str, str, bool], tuple[array[int], array[int], dict[str, int]]] = {}
        self._pairs: dict[str, tuple[array[int], array[int], array[float]]] = {}

    def take(self, source: Reader) -> None:
        """All rows of a source.

        Raises:
            Refused: It has no row, gives one key to two texts, or names a passage that it did not give.
        """
        self._keys = {}
        rows, given = source.read(), 0
        while batch := list(islice(rows, AT_ONCE)):
            given += len(batch)
            if not self._tags:
                self._leaked.clear()
            self._leaked |= self._leaks(batch)
            for row in batch:
                self._take(row)
        if not given:
            where = ", ".join(map(str, recipe.paths(source)))
            raise Refused(f"{type(source).__name__} {where}: no rows. Check the file, the split and the limit.")

    def _take(self, row: Row) -> None:
        if isinstance(row, Passage):
            self._row(row, given=True)
        elif isinstance(row, Retrieval):
            self._ask(row)
        elif isinstance(row, Labelled):
            self._label(row)
        else:
            self._pair(row)

    def _leaks(self, batch: Sequence[Row]) -> dict[str, dict[str, str]]:
        leaks: dict[str, dict[str, str]] = {}
        if self._excluded:
            texts = list({text for row in batch for text in _said(row)})
            found = overlap.find(self._held, texts)
            for rule, mask in ((SAME, found.same), (PARTLY, found.partly)):
                for at, benchmark in np.argwhere(mask).tolist():
                    leaks.setdefault(texts[at], {}).setdefault(self._excluded[benchmark], rule)
        return leaks

    def _fault(self, text: str) -> str | None:
        """The rule by which a text is dropped, if any."""
        if not text.strip():
            return "empty"
        if len(text) > LONGEST:
            return "too long"
        if text in self._leaked and not self._tags:
            return LEAKED + (SAME if SAME in self._leaked[text].values() else PARTLY)
        return None if is_storable(text) else "with invalid characters"

    def _count(self, texts: Iterable[str], passage: int = -1, example: int = -1) -> None:
        """Count a row for each benchmark that one of its texts occurs in, by the rule of the first that does.

        Args:
            texts: All that the row says.
            passage: The row of the passages that it became, if it is kept: then that is marked.
            example: The same of the examples.
        """
        rules: dict[str, str] = {}
        for text in texts:
            rules = {**self._leaked.get(text, {}), **rules}
        for benchmark, rule in rules.items():
            self._found[benchmark][rule] += 1
            if self._tags:
                self._found[benchmark][KEPT] += 1
                self.contaminated.add(passage, example, benchmark, rule)

    def _row(self, passage: Passage, *, given: bool = False) -> int:
        """The row of a passage, which is written if it is new; DROPPED if it may not be there.

        Args:
            passage: It.
            given: Whether it is a row of its source, and so counted each time, not part of one.
        """
        title, text = _kept(passage)
        digest = _digest(title, text)
        if given:
            self._name(passage, digest)
        if digest not in self._rows or (given and self._rows[digest] == DROPPED):
            faults = [self._fault(said) for said in _readings(passage)]
            fault = next(filter(None, faults), None)
            row = (passage.source, passage.key, title, text)
            self._rows[digest] = DROPPED if fault else self.passages.add(*row)
            if fault:
                self._drop("passage", fault, _readings(passage))
            elif self._tags:
                self._count(_readings(passage), passage=self._rows[digest])
        elif given:
            self.dropped["passage repeated"] += 1
        return self._rows[digest]

    def _drop(self, what: str, fault: str, texts: Iterable[str]) -> None:
        self.dropped[f"{what} {fault}"] += 1
        if fault.startswith(LEAKED):
            self._count(texts)

    def _name(self, passage: Passage, digest: bytes) -> None:
        if not is_storable(passage.key):
            raise Refused(f"{passage.at}: id {passage.key!r:.80} is no UTF-8, or holds NUL. Give the text another id.")
        if self._keys.setdefault(passage.key, digest) != digest:
            raise Refused(f"{passage.at}: id {passage.key!r} came before with another text. Give each text its own id.")

    def _named(self, passage: Passage | str, at: str) -> int:
        if isinstance(passage, Passage):
            return self._row(passage)
        if passage not in self._keys:
            raise Refused(f"{at}: no passage {passage!r} in the corpus. Take the line out, or add the passage.")
        return self._rows[self._keys[passage]]

    def _ask(self, row: Retrieval) -> None:
        rows = [self._named(passage, row.at) for passage in (*row.positives, *row.negatives)]
        right = [at for at in dict.fromkeys(rows[: len(row.positives)]) if at != DROPPED]
        wrong = [at for at in dict.fromkeys(rows[len(row.positives) :]) if at not in (DROPPED, *right)]
        if fault := self._fault(row.query) or (None if right else "without a passage left"):
            self._drop("query", fault, [row.query])
        elif row.grades:
            grades = self._judged.setdefault((row.task, row.query), {})
            for at, grade in zip(rows, row.grades, strict=True):
                grades[at] = max(grade, grades.get(at, 0.0))
        elif self._is_repeated(row, right):
            self.dropped["query repeated"] += 1
        else:
            group = self._group() if len(right) > 1 else -1  # one query's positives are not each other's negatives
            is_search = row.kind == "retrieval"
            for at in right:
                origin = self.queries.add(row.task, row.query, at) if is_search else -1
                flags = is_search, row.kind == "sts"
                self._example(row.kind, row.task, row.query, [at, *wrong], [], *flags, group, origin)

    def _is_repeated(self, row: Retrieval, right: list[int]) -> bool:
        digest = _digest(row.task, row.query, *map(str, right))
        seen = digest in self._asked
        self._asked.add(digest)
        return seen

    def _example(self, kind: str, task: str, query: str, *values: object) -> None:
        self.kinds[kind] += 1
        row = self.examples.add(kind, task, query, *values)
        if self._tags:
            self._count([query], example=row)

    def _group(self) -> int:
        self._groups += 1
        return self._groups - 1

    def _label(self, row: Labelled) -> None:
        if row.benchmark:
            self._tell_apart(row)
            return
        at = self._row(row.passage)
        if at != DROPPED:
            key = (row.kind, row.task, row.by_label)
            rows, labels, names = self._labelled.setdefault(key, (array("l"), array("l"), {}))
            rows.append(at)
            labels.append(names.setdefault(row.label, len(names)))

    def _tell_apart(self, row: Labelled) -> None:
        """A text of a benchmark: its class is a group; it is no passage, for nothing is to find it."""
        if fault := self._fault(row.passage.text):
            self._drop("text", fault, [row.passage.text])
            return
        label = row.kind, row.task, row.label
        if label not in self._classes:
            self._classes[label] = self._group()
        groups = self._apart.setdefault((row.kind, row.task, row.passage.text), set())
        self.dropped["text repeated"] += self._classes[label] in groups
        groups.add(self._classes[label])

    def _pair(self, row: Pair) -> None:
        first, second = self._row(row.first), self._row(row.second)
        if DROPPED in (first, second):
            self.dropped["pair without both texts"] += 1
        elif row.benchmark:
            self._example("sts", row.task, row.first.text, [second], [row.score], False, True, -1, -1)
        else:
            firsts, seconds, scores = self._pairs.setdefault(row.task, (array("l"), array("l"), array("d")))
            firsts.append(first)
            seconds.append(second)
            scores.append(row.score)

    def judge(self) -> None:
        """An example of each query of a benchmark, best passages first, and of each labelled text with one label."""
        for (task, query), grades in self._judged.items():
            kept = [at for at in grades if at != DROPPED]
            passages = sorted(kept, key=grades.__getitem__, reverse=True)
            origins = [self.queries.add(task, query, at) for at in passages if grades[at] > 0]
            scores = [grades[at] for at in passages]
            self._example("retrieval", task, query, passages, scores, True, False, -1, origins[0])
        for (kind, task, text), groups in self._apart.items():
            if len(groups) > 1:
                self.dropped["text of two labels"] += 1
            else:
                self._example(kind, task, text, [], [], False, False, *groups, -1)

    def pair(self, negatives: int, seed: int) -> None:
        """Examples of the labelled texts and the pairs, once all are there.

        Raises:
            Refused: A task has too few classes.
        """
        self.passages.flush()
        for number, ((kind, task, by_label), (rows, labels, names)) in enumerate(self._labelled.items()):
            given = np.asarray(rows), np.asarray(labels)
            with _naming(kind, task):
                if by_label:
                    made = pairing.of_label_texts(*given, self._told(names), negatives, seed + number)
                else:
                    made = pairing.of_labels(*given, negatives, seed + number)
            self._paired(kind, task, made, symmetric=not by_label)
        for number, (task, (first, second, scores)) in enumerate(self._pairs.items()):
            with _naming("sts", task):
                made = pairing.of_pairs(
                    np.asarray(first), np.asarray(second), np.asarray(scores), negatives, seed + number
                )
            self._paired("sts", task, made, symmetric=True)

    def _told(self, names: Mapping[str, int]) -> "np.ndarray":
        """The passages that labels are, in the order of their numbers."""
        rows = [self._row(Passage("labels", name, "", name, f"label {name!r}")) for name in names]
        self.passages.flush()
        if DROPPED in rows:
            raise Refused(f"label {list(names)[rows.index(DROPPED)]!r} is no text to learn. Say positive: example.")
        return np.asarray(rows)

    def _paired(self, kind: str, task: str, made: pairing.Paired, *, symmetric: bool) -> None:
        """Examples as drawn; of like texts (`symmetric`) each is read with the task (NV-Embed, section 4)."""
        texts = tables.opened(self.out / "passages")["text"]
        for start in range(0, len(made.queries), PART):
            part = slice(start, start + PART)
            queries = tables.texts(texts.take(pa.array(made.queries[part])))
            groups = (made.groups[part] + self._groups).tolist()
            for query, listed, group in zip(queries, made.passages[part].tolist(), groups, strict=True):
                self._example(kind, task, query, listed, [], False, symmetric, group, -1)
        self._groups += int(made.groups.max()) + 1
        self.dropped.update(made.dropped)

    def facts(self) -> dict[str, object]:
        """Rows written and rows dropped, once the last parts are on disk.

        Raises:
            Refused: Every passage was dropped.
        """
        dropped = {rule: count for rule, count in sorted(self.dropped.items()) if count}
        if not self.passages.rows and not self.examples.rows:
            raise Refused(f"no passage is left; dropped: {dropped}. Check what the sources read.")
        for table in (self.passages, self.queries, self.examples, self.contaminated):
            table.flush()
        if not self.passages.rows:  # of a benchmark of labelled texts alone
            tables.write(self.passages.folder, tables.PASSAGES, {name: [] for name in tables.PASSAGES.names}, part=0)
        rows = {table.folder.name: table.rows for table in (self.passages, self.queries, self.examples)}
        found = {benchmark: dict(counts) for benchmark, counts in self._found.items()}
        return {**rows, "kinds": dict(self.kinds), "dropped": dropped, "contamination": found}


@contextmanager
def _naming(kind: str, task: str) -> Iterator[None]:
    """Say of which task a room of arithmetic, which knows rows alone, complains."""
    try:
        yield
    except Refused as error:
        raise Refused(f"{kind} {task!r}: {error}") from error


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode(errors="surrogatepass"), digest_size=16).digest()


def _kept(passage: Passage) -> tuple[str, str]:
    """Title and text as they are stored: a title alone is the text."""
    return (passage.title, passage.text) if passage.text.strip() else ("", passage.title)


def _readings(passage: Passage) -> tuple[str, ...]:
    """All that may say what a benchmark says: the text, the title, and the two as a model reads them."""
    title, text = _kept(passage)
    return (text, title, f"{title}\n{text}") if title.strip() else (text,)


def _said(row: Row) -> Iterator[str]:
    """The texts of a row."""
    if isinstance(row, Retrieval):
        yield row.query
        passages = [passage for passage in (*row.positives, *row.negatives) if isinstance(passage, Passage)]
    elif isinstance(row, Pair):
        passages = [row.first, row.second]
    else:
        passages = [row if isinstance(row, Passage) else row.passage]
    for passage in passages:
        yield from _readings(passage)
