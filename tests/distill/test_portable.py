"""The written folder is read alike by sentence-transformers and by a program that has only its files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from distill import encode, portable
from distill.errors import Refused
from students import Encoder

TEXTS = ["", "a", "the cat sat on the mat", "Query: THE cat", "\u732b \U0001f431", "the mat " * 60]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "query",
    "passage",
    ":",
    "a",
    "##s",
]


def base(folder: Path, **changes: object) -> Path:
    """A BERT configuration and a WordPiece tokenizer, without weights."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    alone = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    alone.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    alone.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    alone.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    alone.enable_truncation(8)  # as packaged tokenizers carry, and as must not be believed
    alone.enable_padding(length=8)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=alone, **special, **changes).save_pretrained(folder)
    transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = base(tmp_path_factory.mktemp("base"))
    return Encoder(str(folder), length=16, query_prompt="query: ", passage_prompt="passage: ", seed=3).eval()


@pytest.fixture(scope="module")
def written(student: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    portable.write(portable.parts(student), folder)
    return folder


def own(student: Encoder, side: str) -> np.ndarray:
    tasks = None if side == "document" else [""] * len(TEXTS)
    return encode.vectors(student, student.tokenize(TEXTS, tasks), precision="fp32")


@pytest.mark.parametrize("side", ["query", "document"])
def test_sentence_transformers_gives_the_same_vectors(student: Encoder, written: Path, side: str) -> None:
    """A user's vectors would differ from those that were evaluated: prompt, length, pooling or weights were lost."""
    from sentence_transformers import SentenceTransformer

    reader = SentenceTransformer(str(written), device="cpu")
    made = reader.encode(TEXTS, prompt_name=side)
    assert np.abs(made - own(student, side)).max() < 1e-5
    one = np.stack([reader.encode(text, prompt_name=side) for text in TEXTS])
    assert np.abs(one - own(student, side)).max() < 1e-5
    by_side = reader.encode_query if side == "query" else reader.encode_document
    assert np.abs(by_side(TEXTS) - own(student, side)).max() < 1e-5


def test_the_two_prompts_matter(student: Encoder) -> None:
    """The tests above would pass on a model that drops its prompts."""
    assert np.abs(own(student, "query") - own(student, "document")).max() > 1e-3


def test_the_folder_needs_none_of_our_code(student: Encoder, written: Path, tmp_path: Path) -> None:
    """A user without `distill` could not load the folder."""
    program = (
        "import json, sys; from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(written)!r}, device='cpu')\n"
        f"made = model.encode({TEXTS!r}, prompt_name='query')\n"
        "ours = [name for name in sys.modules if name.partition('.')[0] in ('distill', 'teachers', 'students')]\n"
        "print(json.dumps([made.tolist(), ours]))"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    made, ours = json.loads(done.stdout.splitlines()[-1])
    assert ours == []
    assert np.abs(np.array(made) - own(student, "query")).max() < 1e-5


@pytest.mark.parametrize("side", ["query", "document"])
def test_the_files_alone_give_the_same_tokens(student: Encoder, written: Path, side: str) -> None:
    """A reader that knows only tokenizer.json would cut elsewhere or forget the prompt."""
    ours = student.tokenize(TEXTS, None if side == "document" else [""] * len(TEXTS))
    theirs = portable.read(written).tokenize(TEXTS, side)
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    np.testing.assert_array_equal(ours.starts, theirs.starts)
    assert theirs.lengths.max() == 16


def test_old_readers_find_the_names_they_know(written: Path) -> None:
    """sentence-transformers 3 to 5, transformers 4 and TEI stop at names that came later."""
    read = {file.name: json.loads(file.read_bytes()) for file in written.glob("*.json")}
    types = [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")]
    assert [module["type"] for module in read["modules.json"]] == types
    pooled = json.loads((written / "1_Pooling/config.json").read_bytes())
    for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"):
        assert pooled[f"pooling_mode_{mode}"] is (mode == "mean_tokens")
    assert pooled["include_prompt"] is True and pooled["word_embedding_dimension"] == 32
    assert (written / "2_Normalize").is_dir()
    assert read["sentence_bert_config.json"] == {"max_seq_length": 16, "do_lower_case": False}
    settings = read["config_sentence_transformers.json"]
    assert settings["prompts"] == {"query": "query: ", "document": "passage: "}
    assert settings["default_prompt_name"] is None and settings["similarity_fn_name"] == "cosine"
    assert read["tokenizer_config.json"]["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert read["tokenizer_config.json"]["model_max_length"] == 16
    assert read["special_tokens_map.json"]["pad_token"] == "[PAD]"
    assert read["config.json"]["pad_token_id"] == 0
    assert read["tokenizer.json"]["truncation"]["max_length"] == 16
    assert read["tokenizer.json"]["padding"]["strategy"] == "BatchLongest"


def test_weights_can_be_read_by_others(written: Path) -> None:
    """A server that runs as another user could not open weights that only their writer may read."""
    assert (written / "model.safetensors").stat().st_mode == (written / "config.json").stat().st_mode


def test_token_types_are_named_only_where_the_backbone_takes_them(tmp_path: Path) -> None:
    """With transformers 4 a backbone is handed whatever the tokenizer lists; one without token types then fails."""
    base(tmp_path, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    student = Encoder(str(tmp_path), length=16)
    assert portable.input_names(portable.parts(student)) == ["input_ids", "attention_mask", "token_type_ids"]
    config = transformers.DistilBertConfig(vocab_size=len(WORDS), dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    student.backbone = transformers.DistilBertModel(config)
    folder = tmp_path / "written"
    folder.mkdir()
    portable.write(portable.parts(student), folder)
    named = json.loads((folder / "tokenizer_config.json").read_bytes())["model_input_names"]
    assert named == ["input_ids", "attention_mask"]


def test_the_students_own_tokenizer_is_left_alone(student: Encoder, tmp_path: Path) -> None:
    """Exporting would change how the model in memory cuts texts."""
    before = student.tokenizer.backend_tokenizer.to_str()
    portable.write(portable.parts(student), tmp_path)
    assert student.tokenizer.backend_tokenizer.to_str() == before


def test_another_kind_of_model_is_refused() -> None:
    """A teacher's latent attention would be left out of the export in silence."""

    class Other(Encoder):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    with pytest.raises(Refused, match=r"Other has no backbone, tokenizer.*students\.Encoder"):
        portable.parts(Other())


def test_a_folder_that_is_no_export_is_refused(written: Path, tmp_path: Path) -> None:
    """The user would see a traceback about a missing file deep inside a library."""
    with pytest.raises(Refused, match=r"has no tokenizer\.json.*Name an export step"):
        portable.read(tmp_path)
    for name in portable.NEEDED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((written / name).read_bytes()[:-20])
    with pytest.raises(Refused, match=r"cannot be read.*Export the model again"):
        portable.read(tmp_path)
