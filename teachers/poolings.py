"""How token states become a vector: the poolings of a decoder, behind one interface."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill import pooling
from teachers.latent_attention import FoldedLatentAttention, LatentAttention, SelfAttention
from teachers.multi_layer import MultiLayer

Pooling = Literal["latent_attention", "folded_latent_attention", "self_attention", "multi_layer", "mean", "last_token"]
"""Names of the poolings. Each is a module `forward(states, mask) -> vectors`, in fp32 and not normalised; `multi_layer`
takes the states of all layers."""


class Mean(nn.Module):
    """The mean of the states that are pooled."""

    def forward(
        self, states: Float[Tensor, "texts tokens width"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts width"]:
        """One vector a text."""
        return pooling.mean(states, mask)


class LastToken(nn.Module):
    """The state of the last token that is pooled: the end of the sequence."""

    def forward(
        self, states: Float[Tensor, "texts tokens width"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts width"]:
        """One vector a text."""
        return pooling.last_token(states, mask)


def make(name: Pooling, *, width: int, layers: int, causal: bool, latents: int, heads: int) -> nn.Module:
    """A pooling by its name.

    Args:
        name: Which.
        width: Of the token states.
        layers: Of the language model.
        causal: Whether its first tokens know nothing of the last ones.
        latents: Trained vectors of the poolings that have such.
        heads: Of the poolings that attend.
    """
    match name:
        case "latent_attention":
            return LatentAttention(width, latents, heads)
        case "folded_latent_attention":
            return FoldedLatentAttention(width, latents, heads)
        case "self_attention":
            return SelfAttention(width, heads)
        case "multi_layer":
            return MultiLayer(width, layers, pooling.last_token if causal else pooling.mean, latents, heads)
        case "mean":
            return Mean()
        case "last_token":
            return LastToken()
