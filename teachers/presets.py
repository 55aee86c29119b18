"""Other teachers of the family: a decoder with the choices of its paper. Template and pooling belong together."""

from collections.abc import Mapping
from typing import Any, ClassVar

from distill.prompts import QUERY
from teachers.decoder import Decoder, Trained


class _Preset(Decoder):
    """A decoder of which only what a paper leaves open can be set.

    Args:
        base: Its authors' checkpoint at a commit, or a language model to train so.
        revision: Full commit of a hub name.
        layers: Numbers of the base's layers that are kept; all if None. For experiments that must be quick.
        trained: Adapters, adapters over a base in 4 bits, or every weight.
        rank: Of the adapters.
        dropout: In the adapters.
        length: Tokens that a text is cut to.
        seed: Of the initial adapters.
    """

    CHOICES: ClassVar[Mapping[str, Any]]
    """What the paper chose."""

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        layers: tuple[int, ...] | None = None,
        trained: Trained = "lora",
        rank: int = 16,
        dropout: float = 0.1,
        length: int = 512,
        seed: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(**given, **self.CHOICES)
        self.settings = {name: self.settings[name] for name in given}


class E5Mistral(_Preset):
    """E5-Mistral (arXiv 2401.00368): causal, the end of the sequence is the vector."""

    CHOICES: ClassVar[Mapping[str, Any]] = {"attention": "causal", "pooling": "last_token", "template": QUERY}


class GTEQwen2(_Preset):
    """gte-Qwen2-instruct: both ways, the end of the sequence is the vector.

    Loaded by its own class without the switch, its base is causal, and nothing says so.
    """

    CHOICES: ClassVar[Mapping[str, Any]] = {"pooling": "last_token", "template": QUERY}


class LlamaEmbedNemotron(_Preset):
    """llama-embed-nemotron-8b (arXiv 2511.07025): both ways, the mean over all tokens.

    Its authors trained every weight (`trained: all`).
    """

    CHOICES: ClassVar[Mapping[str, Any]] = {
        "pooling": "mean",
        "pool_instruction": True,
        "pool_beginning": True,
        "template": QUERY,
    }
