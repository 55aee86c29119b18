"""Rows to tensors: what a training step reads, and in which order, as a function of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from distill.interfaces import TokenRows, Tokens
from distill.sampling import Sampler, permuted

NAMED = 8
"""Rows of a table that a message names."""


@dataclass(frozen=True)
class Batch:
    """One training step. Passages are there once, whoever lists them."""

    texts: Tokens
    """The passages; of a batch without queries, any texts."""
    text_targets: Float[Tensor, "passages teacher_dim"] | None = None
    """The teacher's vector of each text; NaN where there is none."""
    queries: Tokens | None = None
    query_targets: Float[Tensor, "queries teacher_dim"] | None = None
    """The teacher's vector of each query; NaN where there is none."""
    listed: Int[Tensor, "queries listed"] | None = None
    """Places of each query's own passages in `texts`, the positive first; -1 where the list has ended."""
    allowed: Bool[Tensor, "queries passages"] | None = None
    """Which passages may count against a query."""
    rivals: Bool[Tensor, "queries queries"] | None = None
    """Which queries may count against a query."""
    scores: Float[Tensor, "queries listed"] | None = None
    """The teacher's raw scores of the own list; NaN where there are none."""

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in held.items() if value is not None})


@runtime_checkable  # for the comparison with annotations while tests run
class Batches(Protocol):
    """Batch k of a training, the same whenever it is asked for."""

    def batch(self, step: int) -> Batch:
        """What step `step` reads."""
        ...

    def named(self, step: int) -> str:
        """The rows that step `step` reads, for a message."""
        ...

    @property
    def texts(self) -> int:
        """Different texts that are read, queries among them."""
        ...


@dataclass(frozen=True)
class Places:
    """Where the rows of several tables came from, to name them."""

    names: Sequence[str]
    """Of the tables."""
    table: Int[np.ndarray, "rows"]
    """Which table each row is of."""
    row: Int[np.ndarray, "rows"]
    """Its row there."""

    def named(self, rows: Int[np.ndarray, "chosen"]) -> str:
        """Some rows in words: the first few of each table, and how many others there are."""
        told = []
        for number in np.unique(self.table[rows]):
            held = np.sort(self.row[rows][self.table[rows] == number]).tolist()
            more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
            told.append(f"rows {', '.join(map(str, held[:NAMED]))}{more} of {self.names[number]}")
        return "; ".join(told)


@runtime_checkable
class Matrix(Protocol):
    """Rows of numbers that need not be in memory: an array, or the parts of a table (`tables.Stacked`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and width."""
        ...

    def __getitem__(self, rows: Int[np.ndarray, "chosen"], /) -> Float[np.ndarray, "chosen dim"]:
        """Some rows."""
        ...


@dataclass(frozen=True)
class Lookup:
    """A teacher's vectors by a number of our own, gathered from memory-mapped tables when asked for."""

    tables: Sequence[Matrix]
    table: Int[np.ndarray, "numbers"]
    """Which table each number's vector is in; -1 for none."""
    row: Int[np.ndarray, "numbers"]
    """Its row there."""

    def __getitem__(self, numbers: Int[np.ndarray, "chosen"]) -> Float[np.ndarray, "chosen teacher_dim"]:
        """Vectors in fp32; NaN where there is none."""
        found = np.full((len(numbers), self.tables[0].shape[1]), np.nan, np.float32)
        for number, held in enumerate(self.tables):
            here = self.table[numbers] == number
            found[here] = held[self.row[numbers[here]]]
        return found


