"""A small encoder: which layers it keeps, what it reads, and that it comes back as it was."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from distill.errors import Refused
from students import Encoder
from students.encoder import non_embedding_parameters

TEXTS = ["Salt slows the yeast down.", "fog", "", "A heron stands still in shallow water until a fish comes near."]


@torch.inference_mode()
def vectors(model: Encoder, texts: list[str], tasks: list[str] | None = None) -> Tensor:
    found: Tensor = model.eval()(model.tokenize(texts, tasks).take(np.arange(len(texts))))
    return found


def test_layers_are_kept_in_the_order_given(encoder: Path) -> None:
    """Harm: a student starts from other layers of its base than it says, or from shuffled ones."""
    base = transformers.BertModel.from_pretrained(encoder)
    for layers in ((0, 2), (2, 0), (1,)):
        kept = Encoder(str(encoder), layers=layers).backbone
        assert kept.config.num_hidden_layers == len(kept.encoder.layer) == len(layers)
        for mine, number in zip(kept.encoder.layer, layers, strict=True):
            theirs = base.encoder.layer[number].state_dict()
            assert all(torch.equal(held, theirs[name]) for name, held in mine.state_dict().items())
    assert len(Encoder(str(encoder)).backbone.encoder.layer) == 3


@pytest.mark.parametrize("layers", [(), (0, 0), (3,), (-1,), (0, 1, 2, 3)])
def test_layers_that_are_not_there_are_refused(encoder: Path, layers: tuple[int, ...]) -> None:
    """Harm: -1 means the last layer to Python and nothing to the reader of a config."""
    with pytest.raises(Refused, match="different numbers from 0 to 2"):
        Encoder(str(encoder), layers=layers)


def test_weights_that_were_lost_are_not_made_up(encoder: Path, tmp_path: Path) -> None:
    """Harm: a folder that was copied without its weights is evaluated as a random model, which looks like a bad one."""
    Encoder(str(encoder)).save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(Refused, match=r"holds no weights, and was saved with some"):
        Encoder.load(tmp_path)


@pytest.mark.parametrize("layers", [None, (0, 2)])
def test_what_is_saved_is_what_is_loaded(encoder: Path, tmp_path: Path, layers: tuple[int, ...] | None) -> None:
    """Harm: prompts, length or layers are lost, and what is exported is another student."""
    torch.manual_seed(1)
    model = Encoder(str(encoder), layers=layers, length=9, query_prompt="query: ", passage_prompt="passage: ")
    model.save(tmp_path)
    torch.manual_seed(2)
    back = Encoder.load(tmp_path)
    assert back.length == 9 and back.dim == 32
    for tasks in (None, ["task"] * len(TEXTS)):
        assert torch.equal(vectors(model, TEXTS, tasks), vectors(back, TEXTS, tasks))


def test_the_same_student_is_the_same_files(encoder: Path, tmp_path: Path) -> None:
    """Harm: a tokenizer is saved with the cut of its last use, so equal students count as different."""
    files = []
    for name, used in (("fresh", False), ("used", True)):
        model = Encoder(str(encoder), length=9)
        if used:
            model.tokenize(TEXTS)
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
        files.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert json.loads(files[0]["tokenizer.json"])["truncation"] is None


def test_prompts_are_said_and_pooled(encoder: Path) -> None:
    """Harm: a query is embedded as a passage, or otherwise than sentence-transformers does it with the export."""
    model = Encoder(str(encoder), length=20, query_prompt="how do ", passage_prompt="the ")
    plain = Encoder(str(encoder), length=20)
    said = ["how do " + text for text in TEXTS], ["the " + text for text in TEXTS]
    assert torch.equal(vectors(model, TEXTS, ["any"] * 4), vectors(plain, said[0]))
    assert torch.equal(vectors(model, TEXTS), vectors(plain, said[1]))
    assert model.tokenize(TEXTS).unpooled.tolist() == [0] * 4


def test_vectors_are_the_mean_of_the_states_at_unit_length(encoder: Path) -> None:
    """Harm: padding is pooled, and a text's vector depends on its batch."""
    model = Encoder(str(encoder), length=20)
    together = vectors(model, TEXTS)
    backbone = transformers.BertModel.from_pretrained(encoder).eval()
    for number, text in enumerate(TEXTS):
        ids = torch.tensor([model.tokenizer(text, truncation=True, max_length=20)["input_ids"]])
        with torch.inference_mode():
            mean = backbone(input_ids=ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(together[number], mean / mean.norm(), rtol=0, atol=1e-5)


def test_texts_are_cut_to_the_length_and_no_further(encoder: Path) -> None:
    """Harm: fixed padding or a shorter cut inside a packaged tokenizer decides what is read."""
    model = Encoder(str(encoder), length=12)
    model.tokenizer.backend_tokenizer.enable_truncation(4)
    model.tokenizer.backend_tokenizer.enable_padding(length=64)
    lengths = model.tokenize([*TEXTS, "fog " * 50]).lengths
    assert lengths[-1] == 12 and lengths[2] == 2 and lengths[1] < 12
    assert len(model.tokenize([])) == 0


def test_a_length_beyond_the_base_is_refused(encoder: Path) -> None:
    """Harm: the first long text, an hour into training, ends in an index error."""
    with pytest.raises(Refused, match="length: 129; this base reads at most 128 tokens"):
        Encoder(str(encoder), length=129)


def test_a_length_is_of_positions_that_are_there(encoder: Path, tmp_path: Path) -> None:
    """Harm: RoBERTa and MPNet count positions from behind the padding's number: of 514, two are never reached, and a
    text of 514 tokens ends in an index error in the middle of a training.
    """
    transformers.AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path)
    config = transformers.RobertaConfig(
        vocab_size=400, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, pad_token_id=1,
    )  # fmt: skip
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    with pytest.raises(Refused, match="length: 11; this base reads at most 10 tokens"):
        Encoder(str(tmp_path), length=11)
    assert vectors(Encoder(str(tmp_path), length=10), ["far too long " * 30]).isfinite().all()


def test_parameters_that_compute_are_counted_without_tables(encoder: Path) -> None:
    """Harm: a student's size and speed are reckoned from a table that costs nothing to look up."""
    model = Encoder(str(encoder), layers=(0,))
    tables = (400 + 128 + 2) * 32
    everything = sum(held.numel() for held in model.parameters())
    assert non_embedding_parameters(model) == everything - tables
    assert everything - tables == 2 * 32 + (4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32) + (32 * 32 + 32)


def test_a_start_without_weights_follows_its_seed(tmp_path: Path, encoder: Path) -> None:
    """Harm: an untrained control that cannot be had again."""
    for file in encoder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    one, same, other = (vectors(Encoder(str(tmp_path), seed=seed), TEXTS) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-2)
