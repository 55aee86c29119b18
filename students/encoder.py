"""A small bidirectional encoder, mean-pooled: BERT, MiniLM, ModernBERT and their like, whole or made smaller."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from distill import bidirectional, hub, models, narrow, pooling, surgery, vocabulary
from distill.console import say
from distill.errors import Refused, check_at_least, with_article
from distill.interfaces import Embedder, TokenRows, Tokens

COMPARED = 16
"""Texts whose states are compared before and after tokens are taken out."""


class Encoder(Embedder):
    """A bidirectional encoder with mean pooling, as it is or cut out of a larger one.

    Args:
        base: A hub name, a folder, or `package:NAME` for weights that a Python package carries. A decoder LLM reads
            both ways here, as a teacher does.
        revision: Full commit of a hub name.
        layers: How many layers of the base are kept, evenly spaced from the first to the last; or their numbers, in
            order, none twice; all if None. Evenly spaced layers are a far better start than random weights
            (EmbeddingGemma, arXiv 2509.20354, section 4: random 45.2 against 60.4).
        width: Hidden dimensions that are kept, with heads and feed-forward units in proportion (weight selection,
            arXiv 2311.18823); a multiple of a head's. All if None.
        keep: Which dimensions, heads and units those are: the ones with the largest weights, or evenly spaced ones.
        vocabulary: Steps whose passages and queries must be read as before: tokens that none of them needs are taken
            out of the table. Every text is read by both tokenizers; one difference is refused. Other texts are still
            read, in shorter pieces. All tokens are kept if empty.
        random: Begin with random weights, and of the base take its shape and its tokenizer alone. For the ablation.
        model: A step (or what `distill.models.save` wrote) whose trained model takes the place of `base`: a student,
            or a teacher, whose adapters are multiplied out and whose pooling is left behind. Of its settings none is
            taken: say `length` and the prompts again.
        length: Tokens that a text is cut to.
        query_prompt: Said before a query.
        passage_prompt: Said before a passage.
        dropout: Share of activations left out while it is trained, in place of the base's own (BERT: 0.1). For few
            examples that are seen many times; one pass over texts is as good without, and a CPU takes a fifth longer
            with it.
        seed: Of the initial weights, when the base has none or `random` is said.
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
        base: str = "",
        revision: str | None = None,
        layers: int | tuple[int, ...] | None = None,
        width: int | None = None,
        keep: narrow.Rule = "norm",
        vocabulary: tuple[Path, ...] = (),
        random: bool = False,
        model: Path | None = None,
        length: int = 128,
        query_prompt: str = "",
        passage_prompt: str = "",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        check_at_least(3, length=length)  # beginning, a token, end
        if keep != "norm" and width is None:
            raise Refused(
                f"keep: {keep}; it says what of `width` is kept, and none is given. Give one, or leave it out."
            )
        backbone, tokenizer = _start(base, revision, model, seed)
        if layers is not None:
            surgery.keep_layers(backbone, layers)
        if width is not None:
            backbone = narrow.narrowed(backbone, width, keep)
        if vocabulary:
            backbone, tokenizer = _fewer_tokens(backbone, tokenizer, vocabulary, (query_prompt, passage_prompt))
        if random:
            say("random: this student begins with random weights, which only an ablation wants.", "yellow")
            backbone = surgery.forget(backbone, seed)
        if not 0 <= dropout < 1:
            raise Refused(f"dropout: {dropout}; it is a share. Give one from 0 to below 1.")
        surgery.set_dropout(backbone, dropout)
        settings = {"length": length, "query_prompt": query_prompt, "passage_prompt": passage_prompt}
        self._build(backbone, tokenizer, settings)

    @staticmethod
    def check_shape(
        shape: PreTrainedModel, layers: int | tuple[int, ...] | None = None, width: int | None = None, length: int = 128
    ) -> None:
        """Refuse what no student can be made of, before any weights are read.

        Args:
            shape: The base without its weights; changed.
            layers: As of the class, and so are the others.
            width: Hidden dimensions.
            length: Tokens.

        Raises:
            Refused: The base has no such layers, cannot be so narrow, or does not read so much.
        """
        if layers is not None:
            surgery.keep_layers(shape, layers)
        if width is not None:
            narrow.check(shape, width)
        hub.check_length(shape, length)

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
        hub.check_length(backbone, self.length)
        self.query_prompt = str(settings["query_prompt"])
        self.passage_prompt = str(settings["passage_prompt"])
        hub.check_prompts(tokenizer, (self.query_prompt, self.passage_prompt), self.length)
        self.dim = int(backbone.config.hidden_size)

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """Texts to token ids, each after its side's prompt; the prompt is pooled, as sentence-transformers does."""
        prompt = self.passage_prompt if tasks is None else self.query_prompt
        if not len(texts):
            return TokenRows.of([], [], int(self.tokenizer.pad_token_id))
        # A packaged tokenizer may carry fixed padding and a shorter cut: say both.
        rows = self.tokenizer(
            [prompt + text for text in texts], truncation=True, max_length=self.length, padding=False
        )["input_ids"]
        return TokenRows.of(rows, [0] * len(rows), int(self.tokenizer.pad_token_id))

    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Mean of the last layer's states, at unit length; zero of a text without tokens."""
        if not tokens.ids.shape[1]:  # empty texts alone, of a tokenizer that puts nothing around them
            return torch.zeros(len(tokens.ids), self.dim, device=tokens.ids.device)
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
        hub.check_saved(folder)
        backbone = hub.pretrained(AutoModel, folder)
        tokenizer = hub.tokenizer(folder, backbone)
        made._build(backbone, tokenizer, json.loads((folder / "encoder.json").read_bytes()))
        return made


