"""Pooling over the states of all layers (arXiv 2409.02727; details as in its authors' code)."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill.errors import Refused
from teachers.latent_attention import FeedForward, PreNorm

Reduce = Callable[[Float[Tensor, "texts tokens width"], Bool[Tensor, "texts tokens"]], Float[Tensor, "texts width"]]
"""The states of one layer to a vector of each text."""


class MultiLayer(nn.Module):
    """Trained latents attend to one vector of each layer, pass an MLP, and are averaged.

    The other way round than in NV-Embed: latents ask, layers answer. The paper's sizes (768 latents, 32 heads of
    2048) have 1.3 billion parameters over a model 4096 wide; ours default to a share of the width.

    Args:
        width: Of the token states.
        layers: Of the language model, its table of tokens left out.
        reduce: What makes a vector of a layer: the mean for a bidirectional model, the last token for a causal one.
        latents: Trained vectors that ask.
        heads: Of the attention; each is the width divided by their number.
    """

    def __init__(self, width: int, layers: int, reduce: Reduce, latents: int = 64, heads: int = 8) -> None:
        super().__init__()
        if width % heads:
            raise Refused(f"heads: {heads}; needed: a number that divides the width of the states, {width}.")
        self._reduce = reduce
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.pos_emb = nn.Embedding(layers, width)
        self.cross_attend_blocks = nn.ModuleList(
            [PreNorm(width, _LatentsAsk(width, heads), context=True), PreNorm(width, FeedForward(width))]
        )

    def forward(
        self, states: Sequence[Float[Tensor, "texts tokens width"]], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts width"]:
        """One vector a text, not normalised, in fp32.

        Args:
            states: Of each layer, from the first to the last.
            mask: Which tokens are pooled.
        """
        vectors = torch.stack([self._reduce(layer, mask) for layer in states], 1) + self.pos_emb.weight
        attention, mlp = self.cross_attend_blocks
        found = attention(vectors, self.latents) + self.latents
        found = mlp(found) + found
        pooled: Tensor = found.float().mean(1)
        return pooled


class _LatentsAsk(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(
        self, vectors: Float[Tensor, "texts layers width"], latents: Float[Tensor, "latents width"]
    ) -> Float[Tensor, "texts latents width"]:
        asked = self._by_head(self.to_q(latents)).expand(len(vectors), -1, -1, -1)
        keys, values = (self._by_head(part) for part in self.to_kv(vectors).chunk(2, dim=-1))
        found = nn.functional.scaled_dot_product_attention(asked, keys, values)
        out: Tensor = self.to_out(found.transpose(1, 2).flatten(2))
        return out

    def _by_head(self, made: Tensor) -> Tensor:
        return made.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
