"""A folder that knows what made it, what it holds, and whether it is finished and unharmed.

queries/                 one step
  recipe.json            what makes it: written first
  inputs.json            the manifest digest of each input as it was when work began
  queries/               one folder for each table or model
  manifest.json          size and SHA-256 of every lasting file
  done.json              facts: written last; its presence means complete
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from distill import files
from distill import recipe as recipes
from distill.errors import Refused

Facts = Mapping[str, object]

WORKING = ("checkpoints", "logs", "tokens")
"""Folders that work goes on in: no part of the result, so left out of the manifest."""

MAKERS = ("inputs.json", "recipe.json")
"""What says whose work a folder holds, in the order in which they are written, and deleted."""

_verified: set[tuple[str, str]] = set()  # folders whose hashes this process has compared: once is enough


def read_json(file: Path) -> dict[str, object]:
    """Read one of an artifact's JSON files.

    Raises:
        Refused: The file is not JSON: it was changed by hand or damaged.
    """
    if not file.is_file():
        raise Refused(f"{file} is missing: {file.parent} is no whole artifact. Make it with --again.")
    try:
        value = json.loads(file.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}")
    except (ValueError, OSError) as error:
        raise Refused(f"{file} cannot be read ({error}). Delete {file.parent} and run its step again.") from error
    return value


def _contents(out: Path) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of each lasting file, by relative name."""
    return {
        file.relative_to(out).as_posix(): {"bytes": file.stat().st_size, "sha256": files.digest(file)}
        for file in sorted(_lasting(out))
    }


def _lasting(out: Path) -> Iterator[Path]:
    """The files of an artifact's result."""
    for file in out.rglob("*"):
        if file.relative_to(out).parts[0] not in (*WORKING, "manifest.json", "done.json", ".lock") and file.is_file():
            yield file


def fingerprint(folder: Path) -> str:
    """The fingerprint of the recipe that made a folder."""
    return recipes.fingerprint(read_json(folder / "recipe.json"))


def version(folder: Path) -> str:
    """Digest of a finished artifact's manifest: the bytes it holds, not only what should have made them."""
    read_json(folder / "manifest.json")  # refuses one that is missing or damaged
    return files.digest(folder / "manifest.json")


def is_artifact(folder: Path) -> bool:
    """Whether a folder was begun by a step."""
    return (folder / "recipe.json").is_file()


