"""Published models as plain loops, to compare with."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def norm(vector: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    spread = ((vector - vector.mean()) ** 2).mean()
    return (vector - vector.mean()) / torch.sqrt(spread + 1e-5) * weight + bias


def latent_attention(held: Mapping[str, Tensor], heads_count: int, states: Tensor, mask: Tensor) -> Tensor:
    """The published forward pass, one text, one token, one head at a time."""
    width = states.shape[-1]
    attention, mlp = "cross_attend_blocks.0.", "cross_attend_blocks.1."
    context = [
        norm(latent, held[attention + "norm_context.weight"], held[attention + "norm_context.bias"])
        for latent in held["latents"]
    ]
    inner = heads_count * width
    key_rows, value_rows = held[attention + "fn.to_kv.weight"][:inner], held[attention + "fn.to_kv.weight"][inner:]
    texts = []
    for text, kept in zip(states, mask, strict=True):
        total = torch.zeros(width, dtype=states.dtype)
        for token in text[kept]:
            asked = held[attention + "fn.to_q.weight"] @ norm(
                token, held[attention + "norm.weight"], held[attention + "norm.bias"]
            )
            heads = []
            for head in range(heads_count):
                rows = slice(head * width, (head + 1) * width)
                logits = torch.stack([asked[rows] @ (key_rows[rows] @ latent) / math.sqrt(width) for latent in context])
                shares = torch.exp(logits - logits.max()) / torch.exp(logits - logits.max()).sum()
                heads.append(
                    sum(share * (value_rows[rows] @ latent) for share, latent in zip(shares, context, strict=True))
                )
            first = held[attention + "fn.to_out.weight"] @ torch.cat(heads) + token
            wide = held[mlp + "fn.net.0.weight"] @ norm(first, held[mlp + "norm.weight"], held[mlp + "norm.bias"])
            wide = wide + held[mlp + "fn.net.0.bias"]
            value, gate = wide[: 4 * width], wide[4 * width :]
            gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
            total = total + held[mlp + "fn.net.2.weight"] @ (value * gelu) + held[mlp + "fn.net.2.bias"] + first
        texts.append(total / kept.sum())
    return torch.stack(texts)
