"""An artifact in the terminal: what made it, what it holds, what was dropped, a few rows. Reads files only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.markup import escape

from distill import artifact, console, legend, lineage, tables
from distill.console import duration
from distill.errors import Refused
from distill.findings import cut, flat, told

WIDTH = 160
"""Characters of a text that is shown, unless whole texts are asked for."""
SAID = 400
"""Characters of a setting that are shown: a prompt has thousands."""
FEW = 6
"""Numbers of a list that are shown."""
DRAFTS = "drafts"
"""Table whose rows a step writes once more, without those that it drops in the end: those are shown."""
RULES = (lineage.SAME, lineage.PARTLY, lineage.KEPT)


def show(
    folder: Path, rows: int = 5, verify: bool = False, parquet: Path | None = None, *, whole: bool = False
) -> None:
    """Print an artifact, finished or not.

    Args:
        folder: The artifact.
        rows: Rows of each table.
        whole: Whether texts are shown to their end, and all passages of a row.
        verify: Whether every file's hash is compared with the manifest.
        parquet: Where a copy of the tables for other programs goes.

    Raises:
        Refused: The folder is no artifact; or it is not finished or harmed, and `verify` or `parquet` was asked for.
    """
    rows = min(rows, 1 << 40)
    if rows < 0:
        raise Refused(f"rows: {rows}; needed: 0 or more.")
    if not artifact.is_artifact(folder):
        raise Refused(_no_artifact(folder))
    made = _Made.open(folder)
    _head(made)
    _tables(made)
    _facts(made)
    for table in made.rows:
        if table != DRAFTS or len(made.rows) == 1:
            _rows(made, table, rows, whole)
    if verify:
        artifact.require(folder)
        files = artifact.read_json(folder / "manifest.json")
        console.say(f"verified: {len(files)} files, {_bytes(_total(files))}, each with the size and the SHA-256 it had")
    if parquet is not None:
        for file in tables.to_parquet(folder, parquet):
            console.say(f"wrote {file}")


def _no_artifact(folder: Path) -> str:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        return f"{folder} {what}. Give the folder of a step, such as runs/quickstart/corpus."
    steps = sorted(part.name for part in folder.iterdir() if part.is_dir() and artifact.is_artifact(part))
    if steps:
        return f"{folder} is a whole run. Show one of its steps: {', '.join(str(folder / step) for step in steps)}."
    return f"{folder} is not an artifact (it has no recipe.json). Give the folder of a step."


@dataclass(frozen=True)
class _Made:
    """What the files of an artifact say."""

    folder: Path
    recipe: dict[str, Any]
    facts: dict[str, Any]
    """Empty while it is not finished."""
    rows: dict[str, int]
    beside: dict[str, Path]
    """Artifacts in the same folder, by fingerprint."""

    @classmethod
    def open(cls, folder: Path) -> "_Made":
        """Read recipe, facts and notes; tables are opened later."""
        others = (part for part in sorted(folder.absolute().parent.iterdir()) if artifact.is_artifact(part))
        return cls(
            folder,
            artifact.read_json(folder / "recipe.json"),
            artifact.read_json(folder / "done.json") if artifact.is_done(folder) else {},
            tables.describe(folder),
            {artifact.fingerprint(part): part for part in others},
        )

    def named(self, fingerprint: str) -> str:
        """What to call an artifact."""
        found = self.beside.get(fingerprint)
        return found.name if found else f"artifact {fingerprint[:12]}, which is not beside this one"


def _head(made: _Made) -> None:
    folder, recipe = made.folder, made.recipe
    fingerprint = artifact.fingerprint(folder)[:12]
    console.say(f"{folder}: {recipe.get('verb')}, recipe {fingerprint}, {_state(made)}", style="bold")
    settings = recipe.get("settings")
    for name, value in (settings or {}).items():
        if value not in (None, "", [], {}):
            console.say(f"  {name}: {cut(_printable(_setting(made, value)), SAID)}")


def _state(made: _Made) -> str:
    if not artifact.is_done(made.folder):
        return "not finished: what is there is shown; run its step again, and it goes on"
    peak = made.facts.get("peak_memory_bytes")
    memory = f", {_bytes(peak)} of memory at most" if isinstance(peak, int) else ""
    return f"finished in {duration(float(made.facts.get('seconds', 0)))}{memory}"


def _setting(made: _Made, value: object) -> str:
    """A setting of a recipe, as one would write it: artifacts by name, classes with what was said to them."""
    if isinstance(value, Mapping):
        if set(value) == {"artifact"}:
            return made.named(str(value["artifact"]))
        if set(value) == {"sha256"}:
            return f"file {str(value['sha256'])[:12]}"
        if "class_path" in value:
            return f"{value['class_path']}({_arguments(made, value.get('init_args', {}))})"
        if "class" in value:
            return f"{value['class']}({_arguments(made, {k: v for k, v in value.items() if k != 'class'})})"
        return _arguments(made, value)
    if isinstance(value, list):
        return ", ".join(_setting(made, held) for held in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _arguments(made: _Made, given: Mapping[str, object]) -> str:
    said = {name: value for name, value in given.items() if value is not None and value not in ("", [], {})}
    return ", ".join(f"{name}: {_setting(made, value)}" for name, value in said.items())


def _tables(made: _Made) -> None:
    listed = []
    for name, rows in made.rows.items():
        notes = tables.notes(made.folder / name)
        listed.append((name, f"{rows:,}", f"{len(notes):,}", _bytes(sum(int(str(note["bytes"])) for note in notes))))
    if listed:
        _table("tables", ("table", "rows", "parts", "size"), listed)
    parts = (part for part in sorted(made.folder.iterdir()) if part.is_dir() and part.name not in made.rows)
    for part in parts:
        if part.name not in artifact.WORKING:
            files = [file for file in sorted(part.rglob("*")) if file.is_file()]
            found = [(file.relative_to(part).as_posix(), _bytes(file.stat().st_size)) for file in files]
            _table(part.name, ("file", "size"), found)


def _facts(made: _Made) -> None:
    dropped = made.facts.get("dropped") or _dropped_so_far(made)
    if counted := [(rule, f"{count:,}") for rule, count in flat(dropped) if isinstance(count, int) and count]:
        _table("dropped", ("rule", "rows"), counted)
    if warning := made.facts.get("warning"):  # in a cell it could not be read
        console.say(f"warning: {_printable(str(warning))}")
    single = {name: value for name, value in made.facts.items() if name not in (*legend.ASIDE, "warning")}
    if single:
        _table("facts", ("fact", "value"), [(name, told(value)) for name, value in flat(single)])
    held = lineage.told(made.folder.name, made.facts)
    if "licences" in made.facts and held.licences:
        _table("licences", ("source", "licence"), list(held.licences.items()))
    if found := held.contamination():
        rows = [(name, *(f"{counts.get(rule, 0):,}" for rule in RULES)) for name, counts in found.items()]
        _table("rows with text of a benchmark", ("benchmark", *RULES), rows)
    if versions := made.facts.get("versions"):
        console.say("made with " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    for table, fingerprint in (made.facts.get("refers") or {}).items():
        if table != "embedded" and str(fingerprint) != artifact.fingerprint(made.folder):
            console.say(f"its row numbers count the {table} of {made.named(str(fingerprint))}")


def _dropped_so_far(made: _Made) -> dict[str, int]:
    """By the notes of the parts that are there, while there are no facts."""
    counts: dict[str, int] = {}
    for name in made.rows:
        for note in tables.notes(made.folder / name):
            for rule, count in flat(note.get("dropped", {})):
                counts[rule] = counts.get(rule, 0) + int(str(count))
    return counts


def _rows(made: _Made, table: str, count: int, whole: bool) -> None:
    """The first rows of a table, with the texts of the passages that they name."""
    held = tables.opened(made.folder / table)
    shown = held.slice(0, count).to_pylist()
    if not shown:
        return
    console.say(f"{table}: the first {len(shown)} of {len(held):,} rows", style="bold")
    texts = _Texts(made, table, held, whole)
    for number, row in enumerate(shown):
        console.say(f"  {number}")
        for name, value in row.items():
            for line in _twins(row) if name == "twins" else texts.lines(name, value):
                console.say(f"    {line}")


def _twins(row: Mapping[str, Any]) -> Iterator[str]:
    """The candidates that say nearly the same as an earlier one; most rows have none."""
    pairs = zip(row["passages"], row["twins"], strict=True)
    if alike := [f"{one} says nearly the same as {first}" for one, first in pairs if one != first]:
        yield f"twins: {'; '.join(alike)}"


class _Texts:
    """Values of rows as lines; a number of a passage brings its text."""

    def __init__(self, made: _Made, table: str, held: pa.Table, whole: bool) -> None:
        self._width = None if whole else WIDTH
        self._few = None if whole else FEW
        named = set(held.schema.names)
        self._counts = table != "passages" and {"passages", "passage", "seed"} & named
        self._passages = _passages(made) if self._counts else None
        asked = made.folder / "examples"
        self._examples = tables.opened(asked) if "example" in named and asked.is_dir() else None

    def lines(self, name: str, value: object) -> Iterator[str]:
        """Name and value; a line for each of the first passages."""
        if name in ("seed", "passage") and isinstance(value, int):
            yield f"{name}: {self._passage(value)}"
        elif name == "example" and isinstance(value, int) and value >= 0 and self._examples is not None:
            yield f"example: {value}  {_text(self._examples['query'][value].as_py(), self._width)}"
        elif name == "passages" and isinstance(value, list):
            for place, row in enumerate(value[: self._few]):
                yield f"passage {place}: {self._passage(int(row))}"
            if self._few and len(value) > self._few:
                yield f"and {len(value) - self._few} more passages"
        else:
            yield f"{name}: {_value(value, self._width, self._few)}"

    def _passage(self, row: int) -> str:
        if row < 0 or self._passages is None or row >= len(self._passages):
            return f"{row}"
        return f"{row}  {_text(tables.passage_texts(self._passages, [row])[0], self._width)}"


def _passages(made: _Made) -> pa.Table | None:
    """The passages that an artifact's row numbers count, if they lie in it or beside it."""
    refers = made.facts.get("refers")
    wanted = refers.get("passages") if isinstance(refers, dict) else None
    if wanted is None:  # not finished: the recipe tells
        given = (made.recipe.get("settings") or {}).get("passages")
        wanted = given.get("artifact") if isinstance(given, dict) else None
    found = made.folder if (made.folder / "passages").is_dir() else made.beside.get(str(wanted))
    return tables.opened(found / "passages") if found and (found / "passages").is_dir() else None


def _value(value: object, width: int | None, few: int | None) -> str:
    if isinstance(value, list):
        first = ", ".join(_value(held, width, few) for held in value[:few])
        return f"[{first}, … {len(value)} in all]" if few and len(value) > few else f"[{first}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return _text(value, width) if isinstance(value, str) else str(value)


def _text(text: str, width: int | None = WIDTH) -> str:
    """A text on one line; cut, unless it has no width."""
    return _printable(text) if width is None else cut(_printable(text[: 4 * width]), width)


def _printable(text: str) -> str:
    """A text on one line, without characters that would steer the terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.table(title, columns, [[escape(_text(value)) for value in row] for row in rows])


def _total(files: Mapping[str, object]) -> int:
    return sum(int(str(entry["bytes"])) for entry in files.values() if isinstance(entry, dict))


def _bytes(count: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
