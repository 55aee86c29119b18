"""What a model must be able to do: embed (`Embedder`), speak (`LanguageModel`) or rate pairs (`Reranker`)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt32
from torch import Tensor, nn


@dataclass(frozen=True)
class Tokens:
    """Texts as padded token ids, on the right; what may be attended to, and what is pooled."""

    ids: Int[Tensor, "texts tokens"]
    attend: Bool[Tensor, "texts tokens"]
    pool: Bool[Tensor, "texts tokens"]

    def take(self, rows: Int[Tensor, "chosen"]) -> "Tokens":
        """Some of the texts, no wider than the longest of them."""
        longest = int(self.attend[rows].sum(1).max())
        return Tokens(*(part[rows, :longest] for part in (self.ids, self.attend, self.pool)))

    def to(self, device: torch.device) -> "Tokens":
        """The same on another device."""
        return Tokens(*(part.to(device, non_blocking=True) for part in (self.ids, self.attend, self.pool)))


@dataclass(frozen=True)
class TokenRows:
    """Texts as token ids of their own lengths, end to end; may be memory-mapped."""

    ids: UInt32[np.ndarray, "tokens"]
    starts: Int[np.ndarray, "texts_and_one"]
    """Where each text starts in `ids`; one more at the end."""
    unpooled: Int[np.ndarray, "texts"]
    """How many leading tokens of each text (beginning of sequence, instruction) are kept out of pooling."""
    pad: int
    """Id that fills a batch's shorter rows."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], unpooled: Sequence[int], pad: int) -> Self:
        """From lists of ids."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        flat = np.fromiter((token for row in rows for token in row), np.uint32, int(lengths.sum()))
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return cls(flat, starts, np.asarray(unpooled, np.int64), pad)

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int[np.ndarray, "texts"]:
        """Tokens of each text."""
        return np.diff(self.starts)

    def take(self, rows: Int[np.ndarray, "chosen"]) -> Tokens:
        """Some texts as one padded batch."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        places = np.arange(int(lengths.max()))
        inside = places < lengths[:, None]
        at = np.minimum(self.starts[rows][:, None] + places, len(self.ids) - 1)
        ids = np.where(inside, self.ids[at].astype(np.int64), self.pad)
        pool = inside & (places >= self.unpooled[rows][:, None])
        return Tokens(torch.from_numpy(ids), torch.from_numpy(inside), torch.from_numpy(pool))


class Embedder(nn.Module, ABC):
    """Texts to unit vectors. Subclasses are final: they fill this in and override nothing else."""

    VERSION = 1
    """Raised when the same arguments make another model; enters the recipe."""

    dim: int
    """Width of a vector."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """Texts to token ids, cut to the model's length.

        Args:
            texts: What to embed.
            tasks: The instruction of each text when they are queries; None when they are passages.

        Raises:
            Refused: A text leaves no token to pool: the instruction fills the model's length.
        """

    @abstractmethod
    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Unit vectors in fp32."""

    def merge(self) -> None:
        """Multiply out, in place, what only training keeps apart, such as adapters; vectors stay as they are."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write weights (safetensors), tokenizer and settings into an existing empty folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""


class Judge(ABC):
    """What says how well a passage answers a query: a `LanguageModel` or a `Reranker`."""

    VERSION = 1
    OUTSIDE: tuple[str, ...] = ()
    """Arguments that say where and how fast it is asked, never what it says; not in the recipe."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Model and revision, recorded beside everything it said."""


class LanguageModel(Judge):
    """A model that completes text and says how likely a text is."""

    @abstractmethod
    def complete(
        self,
        prompts: Sequence[str],
        *,
        shared: str = "",
        stop: str,
        tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> list[str]:
        """Continue each prompt.

        Args:
            prompts: What to continue.
            shared: Text before every prompt, computed once.
            stop: Where a completion ends; not part of it.
            tokens: The most that is written for each.
            temperature: 0 takes the likeliest token; above, sampled.
            top_p: Least set of tokens with this probability is sampled from.
            seed: Of the sampling; the same seed and prompts give the same completions.
        """

    @abstractmethod
    def log_likelihood(
        self, prompts: Sequence[str], continuations: Sequence[str], *, shared: str = ""
    ) -> Float[np.ndarray, "prompts"]:
        """Log-probability of each continuation after its prompt, summed over its tokens, in nats."""

    @abstractmethod
    def classify(
        self, prompts: Sequence[str], labels: Sequence[str], *, shared: str = ""
    ) -> Float[np.ndarray, "prompts labels"]:
        """Log-probability of each label after each prompt, normalised over the labels, in nats.

        Raises:
            Refused: Two labels begin with the same token, so they cannot be told apart.
        """


class Reranker(Judge):
    """A model that reads a query and a passage together and says how relevant the passage is."""

    @abstractmethod
    def score(self, queries: Sequence[str], passages: Sequence[str]) -> Float[np.ndarray, "pairs"]:
        """Raw logit of each pair of a query and a passage: the larger, the more relevant.

        A pair's does not depend on the pairs beside it.

        Raises:
            Refused: A query is so long that no passage fits beside it.
        """
