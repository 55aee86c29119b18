"""Files that are written whole or not at all, and their hashes."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFTOVER = re.compile(r"(^|/)\.[^/]+\.\d+\.tmp(/|$)")
"""What `replacing` leaves when it is killed."""


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write all of a file or a folder, or nothing.

    Yields a name beside the target to write to (never in another file system, where a rename
    is a copy); what was written is flushed, renamed, and the parent flushed.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield part
        for file in [part, *part.rglob("*")] if part.is_dir() else [part]:
            _flush(file)
        if target.is_dir():
            shutil.rmtree(target)
        part.replace(target)
        _flush(target.parent)  # without it a power cut may undo the rename
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete what `replacing` left in a folder when it was killed."""
    for part in [part for part in folder.rglob(".*.tmp") if LEFTOVER.search(part.name)]:
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def write_json(file: Path, value: object) -> None:
    """Write JSON, all of it or nothing."""
    with replacing(file) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_text(file: Path, text: str) -> None:
    """Write a text file, all of it or nothing; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8")
