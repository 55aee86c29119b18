"""The pooling block of NV-Embed (arXiv 2405.17428, section 3.2; details as in the released checkpoint)."""

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill import pooling


class LatentAttention(nn.Module):
    """Token states attend to trained latents, pass an MLP, and are averaged under the mask.

    The names of the parameters are those of the published checkpoint, without its prefix
    `latent_attention_model.`. The two output projections start at zero, so that an untrained block
    is mean pooling exactly and training moves away from there; a loaded checkpoint replaces them.

    Args:
        width: Of the token states.
        latents: Trained vectors that are attended to.
        heads: Each as wide as the states, not a share of them: the checkpoint's inner width is 8 x 4096.
    """

    def __init__(self, width: int, latents: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.cross_attend_blocks = nn.ModuleList(
            [PreNorm(width, Attention(width, heads), context=True), PreNorm(width, FeedForward(width))]
        )

    def forward(
        self, states: Float[Tensor, "texts tokens width"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts width"]:
        """One vector a text, not normalised, in fp32."""
        attention, mlp = self.cross_attend_blocks
        states = attention(states, self.latents) + states
        states = mlp(states) + states
        return pooling.mean(states, mask)

    @torch.no_grad()
    def folded(self) -> "FoldedLatentAttention":
        """The same function in fewer operations: what depends on parameters alone is multiplied out."""
        attention, mlp = copy.deepcopy(self.cross_attend_blocks).double()
        assert isinstance(attention, PreNorm) and isinstance(attention.fn, Attention) and isinstance(mlp, PreNorm)
        assert attention.norm_context is not None
        latents, width = self.latents.shape
        heads = attention.fn.heads
        made = FoldedLatentAttention(width, latents, heads).to(self.latents.device).double()
        context = attention.norm_context(self.latents.double())
        keys, values = (part.unflatten(-1, (heads, width)) for part in attention.fn.to_kv(context).chunk(2, dim=-1))
        asking = attention.fn.to_q.weight.unflatten(0, (heads, width))
        telling = attention.fn.to_out.weight.unflatten(1, (heads, width))
        made.ask.weight.copy_(torch.einsum("lhk,hkw->hlw", keys, asking).flatten(0, 1) / width**0.5)
        made.answer.weight.copy_(torch.einsum("whk,lhk->whl", telling, values).flatten(1))
        made.norm.load_state_dict(attention.norm.state_dict())
        made.mlp.load_state_dict(mlp.state_dict())
        return made.to(self.latents.dtype)


class FoldedLatentAttention(nn.Module):
    """Latent attention with keys and values multiplied out: a product, a softmax for each head, a product.

    At NV-Embed's size the attention has 33.6M parameters in place of 539M, for the same functions: a head
    as wide as the states sets no rank.

    Args:
        width: Of the token states.
        latents: What a token's attention is shared out among, for each head.
        heads: Softmaxes.
    """

    def __init__(self, width: int, latents: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, heads * latents, bias=False)
        self.answer = nn.Linear(heads * latents, width, bias=False)
        self.mlp = PreNorm(width, FeedForward(width))
        nn.init.zeros_(self.answer.weight)

    def forward(
        self, states: Float[Tensor, "texts tokens width"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts width"]:
        """One vector a text, not normalised, in fp32."""
        shares = self.ask(self.norm(states)).unflatten(-1, (self.heads, -1)).softmax(-1)
        states = self.answer(shares.flatten(-2)) + states
        states = self.mlp(states) + states
        return pooling.mean(states, mask)


class SelfAttention(nn.Module):
    """NV-Embed's comparison without latents (tables 2 and 3): the pooled tokens of a text attend to each other.

    Args:
        width: Of the token states.
        heads: Each as wide as the states.
    """

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.attention = PreNorm(width, Attention(width, heads))
        self.mlp = PreNorm(width, FeedForward(width))

    def forward(
        self, states: Float[Tensor, "texts tokens width"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts width"]:
        """One vector a text, not normalised, in fp32."""
        states = self.attention(states, mask=mask) + states
        states = self.mlp(states) + states
        return pooling.mean(states, mask)


class PreNorm(nn.Module):
    """A layer behind a LayerNorm of what it reads, and of what it attends to if that is something else."""

    def __init__(self, width: int, fn: nn.Module, *, context: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width) if context else None
        self.fn = fn

    def forward(self, states: Tensor, context: Tensor | None = None, **given: Tensor) -> Tensor:
        """What the layer makes of the normed states, and of the normed context if it has one."""
        normed = self.norm(states)
        if context is None or self.norm_context is None:
            made: Tensor = self.fn(normed, **given)
        else:
            made = self.fn(normed, self.norm_context(context), **given)
        return made


class Attention(nn.Module):
    """Attention of states to a context that all texts share, or, without one, of each text to itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * width, bias=False)
        self.to_out = nn.Linear(heads * width, width, bias=False)
        nn.init.zeros_(self.to_out.weight)

    def forward(
        self,
        states: Float[Tensor, "texts tokens width"],
        context: Float[Tensor, "latents width"] | None = None,
        mask: Bool[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts tokens width"]:
        """What each state finds.

        Args:
            states: What asks.
            context: What answers, never padded.
            mask: Where there is no context, which states answer.
        """
        asked = self._by_head(self.to_q(states))
        keys, values = self.to_kv(states if context is None else context).chunk(2, dim=-1)  # keys are the first half
        if context is None:
            assert mask is not None
            told = mask[:, None, None, :] | ~mask.any(1)[:, None, None, None]  # of a text without any, all: no NaN
            found = nn.functional.scaled_dot_product_attention(
                asked, self._by_head(keys), self._by_head(values), attn_mask=told
            )
            out: Tensor = self.to_out(found.transpose(1, 2).flatten(2))
            return out
        every = asked.transpose(0, 1).flatten(1, 2)  # the latents are the same for all texts: heads, all tokens, width
        found = nn.functional.scaled_dot_product_attention(every, self._by_head(keys), self._by_head(values))
        out = self.to_out(found.transpose(0, 1).flatten(1))
        return out.view(states.shape)

    def _by_head(self, made: Tensor) -> Tensor:
        return made.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


class FeedForward(nn.Module):
    """Four times as wide inside, gated; its output starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 8 * width), _GEGLU(), nn.Linear(4 * width, width))
        last = self.net[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, states: Tensor) -> Tensor:
        """What is added to the states."""
        made: Tensor = self.net(states)
        return made


class _GEGLU(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        value, gate = states.chunk(2, dim=-1)  # the first half is the value, the second the gate
        return value * nn.functional.gelu(gate)