def is_done(folder: Path) -> bool:
    """Whether a folder holds the complete result of a step."""
    return is_artifact(folder) and (folder / "done.json").is_file()


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """One writer an artifact; the lock goes with the process, however it ends."""
    with (out / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            raise Refused(
                f"{out} is being written by process {stream.read().strip() or 'unknown'}. Wait for it, or stop it."
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def stale_inputs(out: Path, inputs: Mapping[str, Path]) -> list[str]:
    """Names of inputs that were made again with other bytes since work on `out` began."""
    if not (out / "inputs.json").is_file():
        return []
    began = read_json(out / "inputs.json")
    return [name for name, folder in inputs.items() if began.get(name, version(folder)) != version(folder)]


def differences(out: Path, recipe: Facts, defaults: Facts, names: Mapping[str, str] | None = None) -> list[str]:
    """One line for each setting in which the recipe of a folder's work differs.

    Args:
        out: The folder.
        recipe: What would make it now.
        defaults: The recipe's settings at their defaults, for settings the older one lacks.
        names: What to call artifacts that are not made yet, by their fingerprints; those beside `out` are known.
    """
    older = recipes.filled(read_json(out / "recipe.json"), defaults)
    if not recipes.differences(older, recipe):
        return []
    return recipes.differences(older, recipe, _beside(out) | dict(names or {}))


def _beside(out: Path) -> dict[str, str]:
    """The names of the artifacts in the same folder, by fingerprint; without those that are damaged."""
    found: dict[str, str] = {}
    for folder in sorted(out.absolute().parent.iterdir()):
        if is_artifact(folder):
            with suppress(Refused):
                found[fingerprint(folder)] = folder.name
    return found


def refuse_other(out: Path, recipe: Facts, defaults: Facts) -> None:
    """Refuse a folder that holds the work of another recipe.

    Raises:
        Refused: Lists each setting that differs. A mixture of the two would show only in the
            final metric, so nothing is written.
    """
    if lines := differences(out, recipe, defaults):
        listed = "\n  ".join(lines)
        raise Refused(
            f"{out} was made by another recipe. Give the step another name, delete the folder, "
            f"or say --again {out.name}.\n  {listed}"
        )


def refuse_stale(out: Path, inputs: Mapping[str, Path]) -> None:
    """Refuse a folder whose inputs are no longer those that work on it began with.

    Raises:
        Refused: Names the inputs that were made again with other bytes.
    """
    if stale := stale_inputs(out, inputs):
        raise Refused(
            f"{out} is stale: {', '.join(stale)} was made again with other bytes since. "
            f"Delete {out}, or say --again {out.name}."
        )


@contextmanager
def claim(
    out: Path, recipe: Facts, inputs: Mapping[str, Path], defaults: Facts, *, resumes: bool = True
) -> Iterator[bool]:
    """Hold a folder for a recipe while working on it; yields whether there is work left.

    Args:
        out: The artifact's folder; made if it is not there.
        recipe: What makes it.
        inputs: The finished artifacts that are read, by the name of the argument.
        defaults: The recipe's settings at their defaults, for settings an older recipe lacks.
        resumes: Whether the work goes on where a kill left it; else what lies there unfinished is deleted.

    Raises:
        Refused: Another recipe's work is there, or files that no step made; an input was made again
            with other bytes; or another process holds the folder.
    """
    _refuse_link(out)
    out.mkdir(parents=True, exist_ok=True)
    with _lock(out):
        if is_artifact(out):
            refuse_other(out, recipe, defaults)
            refuse_stale(out, inputs)
        if is_done(out):
            yield False
            return
        if not is_artifact(out):
            _refuse_foreign(out)
        files.sweep(out)
        if is_artifact(out) and not resumes:
            _clear_work(out)
        if not is_artifact(out):
            files.write_json(out / "inputs.json", {name: version(folder) for name, folder in inputs.items()})
            files.write_json(out / "recipe.json", recipe)
        try:
            yield True
        except Exception:
            if not (resumes and _is_begun(out)):  # else the corrected settings would be refused because of these
                _clear(out)
                shutil.rmtree(out)
            raise


def _refuse_link(out: Path) -> None:
    """Refuse to write through a link: what is deleted and what is left would be of two places."""
    if out.is_symlink():
        raise Refused(f"{out} is a link. Name the folder that it leads to.")


def _refuse_foreign(out: Path) -> None:
    """Refuse to work in a folder of other things: the manifest would list them, the next step read them."""
    ours = (".lock", "inputs.json", "logs/error.txt")
    names = sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if not file.is_dir())
    held = [name for name in names if name not in ours and not files.LEFTOVER.search(name)]
    if held:
        (out / ".lock").unlink(missing_ok=True)
        raise Refused(f"{out} holds {held[0]}, which no step made. Give the step an empty folder, or a new one.")


def _is_begun(out: Path) -> bool:
    """Whether work was committed that the same recipe can go on from."""
    return any(out.glob("*/part-*.json")) or any(out.glob("checkpoints/*"))


def _clear(out: Path) -> None:
    """Delete what a folder holds: the mark of completeness first and the recipe last.

    A kill on the way leaves unfinished work under the recipe that made it, never tables of one recipe
    that another takes for its own.
    """
    (out / "done.json").unlink(missing_ok=True)
    _clear_work(out)
    for name in MAKERS:
        (out / name).unlink(missing_ok=True)


def _clear_work(out: Path) -> None:
    """Delete all but what says whose work it was."""
    for file in [file for file in out.iterdir() if file.name not in (*MAKERS, "done.json", ".lock")]:
        if file.is_dir():
            shutil.rmtree(file.rename(out / f".{file.name}.{os.getpid()}.tmp"))  # gone at once, or swept later
        else:
            file.unlink()


def finish(out: Path, facts: Facts) -> None:
    """List what the folder holds, then mark it complete: `done.json` is its last file."""
    files.write_json(out / "manifest.json", _contents(out))
    files.write_json(out / "done.json", facts)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)  # of use only to resume this very work


