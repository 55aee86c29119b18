"""Tables of tokens that learn row by row: the same gradients, and nothing left behind."""

import copy
from pathlib import Path

import pytest
import torch

from distill import lookup
from distill.interfaces import TokenRows, Tokens
from students import Encoder


def gradients(model: Encoder, groups: list[Tokens]) -> dict[str, torch.Tensor]:
    """Of a number that every text has a part in, read in groups; twice, for gradients that add up."""
    weight = torch.randn(model.dim, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        torch.stack([(model(tokens) @ weight).square().sum() for tokens in groups]).sum().backward()
    return {name: held.grad for name, held in model.named_parameters() if held.grad is not None}


@pytest.fixture
def groups(encoder: Path, texts: list[str]) -> tuple[Encoder, list[Tokens]]:
    """A model, and texts in three groups with many tokens in common."""
    model = Encoder(str(encoder), length=24).eval()
    rows: TokenRows = model.tokenize(texts[:12])
    return model, [rows.take(torch.arange(at, 12, 3).numpy()) for at in range(3)]


def test_gradients_are_those_of_the_whole_table(groups: tuple[Encoder, list[Tokens]]) -> None:
    """Harm: rows that two groups read learn from one of them, or the optimizer meets a gradient that it cannot take."""
    model, read = groups
    wanted = gradients(copy.deepcopy(model), read)
    with lookup.by_row(model):
        found = gradients(model, read)
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert found[name].layout == torch.strided
        torch.testing.assert_close(found[name], grad, rtol=1e-5, atol=1e-6, msg=name)
    table = wanted["backbone.embeddings.word_embeddings.weight"]
    assert 0 < (table.abs().sum(1) > 0).sum() < len(table)


def test_nothing_is_left_behind(groups: tuple[Encoder, list[Tokens]]) -> None:
    """Harm: a model that was trained here gives gradients that another Trainer cannot take; a frozen one is changed."""
    model, read = groups
    table = model.backbone.get_input_embeddings()
    assert isinstance(table, torch.nn.Embedding)
    with lookup.by_row(model):
        assert table.sparse
    gradients(model, read)
    assert not table.sparse and table.weight.grad is not None and table.weight.grad.layout == torch.strided
    model.requires_grad_(False)
    with lookup.by_row(model):
        assert not table.sparse
