"""The schemas of every table that passes between stages, and how their parts are written and opened.

Arrow files, memory-mapped: rows are read in random order without copying. A row number of
`passages` is that passage's id everywhere else. Only this file and `batches.py` spell column names.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int, Num

from distill import artifact, files
from distill.errors import Refused

if TYPE_CHECKING:
    import datasets

PASSAGES = pa.schema([("source", pa.string()), ("key", pa.string()), ("title", pa.string()), ("text", pa.string())])
"""What may be retrieved: where it came from, its id there, a title that may be empty, the text."""

QUERIES = pa.schema([("task", pa.string()), ("query", pa.string()), ("seed", pa.int64())])
"""What is asked: the instruction, the text, and the passage it was written from (or its known positive)."""

EXAMPLES = pa.schema(
    [
        ("kind", pa.string()),
        ("task", pa.string()),
        ("query", pa.string()),
        ("passages", pa.list_(pa.int64())),
        ("scores", pa.list_(pa.float32())),
        ("in_batch", pa.bool_()),
        ("symmetric", pa.bool_()),
        ("group", pa.int64()),
        ("origin", pa.int64()),
    ]
)
"""The one training schema, and a benchmark's too.

`passages`: rows of the passages table, the positive first. `scores`: the raw score of each, or empty;
of a benchmark, grades. `in_batch`: may the passages of batch-mates be negatives? `symmetric`: are the
passages read as queries too (STS, texts of a class)? `group`: class or cluster, -1 if none; batch-mates of
one group are no negatives. `origin`: row of the queries table, -1 if none.
"""

TASKS = pa.schema([("group", pa.string()), ("task", pa.string())])
"""Tasks that a language model thought of."""

RECORDS = pa.schema(
    [
        ("group", pa.string()),
        ("task", pa.string()),
        ("query", pa.string()),
        ("positive", pa.string()),
        ("negative", pa.string()),
    ]
)
"""Examples that a language model made up; `negative` is empty in groups that have none."""

CONTAMINATED = pa.schema(
    [("passage", pa.int64()), ("example", pa.int64()), ("benchmark", pa.string()), ("rule", pa.string())]
)
"""Rows that were kept though their text occurs in a benchmark: a passage, or an example by its query; -1 for the other.
"""

CURVES = pa.schema([("step", pa.int64()), ("measure", pa.string()), ("value", pa.float32())])
"""What was measured while training."""

RESULTS = pa.schema(
    [
        ("model", pa.string()),
        ("benchmark", pa.string()),
        ("task", pa.string()),
        ("query", pa.int64()),
        ("measure", pa.string()),
        ("value", pa.float32()),
    ]
)
"""What was measured of each model on each query (a row of the benchmark's examples)."""

READ = 4096
"""Texts given at once."""

SLICE = 65536
"""Rows of a part of a file, and rows read at once."""

KINDS = ("retrieval", "classification", "clustering", "sts")


def vectors(dim: int) -> pa.Schema:
    """Row i is the vector of row i of the table that was embedded."""
    return pa.schema([("vector", pa.list_(pa.float16(), dim))])


OPINIONS = {
    "similarities": "similarity",
    "similarities_2": "similarity to the second teacher",
    "similarities_3": "similarity to the third teacher",
    "lexical": "BM25",
    "rerankings": "logit of the cross-encoder",
    "likelihoods": "log P(query given passage)",
    "relevances": "log P(relevant)",
}
"""Columns that say how well each candidate answers its query, in words. Larger is better; NaN: nobody was asked."""

JUDGED = ("rerankings", "likelihoods", "relevances")
"""Those of `judge`: a cross-encoder's, and a language model's two."""


def opinions(table: pa.Table) -> list[str]:
    """Which of `OPINIONS` a table holds, in that order."""
    return [name for name in OPINIONS if name in table.schema.names]


def candidates(depth: int, opinions: Mapping[str, Mapping[str, str]]) -> pa.Schema:
    """The query table, wider: the passages found for each query, the most similar first.

    `seed_rank` is -1 where the seed was not found. `twins` holds for each candidate the first passage that says nearly
    the same, of the seed and the list; itself if none does.

    Args:
        depth: Passages for each query.
        opinions: Columns that score them, and what their numbers mean: scale, model.
    """
    return pa.schema(
        [
            *QUERIES,
            ("passages", pa.list_(pa.int64(), depth)),
            ("twins", pa.list_(pa.int64(), depth)),
            ("seed_rank", pa.int32()),
            ("seed_similarity", pa.float32()),
            *(opinion(name, depth, meaning) for name, meaning in opinions.items()),
        ]
    )


def opinion(name: str, depth: int, meaning: Mapping[str, str]) -> pa.Field:
    """A column of `OPINIONS`.

    Args:
        name: Its own.
        depth: Passages for each query.
        meaning: Scale, model, and the prompt's digest where there is one.
    """
    return pa.field(name, pa.list_(pa.float32(), depth), metadata=dict(meaning))


def _part(folder: Path, number: int, ending: str) -> Path:
    return folder / f"part-{number:05d}.{ending}"


def missing(folder: Path, parts: int) -> list[int]:
    """Numbers of the parts that are not committed yet; a part without its note is done again."""
    return [number for number in range(parts) if not _part(folder, number, "json").is_file()]


def notes(folder: Path) -> list[dict[str, object]]:
    """What each committed part says of itself, in order."""
    return [artifact.read_json(file) for file in sorted(folder.glob("part-*.json"))]


def write(
    folder: Path,
    schema: pa.Schema,
    columns: Mapping[str, object] | pa.Table,
    *,
    part: int = 0,
    note: Mapping[str, object] | None = None,
) -> None:
    """Write one part of a table, then the note that commits it.

    Args:
        folder: The table's folder inside its artifact.
        schema: One of this file's schemas.
        columns: A column for each field: a list, an array, or (rows, width) for fixed-size lists.
        part: Its number.
        note: What was dropped and why, seconds, and the like.

    Raises:
        ValueError: A column or a value is missing, of another type, or of another length.
    """
    table = columns if isinstance(columns, pa.Table) else _table(schema, columns)
    if table.schema != schema:
        raise ValueError(f"columns {table.schema} do not match {schema}")
    folder.mkdir(parents=True, exist_ok=True)
    file = _part(folder, part, "arrow")
    with (
        files.replacing(file) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_table(table, max_chunksize=SLICE)
    size = {"rows": table.num_rows, "bytes": file.stat().st_size, "sha256": files.digest(file)}
    files.write_json(_part(folder, part, "json"), dict(note or {}) | size)


def _table(schema: pa.Schema, columns: Mapping[str, object]) -> pa.Table:
    if absent := [name for name in schema.names if name not in columns]:
        raise ValueError(f"no column {', '.join(absent)}")
    return pa.Table.from_arrays([_column(field, columns[field.name]) for field in schema], schema=schema)


def _column(field: pa.Field, values: object) -> pa.Array | pa.ChunkedArray:
    try:
        column = _array(field, values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(f"column {field.name}: {error}") from error
    if column.null_count:
        raise ValueError(f"column {field.name}: {column.null_count} values are missing")
    return column


def _array(field: pa.Field, values: object) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.cast(field.type)
    if pa.types.is_fixed_size_list(field.type) and isinstance(values, np.ndarray):
        if values.ndim != 2 or values.shape[1] != field.type.list_size:  # else its numbers would fill other rows
            raise ValueError(f"an array of shape {values.shape}, not (rows, {field.type.list_size})")
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), field.type.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=field.type)
    if pa.types.is_integer(field.type):
        return pa.array(values).cast(field.type)  # given the type at once, it cuts 1.5 to 1
    return pa.array(values, field.type)


def read(folder: Path, *names: str) -> pa.Table:
    """Open a table of a finished artifact, memory-mapped.

    Args:
        folder: The artifact.
        names: Names of tables; the first that the artifact holds is opened.

    Raises:
        Refused: The artifact is missing, unfinished or harmed, or holds none of them.
    """
    return opened(artifact.holds(folder, *names))


def opened(table: Path) -> pa.Table:
    """The committed parts of a table as one, memory-mapped; of an artifact still being written, too."""
    parts = []
    for note in sorted(table.glob("part-*.json")):
        try:
            source = pa.memory_map(str(note.with_suffix(".arrow")))
            parts.append(pa.ipc.open_file(source).read_all())
        except (pa.ArrowInvalid, OSError) as error:
            raise Refused(
                f"{note.with_suffix('.arrow')} cannot be read: {error}. Delete it with its note, run again."
            ) from error
    if not parts:
        raise Refused(f"{table} holds no rows. Look at what its step dropped: distill show {table.parent}")
    return pa.concat_tables(parts)


def dataset(folder: Path, *names: str) -> "datasets.Dataset":
    """A table of a finished artifact as a Hugging Face `Dataset`, over the same mapped memory."""
    import datasets
    from datasets.table import InMemoryTable

    return datasets.Dataset(InMemoryTable(read(folder, *names)))


def scale(table: pa.Table, column: str) -> dict[str, str]:
    """What a column of scores says of its numbers: their scale, and the model that gave them."""
    return {name.decode(): value.decode() for name, value in (table.schema.field(column).metadata or {}).items()}


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as an array (rows, width); no copy when the table is one part."""
    parts = mapped(column).parts
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Stacked:
    """Arrays of one width, one below the other: memory-mapped parts of which rows are read when they are asked for."""

    parts: Sequence[Num[np.ndarray, "_ width"]]

    @cached_property
    def starts(self) -> Int[np.ndarray, "parts_and_one"]:
        """Where each part starts; one more at the end."""
        return np.cumsum([0, *(len(part) for part in self.parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and width."""
        return int(self.starts[-1]), int(self.parts[0].shape[1])

    def __getitem__(self, rows: Int[np.ndarray, "chosen"]) -> Num[np.ndarray, "chosen width"]:
        """Some rows, copied."""
        found = np.empty((len(rows), self.shape[1]), self.parts[0].dtype)
        part = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(part):
            here = part == number
            found[here] = self.parts[number][rows[here] - self.starts[number]]
        return found


def mapped(column: pa.ChunkedArray) -> Stacked:
    """A fixed-size list column as it lies in its parts: nothing is read before it is asked for."""
    width = column.type.list_size
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    return Stacked([chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, width) for chunk in chunks])


