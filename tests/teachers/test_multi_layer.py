"""Pooling over all layers computes what its paper's code does."""

import math

import pytest
import torch
from torch import Tensor

from distill import pooling
from distill.errors import Refused
from teachers.multi_layer import MultiLayer

WIDTH, LAYERS, LATENTS, HEADS = 6, 4, 3, 2


def norm(vector: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    spread = ((vector - vector.mean()) ** 2).mean()
    return (vector - vector.mean()) / torch.sqrt(spread + 1e-5) * weight + bias


def naive(held: dict[str, Tensor], states: list[Tensor], mask: Tensor) -> Tensor:
    """One text, one latent, one head, one layer at a time."""
    one, two = "cross_attend_blocks.0.", "cross_attend_blocks.1."
    share = WIDTH // HEADS
    texts = []
    for text, kept in enumerate(mask):
        layers = [layer[text][kept].mean(0) + held["pos_emb.weight"][number] for number, layer in enumerate(states)]
        normed = [norm(layer, held[one + "norm.weight"], held[one + "norm.bias"]) for layer in layers]
        total = torch.zeros(WIDTH, dtype=states[0].dtype)
        for latent in held["latents"]:
            asked = held[one + "fn.to_q.weight"] @ norm(
                latent, held[one + "norm_context.weight"], held[one + "norm_context.bias"]
            )
            heads = []
            for head in range(HEADS):
                part = slice(head * share, (head + 1) * share)
                both = [held[one + "fn.to_kv.weight"] @ layer for layer in normed]
                logits = torch.stack([asked[part] @ each[:WIDTH][part] / math.sqrt(share) for each in both])
                shares = logits.softmax(0)
                heads.append(sum(s * each[WIDTH:][part] for s, each in zip(shares, both, strict=True)))
            first = held[one + "fn.to_out.weight"] @ torch.cat(heads) + latent  # type: ignore[arg-type]
            wide = held[two + "fn.net.0.weight"] @ norm(first, held[two + "norm.weight"], held[two + "norm.bias"])
            value, gate = (wide + held[two + "fn.net.0.bias"]).chunk(2)
            gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
            total = total + held[two + "fn.net.2.weight"] @ (value * gelu) + held[two + "fn.net.2.bias"] + first
        texts.append(total / LATENTS)
    return torch.stack(texts)


def test_it_is_the_plain_loops() -> None:
    """Harm: latents and layers change places, as in NV-Embed's block, and it trains all the same."""
    generator = torch.Generator().manual_seed(1)
    block = MultiLayer(WIDTH, LAYERS, pooling.mean, LATENTS, HEADS).double()
    with torch.no_grad():
        for held in block.parameters():
            held.copy_(torch.randn(held.shape, generator=generator, dtype=torch.float64) * 0.5)
    states = [torch.randn(2, 5, WIDTH, generator=generator, dtype=torch.float64) for _ in range(LAYERS)]
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0]], dtype=torch.bool)
    wanted = naive(dict(block.named_parameters()), states, mask)
    torch.testing.assert_close(block(states, mask).double(), wanted, rtol=1e-5, atol=1e-5)
    assert (block([states[0], *states[:0:-1]], mask) - block(states, mask)).abs().max() > 1e-3  # the order counts


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    """Harm: a traceback about shapes at the first step, after fifteen gigabytes were loaded."""
    with pytest.raises(Refused, match="heads: 4; needed: a number that divides the width of the states, 6"):
        MultiLayer(WIDTH, LAYERS, pooling.mean, LATENTS, heads=4)
