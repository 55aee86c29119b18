"""The mean of models is the mean of what they compute with, and nothing is averaged that does not belong together."""

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill import artifact, models
from distill.errors import Refused
from distill.interfaces import Embedder
from distill.models import Model
from distill.objective import Schedule
from distill.stages.average import average
from distill.stages.train import train
from students import Encoder
from teachers import E5Mistral, LlamaEmbedNemotron, NVEmbed

SHORT = Schedule(steps=4, queries=6, learning_rate=1e-2, warmup=1, precision="fp32")
TEXTS = ["how do owls fly", "fog"]


def trained(model: Model, corpus: Path, out: Path, seed: int) -> Path:
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
    assert "warning" not in facts


def test_models_of_other_layers_are_told(
    corpus: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the mean of layers 0 and 2 with layers 1 and 0, of one shape, is shipped as a soup without a word."""
    starts = {name: (0, 2) if name == "first" else (1, 0) for name in ("first", "second")}
    folders = tuple(
        trained(functools.partial(Encoder, base=str(encoder), layers=layers, length=32), corpus, tmp_path / name, 1)
        for name, layers in starts.items()
    )
    facts = average(models=folders, out=tmp_path / "soup")
    assert "Did they begin as the same layers of one base?" in str(facts["warning"])
    assert "soup: the models lie" in " ".join(capsys.readouterr().out.split())


def test_the_product_of_averaged_adapters_is_the_mean_of_products(
    corpus: Path, decoder: Path, tmp_path: Path, fp32: None
) -> None:
    """Harm: A and B are averaged apart, and the soup of two adapters is neither's mean."""
    ranks = {1: 2, 2: 3}  # how it was trained, not what it is
    folders = tuple(
        trained(functools.partial(NVEmbed, str(decoder), latents=4, heads=2, rank=rank, length=40, dropout=0.0),
                corpus, tmp_path / str(seed), seed)
        for seed, rank in ranks.items()
    )  # fmt: skip
    facts = average(models=folders, out=tmp_path / "soup")
    soup, each = models.embedder(tmp_path / "soup"), [models.embedder(folder) for folder in folders]
    start = NVEmbed(str(decoder), latents=4, heads=2)
    start.merge()
    before = start.state_dict()
    found = vectors(soup)
    blocks = [held.pooling.state_dict() for held in (*each, soup)]  # type: ignore[operator, union-attr]
    for name, mean in blocks[2].items():
        torch.testing.assert_close(mean, (blocks[0][name] + blocks[1][name]) / 2)
    squares, mean_square = 0.0, 0.0
    for name in blocks[2]:
        squares += sum(float(block[name].square().sum()) / 2 for block in blocks[:2])
        mean_square += float(blocks[2][name].square().sum())
    for held in (soup, *each):
        held.merge()
    torch.testing.assert_close(vectors(soup), found, rtol=0, atol=1e-5)
    name = "backbone.layers.0.self_attn.q_proj.weight"
    states = [held.state_dict() for held in (*each, soup)]
    one, two, mean = (state[name] for state in states)
    torch.testing.assert_close(mean, (one + two) / 2, rtol=0, atol=1e-6)
    assert (one - two).abs().max() > 1e-4
    assert not torch.allclose(vectors(soup), vectors(each[0]), atol=1e-4)
    for name, held in before.items():
        if name.startswith("backbone.layers") and held.ndim == 2:
            changes = [state[name] - held for state in states[:2]]
            squares += sum(float((change / 2).square().sum()) / 2 for change in changes)  # saved at half their scale
            mean_square += float((sum(changes) / 4).square().sum())
    assert facts["apart"] == pytest.approx(((squares - mean_square) / mean_square) ** 0.5, rel=1e-3)


def test_a_soup_of_adapters_holds_no_base(corpus: Path, decoder: Path, tmp_path: Path) -> None:
    """Harm: the mean of two files of a megabyte is as large as the language model, and as slow to make."""
    teacher = functools.partial(NVEmbed, str(decoder), latents=4, heads=2, rank=2, length=40)
    folders = tuple(trained(teacher, corpus, tmp_path / str(seed), seed) for seed in (1, 2))  # type: ignore[arg-type]
    average(models=folders, out=tmp_path / "soup")
    sizes = [{file.name: file.stat().st_size for file in (folder / "model").rglob("*") if file.is_file()}
             for folder in (folders[0], tmp_path / "soup")]  # fmt: skip
    assert set(sizes[1]) == set(sizes[0])
    assert sizes[1]["adapters.safetensors"] < 2.1 * sizes[0]["adapters.safetensors"]
    once_more = trained(tmp_path / "soup", corpus, tmp_path / "further", 3)  # and it can be trained on
    average(models=(once_more, tmp_path / "soup"), out=tmp_path / "second")
    assert artifact.read_json(tmp_path / "second" / "model" / "decoder.json")["rank"] == 8


def test_adapters_of_two_bases_are_refused(corpus: Path, decoder: Path, tmp_path: Path) -> None:
    """Harm: what two language models were changed by is added to the first."""
    shutil.copytree(decoder, tmp_path / "other")
    bases = {"one": str(decoder), "two": str(tmp_path / "other")}
    folders = [
        trained(functools.partial(NVEmbed, base, latents=4, heads=2, rank=2, length=40), corpus, tmp_path / name, 1)
        for name, base in bases.items()
    ]
    with pytest.raises(Refused, match=r"two/model has adapters of base '.*other', .*one/model of '.*decoder"):
        average(models=tuple(folders), out=tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_what_does_not_belong_together_is_refused(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: the mean of two architectures, or of one model with itself, is shipped as a soup."""
    deep = trained(functools.partial(Encoder, base=str(encoder), length=32), corpus, tmp_path / "deep", 1)
    flat = functools.partial(Encoder, base=str(encoder), layers=(0,), length=32)
    with pytest.raises(Refused, match="two or more, each once"):
        average(models=(deep,), out=tmp_path / "soup")
    with pytest.raises(Refused, match="two or more, each once"):
        average(models=(deep, deep), out=tmp_path / "soup")
    with pytest.raises(Refused, match="needed: each once"):
        average(models=(deep, deep / ".." / "deep"), out=tmp_path / "soup")
    with pytest.raises(Refused, match=r"num_hidden_layers of .*deep is 3, of .*flat 1"):
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
    with pytest.raises(Refused, match=r"is an E5Mistral, .* a LlamaEmbedNemotron"):
        average(models=tuple(folders), out=tmp_path / "soup")
