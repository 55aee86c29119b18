"""The mean of models is the mean of what they compute with, and nothing is averaged that does not belong together."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill import models
from distill.errors import Refused
from distill.interfaces import Embedder
from distill.objective import Schedule
from distill.stages.average import average
from distill.stages.train import train
from students import Encoder
from teachers import E5Mistral, LlamaEmbedNemotron, NVEmbed

SHORT = Schedule(steps=4, queries=6, learning_rate=1e-2, warmup=1, precision="fp32")
TEXTS = ["how do owls fly", "fog"]


def trained(model: functools.partial[Embedder], corpus: Path, out: Path, seed: int) -> Path:
    train(model=model, passages=corpus, examples=(corpus,), schedule=SHORT, seed=seed, out=out)
    return out


@torch.inference_mode()
def vectors(model: Embedder) -> Tensor:
    found: Tensor = model(model.tokenize(TEXTS).take(np.arange(len(TEXTS))))
    return found


def test_a_students_weights_are_the_mean(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: a model is counted twice or not at all, or the weights are added and not divided."""
    student = functools.partial(Encoder, base=str(encoder), length=32)
    folders = tuple(trained(student, corpus, tmp_path / str(seed), seed) for seed in (1, 2, 3))
    facts = average(models=folders, out=tmp_path / "soup")
    weights = [models.embedder(folder).state_dict() for folder in (*folders, tmp_path / "soup")]
    for name, held in weights[3].items():
        if held.is_floating_point():
            expected = torch.stack([one[name].double() for one in weights[:3]]).mean(0)
            torch.testing.assert_close(held.double(), expected, rtol=1e-5, atol=1e-7)
    flat = torch.stack(
        [torch.cat([w.double().flatten() for w in one.values() if w.is_floating_point()]) for one in weights]
    )
    apart = (flat[:3] - flat[:3].mean(0)).square().sum(1).mean().sqrt() / flat[:3].mean(0).norm()
    assert facts["apart"] == pytest.approx(apart.item(), abs=1e-5) and apart > 1e-3


def test_adapters_are_merged_before_they_are_averaged(corpus: Path, decoder: Path, tmp_path: Path, fp32: None) -> None:
    """Harm: A and B are averaged apart, and the soup of two adapters is neither's mean."""
    teacher = functools.partial(NVEmbed, str(decoder), latents=4, heads=2, rank=2, length=40, dropout=0.0)
    folders = tuple(trained(teacher, corpus, tmp_path / str(seed), seed) for seed in (1, 2))  # type: ignore[arg-type]
    average(models=folders, out=tmp_path / "soup")
    soup, each = models.embedder(tmp_path / "soup"), [models.embedder(folder) for folder in folders]
    for held in each:
        held.merge()
    name = "backbone.layers.0.self_attn.q_proj.weight"
    one, two, mean = (dict(held.named_parameters())[name] for held in (*each, soup))
    torch.testing.assert_close(mean, (one + two) / 2, rtol=0, atol=1e-6)
    assert (one - two).abs().max() > 1e-4
    assert not torch.allclose(vectors(soup), vectors(each[0]), atol=1e-4)


def test_what_does_not_belong_together_is_refused(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: the mean of two architectures, or of one model with itself, is shipped as a soup."""
    deep = trained(functools.partial(Encoder, base=str(encoder), length=32), corpus, tmp_path / "deep", 1)
    flat = functools.partial(Encoder, base=str(encoder), layers=(0,), length=32)
    with pytest.raises(Refused, match="two or more, each once"):
        average(models=(deep,), out=tmp_path / "soup")
    with pytest.raises(Refused, match="two or more, each once"):
        average(models=(deep, deep), out=tmp_path / "soup")
    with pytest.raises(Refused, match="of different shape"):
        average(models=(deep, trained(flat, corpus, tmp_path / "flat", 1)), out=tmp_path / "soup")
    longer = functools.partial(Encoder, base=str(encoder), length=24)
    with pytest.raises(Refused, match=r"length of .* is 32, of .* 24"):
        average(models=(deep, trained(longer, corpus, tmp_path / "longer", 1)), out=tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_weights_that_are_read_in_two_ways_are_no_soup(corpus: Path, decoder: Path, tmp_path: Path) -> None:
    """Harm: a causal model that pools the last token and one that sees both ways and pools all have equal shapes."""
    folders = []
    for preset in (E5Mistral, LlamaEmbedNemotron):
        model = functools.partial(preset, str(decoder), rank=2, length=40)
        folders.append(trained(model, corpus, tmp_path / preset.__name__, 1))  # type: ignore[arg-type]
    with pytest.raises(Refused, match=r"is a E5Mistral, .* a LlamaEmbedNemotron"):
        average(models=tuple(folders), out=tmp_path / "soup")
