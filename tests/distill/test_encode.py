"""Texts to vectors: in batches of a budget, each text as if it were alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from distill import encode, pooling
from distill.console import Bar
from distill.interfaces import Embedder, TokenRows, Tokens


class Small(Embedder):
    """A random BERT of two layers; a text is the numbers of its words."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.dim = 16
        self.backbone = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, max_position_embeddings=64,
            )
        )  # fmt: skip
        self.sizes: list[tuple[int, int]] = []

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        return TokenRows.of([[int(word) for word in text.split()] for text in texts], [0] * len(texts), 0)

    def forward(self, tokens: Tokens) -> Tensor:
        self.sizes.append(tuple(tokens.ids.shape))
        states = self.backbone(input_ids=tokens.ids, attention_mask=tokens.attend.long()).last_hidden_state
        return nn.functional.normalize(pooling.mean(states, tokens.pool), dim=-1)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


@pytest.fixture(scope="module")
def small() -> Small:
    return Small().eval()


def rows(count: int = 60) -> TokenRows:
    """Texts of 1 to 40 tokens, in no order; some leading tokens are not pooled."""
    generator = np.random.default_rng(1)
    held = [generator.integers(1, 64, generator.integers(1, 41)).tolist() for _ in range(count)]
    return TokenRows.of(held, [int(generator.integers(0, len(row))) for row in held], 0)


@pytest.mark.parametrize("budget", [1, 40, 100, 4096])
def test_batches_keep_to_the_budget_and_hold_each_row_once(budget: int) -> None:
    """Harm: memory runs out on a batch of long texts, or a text is left with whatever was in memory."""
    lengths = np.random.default_rng(0).integers(0, 60, 500)
    made = list(encode.batches(lengths, budget))
    assert np.array_equal(np.sort(np.concatenate(made)), np.arange(500))
    widths = [int(lengths[chosen].max()) for chosen in made]
    assert all(len(chosen) == 1 or len(chosen) * width <= budget for chosen, width in zip(made, widths, strict=True))
    assert widths == sorted(widths, reverse=True)
    for chosen, width in zip(made[:-1], widths, strict=False):  # one more would not have fitted
        assert (len(chosen) + 1) * max(1, width) > budget


def test_no_text_is_no_batch() -> None:
    """Harm: an empty part of a table stops a run of days."""
    assert list(encode.batches(np.zeros(0, np.int64), 100)) == []


@pytest.mark.parametrize("budget", [1, 64, 300, 10_000])
def test_vectors_do_not_depend_on_the_batch(budget: int, small: Small) -> None:
    """Harm: a text's vector changes with its batch-mates, their padding, or its place in the file."""
    held = rows()
    found = encode.vectors(small, held, batch_tokens=budget, precision="fp32")
    for number in range(len(held)):
        ids = held.ids[held.starts[number] : held.starts[number + 1]].astype(np.int64)
        with torch.inference_mode():
            states = small.backbone(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0]
        alone = nn.functional.normalize(states[held.unpooled[number] :].mean(0), dim=0)
        np.testing.assert_allclose(found[number], alone.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_batches_are_what_the_model_is_given(small: Small) -> None:
    """Harm: texts are grouped by length and then padded to the longest of all."""
    small.sizes.clear()
    encode.vectors(small, rows(), batch_tokens=100, precision="fp32")
    assert max(texts * tokens for texts, tokens in small.sizes) <= 100
    assert sum(texts * tokens for texts, tokens in small.sizes) < 1.2 * len(rows().ids)


def test_a_cpu_reads_two_thousand_tokens_at_once_unless_told(small: Small) -> None:
    """Harm: a third of an embedding's time goes to fresh memory (docs/log.md), or a text is read at a time."""
    small.sizes.clear()
    encode.vectors(small, TokenRows.of([[1] * 20] * 150, [0] * 150, 0), precision="fp32")
    assert small.sizes == [(102, 20), (48, 20)]


def test_bf16_is_close_and_kept_in_fp32(small: Small) -> None:
    """Harm: half precision is asked for and not used, or leaves vectors in a type that numpy does not have."""
    exact = encode.vectors(small, rows(), precision="fp32")
    found = encode.vectors(small, rows(), precision="bf16")
    assert found.dtype == np.float32
    assert not np.array_equal(found, exact)
    assert ((found * exact).sum(1) > 0.999).all()


def test_bar_moves_by_each_text(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: hours without a sign of life, or a bar that ends at the wrong number."""
    encode.vectors(small, rows(), batch_tokens=100, bar=Bar(None, "texts", 60))
    assert capsys.readouterr().out.splitlines()[-1] == "  texts: 60 of 60"
