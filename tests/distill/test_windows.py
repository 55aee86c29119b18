"""Long texts in pieces: nothing lost between them, none longer than the model reads, and their mean by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distill import encode
from distill.errors import Refused
from distill.interfaces import Embedder
from distill.windows import Windows, windows
from students import Encoder
from teachers import NVEmbed


@pytest.fixture(params=["wordpiece", "bytes"])
def model(request: pytest.FixtureRequest, encoder: Path, decoder: Path, fp32: None) -> Embedder:
    """A model that reads texts of some ten tokens."""
    if request.param == "wordpiece":
        return Encoder(str(encoder), length=12).eval()
    return NVEmbed(str(decoder), latents=4, heads=2, length=16).eval()


def pieces(found: Windows, row: int) -> list[str]:
    """Those of a text."""
    return [piece for piece, of in zip(found.pieces, found.text, strict=True) if of == row]


def count(model: Embedder, text: str) -> int:
    """How many tokens a text has by itself."""
    return len(model.tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[operator]


def test_pieces_put_together_are_the_text_and_the_model_reads_each_whole(model: Embedder, texts: list[str]) -> None:
    """Harm: words between two pieces are read by nobody, or twice; or the end of each piece is cut off by the model."""
    given = [*texts[:4], "  " + " ".join(texts[4:9]) + "\n", "", "a", "没有空格的文字也要读到最后" * 9]
    found = windows(model, given, 1000)
    assert found.cut == 0 and found.text.tolist() == sorted(found.text)
    around = len(model.tokenize(["a"]).ids) - count(model, "a")
    for row, text in enumerate(given):
        assert "".join(pieces(found, row)) == text
        counted = [count(model, piece) for piece in pieces(found, row)]
        assert found.tokens[found.text == row].tolist() == counted and sum(counted) == count(model, text)
        assert (model.tokenize(pieces(found, row)).lengths == np.array(counted) + around).all()
    assert len(pieces(found, 4)) > 5 and len(pieces(found, 7)) > 5


def test_pieces_begin_with_a_word(model: Embedder, texts: list[str]) -> None:
    """Harm: a word in two halves is two other words."""
    given = [" ".join(texts[:9])]
    found = pieces(windows(model, given, 1000), 0)
    assert all(one[-1:].isspace() != other[:1].isspace() for one, other in itertools.pairwise(found))


def test_what_stands_behind_the_last_piece_is_counted(model: Embedder, texts: list[str]) -> None:
    """Harm: a corpus of books is read to its first pages, and nobody is told."""
    given = [" ".join(texts[:9]), texts[0].split()[0], " ".join(texts[9:20])]
    found = windows(model, given, 3)
    assert [len(pieces(found, row)) for row in range(3)] == [3, 1, 3] and found.cut == 2
    assert all(text.startswith("".join(pieces(found, row))) for row, text in enumerate(given))


def test_the_mean_is_by_tokens(model: Embedder, texts: list[str]) -> None:
    """Harm: a last piece of one word weighs as much as all before it; a short text's vector depends on windows."""
    given = [" ".join(texts[:2]), texts[2].split()[0], " ".join(texts[4:6])]
    found = windows(model, given, 9)
    made = encode.vectors(model, model.tokenize(found.pieces), precision="fp32")
    wanted = []
    for row in range(len(given)):
        each = [
            (count(model, piece), model.tokenize([piece]).take(np.zeros(1, np.int64))) for piece in pieces(found, row)
        ]
        with torch.no_grad():
            wanted.append(nn.functional.normalize(sum(n * model(tokens)[0] for n, tokens in each), dim=0).numpy())
    np.testing.assert_allclose(found.mean(made), np.stack(wanted), atol=1e-5)
    whole = encode.vectors(model, model.tokenize(given[1:2]), precision="fp32")
    np.testing.assert_allclose(found.mean(made)[1:2], whole, atol=1e-5)


def test_a_model_whose_tokens_cannot_be_placed_is_refused(encoder: Path) -> None:
    """Harm: an attribute error in the middle of a run."""
    model = Encoder(str(encoder), length=12)
    del model.tokenizer
    with pytest.raises(Refused, match="windows: 4: Encoder does not tell where its tokens stand"):
        windows(model, ["a text"], 4)
