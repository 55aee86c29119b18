"""NV-Embed (arXiv 2405.17428): both ways, latent attention, the instruction attended to and not pooled, LoRA."""

from pathlib import Path
from typing import Literal, Self

from distill.errors import Refused
from teachers import published
from teachers.decoder import Decoder, Trained
from teachers.latent_attention import LatentAttention


class NVEmbed(Decoder):
    r"""NV-Embed over any dense decoder that transformers knows.

    The base is frozen; LoRA adapters on all its linear layers and the pooling block are trained. Queries
    carry `Instruct: {task}\nQuery: `, passages nothing. A base in the layout of the published checkpoint (NV-Embed-v1,
    v2) brings its pooling block with it.

    Args:
        base: A hub name, a folder, or `package:NAME` for weights that a Python package carries.
        revision: Full commit of a hub name.
        layers: Numbers of the base's layers that are kept; all if None. For experiments that must be quick.
        pooling: The paper's latent attention, the same multiplied out, or what the paper compares it with.
        pool_beginning: Whether the beginning of a passage is pooled; None: only over a published checkpoint, which was
            trained so.
        trained: Adapters as in the paper, adapters over a base in 4 bits, or every weight.
        latents: Of the latent attention; 512 in the paper.
        heads: Of the attention; 8 in the paper.
        rank: Of the adapters; 16 in the paper. Their scale alpha is twice the rank.
        dropout: In the adapters while training; 0.1 in the paper.
        length: Tokens that a text is cut to, instruction included; 512 in the paper.
        seed: Of the initial adapters, latents, and of the base when it has no weights.
    """

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        layers: tuple[int, ...] | None = None,
        pooling: Literal[
            "latent_attention", "folded_latent_attention", "self_attention", "mean", "last_token"
        ] = "latent_attention",
        pool_beginning: bool | None = None,
        trained: Trained = "lora",
        latents: int = 512,
        heads: int = 8,
        rank: int = 16,
        dropout: float = 0.1,
        length: int = 512,
        seed: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(**given)
        self.settings = {name: self.settings[name] for name in given}
        if published.is_published(self.folder) and isinstance(self.pooling, LatentAttention):
            block = published.block(self.folder)
            if (latents, heads) != published.sizes(block):
                there = published.sizes(block)
                raise Refused(f"base {base} has {there[0]} latents and {there[1]} heads, not {latents} and {heads}.")
            self.pooling.load_state_dict(block)

    @classmethod
    def from_published(cls, folder: Path, length: int = 512) -> Self:
        """The checkpoint that the authors published, from its folder; licence CC-BY-NC-4.0.

        Args:
            folder: `config.json`, the tokenizer and the safetensors files of nvidia/NV-Embed-v1 or v2.
            length: Tokens that a text is cut to.

        Raises:
            Refused: The folder is not of that layout, or lacks weights.
        """
        if not (folder / "config.json").is_file() or not published.is_published(folder):
            raise Refused(f"{folder} is no published NV-Embed: its config.json is not of type {published.TYPE!r}.")
        latents, heads = published.sizes(published.block(folder))
        return cls(str(folder), latents=latents, heads=heads, length=length)
