"""Token states to one vector a text, under a mask. Sums are in fp32: bf16 sums lose digits with length."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def mean(
    states: Float[Tensor, "texts tokens width"], pool: Bool[Tensor, "texts tokens"]
) -> Float[Tensor, "texts width"]:
    """Mean of the states that are pooled; zero where none is."""
    kept = pool.unsqueeze(-1)
    total = (states.float() * kept).sum(1)
    return total / kept.sum(1).clamp(min=1)


def last_token(
    states: Float[Tensor, "texts tokens width"], pool: Bool[Tensor, "texts tokens"]
) -> Float[Tensor, "texts width"]:
    """State of the last token that is pooled, whatever the padding side."""
    places = torch.arange(pool.shape[1], device=pool.device)
    last = torch.where(pool, places, -1).amax(1).clamp(min=0)
    return states[torch.arange(len(states), device=states.device), last].float()
