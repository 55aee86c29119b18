"""Models away from where they start, for tests that would pass with half of the weights at zero."""

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def shaken(model: Module, by: float = 0.1) -> Module:
    """A model with noise on all that is trained, in evaluation mode."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for held in model.parameters():
            if held.requires_grad:
                held.add_(torch.randn(held.shape, generator=generator) * by)
    return model.eval()
