"""The pooling block is the published one: its names, its numbers, its gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from distill import pooling
from teachers import LatentAttention

WIDTH, LATENTS, HEADS = 6, 5, 3

PUBLISHED = {
    "latents": (LATENTS, WIDTH),
    "cross_attend_blocks.0.norm.weight": (WIDTH,),
    "cross_attend_blocks.0.norm.bias": (WIDTH,),
    "cross_attend_blocks.0.norm_context.weight": (WIDTH,),
    "cross_attend_blocks.0.norm_context.bias": (WIDTH,),
    "cross_attend_blocks.0.fn.to_q.weight": (HEADS * WIDTH, WIDTH),
    "cross_attend_blocks.0.fn.to_kv.weight": (2 * HEADS * WIDTH, WIDTH),
    "cross_attend_blocks.0.fn.to_out.weight": (WIDTH, HEADS * WIDTH),
    "cross_attend_blocks.1.norm.weight": (WIDTH,),
    "cross_attend_blocks.1.norm.bias": (WIDTH,),
    "cross_attend_blocks.1.fn.net.0.weight": (8 * WIDTH, WIDTH),
    "cross_attend_blocks.1.fn.net.0.bias": (8 * WIDTH,),
    "cross_attend_blocks.1.fn.net.2.weight": (WIDTH, 4 * WIDTH),
    "cross_attend_blocks.1.fn.net.2.bias": (WIDTH,),
}
"""Names and shapes in the released checkpoint, without its prefix; widths in proportion."""


def trained() -> LatentAttention:
    """A block in which every weight is random, those that begin at zero too."""
    block = LatentAttention(WIDTH, LATENTS, HEADS).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for held in block.parameters():
            held.copy_(torch.randn(held.shape, generator=generator, dtype=torch.float64) * 0.5)
    return block


def some_states() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    states = torch.randn(3, 7, WIDTH, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    return states, mask


def norm(vector: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    spread = ((vector - vector.mean()) ** 2).mean()
    return (vector - vector.mean()) / torch.sqrt(spread + 1e-5) * weight + bias


def naive(block: LatentAttention, states: Tensor, mask: Tensor) -> Tensor:
    """The published forward pass, one text, one token, one head at a time."""
    held = dict(block.named_parameters())
    attention, mlp = "cross_attend_blocks.0.", "cross_attend_blocks.1."
    context = [
        norm(latent, held[attention + "norm_context.weight"], held[attention + "norm_context.bias"])
        for latent in held["latents"]
    ]
    inner = HEADS * WIDTH
    key_rows, value_rows = held[attention + "fn.to_kv.weight"][:inner], held[attention + "fn.to_kv.weight"][inner:]
    texts = []
    for text, kept in zip(states, mask, strict=True):
        total = torch.zeros(WIDTH, dtype=states.dtype)
        for token in text[kept]:
            asked = held[attention + "fn.to_q.weight"] @ norm(
                token, held[attention + "norm.weight"], held[attention + "norm.bias"]
            )
            heads = []
            for head in range(HEADS):
                rows = slice(head * WIDTH, (head + 1) * WIDTH)
                logits = torch.stack([asked[rows] @ (key_rows[rows] @ latent) / math.sqrt(WIDTH) for latent in context])
                shares = torch.exp(logits - logits.max()) / torch.exp(logits - logits.max()).sum()
                heads.append(
                    sum(share * (value_rows[rows] @ latent) for share, latent in zip(shares, context, strict=True))
                )
            first = held[attention + "fn.to_out.weight"] @ torch.cat(heads) + token
            wide = held[mlp + "fn.net.0.weight"] @ norm(first, held[mlp + "norm.weight"], held[mlp + "norm.bias"])
            wide = wide + held[mlp + "fn.net.0.bias"]
            value, gate = wide[: 4 * WIDTH], wide[4 * WIDTH :]
            gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
            total = total + held[mlp + "fn.net.2.weight"] @ (value * gelu) + held[mlp + "fn.net.2.bias"] + first
        texts.append(total / kept.sum())
    return torch.stack(texts)


def test_the_names_are_the_published_ones() -> None:
    """Harm: the published checkpoint cannot be loaded, or is loaded with parts left at random."""
    assert {name: tuple(held.shape) for name, held in LatentAttention(WIDTH, LATENTS, HEADS).state_dict().items()} == (
        PUBLISHED
    )


def test_the_parameters_of_the_paper_are_as_many_as_published() -> None:
    """Harm: a head is as wide as a share of the states, as is usual, and not as wide as the states."""
    with torch.device("meta"):
        assert sum(held.numel() for held in LatentAttention(4096).parameters()) == 740_356_096


def test_forward_and_gradients_are_those_of_the_plain_loops() -> None:
    """Harm: keys and values, value and gate, or heads and widths are swapped: it still trains, only worse."""
    block = trained()
    states, mask = some_states()
    weights = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = []
    for forward in (block, lambda states, mask: naive(block, states, mask)):
        given = states.clone().requires_grad_()
        block.zero_grad()
        made = forward(given, mask).double()  # the block pools in fp32, so the comparison is as close as that
        (made * weights).sum().backward()
        assert given.grad is not None
        found.append(
            [made.detach(), given.grad, *(held.grad.clone() for held in block.parameters() if held.grad is not None)]
        )
    assert len(found[0]) == 2 + len(PUBLISHED)
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_tokens_that_are_not_pooled_do_not_matter() -> None:
    """Harm: instruction or padding leaks into the vector through the pooling block."""
    block, (states, mask) = trained(), some_states()
    changed = torch.where(mask.unsqueeze(-1), states, torch.full_like(states, 99.0))
    assert torch.equal(block(states, mask), block(changed, mask))


@pytest.mark.parametrize("heads", [1, 8])
def test_untrained_it_is_mean_pooling(heads: int) -> None:
    """Harm: a training starts from noise, and its first hundred steps only undo that."""
    block, (states, mask) = LatentAttention(WIDTH, LATENTS, heads).double(), some_states()
    torch.testing.assert_close(block(states, mask), pooling.mean(states, mask), rtol=0, atol=0)


def test_what_begins_at_zero_can_leave_it() -> None:
    """Harm: zeros on both sides of a product have no gradient, and the block stays mean pooling for ever."""
    block, (states, mask) = LatentAttention(WIDTH, LATENTS, HEADS), some_states()
    optimizer = torch.optim.AdamW(block.parameters(), lr=1e-2)
    for _ in range(2):
        loss = nn.functional.normalize(block(states.float(), mask), dim=-1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(held.grad is not None and held.grad.abs().max() > 0 for held in block.parameters())
