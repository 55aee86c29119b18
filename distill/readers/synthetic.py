"""A reader of what `synthesize` made up."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distill import artifact, synthesis, tables
from distill.readers import files
from distill.readers.rows import Passage, Reader, Retrieval


@dataclass(frozen=True, kw_only=True)
class Synthetic(Reader):
    """Made-up examples as rows, so that benchmark text is kept out of them, and each text is kept once, as of all."""

    path: Path
    """A step of `synthesize`, or its folder."""
    licence: str = ""
    """Of what the language model writes, as its owner names it."""
    limit: int | None = None
    """At most so many, spread evenly over all, for those of a group stand together; all if None."""

    def __post_init__(self) -> None:
        """Refuse what is no folder."""
        Reader.__post_init__(self)
        files.check_is_folder(self.path)

    def read(self) -> Iterator[Retrieval]:
        """A row for each record, with its hard negative where its group has one.

        Raises:
            Refused: The folder holds no finished records.
        """
        artifact.require(self.path)
        held = tables.read(self.path, "records")
        if self.limit is not None and self.limit < len(held):
            held = held.take([place * len(held) // self.limit for place in range(self.limit)])
        records = (row for batch in held.to_batches() for row in batch.to_pylist())
        for number, record in enumerate(records):
            at = f"{self.path}, record {number}"
            right, wrong = (
                (Passage(f"synthetic {record['group']}", f"{number} {side}", "", record[side], at),)
                if record[side]
                else ()
                for side in ("positive", "negative")
            )
            kind = synthesis.SHAPES[record["group"]].kind
            yield Retrieval(record["task"], record["query"], right, wrong, (), at, kind)
