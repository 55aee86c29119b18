"""The pooling block of NV-Embed (arXiv 2405.17428, section 3.2; details as in the released checkpoint)."""

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
            [_PreNorm(width, _Attention(width, heads), context=True), _PreNorm(width, _FeedForward(width))]
        )

    def forward(
        self, states: Float[Tensor, "texts tokens width"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts width"]:
        """One vector a text, not normalised, in fp32."""
        attention, mlp = self.cross_attend_blocks
        states = attention(states, self.latents) + states
        states = mlp(states) + states
        return pooling.mean(states, mask)


class _PreNorm(nn.Module):
    def __init__(self, width: int, fn: nn.Module, *, context: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        if context:
            self.norm_context = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        normed = self.norm(states)
        made: Tensor = self.fn(normed) if context is None else self.fn(normed, self.norm_context(context))
        return made


class _Attention(nn.Module):
    """Tokens ask, latents answer; latents are never padded, so there is no mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * width, bias=False)
        self.to_out = nn.Linear(heads * width, width, bias=False)
        nn.init.zeros_(self.to_out.weight)

    def forward(
        self, states: Float[Tensor, "texts tokens width"], latents: Float[Tensor, "latents width"]
    ) -> Float[Tensor, "texts tokens width"]:
        keys, values = self.to_kv(latents).chunk(2, dim=-1)  # the first half of the rows are the keys
        shape = (-1, self.heads, states.shape[-1])
        asked = self.to_q(states).unflatten(-1, shape[1:]).flatten(0, 1).transpose(0, 1)  # heads, all tokens, width
        found = nn.functional.scaled_dot_product_attention(
            asked, keys.view(shape).transpose(0, 1), values.view(shape).transpose(0, 1)
        )
        out: Tensor = self.to_out(found.transpose(0, 1).flatten(1))
        return out.view(states.shape)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 8 * width), _GEGLU(), nn.Linear(4 * width, width))
        last = self.net[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, states: Tensor) -> Tensor:
        made: Tensor = self.net(states)
        return made


class _GEGLU(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        value, gate = states.chunk(2, dim=-1)  # the first half is the value, the second the gate
        return value * nn.functional.gelu(gate)
