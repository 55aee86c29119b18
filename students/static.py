"""A table of token vectors, averaged: the smallest student there is, with no transformer at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from distill import encode, hub, models, pooling, vocabulary
from distill.console import bar, say
from distill.errors import Refused, check_at_least, with_article
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.runtime import best_device
from students.encoder import Encoder


class Static(Embedder):
    """The mean of a text's token vectors, which a larger model gives: as model2vec does (its code, 0.7).

    Each token is read by itself by the larger model; the vectors are projected on their principal components and
    weighted, so that frequent tokens count less. The table can then be trained as any student.

    Args:
        base: As for `students.Encoder`: what reads the tokens.
        revision: Full commit of a hub name.
        model: A step (or what `distill.models.save` wrote) whose model reads them instead: a teacher, or a student.
        width: Numbers of a vector, at most as many as the larger model's.
        vocabulary: Steps whose passages and queries tell which tokens are kept, and how frequent they are. If empty,
            all are, and the frequencies are Zipf's over the tokenizer's order.
        smoothing: A token of frequency p is weighted by smoothing / (smoothing + p), as in SIF (Arora et al., 2017).
            1e-4 is model2vec's.
        length: Tokens that a text is cut to.
        query_prompt: Said before a query. An average hardly needs one.
        passage_prompt: Said before a passage.
    """

    # What `distill.portable` writes a student from.
    backbone: nn.Embedding
    tokenizer: PreTrainedTokenizerBase
    length: int
    query_prompt: str
    passage_prompt: str
    dim: int

    def __init__(
        self,
        base: str = "",
        revision: str | None = None,
        model: Path | None = None,
        width: int = 256,
        vocabulary: tuple[Path, ...] = (),
        smoothing: float = 1e-4,
        length: int = 512,
        query_prompt: str = "",
        passage_prompt: str = "",
    ) -> None:
        check_at_least(1, length=length, width=width)
        if smoothing <= 0:
            raise Refused(f"smoothing: {smoothing}; needed: more than 0, or every token weighs nothing.")
        reader, whole = _reader(base, revision, model)
        tokenizer, ids, shares = _tokens(whole, vocabulary, (query_prompt, passage_prompt))
        if not width <= min(reader.dim, len(ids) - 1):
            raise Refused(
                f"width: {width}; needed: at most {min(reader.dim, len(ids) - 1)}, for a model {reader.dim} wide reads "
                f"{len(ids):,} tokens. Lower `width`."
            )
        table = principal(_read_alone(reader, ids), width) * weights(shares, smoothing)[:, None]
        settings = {"length": length, "query_prompt": query_prompt, "passage_prompt": passage_prompt}
        self._build(torch.from_numpy(table.astype(np.float32)), tokenizer, settings)

    def _build(
        self, table: Float[Tensor, "vocabulary dim"], tokenizer: PreTrainedTokenizerBase, settings: dict[str, object]
    ) -> None:
        super().__init__()
        self.backbone = nn.Embedding.from_pretrained(table, freeze=False)
        self.tokenizer = tokenizer
        self.settings = settings
        self.length = int(str(settings["length"]))
        self.query_prompt = str(settings["query_prompt"])
        self.passage_prompt = str(settings["passage_prompt"])
        hub.check_prompts(tokenizer, (self.query_prompt, self.passage_prompt), self.length)
        self.dim = table.shape[1]

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """Texts to token ids, each after its side's prompt, with nothing around them; an empty text has none."""
        prompt = self.passage_prompt if tasks is None else self.query_prompt
        if not len(texts):
            return TokenRows.of([], [], int(self.tokenizer.pad_token_id))
        rows = self.tokenizer(
            [prompt + text for text in texts], truncation=True, max_length=self.length, padding=False
        )["input_ids"]
        return TokenRows.of(rows, [0] * len(rows), int(self.tokenizer.pad_token_id))

    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Mean of the tokens' vectors at unit length; zero of a text without tokens."""
        return nn.functional.normalize(pooling.mean(self.backbone(tokens.ids), tokens.pool), dim=-1)

    def save(self, folder: Path) -> None:
        """Write the table, the tokenizer and the settings."""
        save_file({"embedding.weight": self.backbone.weight.detach().contiguous()}, folder / "model.safetensors")
        backend = self.tokenizer.backend_tokenizer  # it remembers the cut of its last call
        backend.no_truncation()
        backend.no_padding()
        self.tokenizer.save_pretrained(folder)
        (folder / "static.json").write_text(json.dumps(self.settings, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        made = cls.__new__(cls)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        table = load_file(folder / "model.safetensors")["embedding.weight"]
        made._build(table, tokenizer, json.loads((folder / "static.json").read_bytes()))
        return made


def principal(vectors: Float[np.ndarray, "rows dim"], width: int) -> Float[np.ndarray, "rows width"]:
    """Rows on their principal components, the largest first; the largest number of each component is positive."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    _, components = np.linalg.eigh(centred.T @ centred)
    found = centred @ components[:, ::-1][:, :width]
    peaks = found[np.abs(found).argmax(0), np.arange(width)]
    made: np.ndarray = found * np.where(peaks < 0, -1.0, 1.0)
    return made


def weights(shares: Float[np.ndarray, "tokens"], smoothing: float) -> Float[np.ndarray, "tokens"]:
    """What each token weighs, by its share of all tokens of a text: rare ones 1, frequent ones less."""
    made: np.ndarray = smoothing / (smoothing + shares)
    return made


def zipf(count: int) -> Float[np.ndarray, "tokens"]:
    """Shares of so many tokens by Zipf's law, the most frequent first."""
    shares = 1 / np.arange(2, count + 2)
    made: np.ndarray = shares / shares.sum()
    return made


def _reader(base: str, revision: str | None, model: Path | None) -> tuple[Embedder, PreTrainedTokenizerBase]:
    """The larger model, wherever it computes fastest, and its tokenizer."""
    found = Encoder(base, revision).eval() if model is None else models.embedder(model)
    tokenizer = getattr(found, "tokenizer", None)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise Refused(
            f"model: {model} holds {with_article(type(found).__name__)}, which has no tokenizer. Name a step that "
            "trained an encoder or a decoder."
        )
    return found.to(best_device()), tokenizer


def _tokens(
    tokenizer: PreTrainedTokenizerBase, folders: tuple[Path, ...], prompts: tuple[str, ...]
) -> tuple[PreTrainedTokenizerBase, Int[np.ndarray, "tokens"], Float[np.ndarray, "tokens"]]:
    """The tokenizer that puts nothing around a text, the ids that its tokens had, and their shares of all tokens."""
    bare = vocabulary.bare(tokenizer)
    if bare.pad_token is None:  # decoders may have none; what is padded is not pooled
        bare.pad_token = bare.eos_token
    if not folders:
        count = max(bare.get_vocab().values()) + 1
        return bare, np.arange(count), zipf(count)
    pruned = vocabulary.prune(bare, vocabulary.texts_of(folders, prompts))
    say(f"vocabulary: {len(pruned.ids):,} of {len(bare):,} tokens are kept; {pruned.texts:,} texts are read as before")
    return pruned.tokenizer, pruned.ids, pruned.counts / pruned.counts.sum()


def _read_alone(reader: Embedder, ids: Int[np.ndarray, "tokens"]) -> Float[np.ndarray, "tokens dim"]:
    """The larger model's vector of each token by itself, between what it puts around every passage."""
    rows = reader.tokenize(["", "a"])
    empty, one = (rows.ids[start:end].tolist() for start, end in zip(rows.starts, rows.starts[1:], strict=False))
    before = next((at for at, token in enumerate(empty) if token != one[at]), len(empty))
    alone = [[*empty[:before], int(token), *empty[before:]] for token in ids]
    asked = TokenRows.of(alone, [min(int(rows.unpooled[1]), before)] * len(alone), rows.pad)
    with bar("tokens", len(alone)) as moved:
        return encode.vectors(reader, asked, precision="fp32", bar=moved)
