"""Pooling against plain loops, whatever the padding."""

import torch

from distill import pooling


def test_mean_equals_a_loop() -> None:
    """Harm: padding is averaged in, so a text's vector depends on its batch-mates."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(5, 7, 4, generator=generator)
    pool = torch.rand(5, 7, generator=generator) < 0.5
    pool[3] = False
    found = pooling.mean(states, pool)
    for text in range(5):
        kept = [states[text, at] for at in range(7) if pool[text, at]]
        expected = sum(kept) / len(kept) if kept else torch.zeros(4)
        torch.testing.assert_close(found[text], expected)


def test_sums_of_half_precision_do_not_stall() -> None:
    """Harm: a bf16 sum of ones stops at 256, and long texts get short vectors."""
    states = torch.ones(1, 1000, 2, dtype=torch.bfloat16)
    found = pooling.mean(states, torch.ones(1, 1000, dtype=torch.bool))
    assert found.dtype == torch.float32
    assert found.tolist() == [[1.0, 1.0]]


def test_last_token_is_the_last_pooled_one_on_either_side() -> None:
    """Harm: with padding on the right the state of a padding token is taken."""
    states = torch.arange(24.0).reshape(4, 3, 2)
    pool = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1]], dtype=torch.bool)
    found = pooling.last_token(states, pool)
    assert torch.equal(found, torch.stack([states[0, 1], states[1, 2], states[2, 0], states[3, 2]]))


def test_padding_gets_no_gradient() -> None:
    """Harm: the weights are trained on what padding tokens say."""
    pool = torch.tensor([[True, True, False]])
    for pooled in (pooling.mean, pooling.last_token):
        states = torch.ones(1, 3, 2, requires_grad=True)
        pooled(states, pool).sum().backward()
        assert states.grad is not None
        assert (states.grad[0, 2] == 0).all()
        assert states.grad[0, 1].sum() > 0
