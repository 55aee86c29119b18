"""Where a student begins: as layers, as a narrower one, with fewer tokens, at random, as a trained model's part."""

import functools
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from torch import Tensor

from distill import artifact, encode, models, portable, surgery, tables
from distill.errors import Refused
from students import Encoder, Static
from teachers import Decoder


def corpus(folder: Path, texts: list[str]) -> Path:
    """An artifact of passages."""
    columns = {name: [""] * len(texts) for name in tables.PASSAGES.names} | {"text": texts}
    with artifact.claim(folder, {"verb": "ingest", "version": 1, "settings": {"texts": texts}}, {}, {}):
        tables.write(folder / "passages", tables.PASSAGES, columns)
        artifact.finish(folder, {"passages": len(texts)})
    return folder


def vectors(model: Encoder, texts: list[str]) -> Tensor:
    return torch.from_numpy(encode.vectors(model.eval(), model.tokenize(texts), precision="fp32"))


def test_so_many_layers_are_evenly_spaced() -> None:
    """Harm: a student of the first layers alone, where recipes take every second or third."""
    assert surgery.spaced(12, 6) == (0, 2, 4, 7, 9, 11)  # DistilBERT's
    assert surgery.spaced(12, 4) == (0, 4, 7, 11)
    assert surgery.spaced(6, 6) == tuple(range(6)) and surgery.spaced(6, 1) == (0,)
    for count in range(1, 40):
        for kept in range(1, count + 1):
            found = surgery.spaced(count, kept)
            assert len(found) == kept and sorted(set(found)) == list(found) and found[0] == 0
            assert kept == 1 or found[-1] == count - 1
            assert len({b - a for a, b in itertools.pairwise(found)}) <= 2


def test_a_number_of_layers_is_the_same_as_their_list(encoder: Path) -> None:
    """Harm: `layers: 2` is taken for the layer number 2."""
    one, other = Encoder(str(encoder), layers=2), Encoder(str(encoder), layers=(0, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for wrong in (0, 4, -1):
        with pytest.raises(Refused, match="needed: from 1 to 3 of them"):
            Encoder(str(encoder), layers=wrong)


def test_a_decoder_reads_both_ways(decoder: Path, texts: list[str], tmp_path: Path) -> None:
    """Harm: layers of a decoder teacher pool states that never saw the end of the text, and nobody is told."""
    student = Encoder(str(decoder), layers=1, length=24).eval()
    assert len(student.backbone.layers) == 1
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])
    states = student.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert not torch.equal(states[0, 0], states[1, 0])
    student.save(tmp_path)
    assert torch.equal(vectors(Encoder.load(tmp_path), texts[:4]), vectors(student, texts[:4]))