def facts(folder: Path) -> dict[str, object]:
    """What a finished artifact says of itself (`done.json`)."""
    require(folder)
    return read_json(folder / "done.json")


def require(folder: Path) -> None:
    """Make sure that an input is finished and unharmed: sizes always, hashes once a process.

    Raises:
        Refused: It is missing, unfinished, or a file is not as it was written.
    """
    if not is_artifact(folder):
        raise Refused(f"{folder} is not an artifact (it has no recipe.json). Run the step that makes it.")
    if not is_done(folder):
        raise Refused(f"{folder} is not finished. Run step {folder.name!r} again: it goes on where it stopped.")
    known = (str(folder.absolute()), version(folder))
    listed = read_json(folder / "manifest.json")
    if strangers := sorted({file.relative_to(folder).as_posix() for file in _lasting(folder)} - listed.keys()):
        raise Refused(f"{folder / strangers[0]} was not written by its step. Take it away.")
    for name, entry in listed.items():
        if not _is_unharmed(folder / name, entry, hashed=known in _verified):
            raise Refused(
                f"{folder / name} is not as it was written. "
                f"Delete {folder} and run step {folder.name!r} again to make it anew."
            )
    _verified.add(known)


def _is_unharmed(file: Path, entry: object, *, hashed: bool) -> bool:
    """Whether a file is what the manifest says; its bytes are read unless they were hashed before."""
    if not isinstance(entry, dict) or not file.is_file() or file.stat().st_size != entry.get("bytes"):
        return False
    return hashed or files.digest(file) == entry.get("sha256")


def holds(folder: Path, *names: str) -> Path:
    """The sub-folder of the first of these tables (or models) that a finished artifact holds.

    Raises:
        Refused: It holds none of them.
    """
    require(folder)
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    held = sorted(part.name for part in folder.iterdir() if part.is_dir() and part.name not in WORKING)
    raise Refused(f"{folder} holds {', '.join(held) or 'no table'}; needed {' or '.join(names)}.")


def verb(folder: Path) -> str:
    """What made a finished artifact."""
    require(folder)
    return str(read_json(folder / "recipe.json").get("verb"))


def embedded(vectors: Path) -> str:
    """What an artifact of `embed` holds the vectors of: a table's name and its fingerprint.

    Raises:
        Refused: It is an artifact of another verb.
    """
    holds(vectors, "vectors")
    told = facts(vectors)["refers"]
    assert isinstance(told, dict)
    return str(told["embedded"])


def check_refers(holder: Path, table: str, target: Path) -> None:
    """Make sure that the row numbers in one artifact count the rows of another.

    Raises:
        Refused: They count another table's rows: every join would be silently wrong.
    """
    counted = facts(holder).get("refers", {})
    assert isinstance(counted, dict)
    wanted = fingerprint(target)
    if fingerprint(holder) != wanted and counted.get(table, wanted) != wanted:
        raise Refused(
            f"{holder} counts rows of another table of {table} than {target}. Give it the {table} it was made with."
        )


def remove(out: Path) -> None:
    """Delete an artifact; a kill leaves it unfinished and not half."""
    _refuse_link(out)
    if is_artifact(out) or (out / "manifest.json").is_file():
        with _lock(out):
            _clear(out)
        shutil.rmtree(out)
