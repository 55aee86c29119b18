"""A cross-encoder: an encoder that reads a query and a passage together and says how well the one answers the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from distill import hub
from distill.encode import batches
from distill.errors import Refused, check_at_least
from distill.interfaces import Reranker, TokenRows
from distill.runtime import best_device


@dataclass(frozen=True)
class Frame:
    """The control tokens before, between and after the two texts of a pair."""

    ids: tuple[list[int], list[int], list[int]]
    kinds: tuple[list[int], ...] | None
    """Token types: before, of a token of the query, between, of one of the passage, after; None where none is read."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """What a tokenizer puts around a pair."""
        pair = tokenizer("a", "b", truncation=False, padding=False)
        ids, owners = pair["input_ids"], pair.sequence_ids(0)
        query, passage, count = owners.index(0), owners.index(1), len(owners)
        between = [at for at in range(query, passage) if owners[at] is None]
        after = [at for at in range(passage, count) if owners[at] is None]
        spans = [list(range(query)), [query], between, [passage], after]
        types = pair.get("token_type_ids")
        first, _, second, _, third = ([ids[at] for at in span] for span in spans)
        kinds = tuple([types[at] for at in span] for span in spans) if types else None
        return cls((first, second, third), kinds)

    def __len__(self) -> int:
        """Tokens that a pair has besides those of its texts."""
        return sum(map(len, self.ids))

    def row(self, query: list[int], passage: list[int]) -> list[int]:
        """The tokens of a pair."""
        before, between, after = self.ids
        return before + query + between + passage + after

    def types(self, query: list[int], passage: list[int]) -> list[int]:
        """The type of each of them."""
        assert self.kinds
        before, asked, between, said, after = self.kinds
        return before + asked * len(query) + between + said * len(passage) + after


class CrossEncoder(Reranker):
    """A bidirectional encoder with a head of one output, or of two: then the log-odds of the second.

    It computes in fp32 wherever it runs: the candidates of a query lie close together, and bf16 changes their order.

    Args:
        base: A hub name or a folder, trained to rate pairs of texts.
        revision: Full commit of a hub name.
        length: Tokens of a pair. A passage is cut to what its query leaves; a query never is.
        batch_tokens: Tokens that are read at once, padding included.
        seed: Of the initial weights, when the base has none.

    Raises:
        Refused: The base has more outputs, reads fewer tokens, or puts nothing between two texts.
    """

    OUTSIDE = ("batch_tokens",)

    def __init__(
        self, base: str, revision: str | None = None, length: int = 512, batch_tokens: int = 8192, seed: int = 0
    ) -> None:
        check_at_least(1, length=length, batch_tokens=batch_tokens)
        folder = hub.locate(base, revision)
        model = hub.pretrained(AutoModelForSequenceClassification, folder, seed=seed, dtype=torch.float32)
        self._name = f"{base}@{revision}" if revision else base
        self._model = model.eval().to(best_device())
        self._tokenizer = hub.tokenizer(folder, model)
        self._length, self._batch_tokens = length, batch_tokens
        _check(base, model, self._tokenizer, length)
        self._frame = Frame.of(self._tokenizer)
        if not self._frame.ids[1]:
            raise Refused(
                f"{base}: its tokenizer puts nothing between a query and a passage, so one could pass for the other. "
                "Name a reranker that is a bidirectional encoder."
            )
        self._spelled = self._spellings()

    @property
    def name(self) -> str:
        """Base and revision."""
        return self._name

    def _spellings(self) -> dict[int, list[int]]:
        """Of each token that no text may hold, its letters one by one.

        A tokenizer that is told to read such a token as text may still have its spelling as a word: those of
        SentencePiece's unigrams, such as XLM-RoBERTa's, do.
        """
        held = self._tokenizer
        controls = {*held.all_special_ids, *(token for part in self._frame.ids for token in part)}
        controls |= {number for number, token in held.added_tokens_decoder.items() if token.special}
        controls.discard(held.unk_token_id)
        found = {}
        for control in controls:
            letters = self._read(list(held.convert_ids_to_tokens([control])[0]))
            found[control] = [token for row in letters for token in row if token not in controls]
        return found

    def _read(self, texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = self._tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            truncation=False,  # a packaged tokenizer may carry a cut and fixed padding: say neither
            padding=False,
            verbose=False,
        )["input_ids"]
        return rows

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without any that commands; a text that comes many times is read once."""
        distinct = list(dict.fromkeys(texts))
        rows = self._read(distinct) if distinct else []
        for number, row in enumerate(rows):
            if not self._spelled.keys().isdisjoint(row):
                rows[number] = [plain for token in row for plain in self._spelled.get(token, (token,))]
        known = dict(zip(distinct, rows, strict=True))
        return [known[text] for text in texts]

    def score(self, queries: Sequence[str], passages: Sequence[str]) -> Float[np.ndarray, "pairs"]:
        """Raw logit of each pair."""
        asked, said = self._ids(queries), self._ids(passages)
        rooms = self._length - len(self._frame) - np.fromiter(map(len, asked), np.int64, len(asked))
        if len(full := np.flatnonzero(rooms < 1)):
            number = int(full[0])
            raise Refused(
                f"query {number} ({queries[number]!r:.60}) has {len(asked[number])} tokens, which leaves its passage "
                f"none of {self._length}. Raise `length`, or leave the query out."
            )
        kept = np.minimum(np.fromiter(map(len, said), np.int64, len(said)), rooms)
        found = np.empty(len(asked), np.float32)
        for chosen in batches(self._length - rooms + kept, self._batch_tokens):
            pairs = [(asked[row], said[row][: kept[row]]) for row in chosen]
            found[chosen] = self._logits(pairs).cpu().numpy()
        return found

    @torch.inference_mode()
    def _logits(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Float[Tensor, "pairs"]:
        ids, attend = _padded([self._frame.row(*pair) for pair in pairs], self._tokenizer.pad_token_id or 0)
        given = {"input_ids": ids, "attention_mask": attend.long()}
        if self._frame.kinds:
            given["token_type_ids"], _ = _padded([self._frame.types(*pair) for pair in pairs], 0)
        logits: Tensor = self._model(**{name: part.to(self._model.device) for name, part in given.items()}).logits
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def _padded(rows: Sequence[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of one width, and where they hold something."""
    taken = TokenRows.of(rows, [0] * len(rows), pad).take(np.arange(len(rows)))
    return taken.ids, taken.attend


def _check(base: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
    outputs = int(model.config.num_labels or 1)
    if outputs > 2:
        raise Refused(
            f"{base} has {outputs} outputs; needed: one, how relevant a passage is, or two, of which the second says "
            "that it is. Name a reranker."
        )
    hub.check_length(model, length)
    if not tokenizer.is_fast:
        raise Refused(f"{base}: its tokenizer has no tokenizer.json. Convert it with transformers, save it beside.")
