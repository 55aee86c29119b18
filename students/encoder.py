"""A small bidirectional encoder, mean-pooled: BERT, MiniLM, ModernBERT and their like, whole or thinned."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distill import hub, pooling, surgery
from distill.errors import Refused, check_at_least
from distill.interfaces import Embedder, TokenRows, Tokens


class Encoder(Embedder):
    """A bidirectional encoder with mean pooling.

    Args:
        base: A hub name, a folder, or `package:NAME` for weights that a Python package carries.
        revision: Full commit of a hub name.
        layers: Which layers of the base are kept, in order, none twice; all if None. Evenly spaced
            layers are a far better start than random weights
            (EmbeddingGemma, arXiv 2509.20354, section 4: random 45.2 against 60.4).
        length: Tokens that a text is cut to.
        query_prompt: Said before a query.
        passage_prompt: Said before a passage.
        seed: Of the initial weights, when the base has none.
    """

    # What `distill.portable` writes a student from.
    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int
    query_prompt: str
    passage_prompt: str
    dim: int

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        layers: tuple[int, ...] | None = None,
        length: int = 128,
        query_prompt: str = "",
        passage_prompt: str = "",
        seed: int = 0,
    ) -> None:
        check_at_least(3, length=length)  # beginning, a token, end
        folder = hub.locate(base, revision)
        backbone = hub.pretrained(AutoModel, folder, seed=seed)
        if layers is not None:
            surgery.keep_layers(backbone, layers)
        tokenizer = hub.tokenizer(folder, backbone)
        settings = {"length": length, "query_prompt": query_prompt, "passage_prompt": passage_prompt}
        self._build(backbone, tokenizer, settings)

    def _build(
        self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: dict[str, object]
    ) -> None:
        super().__init__()
        backbone.config.use_cache = False  # of writing; transformers warns of it where activations are recomputed
        self.backbone = backbone.float()
        if pooler := getattr(backbone, "pooler", None):  # of BERT's own training; no vector of ours passes it
            pooler.requires_grad_(False)
        self.tokenizer = tokenizer
        self.settings = settings
        self.length = int(str(settings["length"]))
        longest = getattr(backbone.config, "max_position_embeddings", None)
        if longest and self.length > longest:
            raise Refused(f"length: {self.length}; this base reads at most {longest} tokens. Lower `length`.")
        self.query_prompt = str(settings["query_prompt"])
        self.passage_prompt = str(settings["passage_prompt"])
        self.dim = int(backbone.config.hidden_size)

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """Texts to token ids, each after its side's prompt; the prompt is pooled, as sentence-transformers does."""
        prompt = self.passage_prompt if tasks is None else self.query_prompt
        # A packaged tokenizer may carry fixed padding and a shorter cut: say both.
        rows = self.tokenizer(
            [prompt + text for text in texts], truncation=True, max_length=self.length, padding=False
        )["input_ids"]
        return TokenRows.of(rows, [0] * len(rows), int(self.tokenizer.pad_token_id))

    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Mean of the last layer's states, at unit length."""
        states = self.backbone(input_ids=tokens.ids, attention_mask=tokens.attend.long()).last_hidden_state
        return nn.functional.normalize(pooling.mean(states, tokens.pool), dim=-1)

    def save(self, folder: Path) -> None:
        """Write the backbone, the tokenizer and the settings."""
        self.backbone.save_pretrained(folder)
        if backend := getattr(self.tokenizer, "backend_tokenizer", None):  # it remembers the cut of its last call
            backend.no_truncation()
            backend.no_padding()
        self.tokenizer.save_pretrained(folder)
        (folder / "encoder.json").write_text(json.dumps(self.settings, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        made = cls.__new__(cls)
        backbone = hub.pretrained(AutoModel, folder)
        tokenizer = hub.tokenizer(folder, backbone)
        made._build(backbone, tokenizer, json.loads((folder / "encoder.json").read_bytes()))
        return made


def non_embedding_parameters(model: nn.Module) -> int:
    """Parameters outside token embeddings: what computing costs."""
    inside = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in inside)
