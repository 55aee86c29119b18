"""Attention in fp32 is the same attention, is what a training on a CPU computes, and ends with it."""

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill import attention
from distill.objective import Schedule
from distill.stages.train import train
from students import Encoder

TEXTS = ["a short one", "a text that is rather longer than the first, so that it is padded"]


def read(model: Encoder) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Vectors of some texts, and the gradients of their sum of squares' weights."""
    model.zero_grad()
    vectors = model(model.tokenize(TEXTS).take(torch.arange(2).numpy()))
    (vectors * torch.linspace(-1, 1, vectors.shape[1])).sum().backward()
    return vectors.detach(), [held.grad.clone() for held in model.parameters() if held.grad is not None]


def test_it_is_the_same_attention(encoder: Path) -> None:
    """Harm: the quicker attention reads padding, or loses its scale or its mask, and trains another model."""
    model = Encoder(base=str(encoder), length=24).eval()
    plain = read(model)
    with attention.in_fp32(model):
        assert model.backbone.config._attn_implementation == attention.NAME
        torch.testing.assert_close(read(model), plain)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(read(model)[0], plain[0], rtol=0, atol=0.02)
    assert model.backbone.config._attn_implementation == "sdpa"


def test_another_attention_is_left_as_it_is(encoder: Path) -> None:
    """Harm: a model that attends by other means, since `sdpa` lacks something it needs, is put on `sdpa`."""
    model = Encoder(base=str(encoder), length=24)
    model.backbone.set_attn_implementation("eager")
    with attention.in_fp32(model):
        assert model.backbone.config._attn_implementation == "eager"
    assert model.backbone.config._attn_implementation == "eager"


@pytest.mark.skipif(torch.cuda.is_available(), reason="of training on a CPU")
def test_a_training_on_a_cpu_attends_in_fp32(
    corpus: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: attention is read backwards in bf16, which takes a CPU four times as long."""
    seen, plain = set(), torch.nn.functional.scaled_dot_product_attention

    def noted(query: torch.Tensor, *rest: object, **settings: object) -> torch.Tensor:
        seen.add((query.dtype, torch.is_autocast_enabled("cpu")))
        return plain(query, *rest, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    start = functools.partial(Encoder, base=str(encoder), length=24)
    schedule = replace(Schedule(), steps=2, queries=6, negatives=2, precision="bf16")
    train(model=start, passages=corpus, examples=(corpus,), schedule=schedule, out=tmp_path / "student")
    assert seen == {(torch.float32, False)}
