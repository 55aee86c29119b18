"""An exported folder as an Embedder: the student's vectors without the student."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from distill import encode, models, onnx_graph, portable
from distill.errors import Refused
from students import Encoder, Exported

TEXTS = ["one two", "", "three " * 40, "two one", "seven", "one two three four"]


def started(folder: Path) -> Encoder:
    """A random student with prompts."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "four", "find", ":"]
    alone = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    alone.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    alone.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=alone, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=256,
        max_position_embeddings=32,
    ).save_pretrained(folder)  # fmt: skip
    return Encoder(str(folder), length=12, query_prompt="find: ").eval()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Path]:
    """A student, and a folder as the export step leaves it."""
    student = started(tmp_path_factory.mktemp("base"))
    out = tmp_path_factory.mktemp("edge")
    (out / "model").mkdir()
    parts = portable.parts(student)
    portable.write(parts, out / "model")
    onnx_graph.export(parts, out / "model" / "onnx" / "model.onnx")
    onnx_graph.quantise(out / "model" / "onnx" / "model.onnx", out / "model" / "onnx" / "model_quantized.onnx")
    return student, out


@pytest.mark.parametrize("tasks", [None, ["ignored"] * len(TEXTS)])
def test_vectors_are_the_students(pair: tuple[Encoder, Path], tasks: list[str] | None) -> None:
    """An evaluation of the export would be of another model: other prompt, cut or pooling."""
    student, out = pair
    delivered = Exported(out)
    assert delivered.dim == student.dim
    ours = encode.vectors(student, student.tokenize(TEXTS, tasks), precision="fp32")
    theirs = encode.vectors(delivered, delivered.tokenize(TEXTS, tasks), batch_tokens=20)
    assert np.abs(ours - theirs).max() < 1e-6
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-6)


def test_the_folder_to_ship_works_wherever_it_lies(pair: tuple[Encoder, Path], tmp_path: Path) -> None:
    """A copied `model` folder could not be evaluated."""
    _, out = pair
    moved = tmp_path / "anywhere"
    shutil.copytree(out / "model", moved)
    rows = Exported(out).tokenize(TEXTS)
    batch = rows.take(np.arange(len(TEXTS)))
    assert torch.equal(Exported(out)(batch), Exported(moved)(batch))


def test_int8_is_another_file_of_the_same_folder(pair: tuple[Encoder, Path]) -> None:
    """The fp32 file would be measured under the name of int8."""
    _, out = pair
    fp32, int8 = Exported(out), Exported(out, file="onnx/model_quantized.onnx")
    batch = fp32.tokenize(TEXTS).take(np.arange(len(TEXTS)))
    apart = (fp32(batch) - int8(batch)).abs().max()
    assert 1e-6 < apart < 0.2
    assert int8.file_bytes == (out / "model" / "onnx" / "model_quantized.onnx").stat().st_size < fp32.file_bytes


def test_it_obeys_torchs_number_of_threads(pair: tuple[Encoder, Path]) -> None:
    """A latency on one core would be measured on all of them."""
    _, out = pair
    held = torch.get_num_threads()
    delivered = Exported(out)
    batch = delivered.tokenize(TEXTS).take(np.arange(len(TEXTS)))
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            delivered(batch)
            assert delivered._session.get_session_options().intra_op_num_threads == threads
    finally:
        torch.set_num_threads(held)


def test_it_cannot_be_saved_or_trained(pair: tuple[Encoder, Path], tmp_path: Path) -> None:
    """A training step would run for hours on a model without weights."""
    with pytest.raises(Refused, match="is an export: it is saved already"):
        models.save(Exported(pair[1]), tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_folder_or_file_that_is_not_there_is_named(pair: tuple[Encoder, Path], tmp_path: Path) -> None:
    """The user would not see which of the two to correct."""
    with pytest.raises(Refused, match="it is no exported model"):
        Exported(tmp_path)
    with pytest.raises(Refused, match=r"onnx/other\.onnx does not exist; there: model\.onnx, model_quantized\.onnx"):
        Exported(pair[1], file="onnx/other.onnx")
