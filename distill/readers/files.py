"""Foreign files as records, streamed, each with its place; what cannot be read is refused with file and line."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distill.errors import Refused

Record = tuple[str, Mapping[str, object]]
"""Where a record was read, and its fields by name."""

ROWS_AT_ONCE = 4096

LONGEST_FIELD = 100_000_000
"""Characters of a separated value at most: what is longer is a quote that never closes."""


def check_is_file(file: Path) -> None:
    """Make sure that a path leads to a file, if anywhere: a pipe or a device may never end.

    Raises:
        Refused: It leads to something else.
    """
    if file.exists() and not file.is_file():
        raise Refused(f"{file} is {'a folder' if file.is_dir() else 'a pipe or a device'}. Needed: a file.")


def check_is_folder(folder: Path) -> None:
    """Make sure that a path leads to a folder, if anywhere.

    Raises:
        Refused: It leads to something else.
    """
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is not a folder. Needed: a folder; for a file, see JSONL, CSV and Parquet.")


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file, numbered from 1, with their ends.

    Raises:
        Refused: The file cannot be opened, or a line is not UTF-8.
    """
    check_is_file(file)
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"{file}, line {number}: not UTF-8 ({error.reason}). Convert the file to UTF-8.") from error
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}. Check the path.") from error


def json_lines(file: Path) -> Iterator[Record]:
    """The objects of a file with one JSON object a line; blank lines are passed over.

    Raises:
        Refused: A line is no JSON object.
    """
    for number, line in lines(file):
        if not line.strip():
            continue
        at = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refused(f"{at}: not JSON ({error}). Needed: one JSON object a line.") from error
        if not isinstance(record, dict):
            raise Refused(f"{at}: a JSON {type(record).__name__}. Needed: one JSON object a line.")
        yield at, record


def separated(file: Path, delimiter: str) -> Iterator[Record]:
    """The rows of a file of separated values, whose first line names the columns.

    Raises:
        Refused: A row has more or fewer values than there are columns, or its quotes do not close; or two
            columns have one name.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))  # else one long text stops the whole file
    rows = csv.reader((line for _, line in lines(file)), delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        _check_names(file, header)
        for row in rows:
            at = f"{file}, line {rows.line_num}"
            if row and len(row) != len(header):
                raise Refused(f"{at}: {len(row)} values for {len(header)} columns. Check quotes and delimiter.")
            if row:
                yield at, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise Refused(f"{file}, line {rows.line_num}: {error}. Check quotes and delimiter.") from error


def parquet(file: Path, needed: Collection[str], optional: Collection[str] = ()) -> Iterator[Record]:
    """The rows of a Parquet file; checksums of its pages are compared where it has them.

    Args:
        file: The file.
        needed: Columns that are read; all are, when one of these is not there.
        optional: Columns that are read too where they are there.

    Raises:
        Refused: The file is damaged, not Parquet, or holds text that is not UTF-8; or two columns have one name.
    """
    check_is_file(file)
    number = 0
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            there = opened.schema_arrow.names
            _check_names(file, there)
            chosen = [name for name in there if name in needed or name in optional]
            columns = chosen if set(needed) <= set(there) else None
            for batch in opened.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", record
    except FileNotFoundError as error:
        raise Refused(f"{file} cannot be read: no such file. Check the path.") from error
    except UnicodeDecodeError as error:
        raise Refused(
            f"{file}, after row {number}: text is not UTF-8 ({error.reason}). Write the file anew."
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise Refused(
            f"{file}, after row {number}: {error}. It is no Parquet file, or damaged: fetch it again."
        ) from error


def _check_names(file: Path, names: Collection[str]) -> None:
    """Refuse two columns of one name; several without any are what a spreadsheet leaves behind."""
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise Refused(f"{file}: two columns are called {twice[0]!r}. Rename one.")


def text(file: Path) -> str:
    """A whole UTF-8 file.

    Raises:
        Refused: As `lines`.
    """
    return "".join(line for _, line in lines(file)).replace("\r\n", "\n")