def texts(column: pa.ChunkedArray) -> list[str]:
    """A column of text as a list."""
    return column.to_pylist()


def passage_texts(table: pa.Table, rows: Sequence[int] | np.ndarray | None = None) -> list[str]:
    """What a model reads of each passage: the title, if there is one, and the text below it.

    Raises:
        IndexError: A row is outside the table.
    """
    if rows is None:
        return _joined(table)
    # A slice at a time: `take` would first copy the texts of the whole table.
    wanted, places = np.unique(np.asarray(rows, np.int64), return_inverse=True)
    read: list[str] = []
    start = 0
    for batch in table.to_batches(max_chunksize=SLICE):
        low, high = np.searchsorted(wanted, [start, start + len(batch)]).tolist()
        if high > low:
            read += _joined(pa.Table.from_batches([batch.take(pa.array(wanted[low:high] - start))]))
        start += len(batch)
    if len(read) < len(wanted):
        raise IndexError(f"rows {wanted[0]} to {wanted[-1]} of a table of {start}")
    return [read[place] for place in places]


def all_texts(folder: Path) -> Iterator[list[str]]:
    """The texts of passages, without and with their titles, and of queries of an artifact, a few thousand at a time."""
    passages = read(folder, "passages")
    for start in range(0, len(passages), READ):
        part = passages.slice(start, READ)
        yield texts(part["text"])
        yield passage_texts(part.filter(pc.not_equal(part["title"], "")))
    if (folder / "examples").is_dir():
        asked = read(folder, "examples")["query"]
        for start in range(0, len(asked), READ):
            yield texts(asked.slice(start, READ))


