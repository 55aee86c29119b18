"""The pooling block is the published one: its names, its numbers, its gradients."""

import pytest
import torch
from reference import latent_attention
from torch import Tensor, nn

from distill import pooling
from teachers import FoldedLatentAttention, LatentAttention
from teachers.latent_attention import Attention, SelfAttention

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
    for forward in (block, lambda states, mask: latent_attention(dict(block.named_parameters()), HEADS, states, mask)):
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


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_folded_it_is_the_same_function(dtype: torch.dtype, close: float) -> None:
    """Harm: the cheap form answers for the trained one and is another model."""
    block = trained().to(dtype)
    states, mask = some_states()
    states = states.to(dtype)
    made = [found.clone().requires_grad_() for found in (states, states)]
    whole, folded = block(made[0], mask), block.folded()(made[1], mask)
    torch.testing.assert_close(folded, whole, rtol=0, atol=close)
    for found in (whole, folded):
        found.sin().sum().backward()
    assert made[0].grad is not None and made[1].grad is not None
    torch.testing.assert_close(made[1].grad, made[0].grad, rtol=0, atol=10 * close)


def test_folded_it_has_a_sixteenth_of_the_attentions_parameters() -> None:
    """Harm: something that could be multiplied out is carried along."""
    with torch.device("meta"):
        block = FoldedLatentAttention(4096)
    assert block.ask.weight.numel() + block.answer.weight.numel() == 2 * 8 * 512 * 4096 == 33_554_432


def test_self_attention_is_the_plain_loops() -> None:
    """Harm: tokens attend to padding, or heads are mixed up."""
    block = SelfAttention(WIDTH, HEADS).double()
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for held in block.parameters():
            held.copy_(torch.randn(held.shape, generator=generator, dtype=torch.float64) * 0.5)
    states, mask = some_states()
    for text, kept, found in zip(states, mask, block(states, mask), strict=True):
        inside = text[kept]
        normed = torch.nn.functional.layer_norm(
            inside, (WIDTH,), block.attention.norm.weight, block.attention.norm.bias
        )
        fn = block.attention.fn
        assert isinstance(fn, Attention)
        heads = []
        for head in range(HEADS):
            rows = slice(head * WIDTH, (head + 1) * WIDTH)
            asked = normed @ fn.to_q.weight[rows].T
            keys = normed @ fn.to_kv.weight[: HEADS * WIDTH][rows].T
            values = normed @ fn.to_kv.weight[HEADS * WIDTH :][rows].T
            heads.append((asked @ keys.T / WIDTH**0.5).softmax(1) @ values)
        first = torch.cat(heads, 1) @ fn.to_out.weight.T + inside
        wanted = (first + block.mlp(first)).mean(0)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
