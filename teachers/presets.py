"""Other teachers of the family: a decoder with the choices of its paper. Strings and poolings belong together."""

from distill.prompts import QUERY
from teachers.decoder import Decoder, Trained


class E5Mistral(Decoder):
    """E5-Mistral (arXiv 2401.00368): causal, the end of the sequence is the vector.

    Args:
        base: `intfloat/e5-mistral-7b-instruct` at a commit, or a language model to train so.
        revision: Full commit of a hub name.
        trained: Adapters of rank 16 in the paper.
        rank: Of the adapters.
        dropout: In the adapters.
        length: Tokens that a text is cut to; 512 in the paper's training.
        seed: Of the initial adapters.
    """

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        trained: Trained = "lora",
        rank: int = 16,
        dropout: float = 0.1,
        length: int = 512,
        seed: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(**given, attention="causal", pooling="last_token", template=QUERY)
        self.settings = {name: self.settings[name] for name in given}


class GTEQwen2(Decoder):
    """gte-Qwen2-instruct: both ways, the end of the sequence is the vector, the instruction on queries alone.

    Loaded by its own class without the switch, its base is causal, and nothing says so.

    Args:
        base: `Alibaba-NLP/gte-Qwen2-1.5B-instruct` or the 7B at a commit, or a language model to train so.
        revision: Full commit of a hub name.
        trained: Its authors do not say; adapters here.
        rank: Of the adapters.
        dropout: In the adapters.
        length: Tokens that a text is cut to.
        seed: Of the initial adapters.
    """

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        trained: Trained = "lora",
        rank: int = 16,
        dropout: float = 0.1,
        length: int = 512,
        seed: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(**given, attention="bidirectional", pooling="last_token", template=QUERY)
        self.settings = {name: self.settings[name] for name in given}


class LlamaEmbedNemotron(Decoder):
    """llama-embed-nemotron (arXiv 2511.07025): both ways, the mean over all tokens, every weight trained.

    Args:
        base: `nvidia/llama-embed-nemotron-8b` or `meta-llama/Llama-3.1-8B` at a commit.
        revision: Full commit of a hub name.
        trained: Every weight, as in the paper; adapters where memory is short.
        rank: Of the adapters, if any.
        dropout: In the adapters, if any.
        length: Tokens that a text is cut to; 512 in the paper.
        seed: Of the initial adapters.
    """

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        trained: Trained = "all",
        rank: int = 16,
        dropout: float = 0.1,
        length: int = 512,
        seed: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(**given, pooling="mean", pool_instruction=True, pool_beginning=True, template=QUERY)
        self.settings = {name: self.settings[name] for name in given}
