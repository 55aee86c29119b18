"""Texts to token ids once, memory-mapped inside the artifact that needs them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from distill import files
from distill.interfaces import Embedder, TokenRows

Texts = tuple[Sequence[str], Sequence[str] | None]
"""Some texts, and the tasks they are read with as queries (None: as passages)."""


def tokenized(folder: Path, embedder: Embedder, chunks: Iterable[Texts]) -> TokenRows:
    """Token ids of texts, written to a folder, or found there, and memory-mapped.

    Args:
        folder: One folder for one set of texts.
        embedder: Whose tokenizer reads them.
        chunks: The texts, so many at a time that they fit into memory; not read when the ids are there.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(folder) as part:
            part.mkdir()
            _write(part, embedder, chunks)
    starts = np.load(folder / "starts.npy", mmap_mode="r")
    ids = np.load(folder / "ids.npy", mmap_mode="r")
    unpooled = np.load(folder / "unpooled.npy", mmap_mode="r")
    return TokenRows(ids, starts, unpooled, int(np.load(folder / "pad.npy")))


def _write(folder: Path, embedder: Embedder, chunks: Iterable[Texts]) -> None:
    lengths, unpooled, pad, total = [np.zeros(1, np.int64)], [], 0, 0
    with (folder / "ids.bin").open("wb") as stream:
        for texts, tasks in chunks:
            rows = embedder.tokenize(texts, tasks)
            stream.write(np.ascontiguousarray(rows.ids, np.uint32).tobytes())
            lengths.append(rows.lengths)
            unpooled.append(rows.unpooled)
            pad, total = rows.pad, total + len(rows.ids)
    ids = np.lib.format.open_memmap(folder / "ids.npy", mode="w+", dtype=np.uint32, shape=(total,))
    if total:
        ids[:] = np.memmap(folder / "ids.bin", np.uint32, "r")
    ids.flush()
    (folder / "ids.bin").unlink()
    np.save(folder / "starts.npy", np.cumsum(np.concatenate(lengths)))
    np.save(folder / "unpooled.npy", np.concatenate(unpooled) if unpooled else np.zeros(0, np.int64))
    np.save(folder / "pad.npy", np.int64(pad))