def every_text(folder: Path) -> Iterator[list[str]]:
    """The passages (with their titles) and the queries of an artifact, a few thousand at a time.

    Raises:
        Refused: It holds neither.
    """
    asked = [name for name in ("queries", "candidates", "judgements", "examples") if (folder / name).is_dir()]
    if not asked and not (folder / "passages").is_dir():
        raise Refused(f"{folder} holds neither passages nor queries. Name a step that does, such as an ingest.")
    if (folder / "passages").is_dir():
        passages = read(folder, "passages")
        for start in range(0, len(passages), READ):
            yield passage_texts(passages.slice(start, READ))
    for name in asked:
        said = read(folder, name)["query"]
        for start in range(0, len(said), READ):
            yield texts(said.slice(start, READ))


def _joined(table: pa.Table) -> list[str]:
    untitled = pc.equal(table["title"], "")
    joined = pc.binary_join_element_wise(table["title"], table["text"], "\n")
    return texts(pc.if_else(untitled, table["text"], joined))


def check_rows(name: str, rows: Iterable[int] | np.ndarray, count: int) -> None:
    """Make sure that row numbers lie inside the table they count.

    Raises:
        Refused: Names the first that does not.
    """
    numbers = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), dtype=np.int64)
    outside = np.flatnonzero((numbers < 0) | (numbers >= count))
    if len(outside):
        raise Refused(f"{name}: row {numbers[outside[0]]} is outside the passages table of {count} rows.")


def to_parquet(folder: Path, target: Path) -> list[Path]:
    """Copy every table of a finished artifact to Parquet (zstd, page checksums), for other programs."""
    artifact.require(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for table in sorted({file.parent for file in folder.glob("*/part-*.arrow")}):
        file = target / f"{table.name}.parquet"
        with files.replacing(file) as part:
            pq.write_table(opened(table), part, compression="zstd", write_page_checksum=True)
        written.append(file)
    return written


def describe(folder: Path) -> dict[str, int]:
    """Rows of each table that an artifact holds, from the parts' notes alone."""
    counts: dict[str, int] = {}
    for file in sorted(folder.glob("*/part-*.json")):
        counts[file.parent.name] = counts.get(file.parent.name, 0) + int(json.loads(file.read_bytes())["rows"])
    return counts
