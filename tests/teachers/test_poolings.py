"""Each pooling makes a text's vector of the text alone: not of padding, its side, or the texts beside it."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from shaking import shaken
from torch import Tensor, nn

from distill.interfaces import Tokens
from teachers import Decoder, poolings
from teachers.multi_layer import MultiLayer

pytestmark = pytest.mark.usefixtures("fp32")

NAMES = get_args(poolings.Pooling)
WIDTH, LAYERS = 6, 3
TEXTS = ["how do owls fly", "Salt slows the yeast down, so dough without salt rises fast.", "fog", ""]


def made(name: poolings.Pooling, *, causal: bool = False) -> nn.Module:
    return shaken(poolings.make(name, width=WIDTH, layers=LAYERS, causal=causal, latents=5, heads=2), 0.3)


def pooled(pooling: nn.Module, states: Tensor, mask: Tensor) -> Tensor:
    """Of states of all layers, or of the last of them."""
    found: Tensor = pooling(list(states) if isinstance(pooling, MultiLayer) else states[-1], mask)
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_not_pooled_does_not_matter(name: poolings.Pooling, causal: bool) -> None:
    """Harm: the vector of a text depends on how far, and on which side, its neighbours padded it."""
    pooling = made(name, causal=causal)
    states = torch.randn(LAYERS, 2, 5, WIDTH, generator=torch.Generator().manual_seed(3))
    alone = pooled(pooling, states, torch.ones(2, 5, dtype=torch.bool))
    for left, right in ((0, 3), (3, 0), (2, 2)):
        wide = nn.functional.pad(states, (0, 0, left, right), value=7.0)
        mask = nn.functional.pad(torch.ones(2, 5, dtype=torch.bool), (left, right))
        torch.testing.assert_close(pooled(pooling, wide, mask), alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(pooled(pooling, states[:, :1], torch.ones(1, 5, dtype=torch.bool)), alone[:1])
    assert (alone[0] - alone[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_pool_is_still_a_number(name: poolings.Pooling) -> None:
    """Harm: one text without a token to pool turns the loss of its batch into NaN."""
    states = torch.randn(LAYERS, 2, 4, WIDTH, requires_grad=True)
    mask = torch.tensor([[True] * 4, [False] * 4])
    found = pooled(made(name), states, mask)
    found.sum().backward()
    assert found.isfinite().all() and states.grad is not None and states.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_a_decoders_vectors_do_not_depend_on_padding(decoder: Path, name: poolings.Pooling, attention: str) -> None:
    """Harm: a text is found or not according to the day's batches; or padding on the left, as servers do, ruins it."""
    model = shaken(Decoder(str(decoder), attention=attention, pooling=name, latents=4, heads=2, rank=2, length=24), 0.3)  # type: ignore[arg-type]
    rows = model.tokenize(TEXTS, ["Find it", "", "", "Say it"])  # type: ignore[operator]
    tokens = rows.take(np.arange(len(TEXTS)))
    with torch.inference_mode():
        together = model(tokens)
        for number in range(len(TEXTS)):
            torch.testing.assert_close(model(rows.take(np.array([number])))[0], together[number], rtol=0, atol=2e-5)
        parts = (tokens.ids, tokens.attend, tokens.pool)
        wide = Tokens(*(nn.functional.pad(part, (0, 7)) for part in parts))
        torch.testing.assert_close(model(wide), together, rtol=0, atol=2e-5)
        lengths = tokens.attend.sum(1).tolist()
        turned = Tokens(
            *(torch.stack([row.roll(len(row) - n) for row, n in zip(part, lengths, strict=True)]) for part in parts)
        )
        torch.testing.assert_close(model(turned), together, rtol=0, atol=2e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(len(TEXTS)))