def test_a_decoder_that_stays_causal_is_refused(tmp_path: Path, decoder: Path) -> None:
    """Harm: an architecture without the switch makes a student that reads one way."""
    transformers.AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path)
    sizes = {"vocab_size": 400, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
    config = transformers.AutoConfig.for_model("qwen3_next", **sizes, num_experts=2, num_experts_per_tok=1)
    config.save_pretrained(tmp_path)
    with pytest.raises(Refused, match="layers of the kind linear_attention"):
        Encoder(str(tmp_path))


def test_a_trained_teacher_gives_its_layers(decoder: Path, tmp_path: Path, texts: list[str], fp32: None) -> None:
    """Harm: what a teacher learned is in its adapters, and a student of its base begins without it."""
    teacher = Decoder(str(decoder), length=24)
    with torch.no_grad():
        for name, held in teacher.named_parameters():
            if "lora_B" in name:
                held.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    models.save(teacher, tmp_path / "teacher")
    student = Encoder(model=tmp_path / "teacher", layers=(1,), length=24)
    teacher.merge()
    for mine, theirs in zip(
        student.backbone.layers[0].parameters(), teacher.backbone.layers[1].parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs.cpu())
    bare = Encoder(str(decoder), layers=(1,), length=24)
    assert not torch.allclose(vectors(student, texts[:2]), vectors(bare, texts[:2]), atol=1e-3)


def test_a_trained_student_gives_its_layers(encoder: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: a student that is thinned after its first stage loses that stage."""
    first = Encoder(str(encoder), length=24, query_prompt="q: ")
    with torch.no_grad():
        first.backbone.encoder.layer[2].output.dense.weight.mul_(1.5)
    models.save(first, tmp_path)
    second = Encoder(model=tmp_path, layers=(0, 1, 2), length=24)
    assert torch.equal(vectors(first, texts[:3]), vectors(second, texts[:3]))
    for wrong in ({"base": str(encoder), "model": tmp_path}, {}):
        with pytest.raises(Refused, match="needed: one of the two"):
            Encoder(**wrong)  # type: ignore[arg-type]
    causal = Decoder(str(Path(__file__).parents[1] / "data" / "decoder"), attention="causal", trained="all")
    models.save(causal, tmp_path / "causal")
    with pytest.raises(Refused, match="reads from left to right only"):
        Encoder(model=tmp_path / "causal")


@pytest.mark.parametrize("side", ["query_prompt", "passage_prompt"])
def test_a_prompt_leaves_room_for_a_text(encoder: Path, side: str) -> None:
    """Harm: every text is cut off behind the prompt, and all of them have one vector."""
    prompt = "the same words again and again: "
    fits = len(Encoder(str(encoder)).tokenizer(prompt + " a")["input_ids"])
    for build in (functools.partial(Encoder, str(encoder)), functools.partial(Static, str(encoder), width=8)):
        with pytest.raises(Refused, match=r"the prompt 'the same words .* Raise `length`, or shorten the prompt"):
            build(length=fits - 3, **{side: prompt})
        build(length=fits, **{side: prompt})


def test_dropout_is_what_was_asked_for(encoder: Path, tmp_path: Path) -> None:
    """Harm: a base's dropout stays on, which takes a CPU a fifth longer; or what was asked for is lost in a stage."""
    assert json.loads((encoder / "config.json").read_bytes())["hidden_dropout_prob"] == 0.1
    for share in (0.0, 0.2):
        Encoder(base=str(encoder), layers=(0, 2), dropout=share).save(tmp_path / str(share))
        read = Encoder.load(tmp_path / str(share))
        assert {part.p for part in read.modules() if isinstance(part, torch.nn.Dropout)} == {share}
    small = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = transformers.ModernBertConfig(vocab_size=300, pad_token_id=0, attention_dropout=0.3, **small)
    other = transformers.ModernBertModel(config)
    surgery.set_dropout(other, 0.1)  # it hands the share to a function
    assert {part.attention_dropout for part in other.modules() if hasattr(part, "attention_dropout")} == {0.1}
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(Refused, match="it is a share"):
            Encoder(base=str(encoder), dropout=share)


def test_a_narrow_student_is_saved_and_read(encoder: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: the configuration still says the wide one's shape, and the folder cannot be loaded."""
    narrow = Encoder(str(encoder), layers=2, width=16, length=24)
    narrow.save(tmp_path)
    back = Encoder.load(tmp_path)
    assert back.dim == narrow.dim == 16
    assert torch.equal(vectors(back, texts[:3]), vectors(narrow, texts[:3]))


def test_a_rule_without_a_width_is_refused(encoder: Path) -> None:
    """Harm: an ablation of what is kept compares a student with itself."""
    with pytest.raises(Refused, match="keep: even; it says what of `width` is kept, and none is given"):
        Encoder(str(encoder), keep="even")


def test_fewer_tokens_give_the_same_vectors(encoder: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: rows of the table are shifted against the tokenizer, and every text is read as another."""
    kept = corpus(tmp_path / "corpus", texts[:12])
    whole = Encoder(str(encoder), length=40, query_prompt="find: ")
    small = Encoder(str(encoder), vocabulary=(kept,), length=40, query_prompt="find: ")
    assert len(small.tokenizer) < len(whole.tokenizer) == 400
    assert small.backbone.get_input_embeddings().weight.shape == (len(small.tokenizer), 32)
    assert torch.equal(vectors(small, texts[:12]), vectors(whole, texts[:12]))
    asked = [encode.vectors(model.eval(), model.tokenize(texts[:5], [""] * 5)) for model in (small, whole)]
    np.testing.assert_array_equal(*asked)
    small.save(tmp_path)
    back = Encoder.load(tmp_path)
    assert torch.equal(vectors(back, texts), vectors(small, texts))  # others too


def test_fewer_tokens_are_read_by_others(encoder: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: the exported folder names ids of the base's tokenizer, and sentence-transformers reads other texts."""
    kept = corpus(tmp_path / "corpus", texts[:12])
    small = Encoder(str(encoder), layers=2, width=16, vocabulary=(kept,), length=40)
    folder = tmp_path / "written"
    folder.mkdir()
    portable.write(portable.parts(small), folder)
    reader = SentenceTransformer(str(folder), device="cpu")
    some = [*texts[:20], "", "Zebra crossing, \u732b"]
    np.testing.assert_allclose(reader.encode(some), vectors(small, some), atol=1e-6)


def test_fewer_tokens_of_a_decoder(decoder: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: a table that scales what is looked up is replaced by a plain one."""
    kept = corpus(tmp_path / "corpus", texts[:12])
    whole, small = Encoder(str(decoder), length=40), Encoder(str(decoder), vocabulary=(kept,), length=40)
    assert len(small.tokenizer) < len(whole.tokenizer)
    assert torch.equal(vectors(small, texts[:12]), vectors(whole, texts[:12]))
    assert small.backbone.config.pad_token_id == small.tokenizer.pad_token_id == 0


def test_a_model_whose_positions_hang_on_the_tokens_ids_is_refused(tmp_path: Path, texts: list[str]) -> None:
    """Harm: RoBERTa and MPNet count positions from the id of their padding; were it moved, all positions would be."""
    made = Path(__file__).parents[1] / "data" / "encoder"
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    last = max(tokenizer.get_vocab(), key=lambda token: tokenizer.get_vocab()[token])
    tokenizer.pad_token = last
    tokenizer.save_pretrained(tmp_path)
    config = transformers.RobertaConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=600, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    kept = corpus(tmp_path / "corpus", texts[:3])
    with pytest.raises(Refused, match="gives other states when rows of its table are taken out"):
        Encoder(str(tmp_path), vocabulary=(kept,))


def test_a_random_start_says_so(encoder: Path, texts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: an ablation's control keeps pretrained weights, or a real student begins without them unseen."""
    one, same, other = (Encoder(str(encoder), layers=2, random=True, seed=seed) for seed in (1, 1, 2))
    assert "random weights, which only an ablation wants" in re.sub(r"\s+", " ", capsys.readouterr().out)
    assert torch.equal(vectors(one, texts[:2]), vectors(same, texts[:2]))
    assert not torch.allclose(vectors(one, texts[:2]), vectors(other, texts[:2]), atol=1e-2)
    kept = Encoder(str(encoder), layers=2)
    assert [held.shape for held in one.parameters()] == [held.shape for held in kept.parameters()]
    table, was = (model.backbone.get_input_embeddings().weight for model in (one, kept))
    assert (table != was).float().mean() > 0.9


def test_an_artifact_without_texts_is_refused(encoder: Path, tmp_path: Path) -> None:
    """Harm: a vocabulary of nothing."""
    columns = {"step": [1], "measure": ["loss"], "value": [0.1]}
    with artifact.claim(tmp_path / "other", {"verb": "train", "version": 1, "settings": {}}, {}, {}):
        tables.write(tmp_path / "other" / "curves", tables.CURVES, columns)
        artifact.finish(tmp_path / "other", {})
    with pytest.raises(Refused, match="holds neither passages nor queries"):
        Encoder(str(encoder), vocabulary=(tmp_path / "other",))
