"""Which rows batch k reads: in random order or near ones together, a task's rows as often as its share, blended or not.

A batch is a function of (seed, k), so that a training that resumes needs no state but k.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


def permuted(rows: int, size: int, seed: int, step: int) -> Int[np.ndarray, "size"]:
    """The rows of batch `step`: each epoch is its own permutation, and a batch does not cross epochs."""
    size = min(size, rows)
    epoch, at = divmod(step, rows // size)
    return _order(rows, seed, epoch)[at * size : (at + 1) * size]


@functools.lru_cache(maxsize=8)
def _order(rows: int, seed: int, epoch: int) -> Int[np.ndarray, "rows"]:
    return np.random.default_rng((seed, epoch)).permutation(rows)


BLOCK = 32768
"""Rows among which near ones are sought at once: bounds memory, whatever the number of rows."""

OFTEN = 10
"""Times that a row comes in an epoch at most, however small its task."""


@runtime_checkable  # for the comparison with annotations while tests run
class Vectors(Protocol):
    """Where rows lie."""

    def __getitem__(self, numbers: Int[np.ndarray, "chosen"]) -> Float[np.ndarray, "chosen dim"]:
        """A vector of each row, NaN where there is none."""
        ...


@dataclass(frozen=True, eq=False)
class Sampler:
    """Rows of several tasks."""

    tasks: Int[np.ndarray, "rows"]
    """The task of each row, counted from 0."""
    size: int
    """Rows in a batch; fewer where there are fewer, or where a task has fewer and stands alone."""
    seed: int
    by_task: bool = False
    """Whether all rows of a batch are of one task; else tasks are blended, as in NV-Embed (arXiv 2405.17428, 2.2)."""
    balance: float = 1.0
    """A task's share of an epoch is its share of the rows to this power: 1 leaves it, 0 makes all tasks alike.
    Rows of a task that gives more than it has come again, perhaps in one batch, where equal queries do not count."""
    near: int = 0
    """A batch's rows are of one cell of at most so many that lie near each other, so that passages of batch-mates are
    harder negatives (after TAS-Balanced, arXiv 2104.06967); the cells are others in each epoch. 0: of all rows."""
    vectors: Vectors | None = None
    """Where rows lie, if they are to be near."""

    def batch(self, step: int) -> Int[np.ndarray, "chosen"]:
        """The rows of batch `step`."""
        if not self.by_task and self.balance == 1 and not self.near:
            return permuted(len(self.tasks), self.size, self.seed, step)
        epoch, at = divmod(step, len(_epoch(self, 0)))
        return _epoch(self, epoch)[at]

    @functools.cached_property
    def held(self) -> list[Int[np.ndarray, "_"]]:
        """The rows of each task."""
        return [np.flatnonzero(self.tasks == task) for task in np.unique(self.tasks)]

    @functools.cached_property
    def quotas(self) -> list[int]:
        """Rows that each task gives to an epoch; all together about as many as there are, or fewer."""
        shares = np.array([len(rows) for rows in self.held], float) ** self.balance
        wanted = np.round(shares / shares.sum() * len(self.tasks))
        return [min(max(1, int(count)), OFTEN * len(rows)) for count, rows in zip(wanted, self.held, strict=True)]


@functools.lru_cache(maxsize=4)
def _epoch(sampler: Sampler, epoch: int) -> list[Int[np.ndarray, "_"]]:
    """The batches of an epoch; what does not fill a batch waits for another one."""
    random = np.random.default_rng((sampler.seed, epoch, 2))
    drawn = [_drawn(sampler, task, epoch) for task in range(len(sampler.held))]
    if not sampler.by_task:
        batches = _cut(_mixed(sampler, np.concatenate(drawn), sampler.size, random), sampler.size)
        return _shuffled(batches, random) if sampler.near else batches
    sizes = [min(sampler.size, len(rows)) for rows in sampler.held]
    pairs = list(zip(drawn, sizes, strict=True))
    mixed = [_mixed(sampler, rows, size, random) if sampler.near else rows for rows, size in pairs]
    return _shuffled([batch for rows, size in zip(mixed, sizes, strict=True) for batch in _cut(rows, size)], random)


def _shuffled(batches: list[Int[np.ndarray, "_"]], random: np.random.Generator) -> list[Int[np.ndarray, "_"]]:
    return [batches[at] for at in random.permutation(len(batches))]


def _mixed(
    sampler: Sampler, rows: Int[np.ndarray, "rows"], size: int, random: np.random.Generator
) -> Int[np.ndarray, "rows"]:
    """The rows at random, or cell after cell, for batches of a size."""
    rows = random.permutation(rows)
    if not sampler.near:
        return rows
    assert sampler.vectors is not None
    size = min(size, len(rows))
    most = max(size, BLOCK // size * size)
    blocks = (rows[start : start + most] for start in range(0, len(rows), most))
    return np.concatenate(
        [block[cell] for block in blocks for cell in cells(sampler.vectors[block], sampler.near, size, random)]
    )


def cells(
    vectors: Float[np.ndarray, "rows dim"], most: int, size: int, random: np.random.Generator
) -> Iterator[Int[np.ndarray, "_"]]:
    """Rows in cells of at most `most` near ones: halved again and again, each time between two rows drawn at random.

    Cells are of like size, which clusters would not be, and need no number of clusters to be known. Each but the last
    holds whole batches, so that none is of two cells.

    Args:
        vectors: Where rows lie, NaN where that is not known.
        most: Rows of a cell, at least those of a batch.
        size: Rows of a batch.
        random: What is drawn with.
    """
    vectors = np.nan_to_num(vectors)
    waiting = [np.arange(len(vectors))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= most:
            yield random.permutation(rows)
            continue
        one, other = vectors[random.choice(rows, 2, replace=False)]
        order = np.argsort(vectors[rows] @ (one - other), kind="stable")
        half = -(-(len(rows) // size) // 2) * size
        waiting += [rows[order[half:]], rows[order[:half]]]  # what is no whole batch comes last


def _drawn(sampler: Sampler, task: int, epoch: int) -> Int[np.ndarray, "quota"]:
    """What a task gives to an epoch: the next rows of one permutation of them after the other."""
    rows, quota = sampler.held[task], sampler.quotas[task]
    rounds, at = np.divmod(np.arange(epoch * quota, (epoch + 1) * quota), len(rows))
    orders = np.stack([_order(len(rows), sampler.seed + task, int(number)) for number in np.unique(rounds)])
    return rows[orders[rounds - rounds[0], at]]


def _cut(rows: Int[np.ndarray, "rows"], size: int) -> list[Int[np.ndarray, "_"]]:
    size = min(size, len(rows))
    return [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]
