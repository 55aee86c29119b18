"""Token ids on disk: written once, the same as tokenised directly."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from torch import Tensor

from distill.interfaces import Embedder, TokenRows, Tokens
from distill.tokens import Texts, tokenized


class Letters(Embedder):
    """A token a letter; a task's letters stand before and are not pooled. Counts the texts it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 1
        self.read = 0

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        self.read += len(texts)
        before = tasks or [""] * len(texts)
        rows = [[ord(letter) for letter in task + text] for task, text in zip(before, texts, strict=True)]
        return TokenRows.of(rows, [len(task) for task in before], 7)

    def forward(self, tokens: Tokens) -> Tensor:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


TEXTS = ["one", "", "three and a half", "\N{GRINNING FACE}", "five"]
TASKS = ["say", "", "find it: ", "a", "b"]


def pieces(size: int, tasks: Sequence[str] | None) -> Iterator[Texts]:
    for start in range(0, len(TEXTS), size):
        end = start + size
        yield TEXTS[start:end], None if tasks is None else tasks[start:end]


def same(found: TokenRows, expected: TokenRows) -> bool:
    names = ("ids", "starts", "unpooled")
    return found.pad == expected.pad and all(
        np.array_equal(getattr(found, name), getattr(expected, name)) for name in names
    )


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("tasks", [None, TASKS])
def test_equal_to_tokenising_directly(size: int, tasks: list[str] | None, tmp_path: Path) -> None:
    """Harm: at the border of two chunks a text gets its neighbour's letters."""
    found = tokenized(tmp_path / "tokens" / "queries", Letters(), pieces(size, tasks))
    assert same(found, Letters().tokenize(TEXTS, tasks))
    assert isinstance(found.ids, np.memmap)


def test_queries_and_passages_may_follow_each_other(tmp_path: Path) -> None:
    """Harm: passages that are read as queries lose their task, or give it to the bare ones."""
    found = tokenized(tmp_path / "tokens", Letters(), [(TEXTS[:2], None), (TEXTS[2:], TASKS[2:])])
    assert same(found, Letters().tokenize(TEXTS, ["", "", *TASKS[2:]]))


def test_second_call_reads_what_the_first_wrote(tmp_path: Path) -> None:
    """Harm: every resume tokenises the corpus again."""
    embedder = Letters()

    def once() -> Iterator[Texts]:
        assert not embedder.read, "texts are read again"
        yield TEXTS, TASKS

    first = tokenized(tmp_path / "tokens", embedder, once())
    second = tokenized(tmp_path / "tokens", embedder, once())
    assert embedder.read == len(TEXTS)
    assert same(second, first)


def test_killed_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """Harm: after a crash half of the texts pass for all of them."""

    def broken() -> Iterator[Texts]:
        yield TEXTS, None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenized(tmp_path / "tokens", Letters(), broken())
    assert list(tmp_path.iterdir()) == []
    assert same(tokenized(tmp_path / "tokens", Letters(), pieces(2, None)), Letters().tokenize(TEXTS))


def test_no_text_at_all(tmp_path: Path) -> None:
    """Harm: an empty table cannot be mapped and stops the step with a riddle."""
    assert len(tokenized(tmp_path / "none", Letters(), [])) == 0
    assert tokenized(tmp_path / "empty", Letters(), [([""], None)]).lengths.tolist() == [0]