def _start(
    base: str, revision: str | None, model: Path | None, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The transformer that a student is made of, reading both ways, and its tokenizer."""
    hub.check_start(base, model, revision)
    if model is not None:
        return _of_trained(model)
    folder = hub.locate(base, revision)
    backbone = hub.pretrained(AutoModel, folder, seed=seed, dtype=torch.float32)
    tokenizer = hub.tokenizer(folder, backbone)
    kind = backbone.config.model_type
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        bidirectional.attend_both_ways(backbone, len(tokenizer) - 1)
    if tokenizer.pad_token is None:  # decoders may have none; what is padded is not attended to
        tokenizer.pad_token = tokenizer.eos_token
    return backbone, tokenizer


def _of_trained(model: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    held = models.embedder(model)
    held.merge()
    backbone, tokenizer = getattr(held, "backbone", None), getattr(held, "tokenizer", None)
    if not isinstance(backbone, PreTrainedModel) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise Refused(
            f"model: {model} holds {with_article(type(held).__name__)}, which has no layers of a transformer. Name a "
            "step that trained an encoder or a decoder."
        )
    if getattr(backbone.config, "is_causal", False):
        raise Refused(
            f"model: {model} reads from left to right only (attention: causal), and a student reads both ways. Name a "
            "teacher that does too, or its base."
        )
    return backbone.cpu().float(), tokenizer


@torch.no_grad()
def _fewer_tokens(
    backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folders: tuple[Path, ...], prompts: tuple[str, ...]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model without the tokens that texts do not need, once it gives of some of them the states that it gave."""
    texts = vocabulary.texts_of(folders, prompts)
    pruned = vocabulary.prune(tokenizer, texts)
    some = next(iter(texts()))[:COMPARED]
    before = [_states(backbone, tokenizer, text) for text in some]
    held = len(tokenizer)
    made = surgery.keep_tokens(backbone, pruned.ids)
    after = [_states(made, pruned.tokenizer, text) for text in some]
    if not all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
        raise Refused(
            f"vocabulary: {type(backbone).__name__} gives other states when rows of its table are taken out. Leave it "
            "out for this base."
        )
    say(f"vocabulary: {len(pruned.ids):,} of {held:,} tokens are kept; {pruned.texts:,} texts are read as before")
    return made, pruned.tokenizer


def _states(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> Tensor:
    """States of a text by itself, cut to what any base reads."""
    ids = torch.tensor([tokenizer(text, verbose=False)["input_ids"][:64]])
    found: Tensor = backbone.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return found


def non_embedding_parameters(model: nn.Module) -> int:
    """Parameters outside token embeddings: what computing costs."""
    inside = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in inside)
