"""Latent attention as published against the same multiplied out: memory, speed, difference. Not part of the suite.

python tests/benchmarks/latent_attention.py --width 4096 --tokens 2048
"""

import argparse
import time

import torch
from torch import nn

from teachers import LatentAttention


def parameters(block: nn.Module) -> float:
    """Of the whole block, in millions."""
    return sum(held.numel() for held in block.parameters()) / 1e6


def seconds(block: nn.Module, states: torch.Tensor, mask: torch.Tensor, *, train: bool) -> float:
    """The best of five."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        with torch.set_grad_enabled(train):
            made = block(states, mask)
            if train:
                made.sum().backward()
        best = min(best, time.perf_counter() - began)
    return best


def activations(block: nn.Module, states: torch.Tensor, mask: torch.Tensor) -> float:
    """Megabytes that a forward pass keeps for the backward pass, weights left out."""
    weights = {parameter.data_ptr() for parameter in block.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        block(states, mask)
    return sum(kept.values()) / 1e6


def main() -> None:
    """Both forms of one random block on the same random states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--latents", type=int, default=512)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=2048, help="in texts of 128")
    asked = parser.parse_args()
    torch.manual_seed(1)
    block = LatentAttention(asked.width, asked.latents, asked.heads)
    for held in block.parameters():
        if held.ndim > 1:
            nn.init.normal_(held, std=asked.width**-0.5)
    folded = block.folded()
    states = torch.randn(asked.tokens // 128, 128, asked.width)
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    with torch.inference_mode():
        difference = (block(states, mask) - folded(states, mask)).abs().max().item()
    for name, made in (("published", block), ("folded", folded)):
        times = [seconds(made, states, mask, train=train) for train in (False, True)]
        print(
            f"{name:10} {parameters(made):8.1f}M parameters, {activations(made, states, mask):.0f} MB kept for the "
            f"backward pass, forward {times[0]:.3f} s, with backward {times[1]:.3f} s"
        )
    print(f"largest difference of a coordinate: {difference:.1e}")


if __name__ == "__main__":
    main()