@dataclass(frozen=True)
class TextBatches:
    """Texts with a teacher's vectors: row i of the one is row i of the other. For regression."""

    tokens: Sequence[TokenRows]
    """One for each table of texts."""
    targets: Sequence[Matrix]
    """The teacher's vectors of each, memory-mapped."""
    size: int
    seed: int
    names: Sequence[str] = ()
    """What to call each table in a message."""

    @property
    def texts(self) -> int:
        """Texts in all."""
        return sum(len(tokens) for tokens in self.tokens)

    def batch(self, step: int) -> Batch:
        """Texts of one table only, so that lengths are alike; tables take turns by their size."""
        table, rows = self._drawn(step)
        targets = torch.from_numpy(self.targets[table][rows].astype(np.float32))
        return Batch(self.tokens[table].take(rows), targets)

    def named(self, step: int) -> str:
        """The rows that step `step` reads, for a message."""
        table, rows = self._drawn(step)
        name = self.names[table] if self.names else f"table {table}"
        return Places([name], np.zeros(len(rows), np.int64), rows).named(np.arange(len(rows)))

    def _drawn(self, step: int) -> tuple[int, Int[np.ndarray, "size"]]:
        """The table of a step, and its rows there."""
        sizes = [max(1, len(tokens) // self.size) for tokens in self.tokens]
        epoch, at = divmod(step, sum(sizes))
        turn = np.random.default_rng((self.seed, epoch)).permutation(np.repeat(np.arange(len(sizes)), sizes))
        table = int(turn[at])
        before = int((turn[:at] == table).sum())
        rows = permuted(len(self.tokens[table]), self.size, self.seed + table, epoch * sizes[table] + before)
        return table, np.sort(rows)


@dataclass(frozen=True)
class ExampleBatches:
    """Queries with their own lists of passages, as the examples table holds them."""

    queries: TokenRows
    """Of each example."""
    passages: TokenRows
    """Of each distinct passage (as read: bare, or with a task where the row is symmetric)."""
    lists: Int[np.ndarray, "listings"]
    """Rows of `passages`, end to end, each list with its positive first."""
    starts: Int[np.ndarray, "examples_and_one"]
    """Where each example's list starts."""
    in_batch: Bool[np.ndarray, "examples"]
    group: Int[np.ndarray, "examples"]
    """Batch-mates of one group are no negatives; -1 for none."""
    same: Int[np.ndarray, "examples"]
    """Equal for equal queries: what is right for one is not wrong for the other."""
    sampler: Sampler
    """Which examples a batch reads."""
    negatives: int
    """Drawn from each list for a step."""
    seed: int
    """Of those draws."""
    scores: Float[np.ndarray, "listings"] | None = None
    query_targets: Lookup | None = None
    """Of each example."""
    passage_targets: Lookup | None = None
    """Of each distinct passage."""
    places: Places | None = None
    """Where each example came from."""

    @property
    def rows(self) -> int:
        """Examples."""
        return len(self.starts) - 1

    @property
    def texts(self) -> int:
        """Queries and passages."""
        return len(self.queries) + len(self.passages)

    def batch(self, step: int) -> Batch:
        """Examples as the sampler chooses them, with their lists, each passage once."""
        rows = self.sampler.batch(step)
        places = self._places(rows, np.random.default_rng((self.seed, step, 1)))
        inside = places >= 0
        held, numbers = np.unique(self.lists[places[inside]], return_inverse=True)
        listed = np.full(places.shape, -1, np.int64)
        listed[inside] = numbers
        scores = None
        if self.scores is not None:
            scores = torch.from_numpy(np.where(inside, self.scores[places], np.nan).astype(np.float32))
        allowed, rivals = self._allowed(rows, listed, len(held))
        return Batch(
            texts=self.passages.take(held),
            text_targets=_targets(self.passage_targets, held),
            queries=self.queries.take(rows),
            query_targets=_targets(self.query_targets, rows),
            listed=torch.from_numpy(listed),
            allowed=torch.from_numpy(allowed),
            rivals=torch.from_numpy(rivals),
            scores=scores,
        )

    def named(self, step: int) -> str:
        """The examples that step `step` reads, for a message."""
        every = np.arange(self.rows)
        places = self.places or Places(["the examples"], np.zeros_like(every), every)
        return places.named(self.sampler.batch(step))

    def score_lists(
        self, limit: int = 10_000
    ) -> tuple[Float[np.ndarray, "lists listed"], Bool[np.ndarray, "lists listed"]]:
        """The teacher's scores of lists as training sees them, drawn evenly from those that have any, and where."""
        assert self.scores is not None
        scored = np.flatnonzero(np.logical_or.reduceat(np.isfinite(self.scores), self.starts[:-1]))
        rows = scored[np.arange(0, len(scored), max(1, -(-len(scored) // limit)))]
        places = self._places(rows, np.random.default_rng(self.seed))
        found = np.where(places >= 0, self.scores[places], np.nan)
        return np.nan_to_num(found), np.isfinite(found)

    def matrices(
        self, batches: int = 8, limit: int = 2_000_000
    ) -> tuple[Float[np.ndarray, "queries passages"], Bool[np.ndarray, "queries passages"]]:
        """The teacher's cosines of queries that it has read with all passages of their batch, and where there are any.

        Args:
            batches: So many, from the first on; those that the teacher has not read are passed over.
            limit: Cosines in all; where there are more, the first queries of each batch.
        """
        found: list[Float[np.ndarray, "queries passages"]] = []
        for step in range(8 * batches):
            batch = self.batch(step)
            assert batch.query_targets is not None and batch.text_targets is not None
            rows = max(1, limit // batches // len(batch.text_targets))
            queries, passages = (nn.functional.normalize(held) for held in (batch.query_targets, batch.text_targets))
            cosines = (queries[queries.isfinite().all(1)][:rows] @ passages.T).numpy()
            found += [cosines] if len(cosines) else []
            if len(found) == batches:
                break
        if not found:
            return np.zeros((0, 1), np.float32), np.zeros((0, 1), bool)
        widest = max(part.shape[1] for part in found)
        padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1])), constant_values=np.nan) for part in found]
        whole = np.concatenate(padded)
        return np.nan_to_num(whole), np.isfinite(whole)

    def _places(
        self, rows: Int[np.ndarray, "queries"], random: np.random.Generator
    ) -> Int[np.ndarray, "queries listed"]:
        """Where each list's positive and drawn negatives stand in `lists`; -1 beyond a list's end."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        widest = int(lengths.max())
        keys = random.random((len(rows), widest))
        keys[:, 0] = -1.0  # the positive stays first
        keys[np.arange(widest) >= lengths[:, None]] = 2.0  # beyond the end: last
        drawn = np.argsort(keys, axis=1)[:, : self.negatives + 1]
        return np.where(drawn < lengths[:, None], self.starts[rows][:, None] + drawn, -1)

    def _allowed(
        self, rows: Int[np.ndarray, "queries"], listed: Int[np.ndarray, "queries listed"], passages: int
    ) -> tuple[Bool[np.ndarray, "queries passages"], Bool[np.ndarray, "queries queries"]]:
        """Which passages, and which queries, may count against a query."""
        own = np.zeros((len(rows), passages + 1), bool)
        np.put_along_axis(own, np.where(listed >= 0, listed, passages), True, 1)
        own = own[:, :passages]
        grouped = (self.group[rows][:, None] == self.group[rows]) & (self.group[rows] >= 0)
        alike = grouped | (self.same[rows][:, None] == self.same[rows])
        # A passage that a like batch-mate lists is no negative. Floats, since numpy multiplies integers far slower.
        mates = (alike.astype(np.float32) @ own.astype(np.float32)) > 0
        free = self.in_batch[rows][:, None]
        answered_alike = listed[:, :1] == listed[:, 0]  # by one positive, the query itself among them
        return own | (free & ~mates), free & ~alike & ~answered_alike


def _targets(vectors: Lookup | None, rows: Int[np.ndarray, "chosen"]) -> Tensor | None:
    return None if vectors is None else torch.from_numpy(vectors[rows])
