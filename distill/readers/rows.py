"""What a reader gives: rows of a few shapes, each with the place it was read at."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.errors import Refused


@dataclass(frozen=True)
class Passage:
    """A text that may be retrieved."""

    source: str
    """Where it came from, in words."""
    key: str
    """Its id there; empty if it has none."""
    title: str
    """May be empty."""
    text: str
    at: str
    """File and line, for messages."""


@dataclass(frozen=True)
class Retrieval:
    """A query and the passages known to answer it: a passage itself, or the key of one given before."""

    task: str
    query: str
    positives: tuple[Passage | str, ...]
    negatives: tuple[Passage | str, ...]
    grades: tuple[float, ...]
    """Of the positives, then the negatives, when all are judged (a benchmark); empty otherwise."""
    at: str
    kind: Literal["retrieval", "classification", "sts"] = "retrieval"
    """What the examples count as; those of another kind than retrieval are told from their own negatives alone."""


@dataclass(frozen=True)
class Labelled:
    """A text of a class or cluster."""

    kind: Literal["classification", "clustering"]
    task: str
    passage: Passage
    label: str
    by_label: bool = False
    """Whether its positive is the text of its label; else another text of the class."""
    benchmark: bool = False
    """Kept with its label for evaluation; else an example to train on."""


@dataclass(frozen=True)
class Pair:
    """Two texts and how alike they are, from 0 to 1."""

    task: str
    first: Passage
    second: Passage
    score: float
    benchmark: bool
    """Kept with its score for evaluation; else a positive if alike, or dropped."""


Row = Passage | Retrieval | Labelled | Pair


def is_storable(text: str) -> bool:
    """Whether a text is UTF-8 without NUL, which other programs end a text at."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # a lone surrogate, as JSON can spell one
        return False


class Reader(ABC):
    """Foreign text as rows. A subclass is a frozen dataclass with the user's settings as fields.

    A key counts within its reader; rows are streamed, never held all at once.
    """

    licence: str = ""
    """Of what is read; carried to the model card."""
    limit: int | None = None
    """The most that is read; all if None."""

    def __post_init__(self) -> None:
        """Refuse a setting that no table can hold."""
        for name, value in vars(self).items():
            if isinstance(value, (str, Path)) and not is_storable(str(value)):
                raise Refused(f"{name}: {str(value)!r:.80} is no UTF-8, or holds NUL. Write it anew; rename a file.")

    @abstractmethod
    def read(self) -> Iterator[Row]:
        """The rows, in an order that is the same at every reading.

        Raises:
            Refused: Something cannot be read; names file and line, and what to do.
        """
